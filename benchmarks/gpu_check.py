"""Everything about the GPU in one call of at most 8 minutes: parity, tests, benchmarks, options, profile, the demo.

    python benchmarks/gpu_check.py [--out gpu-check]

Leaves `report.md` in the folder, with the end of what each step has written, beside the benchmark's JSON and PNG. What
a step writes goes into a file of its own as it is written, and the report is written anew before and after each step:
one that fails, or is late, takes nothing of the others along, and if all of it is killed what was done is there.
Install what is compared first: CuPy for the machine's CUDA, and PyTorch and JAX with CUDA where these are to be
measured too.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gpu import no_device

ROOT = Path(__file__).parent.parent
LINES = 400
"""How many lines of a step's output the report keeps."""

TESTS = ("backend", "ops", "plan_equals_tape", "losses", "optimizers", "bptt", "bidirectional_stack", "checkpoint")
"""Files of tests that run on every backend."""


class Step(NamedTuple):
    """A program to run, with the most seconds that it may take."""

    name: str
    command: list[str]
    limit: float
    environment: dict[str, str]


def steps(out: Path, seconds: float) -> list[Step]:
    """What is done, in order; limits are parts of all the time that there is."""
    python, folder = sys.executable, str(out)
    benchmarks = ROOT / "benchmarks"
    gpu = {"MINIGRAD_BACKEND": "cupy"}
    tests = [f"tests/test_{name}.py" for name in TESTS]
    demo = [python, "-m", "minigrad", "demo", "--num-layers", "2", "--hidden-size", "1024", "--epochs", "1"]
    return [
        Step("the machine", ["nvidia-smi"], 20, {}),
        Step("versions", [python, "-m", "minigrad", "info", "--backend", "cupy"], 30, {}),
        Step("parity", [python, str(benchmarks / "gpu_parity.py")], 0.17 * seconds, {}),
        Step(
            "benchmark",
            [python, str(benchmarks / "gpu.py"), "--budget", "0.1", "--limit", str(0.055 * seconds),
             "--json", f"{folder}/gpu.json", "--png", f"{folder}/gpu.png"],
            0.36 * seconds, {},
        ),
        Step(
            "TF32, 16 bits, two directions",
            [python, str(benchmarks / "gpu_options.py"), "--budget", "0.1"],
            0.1 * seconds, {},
        ),
        Step(
            "profile",
            [python, str(benchmarks / "gpu_profile.py"), "--cells", "lstm", "mgu", "--sizes", "35,20,200,200",
             "100,128,1024,1024"],
            0.08 * seconds, {},
        ),
        Step("demo on the GPU, 2 x 1024", [*demo, "--out", f"{folder}/demo-gpu"], 0.08 * seconds, gpu),
        Step("demo on the CPU, 2 x 1024", [*demo, "--out", f"{folder}/demo-cpu"], 0.05 * seconds, {}),
        Step("tests", [python, "-m", "pytest", "-q", "-k", "cupy", *tests], 0.3 * seconds, {}),
    ]  # fmt: skip


def do(step: Step, left: float, log: Path) -> str:
    """How a step has ended; what it writes goes into a file."""
    limit = min(step.limit, left)
    if limit < 5:
        return "left out: no time is left"
    begin = time.perf_counter()
    environment = {**os.environ, **step.environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "160"}
    with log.open("w", encoding="utf-8") as out:
        try:  # in a group of its own, so that what it has started ends with it
            child = subprocess.Popen(
                step.command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        except OSError as error:
            return f"not run: {error}"
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    return f"status {status}, {time.perf_counter() - begin:.0f} s"


def report(done: list[tuple[Step, str, Path]]) -> str:
    """What is known so far: how each step has ended, and then the end of what each has written."""
    lines = ["# minigrad on a GPU", "", *(f"- {step.name}: {status}" for step, status, _ in done), ""]
    for step, status, log in done:
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        kept = "\n".join(text.splitlines()[-LINES:])
        lines += [f"## {step.name}: {status}", "", "```", " ".join(step.command), kept, "```", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder for the report (gpu-check)")
    parser.add_argument("--seconds", type=float, default=470, help="for everything (default 470)")
    options = parser.parse_args()
    if reason := no_device():
        sys.exit(f"nothing is checked without a GPU: {reason}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ending the step under way, too
    options.out.mkdir(parents=True, exist_ok=True)
    out, begin = options.out.resolve(), time.perf_counter()
    done: list[tuple[Step, str, Path]] = []
    for number, step in enumerate(steps(out, options.seconds)):
        log = out / f"{number}.log"
        (out / "report.md").write_text(report([*done, (step, "under way", log)]), encoding="utf-8")
        done.append((step, do(step, options.seconds - (time.perf_counter() - begin), log), log))
        (out / "report.md").write_text(report(done), encoding="utf-8")
        print(f"{step.name}: {done[-1][1]}", flush=True)
    print(f"the report is {out / 'report.md'}")


if __name__ == "__main__":
    main()
