"""The process's one pool of threads for native code, and how many of them a run uses."""

from __future__ import annotations

import ctypes
import operator
import os
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

from minigrad.plan.native.toolchain import NativeUnavailable, load

MOST_THREADS = 256
"""The largest number of threads: the pool's own and the caller's."""

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows what a container may use."""


def set_num_threads(n: int) -> None:
    """Let native code use n threads, the calling one among them.

    By default these are as many as `OMP_NUM_THREADS` says (in a list, its first number), or else as there are
    processor cores that the process may use. It holds for all threads of the program. Runs give the same results to
    within rounding with any number: sums over the batch are split among the threads.

    Args:
        n: from 1 to 256.

    Raises:
        TypeError: n is not an integer.
        ValueError: n is out of range.

    Example:
        >>> from minigrad.plan.native.pool import get_num_threads, set_num_threads
        >>> before = get_num_threads()
        >>> set_num_threads(2)
        >>> get_num_threads()
        2
        >>> set_num_threads(before)
    """
    global _chosen
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads: n must be an integer, not {type(n).__name__} {n!r}")
    if not 1 <= n <= MOST_THREADS:
        raise ValueError(f"set_num_threads: n must be from 1 to {MOST_THREADS}, not {n}")
    _chosen = operator.index(n)


def get_num_threads() -> int:
    """How many threads native code uses; see `set_num_threads`."""
    global _chosen
    if _chosen is None:
        _chosen = min(_omp_num_threads() or usable_cores(), MOST_THREADS)
    return _chosen


def pool_run_address() -> int | NativeUnavailable:
    """The address of `void pool_run(void (*task)(void *context, int worker, int workers), void *context, int workers)`.

    Native code gets it as an argument, so that all libraries of the process share one pool. `pool_run` calls the task
    once for each worker from 0 to workers - 1 and returns when all calls have returned. Worker 0 is the calling thread;
    the others are threads of the pool, but what such a thread has not begun when worker 0 is done, the calling thread
    does. The tasks must therefore not wait for one another. While the pool is busy (with a call from another Python
    thread, or with the one from whose task this is called), the calling thread does all the calls itself, in order.
    """
    library = load(pool_source())
    if isinstance(library, NativeUnavailable):
        return library
    if not hasattr(library, "pool_run"):
        return NativeUnavailable("what the compiler has made lacks the functions of its source")
    address = ctypes.cast(library.pool_run, ctypes.c_void_p).value
    assert address is not None
    return address


def usable_cores() -> int:
    """How many processor cores this process may use.

    Of the processors that its affinity allows those of one core count once, as they share its arithmetic units; a
    container's limit on processor time counts as well.
    """
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(processor) for processor in allowed}
    return max(1, min(len(cores), _time_limit() or len(cores)))


@cache
def pool_source() -> str:
    """The pool in C."""
    return files("minigrad.plan").joinpath("native/c/pool.c").read_text(encoding="utf-8")


def _omp_num_threads() -> int | None:
    """OMP_NUM_THREADS, or None if it is not set or not a positive number."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _siblings(processor: int) -> str:
    """A name of the core that a processor belongs to."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(processor)


def _time_limit() -> int | None:
    """How many processors' time the container may use, rounded up; None if it is not limited (cgroup v2 and v1)."""
    if sys.platform != "linux":
        return None
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except (OSError, ValueError):
            return None
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:  # "max", or -1
        return None
    return max(1, -(-int(quota) // int(period)))


_chosen: int | None = None
