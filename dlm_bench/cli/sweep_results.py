"""The results file of a sweep before the first point, and the summary after the last."""

import argparse
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from dlm_bench.cli.arguments import warn_of_random_acceptance
from dlm_bench.errors import LostPointWarning, TornLineWarning, counted
from dlm_bench.results.record import Record
from dlm_bench.results.series import labelled, series_of
from dlm_bench.results.store import frame_of, read_records
from dlm_bench.samplers import build_sampler
from dlm_bench.streams import screen_width
from dlm_bench.sweep.load import Sweep
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.resume import measured_otherwise


def find_records(args: argparse.Namespace, plans: Sequence[Plan], output: Path) -> list[Record]:
    """Return the records of finished points of each run, after a line about the results file."""
    records = _read(output) if output.is_file() else []
    found = [record for plan in plans for record in plan.best_of(records).values()]
    there = f"{len(found)} of {sum(len(plan.sweep.points) for plan in plans)} points"
    if plans[1:]:
        there += f" of {len(plans)} runs"
    if not args.resume:
        if found:
            print(
                f"{there} are in {output} already and are measured again; --resume measures only "
                "what is not there"
            )
        return []
    _print_found(f"{there} found in {output}", found, args.retry_failed)
    for text in measured_otherwise(plans[0], records, plans[0].best_of(records)):
        print(text)
    return [record for record in found if record.status == "ok" or not args.retry_failed]


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
        if "accept" not in point.options or point.weights or point.backbone in trained:
            continue
        if not build_sampler(point.sampler, **sweep.options_of(point)).is_fixed:
            warn_of_random_acceptance(str(point.options["accept"]))
            return


def conclude(plans: Sequence[Plan], records: list[Record], appended: int, output: Path) -> int:
    """Print the summary of all runs after `appended` records of this process; return 3 if a point
    of a run has no ok record."""
    print_throughput(records)
    print(f"{counted(appended, 'record')} appended to {output}")
    best = [record for plan in plans for record in plan.best_of(records).values()]
    ok = [record for record in best if record.status == "ok"]
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


def _print_found(text: str, found: Sequence[Record], retry: bool) -> None:
    """Print the number of points already in the results file."""
    failed = sum(record.status != "ok" for record in found)
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
