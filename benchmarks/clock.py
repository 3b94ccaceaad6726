"""How everything here is timed: once to warm up, then the median."""

import statistics
import time


def median_seconds(call, repeats=5):
    """Median wall time of `call` after one warm-up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
