"""The pool of threads: every share once, many callers, forks, sleep and wake, and the thread sanitizer."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import minigrad
from minigrad.plan.native import pool
from minigrad.plan.native.toolchain import Compiler, NativeUnavailable, find_compiler, load

COMPILER = find_compiler()
POOL = Path(minigrad.__file__).parent / "plan" / "native" / "c" / "pool.c"
DRIVER = Path(__file__).parent / "native_pool_driver.c"

TASKS = r"""
#include <stdatomic.h>
#include <pthread.h>
#include <time.h>

typedef void (*run)(void (*)(void *, int, int), void *, int);
typedef struct {
    atomic_int runs[300], wrong, now, most;
    unsigned long threads[300];
    long sleep;
    run nested;
} record;

static void note(void *context, int worker, int workers) {
    record *r = context;
    r->runs[worker]++;
    r->threads[worker] = (unsigned long)pthread_self();
    if (worker < 0 || worker >= workers) r->wrong++;
    int now = ++r->now;
    if (now > r->most) r->most = now;
    if (r->sleep) nanosleep(&(struct timespec){0, r->sleep}, 0);
    r->now--;
}
static void note_nested(void *context, int worker, int workers) {
    note(context, worker, workers);
    ((record *)context)->nested(note, context, 3);
}
static record shared;
void clear(long sleep) { shared = (record){.sleep = sleep}; }
void repeat(run f, int workers, int times) { for (int i = 0; i < times; i++) f(note, &shared, workers); }
void nest(run f, int workers) { shared.nested = f; f(note_nested, &shared, workers); }
int runs(int worker) { return shared.runs[worker]; }
int most(void) { return shared.most; }
int wrong(void) { return shared.wrong; }
unsigned long thread(int worker) { return shared.threads[worker]; }
unsigned long self(void) { return (unsigned long)pthread_self(); }

// Sums of the rows of a matrix, rows split over the workers; each gets its own copy of the arguments.
typedef struct { const double *x; double *sums; long rows, columns; } rows;
static void sum(void *context, int worker, int workers) {
    rows *r = context;
    for (long i = r->rows * worker / workers; i < r->rows * (worker + 1) / workers; i++) {
        r->sums[i] = 0;
        for (long j = 0; j < r->columns; j++) r->sums[i] += r->x[i * r->columns + j];
    }
}
void sums(run f, int workers, const double *x, double *out, long n, long m) { f(sum, &(rows){x, out, n, m}, workers); }
"""

pytestmark = [
    pytest.mark.host_only("threads of C code know no backend"),
    pytest.mark.skipif(not isinstance(COMPILER, Compiler), reason=f"no C compiler: {COMPILER}"),
]


@pytest.fixture(autouse=True)
def chosen(monkeypatch):
    """Native code is on, which other tests do without. The number of threads is the process's; it is given back."""
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    before = pool._chosen
    pool._chosen = None
    yield
    pool._chosen = before


@pytest.fixture
def address() -> ctypes.c_void_p:
    found = pool.pool_run_address()
    assert isinstance(found, int), found
    return ctypes.c_void_p(found)


@pytest.fixture
def tasks() -> ctypes.CDLL:
    library = load(TASKS)
    assert not isinstance(library, NativeUnavailable), library.reason
    library.thread.restype = library.self.restype = ctypes.c_ulong
    library.clear(ctypes.c_long(0))
    return library


def runs(tasks: ctypes.CDLL, workers: int) -> list[int]:
    assert tasks.wrong() == 0
    return [tasks.runs(worker) for worker in range(workers)]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_ten_thousand_quick_calls(tasks, address, workers):
    tasks.repeat(address, workers, 10_000)
    assert runs(tasks, workers + 1) == [10_000] * workers + [0]


def test_the_caller_is_worker_0_and_the_others_are_threads(tasks, address):
    tasks.clear(ctypes.c_long(5_000_000))
    tasks.repeat(address, 3, 1)
    assert tasks.thread(0) == tasks.self()
    assert len({tasks.thread(worker) for worker in range(3)}) == 3


def test_shares_run_at_the_same_time(tasks, address):
    tasks.clear(ctypes.c_long(200_000_000))
    tasks.repeat(address, 4, 1)
    assert tasks.most() >= 2


def test_threads_that_sleep_wake_up(tasks, address):
    for _ in range(20):
        tasks.repeat(address, 3, 1)
        time.sleep(0.002)  # far longer than threads spin
    assert runs(tasks, 3) == [20] * 3


def test_idle_threads_take_no_processor_time(tasks, address):
    tasks.repeat(address, 4, 10)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_fewer_threads_after_more(tasks, address):
    tasks.repeat(address, 6, 5)
    tasks.repeat(address, 2, 5)
    assert runs(tasks, 7) == [10, 10, 5, 5, 5, 5, 0]


def test_more_workers_than_there_can_be_threads(tasks, address):
    tasks.repeat(address, 300, 2)
    assert runs(tasks, 300) == [2] * 300


def test_a_task_that_calls_the_pool(tasks, address):
    tasks.nest(address, 4)
    assert runs(tasks, 5) == [1 + 4, 1 + 4, 1 + 4, 1, 0]


def test_many_python_threads_at_once(tasks, address):
    x = np.random.default_rng(0).normal(size=(8, 37, 50))
    out = np.full((8, 200, 37), np.nan)

    def call(caller: int) -> None:
        for turn in range(200):
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x[caller], out[caller, turn])]
            tasks.sums(address, 3, *pointers, ctypes.c_long(37), ctypes.c_long(50))

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(out, np.broadcast_to(x.sum(-1)[:, None], out.shape), rtol=1e-12, atol=1e-12)


FORK = f"""
import ctypes, os, sys, threading
from minigrad.plan.native import pool
from minigrad.plan.native.toolchain import load
tasks, address = load({TASKS!r}), ctypes.c_void_p(pool.pool_run_address())
def check(times):
    tasks.clear(ctypes.c_long(0))
    tasks.repeat(address, 3, times)
    return [tasks.runs(worker) for worker in range(4)] == [times] * 3 + [0]
"""


@pytest.mark.parametrize(
    "script",
    {
        "after use": """
assert check(100)
if os.fork() == 0:
    os._exit(not (check(100) and check(100)))
assert os.wait()[1] == 0 and check(100)
""",
        "before use": """
if os.fork() == 0:
    os._exit(not check(100))
assert os.wait()[1] == 0 and check(100)
""",
        "while another thread runs a task": """
tasks.clear(ctypes.c_long(300_000_000))
other = threading.Thread(target=tasks.repeat, args=(address, 3, 1))
other.start()
import time; time.sleep(0.1)
if os.fork() == 0:
    os._exit(not check(100))
assert os.wait()[1] == 0
other.join()
assert check(100)
""",
        "twice": """
assert check(10)
if os.fork() == 0:
    assert check(10)
    if os.fork() == 0:
        os._exit(not check(10))
    os._exit(not (os.wait()[1] == 0 and check(10)))
assert os.wait()[1] == 0
""",
    }.items(),
    ids=lambda item: item[0],
)
def test_fork(script):
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK + script[1] + "print('done')"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.strip() == "done", ended.stderr


def test_the_interpreter_ends_while_threads_spin():
    script = FORK + "assert check(1000)\nprint('done')"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.stdout.strip(), ended.returncode) == ("done", 0), ended.stderr


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers(tmp_path, sanitizer):
    assert isinstance(COMPILER, Compiler)
    program = str(tmp_path / "driver")
    words = [*COMPILER.command, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{POOL.parent}"]
    command = [*words, f"-fsanitize={sanitizer}", str(DRIVER), "-o", program, "-pthread"]
    built = subprocess.run(command, capture_output=True, text=True)
    if (built.returncode and "sanit" in built.stderr + built.stdout) or "cannot find -l" in built.stderr:
        pytest.skip(f"{COMPILER.version} has no sanitizer {sanitizer}")
    assert built.returncode == 0, built.stderr
    ended = subprocess.run([program], capture_output=True, text=True, timeout=120, env=_without_preload())
    if "unexpected memory mapping" in ended.stderr:
        pytest.skip("the sanitizer does not know how this kernel lays out memory")
    assert (ended.stdout.strip(), ended.returncode) == ("ok", 0), ended.stderr


def _without_preload() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


# ---- how many threads ------------------------------------------------------------------------------------------------


def test_set_num_threads():
    pool.set_num_threads(3)
    assert pool.get_num_threads() == 3
    pool.set_num_threads(np.int64(2))
    assert pool.get_num_threads() == 2
    assert type(pool.get_num_threads()) is int


@pytest.mark.parametrize("bad", [0, -1, 257])
def test_set_num_threads_out_of_range(bad):
    with pytest.raises(ValueError, match=rf"^set_num_threads: n must be from 1 to 256, not {bad}$"):
        pool.set_num_threads(bad)


@pytest.mark.parametrize("bad", [2.0, "2", None, True])
def test_set_num_threads_of_another_type(bad):
    with pytest.raises(TypeError, match=r"^set_num_threads: n must be an integer, not "):
        pool.set_num_threads(bad)


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("5,2", 5), (" 4 ", 4), ("1000", 256)])
def test_omp_num_threads(monkeypatch, value, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert pool.get_num_threads() == expected


@pytest.mark.parametrize("value", ["", "0", "-2", "many", None])
def test_without_omp_num_threads_as_many_as_cores(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(pool, "usable_cores", lambda: 7)
    assert pool.get_num_threads() == 7


@pytest.mark.parametrize(
    ("allowed", "siblings", "limit", "expected"),
    [
        ({0, 1, 2, 3}, {}, None, 4),
        ({0, 1, 2, 3}, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, None, 2),
        ({1, 2}, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, None, 2),
        ({0, 1, 2, 3}, {}, 2, 2),
        ({0}, {}, 8, 1),
    ],
)
def test_usable_cores(monkeypatch, allowed, siblings, limit, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: allowed, raising=False)
    monkeypatch.setattr(pool, "_siblings", lambda processor: siblings.get(processor, str(processor)))
    monkeypatch.setattr(pool, "_time_limit", lambda: limit)
    assert pool.usable_cores() == expected


def test_usable_cores_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert pool.usable_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert pool.usable_cores() == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu.max": "nonsense\n"}, None),
        ({}, None),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="containers limit the time on Linux only")
def test_a_containers_limit(monkeypatch, tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(pool, "CGROUP", tmp_path)
    assert pool._time_limit() == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no processor affinity")
def test_the_affinity_counts():
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    script += "from minigrad.plan.native.pool import get_num_threads; print(get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ended.stdout.strip() == "1", ended.stderr


def test_without_a_compiler_there_is_a_reason(monkeypatch):
    monkeypatch.setenv("MINIGRAD_NATIVE", "0")
    assert pool.pool_run_address() == NativeUnavailable("MINIGRAD_NATIVE=0 switches native code off")
