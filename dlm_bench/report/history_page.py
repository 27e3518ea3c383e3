"""The page of `dlm-bench history`: a table of changes and a figure of each point."""

import io
from collections.abc import Sequence
from html import escape

from dlm_bench.analysis.history import History
from dlm_bench.figures import theme
from dlm_bench.figures.history import draw_history

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .8rem .2rem 0; }
td.number { text-align: right; } .slower { color: #BB5566; } .faster { color: #228833; }
svg { max-width: 100%; height: auto; }
"""


def history_page(found: Sequence[History]) -> str:
    """Return the page, in one file without any network."""
    count = sum(len(each.steps) for each in found)
    parts = [f"<h1>Throughput over commits</h1><p>{len(found)} points, {count} changes.</p>"]
    if count:
        heads = "".join(
            f"<th>{each}</th>" for each in ("point", "commit", "measured", "change", "tokens/s")
        )
        parts.append(f"<table><tr>{heads}</tr>{''.join(map(_rows, found))}</table>")
    for each in found:
        parts.append(f"<section>{_picture(each)}{_changes_of_environment(each)}</section>")
    parts.append(
        "<p>Dots: mean over runs with the 95 % interval; blue: levels; coloured lines: changes of "
        "level; dashed lines: changes of the environment.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>Throughput over commits</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body>\n</html>\n"
    )


def _rows(history: History) -> str:
    rows = []
    for step in history.steps:
        entry = history.entries[step.index]
        kind = "faster" if step.change > 0 else "slower"
        rows.append(
            f"<tr><td>{escape(history.name)}</td><td><code>{escape(entry.commit)}</code></td>"
            f"<td>{escape(entry.measured_at[:10])}</td>"
            f'<td class="number {kind}">{100 * step.change:+.1f} %</td>'
            f'<td class="number">{step.before:,.1f} to {step.after:,.1f}</td></tr>'
        )
    return "".join(rows)


def _picture(history: History) -> str:
    file = io.StringIO()
    with theme.applied():
        draw_history(history).savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _changes_of_environment(history: History) -> str:
    items = [
        f"<li><code>{escape(each.commit)}</code>: {escape(each.changed)}</li>"
        for each in history.entries
        if each.changed
    ]
    return f"<p>Environment:</p><ul>{''.join(items)}</ul>" if items else ""
