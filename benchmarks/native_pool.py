"""Microseconds that a call of the native executor's pool of threads costs beyond the work: hand out, wait for all.

    python benchmarks/native_pool.py [--threads 2]

Each share takes 20 microseconds, so that a thread that spins does its own. One row per pause between two calls: without
one the threads still spin; after a millisecond they sleep, and until one is awake the caller has done its share. The
medians and the fastest of several rounds are shown; on a busy machine only the fastest says much.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics

from minigrad.plan.native.pool import get_num_threads, pool_run_address
from minigrad.plan.native.toolchain import NativeUnavailable, load

SOURCE = r"""
#include <time.h>

typedef void (*run)(void (*)(void *, int, int), void *, int);

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec * 1e-3;
}

static void wait(void *context, int worker, int workers) {
    (void)context, (void)worker, (void)workers;
    for (double end = now() + 20; now() < end;) {}
}

double latency(run f, int workers, int calls, double pause) {
    double total = 0;
    for (int i = 0; i < calls; i++) {
        double start = now();
        f(wait, 0, workers);
        total += now() - start - 20;
        for (double end = now() + pause; now() < end;) {}
    }
    return total / calls;
}
"""
ROUNDS = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=get_num_threads(), help="the caller among them")
    threads = parser.parse_args().threads
    address, library = pool_run_address(), load(SOURCE)
    if isinstance(address, NativeUnavailable) or isinstance(library, NativeUnavailable):
        raise SystemExit(f"no native code: {address if isinstance(address, NativeUnavailable) else library}")
    latency = library.latency
    latency.restype, latency.argtypes = ctypes.c_double, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_double]
    print(f"{threads} threads; pause between calls, median, fastest, in microseconds")
    for pause in (0, 10, 30, 1000):
        calls = 2_000 if pause < 100 else 200
        times = [latency(address, threads, calls, pause) for _ in range(ROUNDS)]
        print(f"{pause:6}{statistics.median(times):10.2f}{min(times):10.2f}")


if __name__ == "__main__":
    main()
