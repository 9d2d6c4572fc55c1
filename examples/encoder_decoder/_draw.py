"""Pictures of attention."""

import minigrad as mg
from examples.common import pyplot, save_picture
from examples.encoder_decoder._model import END


def draw_attention(model, examples, path):
    """At which inputs the decoder looks for each output: of each example a matrix of the attention's weights.

    An example is the inputs' names and numbers, and the outputs' names and numbers.
    """
    columns = (len(examples) + 1) // 2
    figure, axes = pyplot().subplots(2, columns, figsize=(5 * columns, 9), layout="constrained")
    for axis, (inputs, x, outputs, y) in zip(axes.flat, examples, strict=True):
        weights = model.attend(mg.tensor(x).reshape(-1, 1), [len(x)], mg.tensor([*y, END]).reshape(-1, 1))
        axis.imshow(weights[:, :, 0].numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(inputs)), list(inputs))
        axis.set_yticks(range(len(outputs) + 1), [*outputs, "end"])
    save_picture(figure, path)
