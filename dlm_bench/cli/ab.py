"""`ab`: measure two revisions alternately on this machine and compare them."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_bench.cli.arguments import Commands, add_command
from dlm_bench.cli.verdicts import add_verdicts, check_format, print_report
from dlm_bench.errors import seconds_of

if TYPE_CHECKING:
    from dlm_bench.compare.ab.rounds import ABRun

EXAMPLE = "dlm-bench ab ci --base origin/main --budget 5m"


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "ab",
        "compare two revisions on this machine",
        "Measure two revisions of the current repository alternately, until every point\n"
        "is settled or the budget is spent. Exit codes are those of compare (docs/ci.md).",
        EXAMPLE,
    )
    parser.add_argument(
        "sweep",
        type=Path,
        metavar="SWEEP.toml",
        help="measure the points of this file, or of a shipped sweep such as ci",
    )
    parser.add_argument(
        "--base", required=True, metavar="REV", help="compare with this git revision"
    )
    parser.add_argument(
        "--head", metavar="REV", help="judge this git revision (default: the working tree)"
    )
    parser.add_argument(
        "--budget",
        type=partial(seconds_of, "--budget"),
        default="5m",
        metavar="TIME",
        help="stop after this long, as 90s, 5m or 1h (default: 5m)",
    )
    add_verdicts(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="append the records to DIR/base.jsonl and DIR/head.jsonl",
    )
    parser.set_defaults(command=ab)


def ab(args: argparse.Namespace) -> int:
    """Measure two revisions alternately and compare them; 1 if head has a regression."""
    threshold, budget = args.threshold, args.budget
    check_format(args.format)
    from dlm_bench.compare.ab.checkouts import checkouts
    from dlm_bench.compare.ab.comparison import comparison_of, matched_points
    from dlm_bench.compare.ab.rounds import run_ab
    from dlm_bench.compare.ab.sides import Side
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.sweep.file import find_sweep

    outputs = [args.output / f"{name}.jsonl" for name in ("base", "head")] if args.output else []
    for output in outputs:
        check_writable(output)

    kept = [0, 0]

    def after_round(run: "ABRun") -> None:
        for which, output in enumerate(outputs):
            for record in run.records[which][kept[which] :]:
                append_record(output, record)
            kept[which] = len(run.records[which])
        open_points = len(run.test.undecided)
        print(
            f"round {run.rounds}: {open_points} of {len(run.test.verdicts)} points "
            f"undecided after {run.seconds:.0f} of {budget:.0f} s",
            file=sys.stderr,
        )

    with checkouts(args.base, args.head, Path.cwd()) as both:
        sweep = find_sweep(args.sweep)
        sides = Side(both[0]), Side(both[1])
        matched = matched_points(sides, sweep)
        run = run_ab(
            sides, matched.pairs, budget=budget, threshold=threshold, after_round=after_round
        )
        report = comparison_of(run, matched, both, threshold)
    return print_report(report, args)
