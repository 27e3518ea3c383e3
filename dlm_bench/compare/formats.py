"""A comparison as text, Markdown, JSON, GitHub annotations, or github-action-benchmark's JSON.

Several heads: see `columns`.
"""

import json
import math
from collections.abc import Callable, Sequence

from dlm_bench.compare.statistics import Interval, TimeRatio, Verdict
from dlm_bench.compare.suite import Overall
from dlm_bench.compare.verdicts import Comparison, PointVerdict
from dlm_bench.results.record import Point
from dlm_bench.results.text_table import text_grid
from dlm_bench.streams import folded, in_colour, screen_width, shown

HEADER = ("verdict", "point", "base tokens/s", "head tokens/s", "time (tokens/s)", "95 % interval")
MEANINGLESS_FACTOR = 2  # an interval from half to twice the time says nothing
MAX_SHOWN_RATIO = 10  # a larger ratio is not worth the digits
UNCHANGED: tuple[Verdict, ...] = ("same",)
ICONS: dict[Verdict, str] = {
    "slower": "🔴",
    "tail slower": "🔴",
    "newly failing": "🔴",
    "missing": "🟡",
    "undecided": "🟡",
    "faster": "🟢",
    "fixed": "🟢",
}


def as_text(report: Comparison) -> str:
    """Return a table with aligned columns, at most as wide as the screen, and the summary below."""
    titles, rows, words = [*HEADER], [[*_cells(each)] for each in report.points], [0, 1]
    if any(each.note for each in report.points):
        words.append(len(titles))
        titles.append("note")
        rows = [[*row, each.note] for row, each in zip(rows, report.points, strict=True)]
    cells = [[shown(cell) for cell in row] for row in (titles, *rows)]
    lines = [f"base: {report.base}", f"head: {report.head}"]
    lines += [folded(f"note: {report.how}")] if report.how else []
    lines += [folded(f"WARNING: {text}") for text in report.warnings]
    lines += ["", text_grid(cells[0], cells[1:], screen_width(), words), ""]
    if report.overall is not None:
        lines.append(folded(overall_line(report.overall)))
    colour = "red" if report.regressed else "green" if report.decided else "yellow"
    lines.append(in_colour(folded(f"{report.summary()}: {report.conclusion}"), colour))
    lines += [folded(f"advice: {report.advice}")] if report.advice else []
    return "\n".join(lines)


def as_markdown(report: Comparison) -> str:
    """Return a comment for a pull request: notable points in a table, the rest folded away."""
    icon = "🔴" if report.regressed else "🟢" if report.decided else "🟡"
    lines = [f"### {icon} dlm-bench: {report.conclusion}", "", f"{report.summary()}.", ""]
    lines += [_markdown(overall_line(report.overall)), ""] if report.overall is not None else []
    lines += [f"> **Nothing decided:** {_markdown(report.advice)}", ""] if report.advice else []
    lines += [f"> **Warning:** {_markdown(text)}" for text in report.warnings]
    lines += [""] if report.warnings else []
    loud = [each for each in report.points if each.verdict not in UNCHANGED]
    rest = [each for each in report.points if each.verdict in UNCHANGED]
    lines += _markdown_table(loud)
    if rest:
        count = f"{len(rest)} point{'s' * (len(rest) != 1)}"
        lines += ["<details>", f"<summary>{count} without a change</summary>", ""]
        lines += [*_markdown_table(rest), "</details>", ""]
    how = f"; {report.how}" if report.how else ""
    lines.append(f"base: {_markdown(report.base)}; head: {_markdown(report.head)}{_markdown(how)}")
    return "\n".join(lines)


def _markdown_table(points: Sequence[PointVerdict]) -> list[str]:
    if not points:
        return []
    lines = [f"| {' | '.join((*HEADER, 'note'))} |", "|---|---|--:|--:|--:|---|---|"]
    for each in points:
        cells = [*_cells(each), each.note]
        cells[0] = f"{ICONS.get(each.verdict, '')} {each.verdict}".strip()
        lines.append(f"| {' | '.join(map(_markdown, cells))} |")
    return [*lines, ""]


def _markdown(text: str) -> str:
    """Escape markup, and keep the text in a single cell."""
    for mark, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("`", "'")):
        text = text.replace(mark, written)
    return " ".join(text.split())


def as_json(report: Comparison) -> str:
    """Return everything, for programs (see `json_object`)."""
    return json.dumps(json_object(report), indent=2, ensure_ascii=False, allow_nan=False)


def json_object(report: Comparison) -> dict[str, object]:
    """Return everything as an object of JSON. Intervals are [low, high] of head's time over base's;
    null stands for an unknown end."""
    points = [
        {
            "point": each.point.model_dump(),
            "name": each.point.describe(),
            "verdict": each.verdict,
            "base_seconds": each.base_seconds,
            "head_seconds": each.head_seconds,
            "base_tokens_per_second": each.base_speed,
            "head_tokens_per_second": each.head_speed,
            "note": each.note,
            **_numbers(each.change),
            "tail": None if each.tail is None else _numbers(each.tail),
        }
        for each in report.points
    ]
    return {
        "regression": report.regressed,
        "decided": report.decided,
        "conclusion": report.conclusion,
        "advice": report.advice,
        "summary": report.summary(),
        "counts": report.counts(),
        "threshold": report.threshold,
        "base": report.base,
        "head": report.head,
        "how": report.how,
        "warnings": list(report.warnings),
        "overall": _overall_object(report.overall),
        "points": points,
    }


def _overall_object(overall: Overall | None) -> dict[str, object] | None:
    if overall is None:
        return None
    return {
        "verdict": overall.verdict,
        "threshold": overall.threshold,
        "points": overall.points,
        **_numbers(overall.change),
    }


def overall_line(overall: Overall) -> str:
    """Return the change of the suite in words."""
    points = f"{overall.points} point{'s' * (overall.points != 1)}"
    line = f"overall: {change_in_words(overall.change)} over {points}"
    if overall.verdict is None or overall.threshold is None:
        return line
    return f"{line} -> {overall.verdict} (suite threshold {100 * overall.threshold:g} %)"


def as_github(report: Comparison) -> str:
    """Return workflow commands, then the text (see `annotations`)."""
    return "\n".join([*annotations(report), as_text(report)])


def annotations(report: Comparison) -> list[str]:
    """Return workflow commands: an error for each regression, a warning for each missing point and
    each doubt, a notice for each undecided point."""
    lines = [_annotation("warning", "warning", text) for text in report.warnings]
    if report.advice:
        lines.append(_annotation("warning", "nothing decided", report.advice))
    for each in report.points:
        level = {"missing": "warning", "undecided": "notice"}.get(each.verdict)
        level = "error" if each in report.regressions else level
        if level is not None:
            what = [each.point.describe(), change_in_words(each.change), each.note]
            lines.append(_annotation(level, each.verdict, ": ".join(filter(None, what))))
    if report.suite_slower and report.overall is not None:
        lines.append(_annotation("error", "suite slower", overall_line(report.overall)))
    return lines


def _annotation(level: str, title: str, message: str) -> str:
    title = _escaped(f"dlm-bench {title}").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _without_dtype(point: Point) -> str:
    return point.describe().removesuffix(f" {point.dtype}")


def as_action_benchmark(report: Comparison) -> str:
    """Return head's speeds for benchmark-action/github-action-benchmark, tool
    `customBiggerIsBetter`: a list of name, unit, value, and text in range and extra."""
    entries = [
        {
            "name": f"{_without_dtype(each.point)} {each.point.dtype} {each.point.device}",
            "unit": "tokens/s",
            "value": each.head_speed,
            "range": change_in_words(each.change) or "not compared",
            "extra": f"{each.verdict}; {each.note}" if each.note else each.verdict,
        }
        for each in report.points
        if each.head_speed is not None
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "github": as_github,
    "github-action-benchmark": as_action_benchmark,
}


def _cells(each: PointVerdict) -> tuple[str, ...]:
    speeds = (f"{speed:,.1f}" if speed else "-" for speed in (each.base_speed, each.head_speed))
    shown_change, interval = "-", "-"
    if each.change is not None:
        shown_change, interval = ratio_in_words(each.change), _interval(each.change.interval)
    return (each.verdict, each.point.describe(), *speeds, shown_change, interval)


def change_in_words(change: TimeRatio | None) -> str:
    """Return a change in words, e.g. `time +10.2 % (0.91x tokens/s) [+8.1 %, +12.4 %]`."""
    if change is None:
        return ""
    speed = f" ({1 / change.ratio:.2f}x tokens/s)" if _has_speed(change.ratio) else ""
    return f"time {_percent(change.ratio)}{speed} {_interval(change.interval)}"


def ratio_in_words(change: TimeRatio) -> str:
    """Return a ratio of times with that of the speeds, e.g. `+10.2 % (0.91x)`."""
    speed = f" ({1 / change.ratio:.2f}x)" if _has_speed(change.ratio) else ""
    return f"{_percent(change.ratio)}{speed}"


def _has_speed(ratio: float) -> bool:
    return 0 < ratio < MAX_SHOWN_RATIO


def _percent(ratio: float) -> str:
    if ratio >= MAX_SHOWN_RATIO:
        return f"over {MAX_SHOWN_RATIO} times" if math.isfinite(ratio) else "?"
    return f"{100 * (ratio - 1):+.1f} %"


def _interval(interval: Interval) -> str:
    if interval.low <= 1 / MEANINGLESS_FACTOR and interval.high >= MEANINGLESS_FACTOR:
        return "the noise leaves everything open"
    return f"[{_percent(interval.low)}, {_percent(interval.high)}]"


def _numbers(change: TimeRatio | None) -> dict[str, object]:
    if change is None:
        return {"ratio": None, "interval_95": None, "interval_alarm": None}
    plain, alarm = ([_finite(end) for end in ends] for ends in (change.interval, change.alarm))
    return {"ratio": change.ratio, "interval_95": plain, "interval_alarm": alarm}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
