"""Milliseconds per train step, and per forward alone, of recurrent layers: minigrad beside PyTorch and JAX on the CPU.

    python benchmarks/recurrent.py [--cells lstm gru] [--sizes 35,20,200,200] [--rounds 3] [--budget 1.0] [--json FILE]
    python benchmarks/recurrent.py --from-json FILE [--png FILE]
    python benchmarks/recurrent.py --demo [WINDOWS]

A train step is forward and backward over the whole sequence, from a given gradient of the outputs to the gradients of
all parameters. Every library gets the same weights and inputs, and is timed only if its outputs and gradients are those
of minigrad's tape. Each runs in a process of its own, in alternating rounds; the medians of the rounds' medians are
shown. Peers that are not installed are left out: pip install '.[bench]'.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import Any

from recurrent_cells import CELLS, SIZES, Size
from recurrent_report import OURS, PEERS, console, milliseconds, report, report_demo

WORKER = Path(__file__).with_name("recurrent_worker.py")
MODULES = {peer: peer.split("-")[0] for peer in PEERS if peer not in OURS}
UNASKED = [peer for peer in PEERS if peer != "torch-compile-loop"]
"""What is measured unless --peers says otherwise: to compile an unrolled loop takes from half a minute to many."""
TOLERANCE = 1e-3
"""The largest difference from the tape's results, over their largest value, that a peer may have."""
PAUSE = 0.1
"""Seconds between two turns, in which the threads of the one before fall asleep."""


class FailedError(Exception):
    """A worker has no answer; says why."""


class Worker:
    """A process that runs one library on one case.

    Args:
        arguments: for `recurrent_worker.py`.
        threads: how many it may use.
        folder: for its compilers' caches, empty at first.
    """

    def __init__(self, arguments: list[str], threads: int, folder: Path) -> None:
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
            "MINIGRAD_NATIVE": "0" if arguments[0] == "plan-numpy" else "1",
        }
        if threads == 1:
            flags = environment.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        self.log = folder / "stderr.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )

    def answer(self, limit: float) -> dict[str, Any]:
        """The next line that it writes, for which it has so many seconds."""
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
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.answer(limit)

    def close(self) -> None:
        """Let it end."""
        self.process.communicate()


def applicable(peers: list[str], cell: str) -> list[str]:
    """The peers that have the cell: PyTorch has layers of its own for three."""
    return [peer for peer in peers if peer != "torch-nn" or cell in ("rnn", "lstm", "gru")]


def run_case(cell: str, size: Size, peers: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Everything measured of one cell at one size, by peer; a peer that failed has the reason under "missing"."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder, "case.npz")
        case = [cell, str(size), str(file)]
        reference = Worker(["reference", *case], options.threads, Path(folder, "reference"))
        try:
            reference.answer(options.limit)
        except FailedError as failure:
            raise SystemExit(f"minigrad's tape, to which all are held, fails at {cell} {size}: {failure}") from None
        reference.close()
        workers: dict[str, Worker] = {}
        for peer in applicable(peers, cell):
            workers[peer] = Worker([peer, *case], options.threads, Path(folder, peer))
            try:
                results[peer] = workers[peer].answer(options.limit)
                check(results[peer]["differences"])
                results[peer]["rounds"] = []
            except FailedError as failure:
                results[peer] = {"missing": str(failure)}
                workers.pop(peer).close()
        for turn in range(options.rounds):
            for peer in list(workers) if turn % 2 else list(workers)[::-1]:
                time.sleep(PAUSE)
                try:
                    results[peer]["rounds"].append(workers[peer].ask(str(options.budget), options.limit))
                except FailedError as failure:
                    results[peer] = {"missing": str(failure)}
                    workers.pop(peer).close()
        for peer, worker in workers.items():
            worker.close()
            for mode in ("train", "forward"):
                results[peer][mode] = statistics.median(medians[mode] for medians in results[peer]["rounds"])
    return results


def check(differences: dict[str, float]) -> None:
    """Refuse to compare unlike things."""
    wrong = [f"{name} by {value:.1e}" for name, value in differences.items() if not value <= TOLERANCE]
    if wrong:
        raise FailedError(f"differs from minigrad's tape: {', '.join(wrong)}")


def installed(peers: list[str], compiled: bool) -> list[str]:
    """The peers that can be measured here, minigrad's plan among them; says which cannot."""
    if not compiled:
        peers = [peer for peer in peers if not peer.startswith("torch-compile")]
    for module in dict.fromkeys(MODULES[peer] for peer in peers if peer in MODULES):
        if importlib.util.find_spec(module) is None:
            console.print(f"{module} is not installed in this interpreter: left out (pip install '.[bench]')")
            peers = [peer for peer in peers if MODULES.get(peer) != module]
    return [peer for peer in PEERS if peer in peers or peer == "plan"]


def machine() -> str:
    """The processor and the interpreter, in words."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{cores()} cores of {model}, Python {platform.python_version()}"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases, in turn; after each, what there is goes to --json."""
    peers = installed(options.peers, options.compile)
    settings = {"rounds": options.rounds, "budget": options.budget, "threads": options.threads}
    results: dict[str, Any] = {"machine": machine(), "settings": settings, "peers": peers, "cases": []}
    cases = [(cell, size) for cell in options.cells for size in options.sizes]
    for number, (cell, size) in enumerate(cases, 1):
        measured = run_case(cell, size, peers, options)
        results["cases"].append({"cell": cell, "size": list(size), "peers": measured})
        times = [f"{peer} {milliseconds(found.get('train'))}" for peer, found in measured.items()]
        console.print(f"[{number}/{len(cases)}] {cell} {size}: train step in ms: {', '.join(times)}")
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))
    return results


def run_demo(options: argparse.Namespace) -> None:
    """Train the demo's model with both engines from one seed, and compare."""
    results = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for engine in ("plan", "tape"):
            console.print(f"training the demo's model on {options.demo} windows with engine {engine!r}")
            worker = Worker(["demo", engine, str(options.demo)], options.threads, Path(folder, engine))
            results[engine] = worker.answer(limit=3600)
            worker.close()
    report_demo(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def size(text: str) -> Size:
    """A size from the command line."""
    try:
        return Size.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not T,B,I,H, four whole numbers of at least 1") from None


def parse() -> argparse.Namespace:
    """The options, checked before anything is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="by default all")
    add("--sizes", nargs="+", type=size, default=SIZES, metavar="T,B,I,H", help="steps, batch, input, hidden")
    add("--peers", nargs="+", choices=PEERS, default=UNASKED, help="by default all but torch-compile-loop")
    add("--rounds", type=int, default=3, help="how many turns each peer has at each case (default 3)")
    add("--budget", type=float, default=1.0, help="seconds per measurement (default 1); at least 3 calls are made")
    add("--limit", type=float, default=300.0, help="seconds for a peer's first calls, or a turn, before it is given up")
    add("--threads", type=int, default=cores(), help="of each peer (default: all cores)")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="whether to measure torch.compile")
    add("--json", type=Path, metavar="FILE", help="write everything measured")
    add("--png", type=Path, metavar="FILE", help="draw the ratios of train steps; needs matplotlib")
    add("--from-json", type=Path, metavar="FILE", help="show what an earlier run wrote; measure nothing")
    add("--demo", nargs="?", type=int, const=300, metavar="WINDOWS", help="the demo with plan and tape (default 300)")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1 or (options.demo is not None and options.demo < 1):
        parser.error("--rounds, --threads and --demo take numbers of at least 1")
    if options.png and importlib.util.find_spec("matplotlib") is None:
        parser.error("--png needs matplotlib: pip install '.[bench]'")
    if options.from_json and not options.from_json.is_file():
        parser.error(f"there is no file {options.from_json}")
    for file in (options.json, options.png):
        if file and not file.absolute().parent.is_dir():
            parser.error(f"there is no folder to write {file} into")
    return options


def main() -> None:
    options = parse()
    if options.demo:
        run_demo(options)
        return
    results = json.loads(options.from_json.read_text()) if options.from_json else run(options)
    report(results)
    if options.png:
        from recurrent_plot import draw

        draw(results, options.png)
        console.print(f"drawn: {options.png}")
    if any(
        found.get("missing", "").startswith("differs") for case in results["cases"] for found in case["peers"].values()
    ):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
