"""The command line: runs a command and turns what ends it into an exit code and one line.

Imports next to nothing before `main` runs, so that an interrupt meanwhile shows no traceback.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from dlm_bench.signals import Interrupts

OK, USAGE, POINTS_FAILED, INTERNAL, INTERRUPTED = 0, 2, 3, 70, 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        from dlm_bench.signals import exit_code, terminable
        from dlm_bench.streams import guarded
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        with terminable() as interrupts, guarded():
            return _run(sys.argv[1:] if arguments is None else arguments, interrupts)
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)


def _run(arguments: list[str], interrupts: "Interrupts") -> int:
    """Run a command; say in one line what ended it, after the traceback with --debug."""
    debug = False
    try:
        from dlm_bench.cli.parser import parse

        try:
            args = parse(arguments)
            debug = getattr(args, "debug", False)
            code = _command(args)
        except SystemExit as stop:  # of argparse, after --help or a wrong usage
            code = stop.code if isinstance(stop.code, int) else OK
        sys.stdout.flush()
        return code
    except BaseException as error:
        code, message = _ended(error, interrupts, debug)
        if debug:
            import traceback

            traceback.print_exc()
        print(f"dlm-bench: {message}", file=sys.stderr)
        return code


def _ended(error: BaseException, interrupts: "Interrupts", debug: bool) -> tuple[int, str]:
    """Return the exit code and the message for what ended a command."""
    from dlm_bench.errors import DlmBenchError, PointError, first_line
    from dlm_bench.signals import exit_code

    interrupt = error if isinstance(error, KeyboardInterrupt) else interrupts.came
    if interrupt is not None:  # whatever a library made of it
        return exit_code(interrupt), "interrupted"
    if isinstance(error, PointError):
        return POINTS_FAILED, str(error)
    if isinstance(error, DlmBenchError):
        return USAGE, str(error)
    if not isinstance(error, Exception):
        raise error
    if isinstance(error, OSError) and error.filename is not None:
        return USAGE, f"{str(error.filename)!r}: {error.strerror}"
    what = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    hint = "" if debug else " (--debug shows where)"
    return INTERNAL, f"internal error: {what}{hint}"


def _command(args: "argparse.Namespace") -> int:
    import contextlib
    import warnings

    from dlm_bench.waiting import wait_passively

    wait_passively(os.environ)
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
        lost = _show_warnings()
        # What ends a command is printed after it.
        with contextlib.redirect_stderr(nowhere if "quiet" in args else sys.stderr):
            code: int = args.command(args)
    return POINTS_FAILED if lost and code == OK else code


def _show_warnings() -> list[Warning | str]:
    """Print each warning once, as one line, whatever PYTHONWARNINGS says; return the list that gets
    those which a command that only reads must not exit with 0 after."""
    import warnings

    from dlm_bench.errors import LostPointWarning

    lost: list[Warning | str] = []

    def one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        print(f"dlm-bench: warning: {' '.join(str(message).split())}", file=sys.stderr)
        if issubclass(category, LostPointWarning):
            lost.append(message)

    warnings.resetwarnings()
    for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", quiet)
    warnings.showwarning = one_line
    return lost
