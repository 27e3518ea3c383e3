"""The command line.

Imports nothing before `main` runs, so that an interrupt meanwhile shows no traceback.
"""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    try:
        from dlm_bench.cli.dispatch import dispatch
    except KeyboardInterrupt:
        return 130
    return dispatch(sys.argv[1:] if arguments is None else arguments)
