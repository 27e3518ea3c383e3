"""The command line with the worker of quick_worker.py. QUICK_SURVIVE is how many seconds it waits
for its own death after that of a worker."""

import os
import sys
from functools import partial
from pathlib import Path

from dlm_bench import cli
from dlm_bench.sweep import run as execute
from dlm_bench.sweep.worker import process as isolation

if __name__ == "__main__":
    command = (sys.executable, str(Path(__file__).with_name("quick_worker.py")))
    execute.Executor = partial(execute.Executor, command)  # type: ignore[misc]
    survive = os.environ.get("QUICK_SURVIVE", isolation.SURVIVE_SECONDS)
    isolation.SURVIVE_SECONDS = float(survive)
    sys.exit(cli.main())
