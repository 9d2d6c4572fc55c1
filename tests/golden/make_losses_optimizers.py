"""Make losses.npz and optimizers.npz with PyTorch (2.13 made those that are here). The tests need only the files.

python tests/golden/make_losses_optimizers.py
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
REDUCTIONS = ("mean", "sum", "none")


class Cases:
    """Cases under construction: what to call, with which options, and arrays by name."""

    def __init__(self):
        self.cases, self.arrays = [], {}

    def add(self, name, options, **arrays):
        key = str(len(self.cases))
        self.cases.append({"name": name, "options": options, "arrays": list(arrays)})
        self.arrays |= {f"{key}/{part}": np.asarray(array) for part, array in arrays.items()}

    def save(self, file):
        np.savez_compressed(HERE / file, cases=json.dumps(self.cases), **self.arrays)


def with_gradient(function, outputs, generator):
    """The value, and the gradient of its sum weighted at random (so that "none" is checked per position too)."""
    outputs = torch.tensor(outputs, requires_grad=True)
    value = function(outputs)
    seed = torch.tensor(generator.uniform(0.5, 1.5, value.shape).astype(outputs.detach().numpy().dtype))
    value.backward(seed)
    return {"outputs": outputs.detach(), "value": value.detach(), "seed": seed, "gradient": outputs.grad}


def losses():
    cases, generator = Cases(), np.random.default_rng(0)
    for dtype, reduction in itertools.product(("float64", "float32"), REDUCTIONS):
        logits = (3 * generator.standard_normal((4, 3, 5))).astype(dtype)
        classes = generator.integers(0, 5, (4, 3))
        classes[0, 0] = classes[2, 1] = 4
        probabilities = generator.dirichlet(np.ones(5), (4, 3)).astype(dtype)
        weight = generator.uniform(0.2, 2, 5).astype(dtype)

        for weighted, ignore_index, smoothing in itertools.product((False, True), (None, 4), (0.0, 0.1, 1.0)):
            options = {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": smoothing}
            torch_options = {**options, "ignore_index": -100 if ignore_index is None else ignore_index}
            w = torch.tensor(weight) if weighted else None
            extra = {"weight": weight} if weighted else {}

            def index_loss(x, w=w, options=torch_options, classes=classes):
                return F.cross_entropy(x.movedim(-1, 1), torch.tensor(classes), w, **options)

            cases.add(
                "cross_entropy", options, targets=classes, **extra, **with_gradient(index_loss, logits, generator)
            )
            if smoothing == 0:
                del options["label_smoothing"], torch_options["label_smoothing"]

                def nll_loss(x, w=w, options=torch_options, classes=classes):
                    return F.nll_loss(x.movedim(-1, 1), torch.tensor(classes), w, **options)

                log_probabilities = torch.log_softmax(torch.tensor(logits), -1).numpy()
                cases.add(
                    "nll", options, targets=classes, **extra, **with_gradient(nll_loss, log_probabilities, generator)
                )
            if ignore_index is None:
                options = {"reduction": reduction, "label_smoothing": smoothing}

                def soft_loss(x, w=w, options=options, probabilities=probabilities):
                    return F.cross_entropy(x.movedim(-1, 1), torch.tensor(probabilities).movedim(-1, 1), w, **options)

                cases.add(
                    "cross_entropy",
                    options,
                    targets=probabilities,
                    **extra,
                    **with_gradient(soft_loss, logits, generator),
                )

        outputs = (2 * generator.standard_normal((4, 3, 2))).astype(dtype)
        values = (2 * generator.standard_normal((4, 3, 2))).astype(dtype)
        values[0, 0, 0] = outputs[0, 0, 0]
        for name, options in [("mse", {}), ("mae", {}), ("huber", {}), ("huber", {"delta": 0.3})]:
            options = {**options, "reduction": reduction}
            function = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[name]

            def element_loss(x, function=function, options=options, values=values):
                return function(x, torch.tensor(values), **options)

            cases.add(name, options, targets=values, **with_gradient(element_loss, outputs, generator))

        outputs[1, 1] = [40, -90]
        answers = generator.uniform(0, 1, (4, 3, 2)).round(1).astype(dtype)
        weights = {
            "weight": generator.uniform(0.2, 2, (3, 1)).astype(dtype),
            "pos_weight": generator.uniform(0.2, 4, 2).astype(dtype),
        }
        for used in ([], ["weight"], ["pos_weight"], ["weight", "pos_weight"]):
            extra = {name: weights[name] for name in used}
            options = {"reduction": reduction}

            def binary_loss(x, extra=extra, options=options, answers=answers):
                tensors = {name: torch.tensor(value) for name, value in extra.items()}
                return F.binary_cross_entropy_with_logits(x, torch.tensor(answers), **tensors, **options)

            cases.add(
                "bce_with_logits", options, targets=answers, **extra, **with_gradient(binary_loss, outputs, generator)
            )

        for blank, zero_infinity in itertools.product((0, 3), (False, True)):
            logits = (2 * generator.standard_normal((12, 5, 4))).astype(dtype)
            labels = generator.integers(0, 3, (5, 4)) + (blank == 0)
            labels[1] = labels[1, 0]  # repeats
            input_lengths, target_lengths = np.array([12, 9, 12, 7, 5]), np.array([4, 4, 0, 2, 3])
            if zero_infinity:
                input_lengths[1] = 6  # four equal labels need seven frames
            options = {"reduction": reduction, "blank": blank, "zero_infinity": zero_infinity}

            def ctc_loss(x, labels=labels, lengths=(input_lengths, target_lengths), options=options):
                lengths = [torch.tensor(length) for length in lengths]
                return F.ctc_loss(torch.log_softmax(x, -1), torch.tensor(labels), *lengths, **options)

            cases.add(
                "ctc",
                options,
                targets=labels,
                input_lengths=input_lengths,
                target_lengths=target_lengths,
                **with_gradient(ctc_loss, logits, generator),
            )
    cases.save("losses.npz")


OPTIMIZERS = {
    "sgd": [
        {"lr": 0.05},
        {"lr": 0.05, "weight_decay": 0.1},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.4},
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.4},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {},
    ],
    "rmsprop": [
        {"lr": lr, "centered": centered, "momentum": momentum, "weight_decay": decay}
        for lr, centered, momentum, decay in itertools.product((0.02,), (False, True), (0.0, 0.7), (0.0, 0.1))
    ]
    + [{}, {"alpha": 0.8, "eps": 1e-3}],
    "adagrad": [
        {},
        {"lr": 0.1},
        {"lr": 0.1, "lr_decay": 0.05},
        {"lr": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1},
        {"lr": 0.1, "eps": 1e-2, "lr_decay": 0.05, "initial_accumulator_value": 0.5},
    ],
    **{
        name: [{}, {"lr": 0.05, "betas": [0.7, 0.9], "eps": 1e-3}]
        + [
            {"lr": 0.05, "weight_decay": decay, "amsgrad": amsgrad}
            for decay, amsgrad in itertools.product((0.0, 0.1), (False, True))
        ]
        for name in ("adam", "adamw")
    },
}


def optimizers():
    """Fifty steps on f(w) = sum(log(cosh(a * (w - c)))) + prod(sin(w)) / 2; its gradients are kept with the weights."""
    cases, generator = Cases(), np.random.default_rng(1)
    classes = {
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    for dtype, (name, choices) in itertools.product(("float64", "float32"), OPTIMIZERS.items()):
        for options in choices:
            start = generator.standard_normal((2, 3)).astype(dtype)
            slopes = torch.tensor(generator.uniform(0.2, 3, (2, 3)).astype(dtype))
            centre = torch.tensor(generator.standard_normal((2, 3)).astype(dtype))
            weights = torch.nn.Parameter(torch.tensor(start))
            torch_options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
            optimizer = classes[name]([weights], **torch_options, foreach=False)
            gradients, path = [], []
            for step in range(50):
                optimizer.zero_grad()
                loss = torch.log(torch.cosh(slopes * (weights - centre))).sum() + torch.sin(weights).prod() / 2
                loss.backward()
                gradients.append(weights.grad.numpy().copy())
                optimizer.step()
                if step % 10 == 9:
                    path.append(weights.detach().numpy().copy())
            cases.add(name, options, start=start, gradients=np.stack(gradients), path=np.stack(path))
    cases.save("optimizers.npz")


if __name__ == "__main__":
    losses()
    optimizers()
