"""SIGTERM and SIGINT end a command in the same way: results are kept, workers are stopped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal ended, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
