"""What `dlm-bench compare` finds with so many runs a side, simulated.

    python bench/compare_runs.py

Ten points, each with runs of five repeats: runs of the same code differ by a normal 2 % or 0.5 %,
which is also what is assumed (--run-spread), or by twice what is assumed; repeats of a run are up
to some percent slower than the fastest (half a normal, 1 %). One point is slower by a share.
Prints, as Markdown, how often it is found, and how often any point is called slower where none is.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from dlm_bench.compare.statistics import compare_times, verdict_of

POINTS, REPEATS = 10, 5


def runs_of(
    random: np.random.Generator, points: int, runs: int, spread: float
) -> NDArray[np.float64]:
    """Seconds (points, runs, repeats)."""
    level = 1 + spread * random.standard_normal((points, runs, 1))
    return level * (1 + 0.01 * np.abs(random.standard_normal((points, runs, REPEATS))))


def slower(
    random: np.random.Generator, points: int, runs: int, spread: float, assumed: float, by: float
) -> bool:
    """Whether any of these points is called slower, where all are by so much."""
    sides = zip(*(runs_of(random, points, runs, spread) for _ in range(2)), strict=True)
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


if __name__ == "__main__":
    main()
