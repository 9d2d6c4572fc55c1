"""From one sequence to another: a bidirectional encoder, and a decoder that attends to what it gave."""

import minigrad as mg
from minigrad.decoding import beam_search, generate

END = 0  # the class before the first step of an output, and after its last; padding too
OWN = -1  # as an input: the class of the highest score at the step before


class Decoder(mg.Cell):
    """One class per step: the class before it goes in, the scores of the next one come out.

    The encoder's outputs travel in the state, so that one program runs the whole sequence.
    """

    def __init__(self, cell, classes, embedding_size, hidden_size, memory_size, attention=True, feeds_itself=False):
        self.embedding = mg.Embedding(classes, embedding_size)
        self.inner = mg.cell(cell, embedding_size, hidden_size)
        size = mg.Recurrent(self.inner).output_size
        self.attention = mg.AdditiveAttention(size, memory_size, hidden_size) if attention else None
        self.combine = mg.Linear(size + (memory_size if attention else 0), hidden_size)
        self.output = mg.Linear(hidden_size, classes)
        self.memory_size, self.feeds_itself = memory_size, feeds_itself
        self.steps = 0  # of the memory in the next call

    def init_state(self, batch_size):
        memory = mg.zeros((batch_size, self.steps, self.memory_size))
        mask = mg.ones((batch_size, self.steps), dtype="bool")
        return self.inner.init_state(batch_size), mg.zeros(batch_size, dtype="int64"), memory, mask

    def step(self, x, state):
        scores, state, _ = self.look(x, state)
        return scores, state

    def look(self, x, state):
        """A step that also returns the attention's weights (S, B)."""
        inner, chosen, memory, mask = state
        weights = None
        if self.feeds_itself:
            x = mg.where(x == OWN, chosen, x)
        y, inner = self.inner.step(self.embedding(x), inner)
        if self.attention is not None:
            context, weights = self.attention(y, mg.permute_dims(memory, (1, 0, 2)), mask=mask.T)
            y = mg.concat([y, context], axis=-1)
        scores = self.output(mg.tanh(self.combine(y)))
        if self.feeds_itself:
            chosen = mg.argmax(scores, axis=-1)
        return scores, (inner, chosen, memory, mask), weights


class EncoderDecoder(mg.Module):
    """Classes (S, B) to the scores (T, B, C) of other classes. The options are those of `Decoder`."""

    def __init__(self, cell, sources, classes, embedding_size, hidden_size, **options):
        self.embedding = mg.Embedding(sources, embedding_size)
        self.encoder = mg.recurrent(cell, embedding_size, hidden_size, bidirectional=True)
        memory_size = self.encoder.output_size
        self.decoder = mg.Recurrent(Decoder(cell, classes, embedding_size, hidden_size, memory_size, **options))

    def encode(self, x, lengths):
        """The decoder's state before its first step."""
        memory, (ahead, back) = self.encoder(self.embedding(x), lengths=lengths)
        inner = mg.nest.map_nest(lambda a, b: (a + b) / 2, ahead, back)
        mask = mg.expand_dims(mg.tensor(lengths), -1) > mg.arange(len(x))
        self.decoder.cell.steps = len(x)
        return inner, mg.zeros(x.shape[1], dtype="int64"), mg.permute_dims(memory, (1, 0, 2)), mask

    def forward(self, x, lengths, before):
        """The scores at each step, given the classes `before` each step, (T, B)."""
        scores, _ = self.decoder(before, self.encode(x, lengths))
        return scores

    def decode(self, x, lengths, max_length, beam=1):
        """The classes (T, B) that greedy choice, or a beam of more than 1, finds."""
        start = mg.full(x.shape[1], END, dtype="int64")
        with mg.no_grad():
            state = self.encode(x, lengths)
        if beam == 1:
            return generate(self.decoder.cell, start, state, max_length, END).sequences
        return beam_search(self.decoder.cell, start, state, beam, max_length, END).sequences[:, :, 0]

    def attend(self, x, lengths, targets):
        """The attention's weights (T, S, B) at each step, while the decoder is fed the targets (T, B)."""
        rows = []
        with mg.no_grad():
            state = self.encode(x, lengths)
            for before in shifted(targets):
                _, state, weights = self.decoder.cell.look(before, state)
                rows.append(weights)
        return mg.stack(rows)


def shifted(targets):
    """What is before each step of the targets (T, B): `END`, and then all but the last."""
    return mg.concat([mg.full((1, targets.shape[1]), END, dtype="int64"), targets[:-1]])
