"""Tables as plain text of limited width: words are folded, numbers are never shortened."""

import textwrap
from collections.abc import Collection, Sequence

GAP = "  "
NARROWEST = 16  # columns for words: narrower, names are hard to read


def text_grid(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    words: Collection[int] = (0,),
) -> str:
    """Return a table of left-aligned words in the columns `words`, and numbers in all others.

    A table wider than `width` (None for no limit) has titles and words in more lines. If still too
    wide, further columns follow in a table below, with the words of each row again.
    """
    columns = [list(column) for column in zip(titles, *rows, strict=True)]
    natural = [max(map(len, column)) for column in columns]
    if width is None or _total(natural) <= width:
        return _lines(columns, natural, words)
    least = [
        min(full, NARROWEST) if place in words else _least(column)
        for place, (column, full) in enumerate(zip(columns, natural, strict=True))
    ]
    numbers = [place for place in range(len(columns)) if place not in words]
    if _total(least) > width and len(numbers) > 1:
        most = len(numbers) - 1
        while most > 1 and _total([least[p] for p in _kept(numbers[:most], words)]) > width:
            most -= 1
        parts = []
        for chosen in (numbers[:most], numbers[most:]):
            kept = _kept(chosen, words)
            part = [[row[place] for place in kept] for row in (titles, *rows)]
            among = [at for at, place in enumerate(kept) if place in words]
            parts.append(text_grid(part[0], part[1:], width, among))
        return "\n\n".join(parts)
    return _lines(columns, _widened(least, natural, width, words), words)


def _kept(numbers: Sequence[int], words: Collection[int]) -> list[int]:
    return sorted({*numbers, *words})


def _least(column: Sequence[str]) -> int:
    """Return the width of a column of numbers, with the title folded between words."""
    title, *cells = column
    return max(map(len, [*title.split(), *cells, ""]))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _widened(
    least: list[int], natural: Sequence[int], width: int, words: Collection[int]
) -> list[int]:
    """Give the rest of the width to the words, then to the titles of numbers."""
    widths = least[:]
    spare = width - _total(widths)
    for place in sorted(range(len(widths)), key=lambda place: place not in words):
        more = max(0, min(spare, natural[place] - widths[place]))
        widths[place] += more
        spare -= more
    return widths


def _lines(columns: Sequence[Sequence[str]], widths: Sequence[int], words: Collection[int]) -> str:
    titles, *rows = zip(*columns, strict=True)
    lines = _row(titles, widths, words, folded=range(len(widths)), down=True)
    lines.append(GAP.join("-" * width for width in widths))
    for row in rows:
        lines += _row(row, widths, words, folded=words)
    return "\n".join(lines)


def _row(
    cells: Sequence[str],
    widths: Sequence[int],
    words: Collection[int],
    folded: Collection[int],
    down: bool = False,
) -> list[str]:
    """Return the lines of a row; the last lines of its cells are level if `down`."""
    parts = [
        _fold(cell, width) if place in folded else [cell]
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    height = max(map(len, parts))
    lines = []
    for number in range(height):
        shown = []
        for place, (part, width) in enumerate(zip(parts, widths, strict=True)):
            at = number - (height - len(part)) * down
            text = part[at] if 0 <= at < len(part) else ""
            shown.append(text.ljust(width) if place in words else text.rjust(width))
        lines.append(GAP.join(shown).rstrip())
    return lines


def _fold(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
