"""What training, writing and measuring have in common, whatever the sequences are made of."""

import minigrad as mg
from examples.encoder_decoder._model import END, OWN, shifted


def step(model, batch, longest, share=None):
    """The loss where the decoder is fed the right classes; and out of training, the edits of what it writes itself.

    Args:
        model: an `EncoderDecoder`.
        batch: of sequences and of the classes wanted, each with END at its end.
        longest: the most classes it may write.
        share: at how many of the steps it is fed its own choice instead; it must be made with `feeds_itself`.
    """
    x, y = batch
    before = shifted(y)
    if share is not None:
        before = mg.where(mg.uniform(shape=before.shape) < share, OWN, before)
    loss = mg.loss("cross_entropy")(model(x, batch.lengths[0], before), y, lengths=batch.lengths[1])
    if model.training:
        return loss
    found, wanted = cut(model.decode(x, batch.lengths[0], longest)), cut(y)
    return loss, {"errors": (sum(map(edit_distance, found, wanted)), sum(map(len, wanted)))}


def cut(classes):
    """The sequences in classes (T, B), each up to its END."""
    return [column[: [*column, END].index(END)] for column in classes.numpy().T.tolist()]


def write(model, data, longest, beam):
    """What the model writes for each example, in their order, by a beam of so many; 1 is greedy choice."""
    found = {}
    for batch in data.batches():
        found |= zip(batch.indices, cut(model.decode(batch[0], batch.lengths[0], longest, beam)), strict=True)
    return [classes for _, classes in sorted(found.items())]


def edit_distance(found, wanted):
    """The fewest insertions, deletions and substitutions that make one of the other (Levenshtein 1966)."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def error_rates(found, wanted):
    """In percent: edits per element of what is wanted, and the share of sequences with at least one edit."""
    edits = [edit_distance(a, b) for a, b in zip(found, wanted, strict=True)]
    return 100 * sum(edits) / sum(map(len, wanted)), 100 * sum(map(bool, edits)) / len(edits)
