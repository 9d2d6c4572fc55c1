"""Which executor runs a program: compiled code where there can be some, calls of array functions elsewhere."""

from __future__ import annotations

from typing import Any

from minigrad.backend import Backend
from minigrad.plan.executor import Executor
from minigrad.plan.program import Program


def choose(program: Program, backend: Backend, checkpoint_every: int | None) -> tuple[Any, str]:
    """An executor for a program, and which it is, with the reason if it is not compiled.

    All have the same interface, see `Executor`.
    """
    plain = "as calls of array functions"
    if not backend.compiles:
        return Executor(program, backend, checkpoint_every), plain
    from minigrad.plan.native.parts import NotExpressibleError

    language = "CUDA" if backend.compiles == "cuda" else "C"
    try:
        return _compiled(language)(program, backend, checkpoint_every), f"compiled to {language}"
    except NotExpressibleError as error:
        why = str(error)
    except RecursionError:
        why = "too many of its operations follow one on the other"
    return Executor(program, backend, checkpoint_every), f"{plain}; not compiled to {language}: {why}"


def _compiled(language: str) -> Any:
    """The executor that writes a program in a language. Neither is imported before it is wanted."""
    if language == "CUDA":
        from minigrad.plan.cuda.executor import CudaExecutor

        return CudaExecutor
    from minigrad.plan.native.executor import NativeExecutor

    return NativeExecutor
