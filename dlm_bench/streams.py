"""Standard streams that are closed, full, or of few characters."""

import codecs
import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import IO, Any

from dlm_bench.errors import ResultsError

_ENCODE_ERRORS = "dlm-bench"
_COLOURS = {"red": 31, "green": 32, "yellow": 33}
_PLAIN = {
    "²": "^2",
    "µ": "u",
    "±": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "÷": "/",
    "≤": "<=",
    "≥": ">=",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "…": "...",
    "→": "->",
    "🔴": ":red_circle:",
    "🟠": ":orange_circle:",
    "🟡": ":yellow_circle:",
    "🟢": ":green_circle:",
    "⚪": ":white_circle:",
}


def plain(text: str) -> str:
    """Return text in ASCII: ^2, +-, x and the like for common symbols, escapes for the rest."""
    spelled = "".join(_PLAIN.get(character, character) for character in text)
    return spelled.encode("ascii", "backslashreplace").decode("ascii")


def shown(text: str) -> str:
    """Return text as standard output will show the characters, so columns align."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _ENCODE_ERRORS).decode(encoding, "surrogateescape")


def screen_width() -> int | None:
    """Return the columns of standard output, by COLUMNS or the terminal; None without a limit."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def folded(text: str, indent: int = 0) -> str:
    """Return text in lines that fit standard output, with later lines indented."""
    width, indentation = screen_width(), " " * indent
    if width is None:
        return text
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indentation, break_on_hyphens=False)
        for line in text.splitlines()
    )


def is_screen(stream: IO[str]) -> bool:
    """Return True for a terminal that can draw over earlier text."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def in_colour(text: str, colour: str) -> str:
    """Return text for standard output, in a colour if colours are shown.

    NO_COLOR and FORCE_COLOR decide; else a terminal has colours, and a pipe or a file has none.
    """
    if os.environ.get("NO_COLOR"):
        return text
    coloured = bool(os.environ.get("FORCE_COLOR")) or is_screen(sys.stdout)
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if coloured else text


def _in_fewer_characters(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode with `plain` if an encoding lacks a character; a file name's odd bytes stay."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if "\udc80" <= first <= "\udcff":
        return bytes([ord(first) - 0xDC00]), error.start + 1
    return plain(first), error.start + 1


codecs.register_error(_ENCODE_ERRORS, _in_fewer_characters)


class _Stream:
    """A text stream that passes on all but `write` and `flush`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._fail(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Discard the rest of the buffer, or Python fails again at exit."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class _Output(_Stream):
    """Standard output. A failure ends the command with a message.

    A reader with enough (`| head`) is no failure: the command goes on without output and keeps the
    exit code.
    """

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        if isinstance(error, BrokenPipeError):
            return
        if sys.stdout is not self:  # a library flushes it at exit, after the command
            return
        reason = getattr(error, "strerror", None) or error
        raise ResultsError(f"standard output: {reason}") from None


class _Messages(_Stream):
    """Standard error. A failure loses messages and stops no measurement."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Write to failing standard streams as `_Output` and `_Messages` say, in any encoding."""
    _open_closed()
    before = sys.stdout, sys.stderr
    errors = []
    for stream in before:
        if hasattr(stream, "reconfigure"):
            errors.append((stream, stream.errors))
            stream.reconfigure(errors=_ENCODE_ERRORS)
    sys.stdout, sys.stderr = _Output(before[0]), _Messages(before[1])
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        for stream, handler in errors:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=handler)


def _open_closed() -> None:
    """Open the null device for each closed standard stream (`>&-`).

    Otherwise the next opened file, such as the results, would become the stream and get all output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
