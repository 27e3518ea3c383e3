"""SIGTERM and SIGINT end a command in the same way: results are kept, workers are stopped."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_TOLD = "at the end: "  # before a note of `at_interrupt`, as libraries write notes, too


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler or `kill` sends."""


class Interrupts:
    """The received signal, if any. The exception raised for a signal may be replaced on the way up,
    as in the middle of an import."""

    def __init__(self) -> None:
        self.came: KeyboardInterrupt | None = None

    def end(self, number: int, frame: FrameType | None) -> None:
        """Raise for a signal; a handler of signals."""
        self.came = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise self.came


@contextmanager
def terminable() -> Iterator[Interrupts]:
    """Raise Terminated at SIGTERM, and KeyboardInterrupt at SIGINT unless SIGINT is ignored.

    A thread gets no signals, so nothing changes there.
    """
    interrupts = Interrupts()
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            if number == signal.SIGTERM or signal.getsignal(number) == signal.default_int_handler:
                before[number] = signal.signal(number, interrupts.end)
    except ValueError:
        pass
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def at_interrupt(what: Callable[[], str]) -> Iterator[None]:
    """Add `what` to the message of an interrupt of this block, whatever a library makes of it."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{_TOLD}{what()}")
        raise


def message(error: BaseException) -> str:
    """Return the message of an interrupt, or of the error that was made of it."""
    said: list[str] = []
    each: BaseException | None = error
    while each is not None:  # a second signal has the first as its context
        notes = getattr(each, "__notes__", [])
        said += [note.removeprefix(_TOLD) for note in notes if note.startswith(_TOLD)]
        each = each.__context__
    return "; ".join(["interrupted", *said])


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal ended, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
