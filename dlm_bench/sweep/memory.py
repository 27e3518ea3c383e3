"""The memory that the points of a sweep need, before anything is built."""

from dlm_bench.cost.memory import DecodeMemory, decode_memory
from dlm_bench.results.record import Point
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.sweep.load import Sweep


def point_memory(sweep: Sweep, point: Point) -> DecodeMemory | None:
    """Return the least memory of a point; None for a backbone of unknown shape."""
    config, options = sweep.config_of(point), sweep.options_of(point)
    if config is None:
        return None
    shape = DecodeShape(point.length, point.prompt_len, point.batch)
    sampler, seed = build_sampler(point.sampler, **options), sweep.measuring.seed_of(point)
    return decode_memory(config, sampler, shape, point.dtype, seed)


def lack_of_memory(needed: DecodeMemory | None, there: int | None) -> str | None:
    """Say by how much a point exceeds the memory of the device; None if the point may fit."""
    if needed is None or there is None or needed.total <= there:
        return None
    parts = {"weights": needed.weights, "caches": needed.caches, "activations": needed.activations}
    listed = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts.items())
    return (
        f"needs at least {gigabytes(needed.total)} GB ({listed}), "
        f"{gigabytes(needed.total - there)} GB more than there are: {gigabytes(there)}"
    )


def gigabytes(size: float) -> str:
    """Return GB (1e9 bytes) with three digits, without the unit."""
    return f"{size / 1e9:,.3g}" if size < 1e12 else f"{size / 1e9:,.0f}"
