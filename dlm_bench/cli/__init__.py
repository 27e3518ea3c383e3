"""The command line: runs a command and turns what ends it into an exit code and one line.

Imports next to nothing before `main` runs, so that an interrupt meanwhile shows no traceback.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    try:
        code = _command(arguments)
        sys.stdout.flush()
        return code
    except BaseException as error:
        return _ended(arguments, error, interrupts)


def _ended(arguments: list[str], error: BaseException, interrupts: "Interrupts") -> int:
    from dlm_bench.errors import DlmBenchError, PointError, first_line
    from dlm_bench.signals import exit_code
    from dlm_bench.streams import ReaderGone

    if isinstance(error, ReaderGone):
        return OK
    interrupt = error if isinstance(error, KeyboardInterrupt) else interrupts.came
    if interrupt is not None:  # whatever a library made of it
        return _end(arguments, exit_code(interrupt), "interrupted")
    if isinstance(error, PointError):
        return _end(arguments, POINTS_FAILED, str(error))
    if isinstance(error, DlmBenchError):
        return _end(arguments, USAGE, str(error))
    if not isinstance(error, Exception):
        raise error
    if isinstance(error, OSError) and error.filename is not None:
        return _end(arguments, USAGE, f"{str(error.filename)!r}: {error.strerror}")
    what = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    hint = "" if "--debug" in arguments else " (--debug shows where)"
    return _end(arguments, INTERNAL, f"internal error: {what}{hint}")


def _command(arguments: list[str]) -> int:
    import warnings

    from dlm_bench.cli.parser import parse
    from dlm_bench.waiting import wait_passively

    try:
        args = parse(arguments)
    except SystemExit as stop:  # of argparse, after --help or a wrong usage
        return stop.code if isinstance(stop.code, int) else OK
    wait_passively(os.environ)
    with warnings.catch_warnings():
        lost = _show_warnings()
        code: int = args.command(args)
    return POINTS_FAILED if lost and code == OK else code


def _end(arguments: list[str], code: int, message: str) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    print(f"dlm-bench: {message}", file=sys.stderr)
    return code


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
