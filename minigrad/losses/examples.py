"""What the built-in losses take, drawn at random: the conformance kit tests them with it."""

from __future__ import annotations

from typing import Any

from minigrad.ops import log_softmax

Arrays = tuple[Any, Any]
_STEPS, _BATCH, _CLASSES = 5, 3, 4


def values(generator: Any) -> Arrays:
    """Numbers, and numbers to compare them with."""
    return _numbers(generator), _numbers(generator)


def logits_and_classes(generator: Any) -> Arrays:
    """Logits (T, B, C) and class indices (T, B)."""
    return _numbers(generator), generator.integers(0, _CLASSES, (_STEPS, _BATCH))


def log_probabilities_and_classes(generator: Any) -> Arrays:
    """Log-probabilities (T, B, C) and class indices (T, B)."""
    logits, classes = logits_and_classes(generator)
    return log_softmax(logits), classes


def logits_and_answers(generator: Any) -> Arrays:
    """Logits and answers between no, 0, and yes, 1."""
    return _numbers(generator), generator.uniform(0, 1, (_STEPS, _BATCH, _CLASSES))


def frames_and_labels(generator: Any) -> Arrays:
    """Log-probabilities of symbols (T, B, C), and two labels for each sequence, (B, 2), the blank 0 not among them."""
    return log_softmax(_numbers(generator)), generator.integers(1, _CLASSES, (_BATCH, 2))


def _numbers(generator: Any) -> Any:
    return generator.standard_normal((_STEPS, _BATCH, _CLASSES))
