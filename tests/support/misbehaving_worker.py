"""The worker that measures, but with points that go wrong by their length; for tests of what its
parent makes of that."""

import ctypes
import sys
import time
import warnings

import torch

from dlm_bench.sweep.worker import jobs
from dlm_bench.sweep.worker import server as worker

WARNED, SEGFAULT, HANG, HUNGRY = 40, 64, 72, 88

measured = jobs.measure_point


def measure_point(model, sampler, shape, settings):
    length = shape.length
    if length == WARNED:
        warnings.warn("the weather is bad", stacklevel=2)
    elif length == SEGFAULT:
        print("about to read address 0", file=sys.stderr, flush=True)
        ctypes.string_at(0)
    elif length == HANG:
        time.sleep(600)
    elif length == HUNGRY:
        torch.empty(1 << 30)  # 4 GiB, none of it touched
    return measured(model, sampler, shape, settings)


if __name__ == "__main__":
    jobs.measure_point = measure_point
    worker.main()
