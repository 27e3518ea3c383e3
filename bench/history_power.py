"""How often `dlm-bench history` finds a change and how often it raises a false alarm.

    python bench/history_power.py --series 2000

Simulates series of 60 commits with independent noise of 1 % a commit, normal and heavy-tailed
(Student's t of 4 degrees of freedom, scaled to the same variance), half of them with one step of
3 % up or down, five commits or more from either end. Prints for each noise the steps found within
one commit, and the false alarms in 1,000 commits without and with a step, as Markdown.
"""

import argparse
from collections.abc import Callable

import numpy as np

from dlm_bench.analysis.history import find_steps

COMMITS, STEP, NOISE, MARGIN = 60, 0.03, 0.01, 5
NOISES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "normal": lambda random: random.standard_normal(COMMITS),
    "t4": lambda random: random.standard_t(4, COMMITS) / 2**0.5,
}


def simulate(noise: str, series: int, seed: int = 0) -> tuple[float, float, float]:
    """The share of steps found within one commit, and the false alarms in 1,000 commits of series
    without and with a step."""
    random = np.random.default_rng(seed)
    found, false, beside = 0, 0, 0
    for _ in range(series):
        false += len(find_steps(NOISE * NOISES[noise](random)))
        at = int(random.integers(MARGIN, COMMITS - MARGIN))
        values = NOISE * NOISES[noise](random)
        values[at:] += np.log1p(STEP * random.choice([-1, 1]))
        near = [abs(step - at) <= 1 for step in find_steps(values)]
        found += any(near)
        beside += near.count(False)
    commits = series * COMMITS / 1000
    return found / series, false / commits, beside / commits


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=2000, help="of each kind (default: 2000)")
    args = parser.parse_args()
    print("| noise | steps of 3 % found within a commit | false in 1,000 commits | with a step |")
    print("|---|--:|--:|--:|")
    for noise in NOISES:
        found, false, beside = simulate(noise, args.series)
        print(f"| {noise} | {100 * found:.1f} % | {false:.2f} | {beside:.2f} |")


if __name__ == "__main__":
    main()
