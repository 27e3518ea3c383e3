"""The command line with the worker of quick_worker.py."""

import sys
from functools import partial
from pathlib import Path

from dlm_bench import cli, execute

if __name__ == "__main__":
    command = (sys.executable, str(Path(__file__).with_name("quick_worker.py")))
    execute.Executor = partial(execute.Executor, command)  # type: ignore[misc]
    sys.exit(cli.main())
