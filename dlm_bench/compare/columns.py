"""Comparisons of several heads with a base, a column each."""

import json
from collections.abc import Callable, Sequence

from dlm_bench.compare.formats import (
    ICONS,
    annotations,
    json_object,
    overall_line,
    ratio_in_words,
)
from dlm_bench.compare.verdicts import Comparison, PointVerdict
from dlm_bench.results.identity import point_key
from dlm_bench.results.text_table import text_grid
from dlm_bench.streams import folded, in_colour, screen_width, shown

Reports = Sequence[Comparison]


def as_text(reports: Reports) -> str:
    """Return a table with a column a head, and the summary of each below."""
    titles, rows = _grid(reports)
    cells = [[shown(cell) for cell in row] for row in (titles, *rows)]
    lines = [f"base: {reports[0].base}"]
    lines += [f"head {i}: {report.head}" for i, report in enumerate(reports, 1)]
    for i, report in enumerate(reports, 1):
        lines += [folded(f"WARNING: head {i}: {text}") for text in report.warnings]
    lines += ["", text_grid(cells[0], cells[1:], screen_width(), [0]), ""]
    for i, report in enumerate(reports, 1):
        if report.overall is not None:
            lines.append(folded(f"head {i}: {overall_line(report.overall)}"))
        colour = "red" if report.regressed else "green" if report.decided else "yellow"
        text = f"head {i}: {report.summary()}: {report.conclusion}"
        lines.append(in_colour(folded(text), colour))
    return "\n".join(lines)


def as_markdown(reports: Reports) -> str:
    """Return a table with a column a head, for a comment on a pull request."""
    titles, rows = _grid(reports, icons=True)
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines.append("")
    for i, report in enumerate(reports, 1):
        overall = "" if report.overall is None else f"; {overall_line(report.overall)}"
        lines.append(
            f"- head {i} ({report.head}): {report.summary()}: {report.conclusion}{overall}"
        )
        lines += [f"  - **Warning:** {text}" for text in report.warnings]
    return "\n".join([*lines, "", f"base: {reports[0].base}"])


def as_json(reports: Reports) -> str:
    """Return a list of what `compare` prints of each head alone, under "comparisons"."""
    whole = {
        "regression": any(report.regressed for report in reports),
        "comparisons": [json_object(report) for report in reports],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)


def as_github(reports: Reports) -> str:
    """Return the workflow commands of each head, then the text."""
    commands = [line for report in reports for line in annotations(report)]
    return "\n".join([*commands, as_text(reports)])


COLUMN_FORMATS: dict[str, Callable[[Reports], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "github": as_github,
}


def _grid(reports: Reports, icons: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows: a point of any head, base's speed, and each head's verdict."""
    found = [{_key(each): each for each in report.points} for report in reports]
    points = {key: each for of_head in found for key, each in of_head.items()}
    rows = []
    for key, each in points.items():
        speed = next((of[key].base_speed for of in found if key in of and of[key].base_speed), None)
        cells = [_cell(of_head.get(key), icons) for of_head in found]
        rows.append([each.point.describe(), f"{speed:,.1f}" if speed else "-", *cells])
    return ["point", "base tokens/s", *(f"head {i}" for i, _ in enumerate(reports, 1))], rows


def _key(each: PointVerdict) -> str:
    return point_key(each.point)


def _cell(each: PointVerdict | None, icons: bool) -> str:
    if each is None:
        return "-"
    icon = ICONS.get(each.verdict, "") if icons else ""
    change = "" if each.change is None else ratio_in_words(each.change)
    return " ".join(filter(None, [icon, each.verdict, change]))
