"""SIGTERM and SIGINT end a command in the same way: what it has is kept, its workers are gone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler or `kill` sends."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated at SIGTERM; in a thread, which gets no signals, leave it as it is."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal ended, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
