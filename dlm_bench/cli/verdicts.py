"""Options and printing of verdicts, for `compare` and `ab`."""

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from dlm_bench.errors import ResultsError, share_of, unknown

if TYPE_CHECKING:
    from dlm_bench.compare.verdicts import Comparison


def add_verdicts(parser: argparse.ArgumentParser) -> None:
    """Add the options of a comparison."""
    parser.add_argument(
        "--threshold",
        type=partial(share_of, "--threshold"),
        default="5%",
        metavar="SHARE",
        help="fail for a slowdown above this, as 5%% or 0.05 (default: 5%%)",
    )
    parser.add_argument(
        "--format",
        default="text",
        help="print text (default), markdown, json, github or github-action-benchmark",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 3 if no regression is proven but a point is undecided or missing, or "
        "nothing is decided",
    )


def print_report(report: "Comparison", args: argparse.Namespace) -> int:
    """Print a report in the format asked for and return the exit code."""
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


def check_format(style: str) -> None:
    """Raise ConfigError for an unknown format, before anything is measured."""
    from dlm_bench.compare.formats import FORMATS

    if style not in FORMATS:
        raise unknown("--format", style, FORMATS)
