"""Runs a command, and turns errors into an exit code and a line."""

import argparse
import contextlib
import importlib
import os
import sys
import traceback
import warnings

from dlm_bench.errors import (
    DlmBenchError,
    FormerNameWarning,
    LostPointWarning,
    PointError,
    first_line,
)
from dlm_bench.signals import Interrupts, exit_code, message, terminable
from dlm_bench.streams import guarded
from dlm_bench.waiting import wait_passively

OK, USAGE, POINTS_FAILED, INTERNAL = 0, 2, 3, 70


def dispatch(arguments: list[str]) -> int:
    """Run a command and return the exit code."""
    try:
        with terminable() as interrupts, guarded():
            return _run(arguments, interrupts)
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)


def _run(arguments: list[str], interrupts: Interrupts) -> int:
    """Run a command; print an error in a line, after the traceback with --debug."""
    debug = False
    try:
        # Here, as an interrupt of these imports is told like any other.
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
        code, line = _ended(error, interrupts, debug)
        if debug:
            traceback.print_exc()
        print(f"dlm-bench: {line}", file=sys.stderr)
        return code


def _ended(error: BaseException, interrupts: Interrupts, debug: bool) -> tuple[int, str]:
    """Return the exit code and the line for an error at the end of a command."""
    interrupt = error if isinstance(error, KeyboardInterrupt) else interrupts.came
    if interrupt is not None:  # whatever a library made of it
        return exit_code(interrupt), message(error)
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


def _command(args: argparse.Namespace) -> int:
    """Load the module named as the command, and run the command."""
    wait_passively(os.environ)
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
        lost = _show_warnings()
        # An error that ends a command is printed after it.
        with contextlib.redirect_stderr(nowhere if "quiet" in args else sys.stderr):
            module = importlib.import_module(f"dlm_bench.cli.{args.command}")
            code: int = getattr(module, args.command)(args)
    return POINTS_FAILED if lost and code == OK else code


def _show_warnings() -> list[Warning | str]:
    """Print each warning once, in a line, whatever PYTHONWARNINGS says. Return a list to be filled
    with the warnings of lost points: after these a reading command does not exit with 0."""
    lost: list[Warning | str] = []

    def one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        print(f"dlm-bench: warning: {' '.join(str(message).split())}", file=sys.stderr)
        if issubclass(category, LostPointWarning):
            lost.append(message)

    warnings.resetwarnings()
    for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", quiet)
    warnings.simplefilter("default", FormerNameWarning)  # the user's own, not a library's
    warnings.showwarning = one_line
    return lost
