"""A sequence autoencoder: handwritten digits, row by row, through a code of two numbers and back.

The encoder reads the 8 rows of a picture from top to bottom, and its last output becomes two numbers. The decoder gets
nothing but these, the same at each step, and has to draw the rows (after Srivastava et al. 2015). It is never told
which digit it sees. Whether the code tells digits apart nevertheless is measured on held-out pictures: how often the
training picture with the nearest code shows the same digit; beside that of the best linear code of two numbers, PCA.
"""

import csv
import gzip

import numpy as np

import minigrad as mg
from examples.common import data_file, options, pyplot, report, save_picture, show
from minigrad.train import Batches, Cosine, Trainer

CODE = 2


class Autoencoder(mg.Module):
    def __init__(self, cell, hidden_size):
        self.encoder = mg.recurrent(cell, 8, hidden_size)
        self.code = mg.Linear(hidden_size, CODE)
        self.spread = mg.Sequential(mg.Linear(CODE, hidden_size), mg.relu)
        self.decoder = mg.recurrent(cell, hidden_size, hidden_size)
        self.row = mg.Linear(hidden_size, 8)

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


def pca(training, count):
    """A function from pictures to their first principal components."""
    mean = training.mean(axis=0)
    axes = np.linalg.svd(training - mean, full_matrices=False)[2][:count]
    return lambda pictures: (pictures - mean) @ axes.T


def nearest_neighbour(codes, digits, known_codes, known_digits):
    """How often the nearest of the known codes belongs to the same digit."""
    distances = ((codes[:, None] - known_codes) ** 2).sum(axis=-1)
    return float((known_digits[distances.argmin(axis=1)] == digits).mean())


def main():
    args = options(__doc__.splitlines()[0], epochs=300, cell="gru", hidden=64, lr=4e-3)
    if args.small:
        args.epochs, args.hidden, args.lr = 60, 48, 0.01
    with gzip.open(data_file("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.array(list(csv.reader(file)), dtype="float32")
    table = np.random.default_rng(0).permutation(table)
    pictures, digits = table[:, :64] / 16, table[:, 64].astype("int64")
    known, validation, test = slice(0, 1200), slice(1200, 1400), slice(1400, None)
    rows = [(picture.reshape(8, 8),) for picture in pictures]

    model = Autoencoder(args.cell, args.hidden)
    data = Batches(rows[known], 50)
    schedule, optimizer = Cosine(args.epochs * len(data)), mg.optimizer("adam", model.parameters(), lr=args.lr)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=schedule)
    trainer.fit(data, Batches(rows[validation], 200), epochs=args.epochs)

    with mg.no_grad():
        codes = model.encode(mg.tensor(pictures.reshape(-1, 8, 8).transpose(1, 0, 2)))
        drawn = mg.sigmoid(model.decode(codes)).numpy().transpose(1, 0, 2)
    codes, components = codes.numpy(), pca(pictures[known], CODE)(pictures)
    ours, linear, pixels = (
        nearest_neighbour(found[test], digits[test], found[known], digits[known])
        for found in (codes, components, pictures)
    )
    samples = [(digits[place], np.round(codes[place], 2)) for place in range(1400, 1408)]
    show("codes of held-out pictures", ("digit", "code"), samples)
    print(f"with all 64 pixels instead of a code the nearest picture shows the same digit in {pixels:.1%}")
    draw_codes(codes[test], components[test], digits[test], args.out)
    draw_pictures(pictures[test][:10], drawn[test][:10], args.out)
    report(args.out, "nearest code has the same digit", ours, linear, f"PCA to {CODE} numbers")


def draw_codes(codes, components, digits, out):
    figure, panels = pyplot().subplots(1, 2, figsize=(11, 5), layout="constrained")
    for axes, title, points in zip(panels, ("autoencoder", "PCA"), (codes, components), strict=True):
        axes.scatter(points[:, 0], points[:, 1], s=0)  # for the limits
        for point, digit in zip(points, digits, strict=True):
            axes.text(*point, str(digit), color=f"C{digit}", fontsize=8, ha="center", va="center")
        axes.set(title=title, xlabel="first number of the code", ylabel="second")
    save_picture(figure, out / "codes.png")


def draw_pictures(pictures, drawn, out):
    figure, grid = pyplot().subplots(2, len(pictures), figsize=(len(pictures), 2.4), layout="constrained")
    for row, title, images in zip(grid, ("held-out picture", "drawn from its code"), (pictures, drawn), strict=True):
        row[0].set_title(title, loc="left", fontsize=9)
        for axes, image in zip(row, images, strict=True):
            axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            axes.set_axis_off()
    save_picture(figure, out / "pictures.png")


if __name__ == "__main__":
    main()
