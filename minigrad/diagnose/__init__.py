"""Looking into a recurrent network: does the gradient reach back, do gates saturate, do activations grow.

Each function runs the model and returns numbers on the host, in an object that also prints or draws itself:

>>> from minigrad.diagnose import activation_norms, gate_saturation, gradient_flow
>>> cell, x = mg.LSTMCell(3, 5), mg.normal(shape=(20, 4, 3))
>>> gradient_flow(cell, x).norms.shape                        # (lags, sequences)
(20, 4)
>>> len(gate_saturation(cell, x).activations)                 # input, forget, output gate; candidate, cell
5
>>> list(activation_norms(mg.Recurrent(cell), x).norms)
['Recurrent', 'cell', 'cell.state[0]', 'cell.state[1]']

`.plot(path)` needs matplotlib, the extra `plot`.
"""

from __future__ import annotations

from minigrad.diagnose.gradients import GradientFlow, gradient_flow
from minigrad.diagnose.norms import ActivationNorms, activation_norms
from minigrad.diagnose.saturation import Activation, GateSaturation, gate_saturation

__all__ = [
    "Activation",
    "ActivationNorms",
    "GateSaturation",
    "GradientFlow",
    "activation_norms",
    "gate_saturation",
    "gradient_flow",
]
