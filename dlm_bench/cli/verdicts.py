"""Options and printing of verdicts, for `compare` and `ab`."""

import argparse
import os
import sys
from collections.abc import Sequence

from dlm_bench.compare.columns import COLUMN_FORMATS
from dlm_bench.compare.columns import as_markdown as columns_as_markdown
from dlm_bench.compare.formats import FORMATS, as_markdown
from dlm_bench.compare.verdicts import (
    DEFAULT_FAIL_ON,
    REGRESSED,
    STRICT_FAIL_ON,
    Comparison,
    fail_on_of,
)
from dlm_bench.errors import ConfigError, ResultsError, unknown
from dlm_bench.results.files import append_text


def print_report(report: Comparison, args: argparse.Namespace) -> int:
    """Print a report in the format asked for and return the exit code."""
    return print_reports([report], args)


def print_reports(reports: Sequence[Comparison], args: argparse.Namespace) -> int:
    """Print the reports of some heads in the format asked for and return the exit code."""
    single, style = len(reports) == 1, args.format
    print(FORMATS[style](reports[0]) if single else COLUMN_FORMATS[style](reports))
    for warning in dict.fromkeys(text for report in reports for text in report.warnings):
        print(f"dlm-bench: WARNING: {warning}", file=sys.stderr)
    codes = {report.exit_code(args.fail_on) for report in reports}
    code = REGRESSED if REGRESSED in codes else max(codes)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if style == "github" and summary:
        text = as_markdown(reports[0]) if single else columns_as_markdown(reports)
        try:
            append_text(summary, text + "\n", "GITHUB_STEP_SUMMARY")
        except ResultsError as error:
            if code != REGRESSED:
                raise
            # A proven regression stays exit code 1.
            print(f"dlm-bench: WARNING: {error}", file=sys.stderr)
    return code


def check_options(args: argparse.Namespace, heads: int = 1) -> None:
    """Raise ConfigError for an unknown format, before anything is measured. Settle --fail-on."""
    if args.format not in FORMATS:
        raise unknown("--format", args.format, FORMATS)
    if heads > 1 and args.format not in COLUMN_FORMATS:
        raise ConfigError(f"--format: {args.format!r} has room for a single head; give one file")
    if args.strict and args.fail_on is not None:
        raise ConfigError("--strict: is --fail-on with all names; give only one of the two")
    if args.strict:
        args.fail_on = STRICT_FAIL_ON
    elif args.fail_on is None:
        args.fail_on = DEFAULT_FAIL_ON
    else:
        args.fail_on = fail_on_of(args.fail_on)
