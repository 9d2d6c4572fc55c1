"""Everything about the GPU in one call of at most 8 minutes: versions, tests, parity, benchmark, profile, the demo.

    python benchmarks/gpu_check.py [--out gpu-check]

Leaves `report.md` in the folder, with the end of what each step has written, beside the benchmark's JSON and PNG. The
report is written after each step, so that one that fails, or is late, takes nothing of the others along. Install what
is compared first: CuPy for the machine's CUDA, and PyTorch and JAX with CUDA where these are to be measured too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
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
        Step("parity", [python, str(benchmarks / "gpu_parity.py")], 0.15 * seconds, {}),
        Step("tests", [python, "-m", "pytest", "-q", "-k", "cupy", *tests], 0.2 * seconds, {}),
        Step(
            "benchmark",
            [python, str(benchmarks / "gpu.py"), "--budget", "0.15", "--limit", str(0.06 * seconds),
             "--json", f"{folder}/gpu.json", "--png", f"{folder}/gpu.png"],
            0.4 * seconds, {},
        ),
        Step(
            "profile",
            [python, str(benchmarks / "gpu_profile.py"), "--cells", "lstm", "mgu", "--sizes", "35,20,200,200",
             "100,128,1024,1024"],
            0.1 * seconds, {},
        ),
        Step("demo on the GPU, 2 x 1024", [*demo, "--out", f"{folder}/demo-gpu"], 0.1 * seconds, gpu),
        Step("demo on the CPU, 2 x 1024", [*demo, "--out", f"{folder}/demo-cpu"], 0.05 * seconds, {}),
    ]  # fmt: skip


def do(step: Step, left: float) -> tuple[str, str]:
    """How a step has ended, and what it has written."""
    limit = min(step.limit, left)
    if limit < 5:
        return "left out: no time is left", ""
    begin = time.perf_counter()
    environment = {**os.environ, **step.environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "160"}
    try:
        done = subprocess.run(
            step.command, cwd=ROOT, env=environment, timeout=limit, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        status, text = f"status {done.returncode}", done.stdout
    except subprocess.TimeoutExpired as late:
        status, text = f"stopped after {limit:.0f} s", late.stdout or ""
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
    except OSError as error:
        return f"not run: {error}", ""
    return f"{status}, {time.perf_counter() - begin:.0f} s", text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder for the report (gpu-check)")
    parser.add_argument("--seconds", type=float, default=470, help="for everything (default 470)")
    options = parser.parse_args()
    if reason := no_device():
        sys.exit(f"nothing is checked without a GPU: {reason}")
    options.out.mkdir(parents=True, exist_ok=True)
    out, begin = options.out.resolve(), time.perf_counter()
    report = ["# minigrad on a GPU", ""]
    summary = []
    for step in steps(out, options.seconds):
        status, text = do(step, options.seconds - (time.perf_counter() - begin))
        summary.append(f"{step.name}: {status}")
        print(summary[-1], flush=True)
        kept = "\n".join(text.splitlines()[-LINES:])
        report += [f"## {step.name}: {status}", "", "```", " ".join(step.command), kept, "```", ""]
        (out / "report.md").write_text("\n".join(report), encoding="utf-8")
    print(f"the report is {out / 'report.md'}")


if __name__ == "__main__":
    main()
