"""A table of words and numbers as text, Markdown, LaTeX (booktabs) or CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from dlm_bench.results.text_table import text_grid
from dlm_bench.streams import folded, plain
from dlm_bench.streams import shown as shown_text

FORMATS = ("text", "markdown", "latex", "csv", "tidy")
MISSING = "-"  # the cell of what is not in the records

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {
        "²": "$^2$",
        "µ": r"$\mu$",
        "±": r"$\pm$",
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "<": "$<$",
        ">": "$>$",
    }
)
_MARKDOWN = str.maketrans({"\\": "\\\\", "|": "\\|", "<": "&lt;"})


@dataclass(frozen=True)
class Number:
    """A number in a table.

    text: the digits to print. low, high: bounds, None without bounds. mark: the error and the marks
    of flags, printed after the digits.
    """

    value: float
    text: str
    low: float | None = None
    high: float | None = None
    mark: str = ""


Cell = str | Number


@dataclass(frozen=True)
class Table:
    """Rows under titles: the first column is words.

    notes: sentences on missing rows. heading: the settings of all rows. legend: the meaning of the
    marks.
    """

    titles: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    heading: str = ""
    legend: str = ""

    def render(self, form: str, width: int | None = None) -> str:
        """Return the table in a format of FORMATS without the notes, as text no wider than `width`.

        CSV has full numbers, a column for each bound, and empty cells for missing values; tidy CSV
        a line for each number. LaTeX has heading and legend as the caption.
        """
        if form == "csv":
            return _csv(self.titles, self.rows)
        if form == "tidy":
            return _tidy(self.titles, self.rows)
        titles, *rows = (
            [escape(shown(cell), form) for cell in row] for row in (self.titles, *self.rows)
        )
        heading, legend = escape(self.heading, form), escape(self.legend, form)
        table = grid(titles, rows, form, width)
        if form == "latex":
            caption = " ".join(filter(None, (heading, legend)))
            return _floating(table, caption) if caption else table
        gap = "\n\n" if form == "markdown" else "\n"
        if form == "text":
            heading, legend = folded(heading), folded(legend)
        return gap.join(filter(None, (heading, table, legend)))


def _floating(tabular: str, caption: str) -> str:
    """Return a LaTeX table with the caption above, as booktabs advises."""
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            tabular,
            r"\end{table}",
        ]
    )


def shown(cell: Cell) -> str:
    """Return the text of a cell."""
    return cell.text + cell.mark if isinstance(cell, Number) else cell


def escape(text: str, form: str) -> str:
    """Escape the special characters of a format, and join the lines."""
    line = " ".join(text.split())
    if form == "latex":
        return line.translate(_LATEX)
    return line.translate(_MARKDOWN) if form == "markdown" else line


def grid(
    titles: Sequence[str], rows: Sequence[Sequence[str]], form: str, width: int | None = None
) -> str:
    """Return a table of a column of words and right-aligned columns, in text, markdown or latex;
    as text no wider than `width`.

    The cells are put in as they are: LaTeX's own mathematics is welcome, `escape` does the rest.
    """
    if form == "latex":
        lines = [" & ".join(cells) + r" \\" for cells in (titles, *rows)]
        top = [rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}", r"\toprule"]
        return "\n".join(
            [*top, lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
        )
    if form == "text":
        cells = [[shown_text(cell) for cell in row] for row in (titles, *rows)]
        return text_grid(cells[0], cells[1:], width)
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    cells = [
        [row[0].ljust(widths[0])]
        + [cell.rjust(each) for cell, each in zip(row[1:], widths[1:], strict=True)]
        for row in (titles, *rows)
    ]
    rule = ["-" * widths[0], *("-" * (each - 1) + ":" for each in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))


def _csv(titles: Sequence[Cell], rows: Sequence[Sequence[Cell]]) -> str:
    columns: list[list[str]] = []
    for place, title in enumerate(titles):
        cells = [row[place] for row in rows]
        name = plain(_plain(title))
        columns.append([name, *map(_plain, cells)])
        for bound in ("low", "high"):
            values = [getattr(cell, bound, None) for cell in cells]
            if any(value is not None for value in values):
                digits = ["" if value is None else _digits(value) for value in values]
                columns.append([f"{name} {bound}", *digits])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
    return text.getvalue().rstrip("\n")


def _tidy(titles: Sequence[Cell], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a line for each number: the words of the row, the title of the column, the value."""
    words = [place for place in range(len(titles)) if _is_words(place, rows)]
    lines = [[*(plain(_plain(titles[each])) for each in words), "column", "value", "low", "high"]]
    for row in rows:
        for title, cell in zip(titles, row, strict=True):
            if isinstance(cell, Number):
                ends = ("" if end is None else _digits(end) for end in (cell.low, cell.high))
                named = [plain(_plain(row[each])) for each in words]
                lines.append([*named, plain(_plain(title)), _digits(cell.value), *ends])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().rstrip("\n")


def _is_words(place: int, rows: Sequence[Sequence[Cell]]) -> bool:
    """Recognise a column of words alone."""
    return not any(isinstance(row[place], Number) or row[place] == MISSING for row in rows)


def _plain(cell: Cell) -> str:
    if isinstance(cell, Number):
        return _digits(cell.value)
    return "" if cell == MISSING else cell


def _digits(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.6g}"
