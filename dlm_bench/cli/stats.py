"""`stats`: show mean, scatter and percentiles of times."""

import argparse

from dlm_bench.analysis.distribution import stats_table
from dlm_bench.cli.terminal import print_table
from dlm_bench.errors import ConfigError, unknown
from dlm_bench.results.selection import selected
from dlm_bench.results.table import FORMATS


def stats(args: argparse.Namespace) -> int:
    """Print the distribution of the times of each point."""
    if args.format not in FORMATS:
        raise unknown("--format", args.format, FORMATS)
    records = selected(args.results, args.label, args.where)
    print_table(stats_table(records, _percentiles(args.percentiles)), args.format)
    return 0


def _percentiles(text: str) -> list[float]:
    """Return the percentiles of a text such as 50,90,99."""
    try:
        found = [float(each) for each in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 < each < 100 for each in found):
        raise ConfigError(
            f"--percentiles: {text!r} is not allowed; must be numbers between 0 and 100, such as "
            "50,90,99"
        )
    return found
