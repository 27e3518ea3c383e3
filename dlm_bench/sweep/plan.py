"""A checked sweep: its points, their relative cost, and which of them have a record.

A plan is made in a worker, which has torch, and used in the parent, which has none.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dlm_bench.results.identity import identity
from dlm_bench.results.record import Point, Record
from dlm_bench.results.store import read_records
from dlm_bench.sweep.load import Measuring, Sweep, load_sweep

ModelKey = tuple[str, ...]

ANY_HARDWARE = ""  # the hardware of a plan for a machine that is not known yet
FLOPS_PER_BYTE = 20  # FLOPs that take about as long as a byte, on a CPU


class Plan(BaseModel):
    """A sweep and what it takes.

    work: of each point, in units of its own; passes: that are run for it, empty if not known.
    environment: as records keep it, of the device; its hardware may be ANY_HARDWARE.
    gpus: on a GPU, the names of all that are visible there.
    """

    model_config = ConfigDict(frozen=True)

    sweep: Sweep
    work: list[float]
    environment: dict[str, Any]
    passes: list[float] = []
    gpus: list[str] = []

    def identities(self) -> list[str]:
        """The identity of each point."""
        return [self.identity_of(point) for point in self.sweep.points]

    def identity_of(self, point: Point) -> str:
        """The identity of a point, measured as this sweep does on this hardware."""
        measuring = self.sweep.measuring.model_dump()
        return identity(
            point, measuring, self.environment["hardware"], self.sweep.provenance_of(point)
        )

    def part(self, indices: Sequence[int]) -> "Plan":
        """The plan of some of its points alone."""
        points = [self.sweep.points[index] for index in indices]
        sweep = self.sweep.model_copy(update={"points": points})
        work = [self.work[index] for index in indices]
        passes = [self.passes[index] for index in indices] if self.passes else []
        return self.model_copy(update={"sweep": sweep, "work": work, "passes": passes})

    def anywhere(self) -> "Plan":
        """The same plan for ANY_HARDWARE hardware."""
        return self.model_copy(update={"environment": {"hardware": ANY_HARDWARE}})

    def key_of(self, record: Record) -> str:
        """The identity that the point of a record has in this plan: the record's own, or, in a plan
        for ANY_HARDWARE hardware, the one with the hardware left open."""
        if self.environment["hardware"] != ANY_HARDWARE:
            return record.identity
        measuring = self.sweep.measuring.model_dump()
        hardware = record.environment.get("hardware", ANY_HARDWARE)
        there = identity(record.point, measuring, hardware, self.sweep.provenance_of(record.point))
        return self.identity_of(record.point) if there == record.identity else ""

    def found_in(self, path: str | Path) -> dict[str, Record]:
        """The records of this sweep's points that a results file holds, by their `key_of`: of
        several of one point an ok one, or else the last. Raises ResultsError as `read_records`
        does."""
        return self.best_of(read_records(path) if Path(path).exists() else ())

    def best_of(self, records: Iterable[Record]) -> dict[str, Record]:
        """Return the records that `found_in` would find in a file of these."""
        wanted = set(self.identities())
        found: dict[str, Record] = {}
        for record in records:
            key = self.key_of(record)
            if key in wanted:
                before = found.get(key)
                if before is None or before.status != "ok" or record.status == "ok":
                    found[key] = record
        return found


def make_plan(path: str | Path, *, here: bool = True, **overrides: Any) -> Plan:
    """Read and check a sweep file (see `load_sweep`) and say what it takes, on this machine or,
    with here=False, on ANY_HARDWARE. Raises ConfigError."""
    import torch

    from dlm_bench.timing.environment import environment

    sweep = load_sweep(path, here=here, **overrides)
    device = torch.device(sweep.points[0].device)
    names: list[str] = []
    if here and device.type == "cuda":
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    loads = [expected_load(p, sweep.measuring, sweep.options_of(p)) for p in sweep.points]
    return Plan(
        sweep=sweep,
        work=[work for work, _ in loads],
        passes=[passes for _, passes in loads],
        environment=environment(device.type, device.index or 0)
        if here
        else {"hardware": ANY_HARDWARE},
        gpus=names,
    )


def expected_work(
    point: Point, measuring: Measuring, options: Mapping[str, Any] | None = None
) -> float:
    """Return the cost of a point relative to others of its backbone (see `expected_load`)."""
    return expected_load(point, measuring, options)[0]


def expected_load(
    point: Point, measuring: Measuring, options: Mapping[str, Any] | None = None
) -> tuple[float, float]:
    """The work of a point, FLOPs with bytes counted as the FLOPs that take as long, and its passes.

    An exact point runs all its passes some times over; any other counts the least of a sampled one,
    its first nodes in each round and once before. Where the passes depend on the model they are the
    most that there can be. `options` are those of the point with what `Sweep.options_of` puts in.
    """
    import numpy as np

    from dlm_bench.cost.flops import pass_costs
    from dlm_bench.models.config import BACKBONES, model_config
    from dlm_bench.samplers import build_sampler
    from dlm_bench.timing.units import first_nodes, prefill_unit, strata

    sampler = build_sampler(point.sampler, **(point.options if options is None else options))
    plan = list(sampler.plan(point.length, point.prompt_len))
    if point.backbone in BACKBONES:
        config = model_config(point.backbone, point.size)
    else:  # of which no cost is known: a Transformer's grows with length and batch much alike
        config = model_config("ar-transformer" if sampler.needs == "ar" else "diffutran", "small")
    cost = pass_costs(config, sampler, plan, batch=point.batch, dtype=point.dtype)
    passes = np.asarray(cost.flops + FLOPS_PER_BYTE * cost.bytes)  # (passes,)
    if measuring.mode == "exact":
        runs = measuring.warmup + measuring.repeats
        return runs * float(passes.sum()), runs * len(passes)
    nodes = [units[at] for units in strata(plan) for at in first_nodes(units, measuring.nodes)]
    prefill = prefill_unit(plan)
    nodes += [] if prefill is None else [prefill]
    once = sum(float(passes[unit.index : unit.index + unit.count].sum()) for unit in nodes)
    rounds = 1 + measuring.repeats
    return rounds * once, rounds * sum(unit.count for unit in nodes)


def model_key(point: Point) -> ModelKey:
    """Return the key of the model that a worker builds once for all points that share it."""
    return point.backbone, point.size, point.dtype, point.device
