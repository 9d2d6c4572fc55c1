"""From scores to sequences: choosing a class, generating step by step, and searching for the likeliest sequence.

All of it works on `step(x, state) -> (scores, state)`: from the classes (B,) chosen last and a state, to the scores
(B, C) of the next ones and a new state. That is any cell between an embedding and an output layer:

>>> embedding, cell, output = mg.Embedding(10, 4), mg.LSTMCell(4, 8), mg.Linear(8, 10)
>>> def step(x, state):
...     y, state = cell(embedding(x), state)
...     return output(y), state
>>> from minigrad.decoding import beam_search, generate
>>> generate(step, mg.tensor([1, 2]), cell.init_state(2), max_length=5).sequences.shape
(5, 2)
>>> beam_search(step, mg.tensor([1, 2]), cell.init_state(2), width=3, max_length=5).sequences.shape
(5, 2, 3)

or, for a model over time, (T, B) to (T, B, C):

    def step(x, state):
        scores, state = model(mg.expand_dims(x, 0), state)
        return scores[0], state
"""

from __future__ import annotations

from minigrad.decoding.beam import Beams, beam_search
from minigrad.decoding.generate import Generated, generate
from minigrad.decoding.sampling import greedy, sample

__all__ = ["Beams", "Generated", "beam_search", "generate", "greedy", "sample"]
