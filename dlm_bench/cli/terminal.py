"""Printers shared by commands."""

import sys
from collections.abc import Sequence

from dlm_bench.errors import ResultsError
from dlm_bench.results.table import Table
from dlm_bench.results.text_table import text_grid
from dlm_bench.streams import screen_width, shown


def print_grid(titles: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> None:
    """Print rows in columns, the first `words` of them words, as wide as the screen is at most."""
    cells = [[shown(cell) for cell in row] for row in (titles, *rows)]
    print(text_grid(cells[0], cells[1:], screen_width(), range(words)))


def print_table(table: Table, style: str = "text") -> None:
    """Print a table of results, and the gaps on stderr. Raises ResultsError for a table without
    rows."""
    if not table.rows:
        raise ResultsError(table.notes[0])
    print(table.render(style, screen_width()))
    for note in table.notes:
        print(f"dlm-bench: {note}", file=sys.stderr)
