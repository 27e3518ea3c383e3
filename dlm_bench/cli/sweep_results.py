"""The results file of a sweep before the first point, and the summary after the last."""

import argparse
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

from dlm_bench.cli.arguments import warn_of_random_acceptance
from dlm_bench.errors import LostPointWarning, TornLineWarning, counted
from dlm_bench.results.record import Record
from dlm_bench.results.series import labelled, series_of
from dlm_bench.results.store import frame_of, read_records
from dlm_bench.streams import screen_width
from dlm_bench.sweep.load import Sweep
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.resume import measured_otherwise


def find_records(args: argparse.Namespace, plan: Plan, output: Path) -> dict[str, Record]:
    """Return the records of finished points, after a line about the results file."""
    records = _read(output) if output.is_file() else []
    found = plan.best_of(records)
    if not args.resume:
        if found:
            print(
                f"{len(found)} of {len(plan.sweep.points)} points are in {output} already and are "
                "measured again; --resume measures only what is not there"
            )
        return {}
    _print_found(plan, found, output, args.retry_failed)
    for text in measured_otherwise(plan, records, found):
        print(text)
    if args.retry_failed:
        return {key: record for key, record in found.items() if record.status == "ok"}
    return found


def _read(output: Path) -> list[Record]:
    """Return the records of a results file; the point of an unreadable line is measured
    again."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = read_records(output)
    for each in caught:
        if issubclass(each.category, LostPointWarning):
            warnings.warn(f"{each.message}; not taken for done", TornLineWarning, stacklevel=2)
        else:
            warnings.warn(str(each.message), each.category, stacklevel=2)
    return records


def warn_of_random_weights(sweep: Sweep) -> None:
    """Warn of points with acceptance by confidence and random weights."""
    measuring = sweep.measuring
    trained = set() if measuring.random_weights else measuring.folders.keys()
    for point in sweep.points:
        if "accept" in point.options and point.backbone not in trained:
            warn_of_random_acceptance(str(point.options["accept"]))
            return


def conclude(plan: Plan, records: list[Record], appended: int, output: Path) -> int:
    """Print the summary of a sweep after `appended` records of this process; return 3 if a point
    has no ok record."""
    print_throughput(records)
    print(f"{counted(appended, 'record')} appended to {output}")
    best = plan.best_of(records)
    ok = [record for record in best.values() if record.status == "ok"]
    contended = sum("contended" in record.flags for record in ok)
    if 2 * contended > len(ok):
        print(
            f"dlm-bench: {contended} of {len(ok)} points were contended: other processes used the "
            "CPU meanwhile; measure them again on an idle machine",
            file=sys.stderr,
        )
    if len(ok) < len(best):
        print(
            f"dlm-bench: {len(best) - len(ok)} of {len(best)} points failed or were skipped",
            file=sys.stderr,
        )
    return 3 if len(ok) < len(best) else 0


def _print_found(plan: Plan, found: dict[str, Record], output: Path, retry: bool) -> None:
    """Print the number of points already in the results file."""
    text = f"{len(found)} of {len(plan.sweep.points)} points found in {output}"
    failed = sum(record.status != "ok" for record in found.values())
    if failed:
        what = "run again" if retry else "not run again without --retry-failed"
        text += f"; {failed} of them failed or were skipped, and are {what}"
    print(text)


def print_throughput(records: Iterable[Record]) -> None:
    """Print tokens per second: a row for each series of the sweep, a column for each length."""
    # pandas and scipy, without which a sweep begins and stays.
    from dlm_bench.analysis.tables import throughput_table

    records = list(records)
    if not any(record.status == "ok" for record in records):
        print("no point could be measured")
        return
    table = throughput_table(labelled(series_of(frame_of(records))))
    print(table.render("text", screen_width()))
