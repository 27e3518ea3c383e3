"""Mean, scatter and percentiles of the times in records: decodes, first blocks, prefill, passes."""

from collections.abc import Iterator, Sequence

import numpy as np

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Record
from dlm_bench.results.table import MISSING, Cell, Number, Table

PERCENTILES = (50.0, 90.0, 99.0)


def stats_table(records: Sequence[Record], percentiles: Sequence[float] = PERCENTILES) -> Table:
    """Return milliseconds: a row for each kind of time of each point, over all repeats of all runs.

    Times of passes are those of the timed nodes in sampled mode. A percentile needs a value beyond:
    90 % ten values, 99 % a hundred. Raises ResultsError if no record is ok.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record.status == "ok":
            for kind, seconds in _times(record):
                found.setdefault((record.point.describe(), kind), []).extend(seconds)
    if not found:
        raise ResultsError("no record with status ok")
    titles: list[Cell] = ["ms", "time of", "n", "mean", "sd"]
    titles += [f"p{each:g}" for each in percentiles]
    rows = [[name, kind, *_cells(found[name, kind], percentiles)] for name, kind in found]
    short = any(cell == MISSING for row in rows for cell in row[5:])
    legend = "a percentile needs a value beyond: p90 of 10, p99 of 100 values" if short else ""
    return Table(titles, rows, heading="Times of all repeats and runs", legend=legend)


def _times(record: Record) -> Iterator[tuple[str, list[float]]]:
    """Yield the seconds of each kind."""
    yield "decode", record.seconds
    if record.first_block_seconds:
        yield "first block", record.first_block_seconds
    if record.prefill_seconds:
        yield "prefill", record.prefill_seconds
    for each in record.passes:
        yield f"pass: {each.kind}", each.seconds


def _cells(seconds: Sequence[float], percentiles: Sequence[float]) -> list[Cell]:
    values = 1e3 * np.asarray(seconds)
    count = len(values)
    cells: list[Cell] = [Number(count, f"{count:,}"), _number(float(values.mean()))]
    cells.append(_number(float(values.std(ddof=1))) if count > 1 else MISSING)
    for each in percentiles:
        enough = count * min(each, 100 - each) >= 100 or (each == 50 and count)
        cells.append(_number(float(np.percentile(values, each))) if enough else MISSING)
    return cells


def _number(value: float) -> Number:
    return Number(value, f"{value:,.1f}" if value >= 99.95 else f"{value:.3g}")
