"""Libraries beside each other: each in a process of its own, with the same number of threads, taking turns."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.plan.native.pool import usable_cores as cores

FOLDER = Path(__file__).parent
PAUSE = 0.1
"""Seconds between two turns, in which the threads of the one before fall asleep."""


class FailedError(Exception):
    """A worker has no answer; says why."""


class Turns(NamedTuple):
    """How libraries take turns.

    Attributes:
        threads: of each.
        rounds: how many turns each has.
        question: what a worker is asked at its turn, a line.
        limit: seconds for its first answer, or a turn, before it is given up.
    """

    threads: int
    rounds: int
    question: str
    limit: float


class Worker:
    """A process that measures one library.

    Args:
        command: a script of this folder and its arguments.
        threads: how many it may use.
        folder: for its compilers' caches, empty at first.
        native: whether minigrad may compile to C.
    """

    def __init__(self, command: list[str], threads: int, folder: Path, native: bool = True) -> None:
        folder.mkdir()
        count = str(threads)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "NPROC": count,  # XLA's
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            "XDG_CACHE_HOME": str(folder),
            "MINIGRAD_CACHE": str(folder / "minigrad"),
            "MINIGRAD_NATIVE": "1" if native else "0",
        }
        if threads == 1:
            flags = environment.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        self.log = folder / "stderr.txt"
        script, *arguments = command
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(FOLDER / script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )

    def answer(self, limit: float) -> dict[str, Any]:
        """The next line that it writes, for which it has so many seconds."""
        assert self.process.stdout is not None
        timer = threading.Timer(limit, self.process.kill)
        timer.start()
        begin = time.perf_counter()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            status = self.process.wait()
            late = time.perf_counter() - begin >= limit
            last = (self.log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise FailedError(f"no answer within {limit:g} s" if late else f"ended with status {status}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise FailedError(answer["failed"])
        return answer

    def ask(self, question: str, limit: float) -> dict[str, Any]:
        """The answer to a line."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and `answer` says how
        return self.answer(limit)

    def close(self) -> None:
        """Let it end."""
        try:
            self.process.communicate()
        except BrokenPipeError:
            self.process.wait()


def in_turn(
    commands: dict[str, list[str]],
    turns: Turns,
    folder: Path,
    accept: Callable[[dict[str, Any]], None] = lambda answer: None,
) -> dict[str, dict[str, Any]]:
    """Start all workers, one after the other, and let them take turns; each round goes the other way round.

    Args:
        commands: a script of this folder and its arguments, by peer. `plan-numpy` is minigrad without C.
        turns: how often, with what question, on how many threads.
        folder: an empty one for what they write.
        accept: is given each worker's first answer, and raises `FailedError` if it is not fit to be timed.

    Returns:
        By peer its first answer, with its answers at its turns under "rounds"; one that failed has the reason under
        "missing" and nothing else.
    """
    results: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}
    for peer, command in commands.items():
        workers[peer] = Worker(command, turns.threads, folder / peer, native=peer != "plan-numpy")
        try:
            results[peer] = workers[peer].answer(turns.limit)
            accept(results[peer])
            results[peer]["rounds"] = []
        except FailedError as failure:
            results[peer] = {"missing": str(failure)}
            workers.pop(peer).close()
    for turn in range(turns.rounds):
        for peer in list(workers) if turn % 2 else list(workers)[::-1]:
            time.sleep(PAUSE)
            try:
                results[peer]["rounds"].append(workers[peer].ask(turns.question, turns.limit))
            except FailedError as failure:
                results[peer] = {"missing": str(failure)}
                workers.pop(peer).close()
    for worker in workers.values():
        worker.close()
    return results


def once(command: list[str], threads: int, limit: float) -> dict[str, Any]:
    """The only answer of a worker."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        worker = Worker(command, threads, Path(folder, "worker"))
        try:
            return worker.answer(limit)
        finally:
            worker.close()


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median over the rounds of each of their figures."""
    return {name: statistics.median(measured[name] for measured in rounds) for name in rounds[0]} if rounds else {}


def is_installed(module: str) -> bool:
    """Whether a library is there; says so if not."""
    if importlib.util.find_spec(module) is not None:
        return True
    from tables import console

    console.print(f"{module} is not installed in this interpreter: left out (pip install '.[bench]')")
    return False


def warn_if_busy() -> None:
    """Say so if other programs are at work; they hurt most those that wait for all their threads, as OpenMP's do."""
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        from tables import console

        console.print(f"The load of this machine is {load:.1f} before anything is measured: figures will be off.")


def machine() -> str:
    """The processor and the interpreter, in words."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{cores()} cores of {model}, Python {platform.python_version()}"
