"""Pictures of attention."""

import minigrad as mg
from examples.common import pyplot, save_picture
from examples.encoder_decoder._model import END


def draw_attention(model, examples, labels, path):
    """At which inputs the decoder looks for each output: of each example a matrix of the attention's weights.

    An example is the inputs' names and numbers, and the outputs' names and numbers; the labels are what these are.
    """
    columns = (len(examples) + 1) // 2
    figure, grid = pyplot().subplots(2, columns, figsize=(5 * columns, 9), layout="constrained")
    for axes, (inputs, x, outputs, y) in zip(grid.flat, examples, strict=True):
        weights = model.attend(mg.tensor(x).reshape(-1, 1), [len(x)], mg.tensor([*y, END]).reshape(-1, 1))
        shades = axes.imshow(weights[:, :, 0].numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(inputs)), list(inputs))
        axes.set_yticks(range(len(outputs) + 1), [*outputs, "end"])
    figure.suptitle("Where the decoder looks, for each step that it writes")
    figure.supxlabel(labels[0])
    figure.supylabel(f"{labels[1]}, from top to bottom")
    figure.colorbar(shades, ax=list(grid.flat), label="weight of the attention", shrink=0.5)
    save_picture(figure, path)
