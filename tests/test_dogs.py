"""A recurrent network of three units that spells "dogs", worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg

W_X = [[0.6, 0.8, 0.4, 0.8], [0.2, 0.2, 0.8, 0.7], [0.9, 0.8, 0.1, 0.2]]
W_H = [[0.1, 0.5, 0.1], [0.5, 0.9, 0.3], [0.3, 0.2, 0.1]]
W_Y = [[0.9, 0.8, 0.3], [0.2, 0.3, 0.4], [0.6, 0.9, 0.1], [0.5, 0.0, 0.3]]
D, O, G, S = np.eye(4)  # noqa: E741  # the letters
INPUTS, TARGETS = np.stack([D, O, G]), np.stack([O, G, S])


class Speller(mg.Module):
    """Letters in, scores of the next letter out."""

    def __init__(self) -> None:
        self.rnn = mg.Recurrent(mg.RNNCell(4, 3, bias=False))
        self.read_out = mg.Linear(3, 4, bias=False)

    def forward(self, letters: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        hidden, _ = self.rnn(letters)
        return hidden, self.read_out(hidden)


def speller(dtype: str) -> Speller:
    model = Speller().to(dtype=dtype)
    weights = {"rnn.cell.weight_ih": W_X, "rnn.cell.weight_hh": W_H, "read_out.weight": W_Y}
    model.load_state_dict(weights)
    return model


def test_after_d_the_state_and_the_prediction_are_those_of_the_example() -> None:
    hidden, scores = speller("float32")(mg.tensor(D[None, None, :], dtype="float32"))
    np.testing.assert_array_equal(hidden.numpy().round(2).ravel(), np.float32([0.54, 0.20, 0.72]))
    np.testing.assert_array_equal(mg.softmax(scores).numpy().round(2).ravel(), np.float32([0.32, 0.21, 0.24, 0.22]))


def test_the_gradient_of_the_input_weights_is_the_textbooks_double_sum() -> None:
    model = speller("float64")
    _, scores = model(mg.tensor(INPUTS[:, None, :]))
    loss = -(mg.log_softmax(scores) * mg.tensor(TARGETS[:, None, :])).sum()
    loss.backward()

    value, gradient = textbook()
    np.testing.assert_allclose(loss.item(), value, rtol=1e-14)
    found = model.rnn.cell.weight_ih.grad.numpy()
    np.testing.assert_allclose(found, gradient, rtol=1e-12, atol=1e-12)
    assert np.abs(found[:, :3]).min() > 0.01
    np.testing.assert_array_equal(found[:, 3], 0)  # "s" is never read


def textbook() -> tuple[float, Any]:
    """The loss, and sum_t sum_{k <= t} dL_t/dy_t  dy_t/dh_t  dh_t/dh_k  dh_k/dW_x, each factor a Jacobian."""
    w_x, w_h, w_y = map(np.array, (W_X, W_H, W_Y))
    h, probabilities = [np.zeros(3)], []
    for x in INPUTS:
        h.append(np.tanh(w_x @ x + w_h @ h[-1]))
        scores = np.exp(w_y @ h[-1])
        probabilities.append(scores / scores.sum())

    loss, gradient = 0.0, np.zeros_like(w_x)
    for t in range(1, 4):
        p, target = probabilities[t - 1], TARGETS[t - 1]
        loss -= float(np.log(p) @ target)
        dL_dy = p - target
        dy_dh = w_y
        for k in range(1, t + 1):
            dh_dhk = np.eye(3)
            for j in range(t, k, -1):  # dh_t/dh_{t-1} ... dh_{k+1}/dh_k
                dh_dhk = dh_dhk @ (np.diag(1 - h[j] ** 2) @ w_h)
            dhk_dW = np.einsum("i,ia,b->iab", 1 - h[k] ** 2, np.eye(3), INPUTS[k - 1])  # with h_{k-1} held fixed
            gradient += np.einsum("i,iab->ab", dL_dy @ dy_dh @ dh_dhk, dhk_dW)
    return loss, gradient
