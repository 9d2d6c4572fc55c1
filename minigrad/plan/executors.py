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
    if backend.compiles == "cuda":
        from minigrad.plan.cuda.executor import CudaExecutor
        from minigrad.plan.native.parts import NotExpressibleError

        try:
            return CudaExecutor(program, backend, checkpoint_every), "compiled to CUDA"
        except NotExpressibleError as why:
            how = f"as calls of array functions; not compiled to CUDA: {why}"
            return Executor(program, backend, checkpoint_every), how
    if backend.compiles == "c":
        from minigrad.plan.native.executor import NativeExecutor
        from minigrad.plan.native.parts import NotExpressibleError

        try:
            return NativeExecutor(program, backend, checkpoint_every), "compiled to C"
        except NotExpressibleError as why:
            how = f"as calls of array functions; not compiled to C: {why}"
            return Executor(program, backend, checkpoint_every), how
    return Executor(program, backend, checkpoint_every), "as calls of array functions"
