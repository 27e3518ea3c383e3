"""The quantities of the report against length, their values, and the details of a point."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dlm_bench.analysis.tables import point_key, rate_text
from dlm_bench.cost.hardware import sheet_of
from dlm_bench.cost.roofline import utilisation
from dlm_bench.errors import ConfigError
from dlm_bench.figures.against_length import Row, Spread, over_repeats
from dlm_bench.figures.energy import joules_per_token
from dlm_bench.figures.memory import peak
from dlm_bench.figures.throughput import speed
from dlm_bench.results.series import Series, error_of


@dataclass(frozen=True)
class Quantity:
    """A figure of the report.

    name, title, axis: anchor, heading and label of the axis. explanation: a sentence below the
    heading. missing: the reason if no record has a value. level: a reference value, marked by a
    grey line. bars: meaning of the bars, empty without bars.
    """

    name: str
    title: str
    axis: str
    explanation: str
    missing: str
    level: float | None = None
    bars: str = ""


INTERVAL = "the 95 % interval of the mean"
QUANTITIES = (
    Quantity(
        "throughput",
        "Throughput",
        "tokens per second",
        "Generated tokens over wall time.",
        "no time",
        bars=INTERVAL,
    ),
    Quantity(
        "latency",
        "Latency of a pass",
        "ms per pass",
        "Time of a decode over its forward passes (NFE). On linear axes a straight line is a law "
        "without a quadratic term.",
        "no time",
        bars=INTERVAL,
    ),
    Quantity(
        "speedup",
        "Speed-up over DiffuTran",
        "times as fast",
        "Throughput over that of DiffuTran with the same sampler and options.",
        "no point of DiffuTran with the same sampler, options and length as another backbone's",
        level=1.0,
        bars="the 95 % interval of the ratio of the means",
    ),
    Quantity(
        "roofline",
        "Fraction of the roofline",
        "% of the roofline",
        "The least time that the hardware's sheet allows the passes, over the time they took.",
        "no sheet of this hardware and precision, or no ok record that says its model",
        level=100.0,
        bars=INTERVAL,
    ),
    Quantity(
        "memory",
        "Peak memory",
        "GiB",
        "Peak of torch's allocations on a GPU, of the whole process on a CPU; weights included.",
        "no record has its peak memory",
    ),
    Quantity(
        "energy",
        "Energy",
        "joules per token",
        "Energy of the whole GPU, or of all CPU packages, over the generated tokens.",
        "no energy sensor",
    ),
)

Values = dict[str, Spread]


def bars_of(drawn: Iterable[Series]) -> dict[str, str]:
    """Describe the bars of each quantity, a sentence by name."""
    known = [error_of(row) is not None for series in drawn for row in series.rows]
    few = "" if all(known) else "; points without a bar have too few repeats"
    return {each.name: f"Bars are {each.bars}{few}." for each in QUANTITIES if each.bars}


def values_of(drawn: Iterable[Series], ratios: dict[tuple[Any, ...], Spread]) -> dict[int, Values]:
    """Return the values of each row, by the id() of the row; `ratios` are the speed-ups by
    `point_key`."""
    found: dict[int, Values] = {}
    for series in drawn:
        for row in series.rows:
            values = {
                "throughput": speed(row),
                "latency": _latency(row),
                "memory": peak(row),
                "energy": joules_per_token(row),
                "speedup": ratios.get(point_key(series, row["length"])),
            }
            found[id(row)] = {name: each for name, each in values.items() if each}
    for row, share in _roofline(row for series in drawn for row in series.rows):
        found[id(row)]["roofline"] = _scaled(row, 100 * share)
    return found


def details_of(row: Row, values: Values) -> str:
    """List the details of a point, a line each."""
    rate, error = values["throughput"], error_of(row)
    ends = "" if error is None else f" ({rate_text(rate.low)} to {rate_text(rate.high)})"
    lines = [
        f"{row['length']:,} tokens, {row['nfe']:,.0f} passes of {row['ms_per_pass']:.4g} ms",
        f"{rate_text(rate.value)} tokens/s{ends}",
    ]
    texts = {"speedup": "{:.2f} times as fast as DiffuTran", "roofline": "{:.1f} % of the roofline"}
    texts |= {"memory": "{:.3g} GiB", "energy": "{:.3g} J per token"}
    more = [text.format(values[name].value) for name, text in texts.items() if name in values]
    lines += [", ".join(more)] if more else []
    waits = {"prefill": "mean_prefill_seconds", "first block after": "mean_first_block_seconds"}
    known = {name: row[column] for name, column in waits.items() if pd.notna(row[column])}
    if known:
        lines.append(", ".join(f"{name} {seconds:.4g} s" for name, seconds in known.items()))
    estimated = "" if error is None else f", error {error:.1%}"
    lines.append(f"{row['mode']} timing, {len(row['seconds'])} repeats{estimated}")
    if row["flags"]:
        lines.append(f"flagged: {', '.join(row['flags'])}")
    return "\n".join(lines)


def _latency(row: Row) -> Spread:
    return over_repeats(row, lambda seconds: 1e3 * seconds / row["nfe"])


def _scaled(row: Row, value: float) -> Spread:
    """Return a value in proportion to speed, of the mean decode and of the bounds."""
    return over_repeats(row, lambda seconds: value * row["mean_seconds"] / seconds)


def _roofline(rows: Iterable[Row]) -> Iterator[tuple[Row, float]]:
    """Yield the fraction of the roofline of each row with a sheet in the same precision."""
    known = [(row, sheet) for row in rows if (sheet := sheet_of(row["hardware"])) is not None]
    # Rows with one plan stand together: it is listed once.
    for row, sheet in sorted(known, key=lambda each: _plan_of(each[0])):
        try:
            yield row, utilisation(row, sheet).roofline
        except ConfigError:  # another precision, or a model or sampler not known here
            continue


def _plan_of(row: Row) -> tuple[int, str, str]:
    """Return the settings behind the passes of a row, to sort by."""
    options = [row.get(name) for name in ("tokens_per_step", "block_size", "commit", "cache")]
    return row["length"], row["sampler"], str(options)
