"""Sampled mode against exact mode on this machine, for all backbones and samplers.

Each point is decoded exactly, sampled, and decoded exactly again, so that a machine whose speed
drifts does so for both; the exact time is the mean of all whole decodes. Prints a line a point and
the figures of docs/method.md. The pairs of records go to --output.

    OMP_WAIT_POLICY=passive python bench/sampled_vs_exact.py --output results/cpu/sampled.jsonl
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dlm_bench
from dlm_bench.models.config import BACKBONES
from dlm_bench.models.denoiser import Denoiser
from dlm_bench.results.record import Record
from dlm_bench.results.store import append_record
from dlm_bench.samplers.sampler import Sampler

VARIANTS = [
    ("full", {}),
    ("fast-dllm", {"cache": "dual"}),
    ("fast-dllm", {"cache": "prefix"}),
    ("block-cache", {"commit": "separate"}),
    ("block-cache", {"commit": "fused"}),
    ("block-cache", {"commit": "none"}),
    ("ar", {}),
]
LENGTH = 1024
LONGEST = {"full": 2048, "fast-dllm": 2048, "block-cache": 8192, "ar": 8192}  # at size small


@dataclass(frozen=True)
class Pair:
    """One point both ways: the records, and the seconds that each way took in all."""

    exact: list[Record]
    sampled: Record
    exact_wall: float
    sampled_wall: float

    @property
    def true(self) -> float:
        """Mean seconds of all whole decodes."""
        return float(np.mean([s for record in self.exact for s in record.seconds]))

    @property
    def error(self) -> float:
        """Relative error of the sampled time, signed."""
        return self.sampled.mean_seconds / self.true - 1

    @property
    def covered(self) -> bool:
        """Whether the stated error holds the true one."""
        return abs(self.error) <= self.sampled.error_estimate

    @property
    def speedup(self) -> float:
        """How many times as long the exact way took, its warm-ups included."""
        return self.exact_wall / self.sampled_wall


def compare(
    model: Denoiser, sampler: Sampler, length: int, repeats: int, max_seconds: float
) -> Pair:
    """Measure a point exactly, sampled, and exactly again."""
    walls = []

    def timed(**settings) -> Record:
        begin = time.perf_counter()
        record = dlm_bench.measure(model, sampler, length, **settings)
        walls.append(time.perf_counter() - begin)
        return record

    before = timed(warmup=1, repeats=repeats)
    sampled = timed(mode="sampled", warmup=1, max_seconds=max_seconds)
    after = timed(warmup=0, repeats=repeats)
    return Pair([before, after], sampled, walls[0] + walls[2], walls[1])


def points(longest: bool) -> list[tuple[str, str, dict, str, int]]:
    """(backbone, sampler, options, size, length) of what is compared."""
    found = []
    for backbone, what in BACKBONES.items():
        for name, options in VARIANTS:
            if what.denoiser == (name == "ar"):
                continue
            found += [(backbone, name, options, size, LENGTH) for size in ("tiny", "small")]
            if longest and options in ({}, {"cache": "dual"}, {"commit": "separate"}):
                found.append((backbone, name, options, "small", LONGEST[name]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=2, help="whole decodes on either side")
    parser.add_argument("--max-seconds", type=float, default=2.0, help="of sampling, a point")
    parser.add_argument("--no-longest", action="store_true", help="only the short points")
    parser.add_argument("--output", type=Path, help="append the records here")
    args = parser.parse_args()
    pairs = []
    for backbone, name, options, size, length in points(not args.no_longest):
        model = dlm_bench.build_model(backbone, size)
        sampler = dlm_bench.build_sampler(name, **options)
        pair = compare(model, sampler, length, args.repeats, args.max_seconds)
        pairs.append(pair)
        print(
            f"{pair.sampled.point.describe():62} exact {pair.true:8.3f} s, sampled "
            f"{pair.error:+6.1%} ±{pair.sampled.error_estimate:5.1%}, "
            f"{pair.speedup:5.1f} times as fast{'' if pair.covered else ', NOT COVERED'}",
            flush=True,
        )
        if args.output:
            for record in (*pair.exact, pair.sampled):
                append_record(args.output, record)
    errors = np.abs([pair.error for pair in pairs])
    print(f"{len(pairs)} points: median error {np.median(errors):.2%}, 95th percentile", end=" ")
    print(f"{np.percentile(errors, 95):.2%}; covered {np.mean([p.covered for p in pairs]):.0%}")
    for name, length in LONGEST.items():
        there = [p.speedup for p in pairs if p.sampled.point.sampler == name
                 and p.sampled.point.length == length]  # fmt: skip
        if there:
            print(
                f"{name} at {length:,} tokens: {min(there):.0f} to {max(there):.0f} times as fast"
            )


if __name__ == "__main__":
    main()
