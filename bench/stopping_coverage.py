"""Coverage of the interval that timing states where it stops, by simulation of the rule itself.

Rounds come from a stationary process: independent, or autoregressive of the first order. The rule
of dlm_bench.timing.precision looks at them as it does in a measurement, and stops. A row of the
table is a process, a number of first rounds and a scatter of a round in multiples of the tolerance:
the share of intervals that hold the true mean, and the rounds at the stop, against those of
the rule before (a plain interval within the tolerance is enough).

    OMP_NUM_THREADS=1 python bench/stopping_coverage.py

The second table has intervals of fixed numbers of repeats, as of exact timing or where the time is
over.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlm_bench.results.interval import half_interval, relative_error
from dlm_bench.timing.precision import Stopping

FOLLOWS = (0.0, 0.3, 0.6, 0.9)
FIRST = (2, 5, 10)
SCATTERS = (0.3, 1.0, 3.0)
FIXED = (5, 10, 20, 50, 300)
TOLERANCE = 0.01
MOST = 6000  # rounds; the longest series stops there


@dataclass(frozen=True)
class Cell:
    """The outcome of a rule: the share of intervals with the true mean, and the median rounds."""

    covered: float
    rounds: float


class Plain(Stopping):
    """The rule before: the plain interval decides."""

    def look(self, totals: Sequence[float], interpolated: float = 0.0) -> bool:
        super().look(totals, interpolated)
        self.error = relative_error(totals, interpolated)
        return self.error is not None and self.error <= self.tolerance


def series(random: np.random.Generator, count: int, follows: float) -> np.ndarray:
    """Values of mean 0 and variance 1, each of which follows the one before."""
    from scipy.signal import lfilter

    steps = random.standard_normal(count)
    steps[1:] *= math.sqrt(1 - follows**2)
    return lfilter([1.0], [1.0, -follows], steps)


def cell(
    rule: type[Stopping], follows: float, first: int, scatter: float, trials: int, seed: int = 0
) -> Cell:
    """Simulate a rule on rounds with a relative scatter of `scatter` tolerances."""
    random = np.random.default_rng([seed, int(100 * follows), first, int(100 * scatter)])
    covered, rounds = [], []
    for _ in range(trials):
        totals = 1 + scatter * TOLERANCE * series(random, MOST, follows)
        stopping = rule(first, TOLERANCE)
        while not stopping.look(totals[: (count := stopping.look_at)]):
            if stopping.look_at > MOST:
                break
        assert stopping.error is not None
        mean = totals[:count].mean()
        covered.append(abs(mean - 1) <= stopping.error * mean)
        rounds.append(count)
    return Cell(float(np.mean(covered)), float(np.median(rounds)))


def fixed(follows: float, count: int, trials: int, seed: int = 0) -> float:
    """Return the share of intervals of a fixed number of values that hold the mean."""
    random = np.random.default_rng([seed, int(100 * follows), count])
    samples = (series(random, count, follows) for _ in range(trials))
    return float(np.mean([abs(each.mean()) <= half_interval(each) for each in samples]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000, help="simulations a cell")
    args = parser.parse_args()
    print(f"at the stop, {args.trials} simulations a cell")
    print("  AR(1)  first  scatter/tolerance  covered  rounds  rule before: covered  rounds")
    worst = dict.fromkeys(FOLLOWS, 1.0)
    for follows in FOLLOWS:
        for first in FIRST:
            for scatter in SCATTERS:
                now = cell(Stopping, follows, first, scatter, args.trials)
                before = cell(Plain, follows, first, scatter, args.trials)
                worst[follows] = min(worst[follows], now.covered)
                print(
                    f"{follows:7.1f} {first:6} {scatter:18.1f} {now.covered:8.1%} {now.rounds:7.0f}"
                    f" {before.covered:21.1%} {before.rounds:7.0f}",
                    flush=True,
                )
    print("least: " + ", ".join(f"AR {each:g} {share:.1%}" for each, share in worst.items()))
    print("\nof a fixed number")
    print("  AR(1) " + "".join(f"{count:>8}" for count in FIXED))
    for follows in FOLLOWS:
        shares = (fixed(follows, count, args.trials) for count in FIXED)
        print(f"{follows:7.1f} " + "".join(f"{share:8.1%}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
