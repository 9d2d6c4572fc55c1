"""Whole layers in several threads and processes, with any number of threads of native code."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import native_toolchain
import numpy as np
import pytest
from native_layers import BATCH, STEPS, expected, how, layer, results, right, same, sequence
from native_toolchain import FOUND, compile_with, entries, needs_compiler

import minigrad as mg
from minigrad.plan.native import executor, pool
from minigrad.plan.native.toolchain import Compiler

FOLDER = Path(__file__).parent
AT_ONCE = 8

pytestmark = [
    pytest.mark.host_only("threads of C code know no backend"),
    pytest.mark.skipif(os.name != "posix", reason="native code has not been made to work on this system yet"),
    needs_compiler,
]
folder, fake, counting = native_toolchain.folder, native_toolchain.fake, native_toolchain.counting


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The suite's folder for compiled code; each run goes to several threads; Python changes its own at each chance."""
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    compile_with(monkeypatch, "-O0")
    monkeypatch.setattr(executor, "WORK_OF_TWO", 0)
    monkeypatch.setattr(pool, "_chosen", 3)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(*tasks: Callable[[], object]) -> None:
    """Each task in a thread of its own; the first error comes out."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(tasks))

    def work(task: Callable[[], object]) -> None:
        try:
            start.wait(60)
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --- threads of Python


def test_first_runs_at_once_compile_once(folder, counting):
    run = layer()
    at_once(*[lambda: right(run)] * AT_ONCE)
    assert how(run) == "compiled to C"
    assert counting() == len(entries(folder)) == 3


def test_one_layer_in_many_threads():
    """With batches of several sizes, and so with several programs; some with gradients and some without."""
    run = layer(engine="plan")
    xs = [sequence(batch=1 + place % 2) for place in range(2)]
    wanted = [expected(run, x) for x in xs]

    def train(place: int) -> None:
        for _ in range(20):
            same(results(run, xs[place]), wanted[place])

    def infer(place: int) -> None:
        for _ in range(20):
            with mg.no_grad():
                same([run(xs[place])[0].numpy()], wanted[place][:1])

    at_once(*[lambda task=task, place=place: task(place) for task in (train, infer) * 2 for place in (0, 1)])


def test_layers_and_streams_side_by_side():
    """A stream of each thread's own, of one layer that is trained in other threads and of others."""
    shared, others = layer(engine="plan"), [layer(engine="plan") for _ in range(2)]
    x = sequence()
    wanted = {id(run): expected(run, x) for run in (shared, *others)}
    for run in (shared, *others):
        run.eval()

    def train(run: mg.Recurrent) -> None:
        for _ in range(20):
            same(results(run, x), wanted[id(run)])

    def stream(run: mg.Recurrent) -> None:
        for _ in range(10):
            stateful = mg.Stateful(run, BATCH)
            ys = [stateful(x[t]).numpy() for t in range(STEPS)]
            same([np.stack(ys), stateful.state.numpy()], wanted[id(run)][:2])

    tasks = [(train, shared), (train, others[0]), (stream, shared), (stream, shared), (stream, others[1])]
    at_once(*[lambda task=task, run=run: task(run) for task, run in tasks])


def test_threads_with_little_stack(monkeypatch):
    """As they have it with musl, for which sums have their memory elsewhere."""
    sound = executor.kernels_source

    def as_with_musl(real: object) -> str:
        text = sound(real)
        assert text.count("#if defined __GLIBC__ ||") == 1
        return text.replace("#if defined __GLIBC__ ||", "#if 0 &&")

    monkeypatch.setattr(executor, "kernels_source", as_with_musl)
    run = layer(engine="plan")
    right(run)
    before = threading.stack_size(128 * 1024)
    try:
        at_once(*[lambda: right(run)] * 2)
    finally:
        threading.stack_size(before)


# --- threads of native code


def test_the_number_of_threads_changes_between_calls():
    run = layer(engine="plan")
    x = sequence()
    wanted = expected(run, x)
    for count in (1, 3, 2, 8, 1, 256):
        pool.set_num_threads(count)
        same(results(run, x), wanted)


def test_the_number_of_threads_changes_within_a_run():
    run = layer(engine="plan")
    leaf = mg.tensor(sequence(), requires_grad=True)
    found = []
    for forward, backward in ((1, 3), (3, 1), (2, 8)):
        pool.set_num_threads(forward)
        ys, _ = run(leaf)
        pool.set_num_threads(backward)
        found.append([part.numpy() for part in mg.grad(ys.sum(), [leaf, *run.cell.parameters()])])
    ys, _ = mg.Recurrent(run.cell, engine="tape")(leaf)
    wanted = [part.numpy() for part in mg.grad(ys.sum(), [leaf, *run.cell.parameters()])]
    for gradients in found:
        same(gradients, wanted)


@pytest.mark.parametrize("value", ["1", "2", "3", "3,2", "0", "-1", "1e3", "²", "99999999999999999999", ""])
def test_whatever_omp_num_threads_says(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(pool, "_chosen", None)
    assert right(layer(engine="plan")) == "compiled to C"
    expects = {"1": 1, "2": 2, "3": 3, "3,2": 3, "99999999999999999999": pool.MOST_THREADS}
    assert pool.get_num_threads() == expects.get(value, min(pool.usable_cores(), pool.MOST_THREADS))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_many_threads_on_one_core():
    allowed = os.sched_getaffinity(0)
    run = layer(engine="plan")
    os.sched_setaffinity(0, {min(allowed)})
    try:
        for count in (1, 3, 8):
            pool.set_num_threads(count)
            assert right(run) == "compiled to C"
    finally:
        os.sched_setaffinity(0, allowed)


# --- processes

BEGIN = """
import multiprocessing, os, signal, sys, threading, time, warnings
import numpy as np
import minigrad as mg
from minigrad.plan.native import executor, pool
from native_layers import BATCH, expected, how, layer, results, right, same, sequence, steps_right

executor.WORK_OF_TWO = 0
pool.set_num_threads(3)

def in_child(task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python: other threads are not in the child
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            task()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

SCRIPTS = {
    "fork after use": """
run = layer()
assert right(run) == "compiled to C"
run.eval()
x = sequence()
stateful = mg.Stateful(run, BATCH)
ys = mg.Recurrent(run.cell, engine="tape")(x)[0].numpy()
same([stateful(x[0]).numpy()], [ys[0]])

def child():
    threads = [threading.Thread(target=right, args=(run,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right(run) == "compiled to C"
    same([stateful(x[1]).numpy()], [ys[1]])

in_child(child)
in_child(lambda: in_child(child))
same([stateful(x[1]).numpy()], [ys[1]])
assert right(run) == "compiled to C"
""",
    "fork while others run": """
run, x = layer(), sequence()
wanted = expected(run, x)
results(run, x)
go = True

def others():
    while go:
        results(run, x)

threads = [threading.Thread(target=others) for _ in range(3)]
for thread in threads:
    thread.start()
try:
    for _ in range(5):
        in_child(lambda: same(results(run, x), wanted))
finally:
    go = False
""",
    "fork while another compiles the same layer": """
run, compiling = layer(), threading.Event()
choose = mg.plan.engine.choose

def slow(*arguments):
    compiling.set()
    time.sleep(0.5)
    return choose(*arguments)

mg.plan.engine.choose = slow
other = threading.Thread(target=run, args=(sequence(),))
other.start()
compiling.wait()
in_child(lambda: right(run))
other.join()
assert right(run) == "compiled to C"
""",
    "pools of processes": """
def task(units):
    return right(layer(units))

if __name__ == "__main__":
    right(layer())
    for way in ("spawn", "fork"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with multiprocessing.get_context(way).Pool(2) as workers:
                assert workers.map(task, [17, 17, 17, 17], 1) == ["compiled to C"] * 4
""",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_processes(fake, tmp_path, script):
    assert isinstance(FOUND, Compiler)
    fake(f'exec {FOUND.command[0]} "$@" -O0\n')
    file = tmp_path / "script.py"
    file.write_text(BEGIN + SCRIPTS[script])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path])}
    ended = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=180, env=environment, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
