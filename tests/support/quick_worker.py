"""A worker without torch, which starts at once and whose points take milliseconds of sleep, but
for some lengths that go wrong; for tests of what its parent keeps. Its sweep file is a plan in
JSON."""

import os
import signal
import time
from pathlib import Path

from dlm_bench.results.record import Point, Record
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.worker import server as worker

SECONDS = 0.01
HARDWARE = "imaginary"
QUIT, KILLED, HANG, OUT_OF_MEMORY, BAD_ALLOC = 10_001, 10_002, 10_003, 10_004, 10_005
GARBLED, CLOSED, WAITING = 10_006, 10_007, 10_008
BROKEN = 30_000  # and beyond: one error, with the length in it


def answer(job):
    if "plan" in job:
        path = Path(job["plan"]["path"])
        with path.with_suffix(".workers").open("a") as file:
            file.write(f"{os.getpid()}\n")
        plan = Plan.model_validate_json(path.read_text())
        if (timeout := job["plan"].get("timeout")) is not None:
            sweep = plan.sweep.model_copy(update={"timeout": timeout})
            plan = plan.model_copy(update={"sweep": sweep})
        if not job["plan"].get("on_this_machine", True):
            plan = plan.anywhere()
        return {"plan": plan.model_dump(mode="json")}
    point = Point(**job["measure"])
    if point.length == QUIT:
        print("no device today")
        os._exit(7)
    if point.length == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if point.length == HANG:
        time.sleep(600)
    if point.length == OUT_OF_MEMORY:
        return {"failure": {"status": "oom", "message": "no room"}}
    if point.length >= BROKEN:
        return {"failure": {"status": "error", "message": f"no kernel for {point.length} tokens"}}
    if point.length == BAD_ALLOC:
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.abort()
    if point.length == GARBLED:
        return {"record": {"point": None}, "seconds": 1.0}
    if point.length == CLOSED:
        os.closerange(3, 100)
        time.sleep(600)
    if point.length == WAITING:  # until the test has made this file
        while not Path(os.environ["QUICK_GO"]).exists():
            time.sleep(SECONDS)
    time.sleep(SECONDS)
    settings = {name: job["measuring"][name] for name in ("mode", "warmup", "repeats", "seed")}
    record = Record(point=point, status="ok", nfe=1, seconds=[SECONDS] * 5, **settings)
    record.environment = {
        "hardware": HARDWARE,
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "worker": os.getpid(),
    }
    return {"record": record.model_dump(mode="json"), "seconds": SECONDS}


if __name__ == "__main__":
    worker.serve(lambda: answer)
