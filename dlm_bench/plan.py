"""What a sweep is going to do, known before it does: its points, what each costs, what is done.

A plan is made where torch is (in a worker) and read where it is not.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dlm_bench.results.identity import identity
from dlm_bench.results.record import Point, Record
from dlm_bench.results.store import read_records
from dlm_bench.sweep import Measuring, Sweep, load_sweep

Model = tuple[str, ...]

BALANCE = 20  # FLOPs that take about as long as a byte, on a CPU


class Plan(BaseModel):
    """A sweep with the work of each of its points, in units of its own, and the environment (as
    records keep it) of the device it runs on."""

    model_config = ConfigDict(frozen=True)

    sweep: Sweep
    work: list[float]
    environment: dict[str, Any]

    def identities(self) -> list[str]:
        """The identity of each point."""
        return [self.identity_of(point) for point in self.sweep.points]

    def identity_of(self, point: Point) -> str:
        """The identity of a point, measured as this sweep does on this hardware."""
        measuring = self.sweep.measuring.model_dump()
        return identity(point, measuring, self.environment["hardware"], self.sweep.origin_of(point))

    def found_in(self, path: str | Path) -> dict[str, Record]:
        """The records of this sweep's points that a results file holds, by identity: of several
        of one point an ok one, or else the last. Raises ResultsError as `read_records` does."""
        wanted = set(self.identities())
        found: dict[str, Record] = {}
        for record in read_records(path) if Path(path).exists() else ():
            if record.identity in wanted:
                before = found.get(record.identity)
                if before is None or before.status != "ok" or record.status == "ok":
                    found[record.identity] = record
        return found


def make_plan(path: str | Path, **overrides: Any) -> Plan:
    """Read and check a sweep file (see `load_sweep`) and say what it takes. Raises ConfigError."""
    import torch

    from dlm_bench.timing.environment import environment

    sweep = load_sweep(path, **overrides)
    device = torch.device(sweep.points[0].device)
    return Plan(
        sweep=sweep,
        work=[expected_work(point, sweep.measuring) for point in sweep.points],
        environment=environment(device.type, device.index or 0),
    )


def expected_work(point: Point, measuring: Measuring) -> float:
    """What a point costs relative to the others of its backbone: FLOPs, with bytes counted as the
    FLOPs that take as long. An exact point runs all its passes some times over; any other counts
    the least of a sampled one, its first nodes in each round and once before."""
    import numpy as np

    from dlm_bench.analysis.cost import pass_costs
    from dlm_bench.models.config import BACKBONES, model_config
    from dlm_bench.samplers import build_sampler
    from dlm_bench.timing.units import first_nodes, lines

    sampler = build_sampler(point.sampler, **point.options)
    plan = list(sampler.plan(point.length))
    if point.backbone in BACKBONES:
        config = model_config(point.backbone, point.size)
    else:  # of which no cost is known: a Transformer's grows with length and batch much alike
        config = model_config("ar-transformer" if sampler.needs == "ar" else "diffutran", "small")
    cost = pass_costs(config, sampler, plan, batch=point.batch, dtype=point.dtype)
    passes = np.asarray(cost.flops + BALANCE * cost.bytes)  # (passes,)
    if measuring.mode == "exact":
        return (measuring.warmup + measuring.repeats) * float(passes.sum())
    nodes = [line[at] for line in lines(plan) for at in first_nodes(line, measuring.nodes)]
    once = sum(float(passes[unit.index : unit.index + unit.count].sum()) for unit in nodes)
    return (1 + measuring.repeats) * once


class TimeLeft:
    """Seconds that points will still take: their work at the rate of what was measured of the same
    backbone and sampler, or else of the backbone, of the sampler, of all; and for each model to
    come, a worker's start."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, ...], tuple[float, float]] = {}  # (work, seconds)
        self._starts: dict[tuple[str, ...], float] = {}  # of each model, what was not measuring

    def learn(self, point: Point, work: float, seconds: float, besides: float) -> None:
        """A point was measured in `seconds`, and `besides` went into getting there."""
        for key in _like(point):
            before = self._rates.get(key, (0.0, 0.0))
            self._rates[key] = (before[0] + work, before[1] + seconds)
        model = model_of(point)
        self._starts[model] = self._starts.get(model, 0.0) + besides

    def seconds(self, points: Iterable[tuple[Point, float]]) -> float | None:
        """For these points with their work; None before anything was measured."""
        if not self._rates:
            return None
        left, models = 0.0, set()
        for point, work in points:
            known, taken = next(self._rates[key] for key in _like(point) if key in self._rates)
            left += work * taken / known
            models.add(model_of(point))
        start = sum(self._starts.values()) / len(self._starts)
        return left + start * len(models - self._starts.keys())


def _like(point: Point) -> list[tuple[str, ...]]:
    """What a point has in common with others, the most telling first."""
    return [
        ("both", point.backbone, point.sampler),
        ("backbone", point.backbone),
        ("sampler", point.sampler),
        (),
    ]


def model_of(point: Point) -> Model:
    """What a worker builds once for all points that share it."""
    return point.backbone, point.size, point.dtype, point.device
