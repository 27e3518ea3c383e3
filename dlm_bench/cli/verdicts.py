"""Options and printing of verdicts, for `compare` and `ab`."""

import argparse
import os
import sys

from dlm_bench.compare.formats import FORMATS, as_markdown
from dlm_bench.compare.verdicts import Comparison
from dlm_bench.errors import ResultsError, unknown
from dlm_bench.results.files import append_text


def print_report(report: Comparison, args: argparse.Namespace) -> int:
    """Print a report in the format asked for and return the exit code."""
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
    if style not in FORMATS:
        raise unknown("--format", style, FORMATS)
