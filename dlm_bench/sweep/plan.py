"""A checked sweep: the points, their relative cost, and those with a record.

A plan is made in a worker, with torch, and used in the parent, without torch.
"""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dlm_bench.results.identity import identities, identity
from dlm_bench.results.record import Point, Record
from dlm_bench.results.store import read_records
from dlm_bench.sweep.load import Sweep

ModelKey = tuple[str, ...]

ANY_HARDWARE = ""  # the hardware of a plan for a machine that is not known yet


class Plan(BaseModel):
    """A sweep with the cost of the points.

    work: of each point, in arbitrary units. passes: of each point's measurement; empty if unknown.
    environment: of the device, as in records; the hardware may be ANY_HARDWARE.
    gpus: the names of all visible GPUs, if the device is a GPU.
    memory: bytes of the device, or of a worker's limit if less; None if unknown.
    run: number of the run that is measured by this plan. shuffle: seed of the order of the points;
        None for the order of the file.
    """

    model_config = ConfigDict(frozen=True)

    sweep: Sweep
    work: list[float]
    environment: dict[str, Any]
    passes: list[float] = []
    gpus: list[str] = []
    memory: int | None = None
    run: int = 1
    shuffle: int | None = None

    def identities(self) -> list[str]:
        """Return the identity of each point."""
        return [self.identity_of(point) for point in self.sweep.points]

    def identity_of(self, point: Point) -> str:
        """Return the identity of a point under this sweep's settings and hardware."""
        measuring = self.sweep.measuring.model_dump()
        hardware, origin = self.environment["hardware"], self.sweep.provenance_of(point)
        return identity(point, measuring, hardware, origin, self.run)

    def part(self, indices: Sequence[int]) -> "Plan":
        """Return the plan of some points alone."""
        points = [self.sweep.points[index] for index in indices]
        sweep = self.sweep.model_copy(update={"points": points})
        work = [self.work[index] for index in indices]
        passes = [self.passes[index] for index in indices] if self.passes else []
        return self.model_copy(update={"sweep": sweep, "work": work, "passes": passes})

    def of_run(self, run: int, shuffle: int | None = None) -> "Plan":
        """Return the plan of another run, with the points in an order by the seed `shuffle` and the
        run: models in turn, as each has to be built, and the points of a model in any order."""
        plan = self.model_copy(update={"run": run, "shuffle": shuffle})
        if shuffle is None:
            return plan
        generator = random.Random(f"{shuffle} {run}")
        models: dict[ModelKey, list[int]] = {}
        for index, point in enumerate(self.sweep.points):
            models.setdefault(model_key(point), []).append(index)
        groups = list(models.values())
        generator.shuffle(groups)
        for group in groups:
            generator.shuffle(group)
        return plan.part([index for group in groups for index in group])

    def anywhere(self) -> "Plan":
        """Return the same plan for ANY_HARDWARE."""
        return self.model_copy(update={"environment": {"hardware": ANY_HARDWARE}})

    def key_of(self, record: Record) -> str:
        """Return the identity of a record's point in this plan.

        The identity is the record's own, or that of now where the trace's label was another; in a
        plan for ANY_HARDWARE the hardware is left open.
        """
        hardware = self.environment["hardware"]
        anywhere = hardware == ANY_HARDWARE
        if not anywhere and "trace" not in record.point.options:
            return record.identity
        if anywhere:
            hardware = record.environment.get("hardware", ANY_HARDWARE)
        measuring = self.sweep.measuring.model_dump()
        origin = self.sweep.provenance_of(record.point)
        point = record.point.model_copy(update={"seed": record.seed})
        if record.identity in identities(point, measuring, hardware, origin, self.run):
            return self.identity_of(point)
        return "" if anywhere else record.identity

    def found_in(self, path: str | Path) -> dict[str, Record]:
        """Find this sweep's points in a results file: records by `key_of`.

        An ok record is preferred, then a later record. Raises ResultsError as `read_records` does.
        """
        return self.best_of(read_records(path) if Path(path).exists() else ())

    def best_of(self, records: Iterable[Record]) -> dict[str, Record]:
        """Return the records that `found_in` would find in a file of these, each with the identity
        of now."""
        wanted = set(self.identities())
        found: dict[str, Record] = {}
        for record in records:
            key = self.key_of(record)
            if key in wanted:
                before = found.get(key)
                if before is None or before.status != "ok" or record.status == "ok":
                    found[key] = record
        if self.environment["hardware"] == ANY_HARDWARE:  # whose identities no record has
            return found
        return {
            key: each if each.identity == key else each.model_copy(update={"identity": key})
            for key, each in found.items()
        }


def model_key(point: Point) -> ModelKey:
    """Return the key of a point's model; a worker builds a model once for all points that share the
    key."""
    weights = (point.weights, "" if point.seed is None else str(point.seed))
    return point.backbone, point.size, point.dtype, point.device, *weights
