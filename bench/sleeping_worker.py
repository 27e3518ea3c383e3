"""A worker that sleeps in the place of measuring, for kill_resume.py: it loads next to nothing, so
that it starts in a moment. Its sweep file is a plan in JSON; it leaves its process id in a file.

    python bench/sleeping_worker.py PIDS [options of a worker]
"""

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlm_bench.sweep.worker import server as worker

SLEEP = 0.03  # seconds of a point
HARDWARE = "imaginary"


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The plan that the file holds, or the record of a point that took SLEEP seconds."""
    if "plan" in job:
        return {"plan": json.loads(Path(job["plan"]["path"]).read_text())}
    time.sleep(SLEEP)
    record = {name: job["measuring"][name] for name in ("mode", "warmup", "repeats", "seed")}
    record |= {"schema_version": 1, "point": job["measure"], "status": "ok", "nfe": 1}
    record |= {"seconds": [SLEEP], "environment": {"hardware": HARDWARE}}
    record["measured_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    return {"record": record, "seconds": SLEEP}


if __name__ == "__main__":
    with open(sys.argv[1], "a") as pids:
        pids.write(f"{os.getpid()}\n")
    worker.serve(lambda: answer, sys.argv[2:])
