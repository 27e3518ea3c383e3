"""Sampled mode against exact mode on this machine, for all backbones and samplers.

A shared machine's speed wanders by more from second to second than the sampled mode may be off. So
whole decodes and rounds of the sampled mode take turns on one state, and the mean of the rounds is
held against that of the decodes; the stated error is the one that the sampled mode gives these
rounds. At the longest lengths one sampled measurement, as a user would take it, stands before and
one after a whole decode, and is held against its wall time. Prints a line a point and the figures
of docs/timing.md; with --output the lines go into a JSONL file, too.

    OMP_NUM_THREADS=1 python bench/sampled_vs_exact.py --output results/cpu/sampled_vs_exact.jsonl

With --tolerance 0.05 the rounds of a point stop early, by the rule of the sampled mode.

sampled_on_gpu.py does the same for a few points on a GPU.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

import dlm_bench
from dlm_bench.models.config import BACKBONES
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.results.interval import relative_error
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.exact import Until, time_decodes
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.measure import point_of
from dlm_bench.timing.precision import ANY_ERROR, Stopping
from dlm_bench.timing.sampled import estimate

VARIANTS = [
    ("full", {}),
    ("fast-dllm", {"cache": "dual"}),
    ("fast-dllm", {"cache": "prefix"}),
    ("block-cache", {"commit": "separate"}),
    ("block-cache", {"commit": "fused"}),
    ("block-cache", {"commit": "none"}),
    ("ar", {}),
]
SIZES = ("tiny", "small")
LENGTH = 512
LONGEST = {"full": 2048, "fast-dllm": 2048, "block-cache": 16384, "ar": 8192}  # of size small
WARM_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """A point both ways: mean seconds, the stated relative error (None of fewer than three rounds),
    the number of decodes (or rounds) behind each, and the seconds that one measurement took in all.
    """

    point: str
    exact: float
    sampled: float
    stated: float | None
    decodes: int
    rounds: int
    wall: float

    @property
    def error(self) -> float:
        """Relative error of the sampled time, signed."""
        return self.sampled / self.exact - 1

    @property
    def covered(self) -> bool:
        """Whether the stated error holds the true one."""
        return self.stated is not None and abs(self.error) <= self.stated

    @property
    def speedup(self) -> float:
        """Seconds of a whole decode over those of a sampled measurement."""
        return self.exact / self.wall


@torch.inference_mode()
def take_turns(
    model: LanguageModel, sampler: Sampler, length: int, seconds: float, tolerance: float
) -> Outcome:
    """Whole decodes and sampled rounds by turns, five times at least: until the rule of the sampled
    mode stops the rounds at a tolerance, or for this long."""
    state = sampler.prepare(model, length)
    steps = Steps(model, sampler, state)
    decodes, rounds, interpolated, walls = [], [], [], []
    begin = time.perf_counter()
    while time.perf_counter() - begin < WARM_SECONDS:
        time_decodes(sampler, state, steps, 0, Until(1))
    begin = time.perf_counter()
    stopping, done = Stopping(5, tolerance), False
    while len(rounds) < 5 or (not done and time.perf_counter() - begin < seconds):
        decodes += time_decodes(sampler, state, steps, 0, Until(1)).seconds
        start = time.perf_counter()
        found = estimate(
            sampler,
            state,
            steps,
            warmup=0,
            repeats=1,
            most_nodes=9,
            tolerance=ANY_ERROR,
            most_seconds=seconds,
        )
        walls.append(time.perf_counter() - start)
        rounds += found.seconds
        interpolated.append(found.interpolated)
        if tolerance < ANY_ERROR and len(rounds) >= stopping.look_at:
            done = stopping.look(rounds, fmean(interpolated))
    stated = stopping.error if done else relative_error(rounds, fmean(interpolated))
    point = point_of(model, sampler, DecodeShape(length)).describe()
    return Outcome(
        point, fmean(decodes), fmean(rounds), stated, len(decodes), len(rounds), fmean(walls)
    )


def measure_long(
    model: LanguageModel,
    sampler: Sampler,
    length: int,
    max_seconds: float,
    measurements: int = 2,
    **sampling: float,
) -> Outcome:
    """A sampled measurement, a whole decode, and another sampled measurement if there are two."""
    sampled, walls = [], []
    for last in (False, True)[:measurements]:
        begin = time.perf_counter()
        sampled.append(
            dlm_bench.measure(
                model,
                sampler,
                length,
                mode="sampled",
                warmup=1,
                max_seconds=max_seconds,
                **sampling,
            )
        )
        walls.append(time.perf_counter() - begin)
        if not last:  # after the first
            exact = dlm_bench.measure(model, sampler, length, warmup=0, repeats=1)
    stated = [record.error_estimate for record in sampled]
    return Outcome(
        exact.point.describe(),
        exact.mean_seconds,
        fmean(record.mean_seconds for record in sampled),
        None if None in stated else fmean(stated),
        1,
        sum(len(record.seconds) for record in sampled),
        fmean(walls),
    )


def points(long: bool) -> list[tuple[str, str, dict, str, int]]:
    """(backbone, sampler, options, size, length) of what is compared."""
    found = []
    for backbone, what in BACKBONES.items():
        for name, options in VARIANTS:
            if what.denoiser == (name == "ar"):
                continue
            if not long:
                found += [(backbone, name, options, size, LENGTH) for size in SIZES]
            elif options in ({}, {"cache": "dual"}, {"commit": "separate"}):
                found.append((backbone, name, options, "small", LONGEST[name]))
    return found


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="of turns, a short point")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=ANY_ERROR,
        help="stop the rounds of a short point early, at this relative error as 0.05",
    )
    parser.add_argument("--max-seconds", type=float, default=2.0, help="of sampling, a long point")
    parser.add_argument("--no-long", action="store_true", help="leave the longest lengths out")
    parser.add_argument("--output", type=Path, help="append a line a point here")
    return parser


def main() -> None:
    args = parser().parse_args()
    outcomes: dict[bool, list[Outcome]] = {False: [], True: []}
    for long in (False, True)[: 1 if args.no_long else 2]:
        for backbone, name, options, size, length in points(long):
            model = dlm_bench.build_model(backbone, size)
            sampler = dlm_bench.build_sampler(name, **options)
            if long:
                outcome = measure_long(model, sampler, length, args.max_seconds)
            else:
                outcome = take_turns(model, sampler, length, args.seconds, args.tolerance)
            outcomes[long].append(outcome)
            keep(outcome, args.output)
    summary(outcomes[False])
    for name, length in LONGEST.items():
        there = [o.speedup for o in outcomes[True] if f" {name} " in o.point]
        if there:
            print(f"{name}, {length:,} tokens: {min(there):.0f} to {max(there):.0f} times as fast")


def keep(outcome: Outcome, output: Path | None) -> None:
    """Print an outcome, and append it to a file."""
    print(text_of(outcome), flush=True)
    if output:
        with output.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")


def text_of(outcome: Outcome) -> str:
    """An outcome in a line."""
    stated = "nothing" if outcome.stated is None else f"{outcome.stated:5.1%}"
    return (
        f"{outcome.point:62} exact {outcome.exact:7.3f} s, sampled {outcome.error:+6.1%}, "
        f"stated {stated}{'' if outcome.covered else ' NOT COVERED'}, "
        f"{outcome.speedup:5.1f} times as fast"
    )


def summary(outcomes: list[Outcome]) -> None:
    """The errors of the short points, and how many the stated ones cover."""
    errors = np.abs([outcome.error for outcome in outcomes])
    print(
        f"{len(errors)} points of {LENGTH} tokens: median error {np.median(errors):.2%}, 95th "
        f"percentile {np.percentile(errors, 95):.2%}; the stated error (median "
        f"{np.median([o.stated for o in outcomes]):.1%}) covers "
        f"{sum(o.covered for o in outcomes)} of them"
    )


if __name__ == "__main__":
    main()
