"""What `dlm-bench compare` finds with so many runs a side, simulated.

    python bench/compare_runs.py

Ten points, each with runs of five repeats: runs of the same code differ by a normal 2 % or 0.5 %,
which is also what is assumed (--run-spread), or by twice what is assumed; repeats of a run are up
to some percent slower than the fastest (half a normal, 1 %). One point is slower by a share.
Prints, as Markdown, how often it is found, and how often any point is called slower where none is.

A second table has the same with 2 % assumed and 2 % true, for other noise: shared (nine tenths of a
run's variance is common to all its points) and heavy-tailed (one run of a point in ten is up to
30 % slower).
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from dlm_bench.compare.statistics import compare_times, verdict_of

POINTS, REPEATS = 10, 5


SHARED, BUSY = 0.9, 0.1


def runs_of(
    random: np.random.Generator, points: int, runs: int, spread: float, noise: str = "independent"
) -> NDArray[np.float64]:
    """Seconds (points, runs, repeats)."""
    own, common = (random.standard_normal((n, runs, 1)) for n in (points, 1))
    if noise == "shared":
        own = np.sqrt(1 - SHARED) * own + np.sqrt(SHARED) * common
    level = 1 + spread * own
    if noise == "heavy-tailed":
        busy = random.random(level.shape) < BUSY
        level = level * (1 + busy * random.uniform(0.0, 0.3, level.shape))
    return level * (1 + 0.01 * np.abs(random.standard_normal((points, runs, REPEATS))))


def slower(
    random: np.random.Generator,
    points: int,
    runs: int,
    spread: float,
    assumed: float,
    by: float,
    noise: str = "independent",
) -> bool:
    """Whether any of these points is called slower, where all are by so much."""
    sides = zip(*(runs_of(random, points, runs, spread, noise) for _ in range(2)), strict=True)
    return any(
        verdict_of(compare_times(base, (1 + by) * head, comparisons=POINTS, run_spread=assumed))
        == "slower"
        for base, head in sides
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--simulations", type=int, default=1000, help="a cell")
    args = parser.parse_args()
    random, count = np.random.default_rng(0), args.simulations
    print(f"Simulated, {count} times a cell\n")
    print("| runs differ by | assumed | runs a side | 5 % | 10 % | 20 % slower | false alarms |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for spread, assumed in ((0.02, 0.02), (0.005, 0.005), (0.04, 0.02)):
        for runs in (1, 3, 5, 10):
            setting = (runs, spread, assumed)
            found = (
                sum(slower(random, 1, *setting, by) for _ in range(count)) / count
                for by in (0.05, 0.1, 0.2)
            )
            alarms = sum(slower(random, POINTS, *setting, 0.0) for _ in range(count)) / count
            cells = " | ".join(f"{share:.0%}" for share in found)
            print(
                f"| {100 * spread:g} % | {100 * assumed:g} % | {runs} | {cells} | {alarms:.1%} |",
                flush=True,
            )
    print("\n| noise | runs a side | 5 % | 10 % | 20 % slower | false alarms |")
    print("|---|--:|--:|--:|--:|--:|")
    for noise in ("shared", "heavy-tailed"):
        for runs in (3, 5, 10):
            found = (
                sum(slower(random, 1, runs, 0.02, 0.02, by, noise) for _ in range(count)) / count
                for by in (0.05, 0.1, 0.2)
            )
            alarms = sum(slower(random, POINTS, runs, 0.02, 0.02, 0.0, noise) for _ in range(count))
            cells = " | ".join(f"{share:.0%}" for share in found)
            print(f"| {noise} | {runs} | {cells} | {alarms / count:.1%} |", flush=True)


if __name__ == "__main__":
    main()
