"""A sequence autoencoder: handwritten digits, row by row, through a code of two numbers and back.

The encoder reads the 8 rows of a picture from top to bottom, and its last output becomes two numbers. The decoder gets
nothing but these, the same at each step, and has to draw the rows (after Srivastava et al. 2015). It is never told
which digit it sees. Whether the code tells digits apart nevertheless is measured on held-out pictures: how often the
training picture with the nearest code shows the same digit; beside that of the best linear code of two numbers, PCA.
"""

import numpy as np

import minigrad as mg
from examples.common import console, options, pyplot, read_digits, report, save_picture, show
from minigrad.train import Batches, Cosine, Trainer

CODE = 2


class Autoencoder(mg.Module):
    def __init__(self, cell, hidden_size):
        self.encoder = mg.recurrent(cell, 8, hidden_size)
        self.code = mg.Linear(self.encoder.output_size, CODE)
        self.spread = mg.Sequential(mg.Linear(CODE, hidden_size), mg.relu)
        self.decoder = mg.recurrent(cell, hidden_size, hidden_size)
        self.row = mg.Linear(self.decoder.output_size, 8)

    def encode(self, rows):
        """Rows (T, B, 8) to codes (B, CODE)."""
        ys, _ = self.encoder(rows)
        return self.code(ys[-1])

    def decode(self, codes, steps=8):
        """Codes (B, CODE) to rows (T, B, 8), as scores of a pixel being black."""
        told = self.spread(codes)
        ys, _ = self.decoder(mg.broadcast_to(told, (steps, *told.shape)))
        return self.row(ys)


def step(model, batch):
    (rows,) = batch
    drawn = model.decode(model.encode(rows))
    return mg.loss("bce_with_logits")(drawn, rows), {"error": mg.loss("mse")(mg.sigmoid(drawn), rows)}


def flat(pictures):
    """Pictures (N, 8, 8) as rows of pixels (N, 64)."""
    return pictures.reshape(len(pictures), -1)


def pca(training, count):
    """A function from pictures to their first principal components."""
    mean = flat(training).mean(axis=0)
    axes = np.linalg.svd(flat(training) - mean, full_matrices=False)[2][:count]
    return lambda pictures: (flat(pictures) - mean) @ axes.T


def nearest_neighbour(codes, digits, known_codes, known_digits):
    """How often the nearest of the known codes belongs to the same digit."""
    distances = ((codes[:, None] - known_codes) ** 2).sum(axis=-1)
    return float((known_digits[distances.argmin(axis=1)] == digits).mean())


def main():
    small = {"epochs": 45, "hidden_size": 48, "learning_rate": 0.01}
    args = options(__doc__, epochs=300, cell="gru", hidden_size=64, learning_rate=4e-3, small=small)
    parts = read_digits()
    (known, known_digits), (held_back, _), (pictures, digits) = parts.values()

    model = Autoencoder(args.cell, args.hidden_size)
    data, validation = (Batches([(rows,) for rows in part], 50) for part in (known, held_back))
    optimizer = mg.optimizer("adam", model.parameters(), lr=args.learning_rate)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    trainer.fit(data, validation, epochs=args.epochs)

    def encode(pictures):
        with mg.no_grad():
            return model.encode(mg.tensor(pictures.swapaxes(0, 1))).numpy()

    codes, components = encode(pictures), pca(known, CODE)
    ours = nearest_neighbour(codes, digits, encode(known), known_digits)
    linear = nearest_neighbour(components(pictures), digits, components(known), known_digits)
    pixels = nearest_neighbour(flat(pictures), digits, flat(known), known_digits)
    with mg.no_grad():
        drawn = mg.sigmoid(model.decode(mg.tensor(codes))).numpy().swapaxes(0, 1)
    show("codes of held-out pictures", ("digit", "code"), list(zip(digits, codes.round(2), strict=True))[:8])
    console.print(f"with all 64 pixels instead of a code the nearest picture shows the same digit in {pixels:.1%}")
    draw_codes(codes, components(pictures), digits, args.out)
    draw_pictures(pictures[:10], drawn[:10], args.out)
    report(args.out, "nearest code has the same digit", ours, linear, f"PCA to {CODE} numbers")


def draw_codes(codes, components, digits, out):
    figure, panels = pyplot().subplots(1, 2, figsize=(11, 5), layout="constrained")
    for axes, title, points in zip(panels, ("autoencoder", "PCA"), (codes, components), strict=True):
        axes.scatter(points[:, 0], points[:, 1], s=0)  # for the limits
        for point, digit in zip(points, digits, strict=True):
            axes.text(*point, str(digit), color=f"C{digit}", fontsize=8, ha="center", va="center")
        axes.set(title=title, xlabel="first number of the code", ylabel="second number")
    figure.suptitle("Codes of held-out digits, each at the place of its two numbers")
    save_picture(figure, out / "codes.png")


def draw_pictures(pictures, drawn, out):
    figure, grid = pyplot().subplots(2, len(pictures), figsize=(len(pictures), 2.4), layout="constrained")
    for row, title, images in zip(grid, ("held-out picture", "drawn from its code"), (pictures, drawn), strict=True):
        row[0].set_title(title, loc="left", fontsize=9)
        for axes, image in zip(row, images, strict=True):
            axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axes.set_axis_off()
    save_picture(figure, out / "pictures.png")


if __name__ == "__main__":
    main()
