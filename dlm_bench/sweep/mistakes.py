"""All mistakes of a sweep file, each with the number of a line."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dlm_bench.errors import ConfigError

MAX_SHOWN = 20  # mistakes of a file


class Mistakes:
    """The mistakes of a sweep file: the first of every line.

    broken: the indices of the groups without a valid backbone or sampler.
    """

    def __init__(self, path: str | Path, lines: dict[tuple[Any, ...], int]) -> None:
        self.broken: set[int] = set()
        self._path, self._lines = path, lines
        self._found: dict[tuple[int, str], str] = {}

    def add(self, text: str, *where: Any) -> None:
        """Note a mistake at a key, given as in `line_numbers`, or at the enclosing table; without
        `where`, a mistake of the whole file."""
        number = next((n for k in _around(where) if (n := self._lines.get(k))), 0)
        place = f"{self._path}:{number}" if number else str(self._path)
        self._found.setdefault((number, "" if number else text), f"{place}: {text}")

    def note(self, error: ConfigError, *where: Any) -> None:
        """Note an error at the key of the field: in the table `where`, or above."""
        key = {"length": "lengths"}.get(error.field, error.field)
        inside = (*where, key) in self._lines or (key,) not in self._lines
        index = f"{where[0]}[{where[1]}]" if where else ""
        if inside:
            self.add(f"{index}: {error}" if index else str(error), *where, key)
        else:
            self.add(f"{error} (in {index})", key)

    def check(self, check: Callable[[], object], *where: Any) -> bool:
        """Note the ConfigError that a check raises; return False if there is any."""
        try:
            check()
        except ConfigError as error:
            self.note(error, *where)
            return False
        return True

    def any(self, checks: Iterable[Callable[[], object]], *where: Any) -> bool:
        """Note the ConfigErrors of several checks; return True if there is any."""
        return False in [self.check(each, *where) for each in checks]

    def end(self) -> None:
        """Raise ConfigError, with a line for each mistake, if there is any."""
        if self._found:
            texts = [self._found[key] for key in sorted(self._found)]
            more = len(texts) - MAX_SHOWN
            shown = texts[:MAX_SHOWN] + ([f"{self._path}: {more} more"] if more > 0 else [])
            raise ConfigError("\n".join(shown))

    def rename(self, old: str, new: str) -> None:
        """Find the keys of a misnamed table by the right name."""
        moved = {(new, *key[1:]): n for key, n in self._lines.items() if key[0] == old}
        self._lines.update(moved)


def _around(where: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [where[:size] for size in range(len(where), 0, -1)]


_TABLE = re.compile(r"\s*\[\s*[\"']?([\w-]+)[\"']?\s*\]")
_TABLES = re.compile(r"\s*\[\[\s*[\"']?([\w-]+)[\"']?\s*\]\]")
_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*[=.]")


def line_numbers(text: str) -> dict[tuple[Any, ...], int]:
    """Return the line of each key of a TOML text, by paths such as ("lengths",) or ("lines", 0,
    "commit"); keys of inline tables are left out."""
    found: dict[tuple[Any, ...], int] = {}
    table: tuple[Any, ...] = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if tables := _TABLES.match(line):
            table = (tables[1], counts.get(tables[1], 0))
            counts[tables[1]] = table[1] + 1
            found.setdefault((tables[1],), number)
            found[table] = number
        elif alone := _TABLE.match(line):
            table = (alone[1],)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, key[1]), number)
    return found
