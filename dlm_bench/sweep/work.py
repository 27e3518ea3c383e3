"""The expected work of a point, in units that points of the same backbone share."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from dlm_bench.cost.flops import Passes, deciding, pass_costs, passes_in
from dlm_bench.models.own import OWN, own_config
from dlm_bench.results.record import Point
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.sweep.load import Measuring, Sweep
from dlm_bench.timing.units import Unit, first_nodes, prefill_unit, strata

FLOPS_PER_BYTE = 20  # FLOPs that take about as long as a byte, on a CPU


def expected_work(
    point: Point, measuring: Measuring, options: Mapping[str, Any] | None = None
) -> float:
    """Return the cost of a point relative to others of the same backbone (see `expected_load`)."""
    return expected_load(point, measuring, options)[0]


def expected_load(
    point: Point, measuring: Measuring, options: Mapping[str, Any] | None = None
) -> tuple[float, float]:
    """Return the work of a point, in FLOPs with bytes counted as FLOPs that take as long, and the
    passes.

    An exact point runs all passes several times; any other counts the least of a sampled point: the
    first nodes in each round and once before. Passes that depend on the model are counted as the
    most possible. `options` are the point's, with the additions of `Sweep.options_of`.
    """
    sampler = build_sampler(point.sampler, **(point.options if options is None else options))
    if point.backbone in OWN:
        config = own_config(point.backbone, point.size)
    else:  # of which no cost is known: a Transformer's grows with length and batch much alike
        config = own_config("ar-transformer" if sampler.requires == "ar" else "diffutran", "small")
    shape = DecodeShape(point.length, point.prompt_len, point.batch)
    plan, nodes = _schedule(
        sampler, *deciding(sampler, shape, measuring.seed_of(point)), measuring.nodes
    )
    cost = pass_costs(config, sampler, plan, batch=point.batch, dtype=point.dtype)
    passes = np.asarray(cost.flops + FLOPS_PER_BYTE * cost.bytes)  # (passes,)
    if measuring.mode == "exact":
        runs = measuring.warmup + measuring.repeats
        return runs * float(passes.sum()), runs * len(passes)
    once = sum(float(passes[unit.index : unit.index + unit.count].sum()) for unit in nodes)
    rounds = 1 + measuring.repeats
    return rounds * once, rounds * sum(unit.count for unit in nodes)


def by_schedule(sweep: Sweep) -> list[int]:
    """Return the indices of the points in an order in which points of the same schedule, which take
    long to list, are neighbours."""

    def schedule(index: int) -> tuple[object, ...]:
        point = sweep.points[index]
        options = repr(sorted(sweep.options_of(point).items()))
        seed = sweep.measuring.seed_of(point)
        return point.sampler, options, point.length, point.prompt_len, point.batch, seed

    return sorted(range(len(sweep.points)), key=schedule)


@lru_cache(maxsize=1)  # the passes take tens of MB; see by_schedule
def _schedule(
    sampler: Sampler, shape: DecodeShape, seed: int, most: int
) -> tuple[Passes, list[Unit]]:
    """Return the passes of a decode, and the first nodes of a sampled point."""
    plan = list(sampler.planned(shape, seed))
    nodes = [units[at] for units in strata(plan) for at in first_nodes(units, most)]
    prefill = prefill_unit(plan)
    return passes_in(plan), nodes if prefill is None else [*nodes, prefill]
