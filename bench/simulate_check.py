"""Simulate the time plan of the GPU check with estimated passes: no GPU, no measurement.

    python bench/simulate_check.py [--gpu h100] [--cores 16]

Prints the seconds at which each stage and each point of the sweep would end, and the headline's.
The estimates are those of pass_estimates.py; what measuring a point takes follows
dlm_bench/timing/sampled.py, and what each other stage takes is counted in STAGES.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import gpu_check
from pass_estimates import GPUS, Gpu, pass_seconds

from dlm_bench.results.record import Point
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.schedule import PlannedPass
from dlm_bench.sweep.load import Sweep, load_sweep
from dlm_bench.sweep.plan import model_key
from dlm_bench.timing.units import Unit, first_nodes, strata

WORKER_SECONDS = 8.0  # imports, a CUDA context, and the model's weights
PLAN_SECONDS = 8.0  # of the sweep's own start, with the schedule of every point
SETTLE_SECONDS = 0.3
LEAD_SECONDS = 0.1  # before each unit that is shorter
LONG_SECONDS = 0.5  # of a pass that is not warmed up again
LEAST_SECONDS = 1.0  # of rounds
VISIT_SECONDS = 6e-3  # of a node besides its passes: seek, queue, synchronize
LAUNCH_SECONDS = 12e-3  # of a pass that Python launches
COMPILE_CORE_SECONDS = 170.0  # of all 408 kernels and 50 functions that launch them, on a core
TRACE_SECONDS = 8.0  # of the passes on the meta device, imports included
START_SECONDS = 6.0  # of a stage: imports, and a CUDA context
# Of each stage but these and the sweep, beyond its start.
STAGES = {
    "imports": 6.0,  # cold
    "libraries": 6.0,  # two ceilings, 16 products
    "kernels": 48.0,  # some 45 cases of 0.3 s and 59 tuning runs of 0.15 s, references, 4 models
    "profile": 22.0,  # 8 kinds of pass, 3 models
    "exact": 34.0,  # 6 points with whole decodes of up to 4 s, 2 models
    "tests": 50.0,  # compiled before; 40 decodes of 300 tokens, eager and captured
    "field": 14.0,  # 20 cases
    "agreement": 150.0,  # of which float32 has to be compiled
}


@dataclass(frozen=True)
class End:
    """The end of a stage or of a point, in seconds from the check's start."""

    what: str
    at: float
    point: Point | None = None


def simulate(gpu: Gpu, cores: int) -> Iterator[End]:
    """The plan of gpu_check.py: each end in order, up to the limit of the check."""
    now = compiled = 0.0
    measured: list[Point] = []
    for stage in gpu_check.stages(Path("output"), cores):
        if stage.name == "compile":
            compiled = now + TRACE_SECONDS + COMPILE_CORE_SECONDS / cores
            yield End("compile", compiled)
            continue
        if "compile" in stage.after:
            now = max(now, compiled)
        limit = min(now + stage.seconds, gpu_check.SECONDS)
        if stage.name in STAGES:
            now = min(limit, now + START_SECONDS + STAGES[stage.name])
        else:
            name = next(
                each for each in stage.command if each.startswith("gpu_") and "." not in each
            )
            only = next((each for each in stage.command if "length=" in each), None)
            sweep, begin = load_sweep(name, device="cpu", only=only), now
            for point, at in points_of(sweep, gpu, measured):
                if begin + at > limit:
                    now = limit
                    break
                now = begin + at
                measured.append(point)
                yield End("point", now, point)
        yield End(stage.name, now)


def points_of(sweep: Sweep, gpu: Gpu, measured: Sequence[Point]) -> Iterator[tuple[Point, float]]:
    """Each point of a sweep that is not measured, and the seconds from the sweep's start to its
    end."""
    now, loaded = PLAN_SECONDS, None
    for point in sweep.points:
        if point in measured:
            continue
        if model_key(point) != loaded:
            now, loaded = now + WORKER_SECONDS, model_key(point)
        now += point_seconds(point, sweep, gpu)
        yield point, now


def point_seconds(point: Point, sweep: Sweep, gpu: Gpu) -> float:
    """Seconds to measure a point: captures, warm-up, and rounds over the nodes."""

    @cache
    def seconds(query_len: int, context_len: int) -> float:
        return pass_seconds(point.backbone, query_len, context_len, gpu)

    def of_pass(place: PlannedPass) -> float:
        return seconds(place.query_len, place.context_len)

    def of_unit(unit: Unit) -> float:
        return sum(of_pass(run.first) * run.count for run in unit.runs)

    measuring = sweep.measuring
    plan = _sampled(
        point.sampler, tuple(point.options.items()), point.length, nodes=measuring.nodes
    )
    nodes = [node for part in plan.nodes for node in part]
    kinds = {place.kind: of_pass(place) for place in plan.first}
    long = {kind for kind, took in kinds.items() if took > LONG_SECONDS}
    total = 0.1 + plan.passes * 6e-6
    for kind, took in kinds.items():  # one step if it is long, else two; then its capture
        total += took if kind in long else 2 * max(took, LAUNCH_SECONDS)
        total += 0.05
    if not all(long.issuperset(node.kinds) for node in nodes):
        total += max(SETTLE_SECONDS, sum(of_unit(part[0]) for part in plan.nodes))
    total += sum(of_unit(node) for node in nodes if of_unit(node) < 2 * LEAD_SECONDS)  # first runs
    a_round = sum(
        of_unit(node) + VISIT_SECONDS + (LEAD_SECONDS if of_unit(node) < 2 * LEAD_SECONDS else 0)
        for node in nodes
    )
    rounds = measuring.repeats
    while rounds > 2 and rounds * a_round > measuring.max_seconds:
        rounds -= 1
    return total + max(rounds * a_round, min(LEAST_SECONDS, measuring.max_seconds))


@dataclass(frozen=True)
class _Sampled:
    """What sampled timing runs of a decode."""

    passes: int
    first: list[PlannedPass]  # of each kind
    nodes: list[list[Unit]]  # of each stratum


@cache
def _sampled(
    sampler: str, options: tuple[tuple[str, object], ...], length: int, *, nodes: int
) -> _Sampled:
    """The same for all backbones and GPUs; to list the passes takes a second."""
    plan = list(build_sampler(sampler, **dict(options)).passes(length))
    first = {place.kind: place for place in reversed(plan)}
    of_parts = [[part[at] for at in first_nodes(part, nodes)] for part in strata(plan)]
    return _Sampled(len(plan), [*first.values()], of_parts)


def is_headline(point: Point) -> bool:
    """Tell if a point is one of the comparisons that the paper leads with: the throughput of
    DiffuMamba and of DiffuTran over long sequences, with a block cache and without."""
    return point.backbone in ("diffumamba", "diffutran") and point.sampler in (
        "block-cache",
        "full",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", default="h100", choices=GPUS)
    parser.add_argument("--cores", type=int, default=16)
    args = parser.parse_args()
    ends = list(simulate(GPUS[args.gpu], args.cores))
    for before, end in pairwise([End("", 0.0), *ends]):
        what = end.point.describe() if end.point else f"-- {end.what}"
        print(f"{end.at:7.1f} s  {end.at - before.at:+6.1f}  {what}")


if __name__ == "__main__":
    main()
