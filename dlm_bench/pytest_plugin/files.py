"""The files of a session, checked before anything is measured."""

from pathlib import Path

from dlm_bench.compare.baseline import Baseline, read_baseline
from dlm_bench.results.store import check_writable


def check_files(baseline: Path | None, save: Path | None) -> Baseline | None:
    """Read the baseline. Raises ResultsError for a wrong baseline or an unwritable file to save."""
    found = None if baseline is None else read_baseline(baseline)
    if save is not None:
        check_writable(save)
    return found
