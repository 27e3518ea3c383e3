"""`history`: show throughput over commits and find the changes."""

import argparse
import sys

from dlm_bench.analysis.history import histories
from dlm_bench.cli.terminal import print_table
from dlm_bench.errors import ResultsError, counted
from dlm_bench.report.history_page import history_page
from dlm_bench.results.files import write_file
from dlm_bench.results.selection import matching, selected
from dlm_bench.results.table import Cell, Number, Table


def history(args: argparse.Namespace) -> int:
    """Print the changes of throughput over commits, and write the page."""
    records = selected(args.results)
    if args.point is not None:
        records = matching(records, args.point, "--point")
    found, absent = histories(records)
    if not found:
        raise ResultsError("no ok record has a commit in its environment")
    if absent:
        told = f"{counted(absent, 'record')} without a commit left out"
        print(f"dlm-bench: {told}", file=sys.stderr)
    rows: list[list[Cell]] = [
        [
            each.name,
            each.entries[step.index].commit,
            each.entries[step.index].measured_at[:10],
            Number(step.change, f"{100 * step.change:+.1f} %"),
            Number(step.before, f"{step.before:,.1f}"),
            Number(step.after, f"{step.after:,.1f}"),
        ]
        for each in found
        for step in each.steps
    ]
    commits = max(len(each.entries) for each in found)
    scope = f"{counted(len(found), 'point')} over at most {counted(commits, 'commit')}"
    if rows:
        titles = ["change of", "commit", "measured", "change", "tokens/s before", "after"]
        print_table(Table(titles, rows, heading=f"Changes of {scope}"))
    else:
        print(f"no change of {scope}")
    if args.output is not None:
        write_file(args.output, history_page(found), "history")
        print(args.output)
    return 0
