"""Say whether throughput dropped: between two results files (`compare`) or two revisions (`ab`)."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_bench.cli.arguments import Commands
from dlm_bench.errors import ResultsError, seconds_of, share_of, unknown

if TYPE_CHECKING:
    from dlm_bench.compare.ab.course import Course
    from dlm_bench.compare.verdicts import Report


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two results files",
        description="Say of each point of two results files whether it got slower. Exit code 1 if "
        "a regression is proven or a point fails newly (docs/ci.md).",
    )
    parser.add_argument("base", type=Path, metavar="BASE.jsonl", help="what to compare with")
    parser.add_argument("head", type=Path, metavar="HEAD.jsonl", help="what to judge")
    _add_verdicts(parser)
    parser.add_argument(
        "--run-spread",
        type=partial(share_of, "--run-spread", zero=True),
        default="2%",
        metavar="SHARE",
        help="what runs of the same code differ by, a standard deviation, as 2%% or 0.02; the "
        "fewer runs a side has, the more this counts (default: 2%%)",
    )
    parser.add_argument(
        "--allow-different-environment",
        action="store_true",
        help="compare across different hardware, dtypes or library versions",
    )
    parser.set_defaults(command=compare)

    parser = subparsers.add_parser(
        "ab",
        help="compare two revisions on this machine",
        description="Measure two revisions of the current repository alternately until every point "
        "is settled or the budget is spent. Exit code 1 as for compare (docs/ci.md).",
    )
    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP.toml", help="a file, or a name such as ci"
    )
    parser.add_argument("--base", required=True, metavar="REV", help="what to compare with")
    parser.add_argument("--head", metavar="REV", help="what to judge (default: the working tree)")
    parser.add_argument(
        "--budget",
        type=partial(seconds_of, "--budget"),
        default="5m",
        metavar="TIME",
        help="stop after this long, as in 90s, 5m or 1h (default: 5m)",
    )
    _add_verdicts(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="append to DIR/base.jsonl and DIR/head.jsonl"
    )
    parser.set_defaults(command=ab)


def _add_verdicts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        type=partial(share_of, "--threshold"),
        default="5%",
        metavar="SHARE",
        help="the slowdown that must not pass, as 5%% or 0.05 (default: 5%%)",
    )
    parser.add_argument(
        "--format",
        default="text",
        help="text, markdown, json, github or github-action-benchmark (default: text)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit code 3 if no regression is proven but a point is undecided or missing",
    )


def compare(args: argparse.Namespace) -> int:
    """Compare two results files; 1 if head has a regression."""
    _check_format(args.format)
    from dlm_bench.compare.match import compare_files

    report = compare_files(
        args.base,
        args.head,
        threshold=args.threshold,
        run_spread=args.run_spread,
        allow_different_environment=args.allow_different_environment,
    )
    return _tell(report, args)


def ab(args: argparse.Namespace) -> int:
    """Measure two revisions alternately and compare them; 1 if head has a regression."""
    threshold, budget = args.threshold, args.budget
    _check_format(args.format)
    from dlm_bench.compare.ab.checkouts import checkouts
    from dlm_bench.compare.ab.course import run_ab
    from dlm_bench.compare.ab.report import matched_points, report_of
    from dlm_bench.compare.ab.sides import Side
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.sweep.file import find_sweep

    outputs = [args.output / f"{name}.jsonl" for name in ("base", "head")] if args.output else []
    for output in outputs:
        check_writable(output)

    kept = [0, 0]

    def after_round(course: "Course") -> None:
        for which, output in enumerate(outputs):
            for record in course.records[which][kept[which] :]:
                append_record(output, record)
            kept[which] = len(course.records[which])
        open_points = len(course.contest.undecided)
        print(
            f"round {course.rounds}: {open_points} of {len(course.contest.verdicts)} points "
            f"undecided after {course.seconds:.0f} of {budget:.0f} s",
            file=sys.stderr,
        )

    with checkouts(args.base, args.head, Path.cwd()) as both:
        sweep = find_sweep(args.sweep)
        sides = Side(both[0]), Side(both[1])
        matched = matched_points(sides, sweep)
        course = run_ab(
            sides, matched.pairs, budget=budget, threshold=threshold, after_round=after_round
        )
        report = report_of(course, matched, both, threshold)
    return _tell(report, args)


def _tell(report: "Report", args: argparse.Namespace) -> int:
    from dlm_bench.compare.formats import FORMATS, as_markdown
    from dlm_bench.results.files import append_text

    style = args.format
    print(FORMATS[style](report))
    for warning in report.warnings:
        print(f"dlm-bench: WARNING: {warning}", file=sys.stderr)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if style == "github" and summary:
        try:
            append_text(summary, as_markdown(report) + "\n", "GITHUB_STEP_SUMMARY")
        except ResultsError as error:
            if not report.regressions:
                raise
            # A proven regression stays exit code 1.
            print(f"dlm-bench: WARNING: {error}", file=sys.stderr)
    return report.strict_exit_code if args.strict else report.exit_code


def _check_format(style: str) -> None:
    from dlm_bench.compare.formats import FORMATS

    if style not in FORMATS:  # known before anything is measured
        raise unknown("--format", style, FORMATS)
