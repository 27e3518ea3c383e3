"""`fit`: fit the latency law to results."""

import argparse

import pandas

from dlm_bench.analysis import tables
from dlm_bench.cli.terminal import print_table
from dlm_bench.errors import ResultsError
from dlm_bench.results.selection import selected
from dlm_bench.results.series import check_sampler, labelled, series_of
from dlm_bench.results.store import frame_of
from dlm_bench.results.table import Table


def fit(args: argparse.Namespace) -> int:
    """Fit the latency law to each series of the results and print the coefficients."""
    print_table(fit_table(frame_of(selected(args.results, args.label, args.where)), args.sampler))
    return 0


def fit_table(frame: pandas.DataFrame, sampler: str | None = None) -> Table:
    """Return the latency law of each series, or of those of a sampler, with 95 % intervals. Raises
    ResultsError if there is none of this sampler, or all are too short."""
    check_sampler(frame, sampler)
    drawn = [each for each in series_of(frame) if sampler in (None, each.sampler)]
    table = tables.fit_table(labelled(drawn))
    if not table.rows:
        first = table.notes[0].replace(": not fitted", "", 1)
        raise ResultsError(f"none of {len(drawn)} series can be fitted; {first}")
    return table
