"""The tables of results: throughput, speed-up over a reference, and the latency laws."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlm_bench.analysis.crossover import AR, Overtaking, overtakings
from dlm_bench.analysis.latency_fit import LatencyFit, fit_latency
from dlm_bench.analysis.speedup import REFERENCE, reference_name, speedups
from dlm_bench.errors import ConfigError, ResultsError
from dlm_bench.results.series import (
    Series,
    Spread,
    error_of,
    labelled,
    series_of,
    shared_settings,
)
from dlm_bench.results.table import MISSING, Number, Table

if TYPE_CHECKING:
    import pandas

# Coefficients of the law in units that keep them readable: their titles and 1/unit in seconds.
_UNITS = {
    "quadratic": ("L² (ns/token²)", 1e9),
    "linear": ("L (µs/token)", 1e6),
    "constant": ("constant (ms)", 1e3),
}


def throughput_table(drawn: Sequence[Series], at: Sequence[int] = ()) -> Table:
    """Return tokens per second: a row a labelled line, a column a length (all, or `at`), bounded by
    the 95 % interval.

    A length of `at` without records is left out and noted; raises ResultsError if none is left.
    """
    speeds = {
        (place, row["length"]): _speed(row)
        for place, series in enumerate(drawn)
        for row in series.rows
    }
    table = _by_length("tokens/s", [series.label for series in drawn], speeds, at)
    shown_rows = [row for series in drawn for row in series.rows if not at or row["length"] in at]
    return replace(table, heading=_heading("Tokens/s", drawn), legend=_legend(shown_rows))


def speedup_table(
    drawn: Sequence[Series],
    frame: "pandas.DataFrame",
    at: Sequence[int] = (),
    reference: str = REFERENCE,
) -> Table:
    """Return the speed-up over the reference backbone under the same sampler: a row a labelled
    line, a column a length, bounded by the 95 % interval.

    Lines without a counterpart, such as autoregressive lines, have no row. Raises ResultsError if
    no line has a counterpart, and as `throughput_table` does.
    """
    found = speedups_by_point(frame, reference)
    compared: list[Series] = []
    cells = {}
    for series in drawn:
        ratios = {row["length"]: found.get(point_key(series, row["length"])) for row in series.rows}
        known = {length: ratio for length, ratio in ratios.items() if ratio is not None}
        for length, ratio in known.items():
            ends = (ratio.low, ratio.high) if ratio.low < ratio.high else (None, None)
            cells[len(compared), length] = Number(ratio.value, f"{ratio.value:.2f}", *ends)
        compared += [series] if known else []
    if not cells:
        raise ResultsError(
            f"reference: no series has the counterpart of {reference!r} that it needs"
        )
    name = reference_name(reference)
    labels = [series.label for series in compared]
    table = _by_length(f"times as fast as {name}", labels, cells, at)
    return replace(table, heading=_heading(f"Speed-up over {name}", compared))


def speedups_by_point(
    frame: "pandas.DataFrame", reference: str = REFERENCE
) -> dict[tuple[Any, ...], Spread]:
    """Return speed-up, low and high of each point with a counterpart, by `point_key`.

    Raises ResultsError as `speedups` does.
    """
    compared = speedups(frame, reference).dropna(subset=["speedup"])
    ends = ("length", "tokens_per_second", "reference_tokens_per_second", "speedup", "low", "high")
    identity = [name for name in compared.columns if name not in ends]
    return {
        _key({name: row[name] for name in identity}, row["length"]): Spread(
            row["speedup"], row["low"], row["high"]
        )
        for row in compared.to_dict("records")
    }


def point_key(series: Series, length: int) -> tuple[Any, ...]:
    """Return the key of a point of a line among all points."""
    return _key({"backbone": series.backbone, "sampler": series.sampler} | series.settings, length)


def fit_table(drawn: Sequence[Series]) -> Table:
    """Return the latency law of each labelled line with 95 % intervals; lines too short to fit are
    noted.

    R² is of the unweighted means; the last column is the length from which the quadratic term
    exceeds the linear term.
    """
    rows, notes, fitted = [], [], list[Series]()
    for series in drawn:
        lengths = [row["length"] for row in series.rows]
        try:
            fit = fit_latency(lengths, [row["ms_per_pass"] / 1e3 for row in series.rows])
        except ConfigError as error:
            notes.append(f"{series.label}: not fitted: {error}")
            continue
        fitted.append(series)
        coefficients = [_coefficient(fit, name) for name in _UNITS]
        rows.append([series.label, *coefficients, Number(fit.r2, f"{fit.r2:.4f}"), _crossover(fit)])
    titles = ["ms per pass", *(title for title, _ in _UNITS.values()), "R²", "L² > L from"]
    heading = _heading("Latency per pass, with 95 % intervals", fitted)
    return Table(titles, rows, notes, heading)


def absent_lengths(there: Collection[int], at: Sequence[int]) -> list[int]:
    """Return the lengths of `at` that are not there. Raises ResultsError if that is all of them."""
    absent = [length for length in dict.fromkeys(at) if length not in there]
    if at and len(absent) == len(set(at)):
        asked, known = (", ".join(map(str, lengths)) for lengths in (absent, sorted(there)))
        raise ResultsError(f"length {asked}: not in the records; there are: {known}")
    return absent


def batch_table(frame: "pandas.DataFrame", at: Sequence[int] = ()) -> Table:
    """Tokens per second of all sequences together: a row a series of one length, a column a batch,
    and for each autoregressive series the batch at which it overtakes (see `analysis.overtake`).

    A length of `at` without records is left out and noted; raises ResultsError if that is all.
    """
    drawn = series_of(frame, along="batch")
    absent = absent_lengths({series.settings["length"] for series in drawn}, at)
    drawn = [series for series in drawn if not at or series.settings["length"] in at]
    labels = [series.label for series in labelled(drawn)]
    drawn = labelled(drawn, hidden={"length"})
    batches = sorted({row["batch"] for series in drawn for row in series.rows})
    rivals = dict.fromkeys(series.label for series in drawn if series.sampler == AR)
    found = overtakings(drawn)
    rows: list[list[Number | str]] = []
    for label, series in zip(labels, drawn, strict=True):
        speeds = {row["batch"]: _speed(row) for row in series.rows}
        where = {each.rival.label: _overtaking(each) for each in found if each.series is series}
        cells = (speeds.get(batch, MISSING) for batch in batches)
        rows.append([label, *cells, *(where.get(rival, MISSING) for rival in rivals)])
    titles: list[Number | str] = ["tokens/s at batch"]
    titles += [Number(batch, f"{batch:,}") for batch in batches]
    notes = [f"length {length}: not in the records" for length in absent]
    titles += [f"overtaken by {rival} at" for rival in rivals]
    legend = _legend([row for series in drawn for row in series.rows])
    return Table(titles, rows, notes, _heading("Tokens/s of all sequences", drawn), legend)


def _overtaking(each: Overtaking) -> Number | str:
    if each.batch is None:
        return "none measured"
    return Number(each.batch, f"{'<= ' * each.from_the_start}{each.batch:.3g}")


def rate_text(value: float) -> str:
    """Return tokens per second in three digits, or all before the point and a single digit after:
    0.113, 1,043.9."""
    return f"{value:,.1f}" if value >= 99.95 else f"{value:.3g}"


def _speed(row: dict[str, Any]) -> Number:
    value, error = row["tokens_per_second"], error_of(row)
    low, high = (None, None) if error is None else row["interval_95"]
    mark = "" if error is None else f" ±{_percent(error)}"
    mark += "*" if row["flags"] else ""
    return Number(value, rate_text(value), low, high, mark)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%"


def _heading(title: str, drawn: Sequence[Series]) -> str:
    """Return the title with the settings common to all lines: hardware, dtype, size, batch, prompt,
    ..."""
    common = shared_settings(list(drawn))
    return f"{title}: {common}" if common else title


def _legend(rows: Sequence[dict[str, Any]]) -> str:
    """Explain the marks of these rows' numbers."""
    counts = Counter(flag for row in rows for flag in row["flags"])
    parts = ["± is half the 95 % interval"] if any(error_of(r) is not None for r in rows) else []
    runs = {row.get("runs", 1) for row in rows}
    if parts and max(runs) > 1:
        parts[0] += f" over runs ({'-'.join(map(str, sorted({min(runs), max(runs)})))} a point)"
    flags = ", ".join(f"{count} {flag}" for flag, count in counts.most_common())
    return "; ".join([*parts, f"* less sure: {flags}"] if flags else parts)


def _coefficient(fit: LatencyFit, name: str) -> Number:
    _, scale = _UNITS[name]
    value, low, high = (scale * each for each in (getattr(fit, name), *fit.intervals[name]))
    return Number(value, f"{value:.3g} [{low:.3g}, {high:.3g}]", low, high)


def _crossover(fit: LatencyFit) -> Number | str:
    if not fit.quadratic:
        return "never"
    return Number(fit.crossover, f"{fit.crossover:,.0f}") if fit.linear else "always"


def _by_length(
    title: str, labels: Sequence[str], cells: dict[tuple[int, int], Number], at: Sequence[int]
) -> Table:
    """Cells by (row, length) under the lengths asked for, or all."""
    there = sorted({length for _, length in cells})
    lengths = [length for length in dict.fromkeys(at) if length in there] if at else there
    absent = absent_lengths(there, at)
    rows = [
        [label, *(cells.get((place, length), MISSING) for length in lengths)]
        for place, label in enumerate(labels)
    ]
    notes = [f"length {length}: not in the records" for length in absent]
    return Table([title, *(Number(length, f"{length:,}") for length in lengths)], rows, notes)


def _key(identity: dict[str, Any], length: int) -> tuple[Any, ...]:
    """Return a hashable key without None and NaN, the value of an option that a sampler lacks."""
    known = {
        name: value for name, value in identity.items() if value == value and value is not None
    }
    return (frozenset(known.items()), length)
