"""The roofline of each point of a sweep on some hardware, before any point is run."""

from collections.abc import Iterable
from typing import Any

from dlm_bench.cost.flops import passes_of
from dlm_bench.cost.roofline import Hardware, bound, decode_floor, fits, same_precision
from dlm_bench.cost.table import FORMATS
from dlm_bench.errors import unknown
from dlm_bench.results.record import Point
from dlm_bench.results.table import MISSING, grid
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.schedule import PREFILL, DecodeShape
from dlm_bench.streams import folded, screen_width
from dlm_bench.sweep.load import Sweep
from dlm_bench.sweep.work import by_schedule

COLUMNS = ("point", "passes", "seconds at least", "tokens/s at most")


def sweep_report(sweep: Sweep, hardware: Hardware, style: str = "text") -> str:
    """Return a table as text, markdown or LaTeX (booktabs), a row a point: the passes of a decode,
    the floor in seconds, and tokens per second at this floor.

    A point whose weights and caches exceed the hardware's memory is said to be out of memory.
    Passes that depend on the model or on the end of a text leave a point without a floor. A point
    in another precision than the hardware's peak is predicted in the precision of the peak, with a
    note. Raises ConfigError for an unknown style.
    """
    if style not in FORMATS:
        raise unknown("format", style, FORMATS)
    points = [at_peak(point, hardware) for point in sweep.points]
    row_of = {index: _row(points[index], sweep, hardware) for index in by_schedule(sweep)}
    rows = [row_of[index] for index in range(len(points))]
    note = (
        f"Roofline of one decode of each point of sweep {sweep.name}"
        f"{precision_note(sweep.points, hardware) or f', {points[0].dtype}'}\n{hardware.summary}"
    )
    if style == "latex":
        note = "\n".join(f"% {line}" for line in note.splitlines())
    if style == "text":
        note = folded(note)
    return f"{note}\n\n{grid(COLUMNS, rows, style, screen_width())}"


def at_peak(point: Point, hardware: Hardware) -> Point:
    """Return a point in the precision of the hardware's peak, the only known roofline."""
    if same_precision(point.dtype, hardware):
        return point
    return point.model_copy(update={"dtype": hardware.dtype})


def precision_note(points: Iterable[Point], hardware: Hardware) -> str:
    """Say that points are predicted in another precision; empty if none is."""
    others = {each.dtype for each in points if not same_precision(each.dtype, hardware)}
    if not others:
        return ""
    return (
        f"; in {hardware.dtype}, as the peak of {hardware.name} is, where the sweep asks for "
        f"{min(others)}"
    )


def _row(point: Point, sweep: Sweep, hardware: Hardware) -> list[str]:
    sampler = build_sampler(point.sampler, **sweep.options_of(point))
    if not sampler.is_fixed:
        return [point.describe(), "by the model", MISSING, MISSING]
    shape = DecodeShape(point.length, point.prompt_len, point.batch)
    prefill = next(iter(sampler.planned(shape))).kind == PREFILL
    seed = sweep.measuring.seed_of(point)
    passes = prefill + passes_of(sampler, shape, seed).masked.size
    most = "up to " if point.stop_at_eos else ""
    cells = [point.describe(), f"{most}{passes:,}"]
    config = sweep.config_of(point)
    if config is None:
        return [*cells, MISSING, "cost not known"]
    decode = (config, sampler, point.length, hardware)
    place: dict[str, Any] = {"batch": point.batch, "prompt_len": point.prompt_len}
    if not fits(*decode, **place):
        return [*cells, MISSING, "out of memory"]
    if point.stop_at_eos:
        return [*cells, MISSING, MISSING]
    place |= {"dtype": point.dtype, "seed": seed}
    seconds, speed = decode_floor(*decode, **place), bound(*decode, **place)
    return [*cells, f"{seconds:,.4g}", f"{speed:,.1f}"]
