"""Sweeps in quick workers (see quick_worker.py), and waiting for processes."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from dlm_bench.results.record import Point
from dlm_bench.sweep.launch.multi_gpu import VISIBLE_DEVICES
from dlm_bench.sweep.load import Sweep
from dlm_bench.sweep.plan import Plan
from support.quick_worker import HARDWARE

QUICK = (sys.executable, str(Path(__file__).with_name("quick_worker.py")))


def quick_plan(points, timeout=None, gpus=()):
    """A plan for quick workers, of points given by backbone and length; on GPUs if any."""
    where = {"dtype": "bfloat16", "device": "cuda:0"} if gpus else {"dtype": "float32"}
    every = [Point(backbone=b, size="tiny", sampler="full", length=n, **where) for b, n in points]
    return Plan(
        sweep=Sweep(name="quick", points=every, timeout=timeout),
        work=[1.0] * len(every),
        environment={"hardware": HARDWARE},
        gpus=[*gpus],
    )


def quick_sweep(plan, output, *options):
    """Start the command line on a plan, with quick workers, on all GPUs of the plan."""
    script = str(Path(__file__).with_name("quick_sweep.py"))
    command = [sys.executable, script, "sweep", str(plan), "--output", str(output), *options]
    environment = {name: value for name, value in os.environ.items() if name != VISIBLE_DEVICES}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def cpu_seconds(*arguments):
    """The seconds of CPU time that Python takes for these arguments: those that it waits for
    neighbours do not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def workers_of(plan):
    return [int(line) for line in plan.with_suffix(".workers").read_text().split()]


def gone(pid):
    """Whether a process is over soon."""

    def over():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return wait_until(over)


def wait_until(condition, seconds=120.0):
    """Wait for a condition; the limit is for what hangs, far above a busy machine's need."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
    return True
