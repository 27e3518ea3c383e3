"""False alarms and power of `dlm-bench ab` under independent, shared and heavy-tailed noise.

    python bench/compare_noise.py

Ten points, twelve rounds, judged by the product's own test. In the first table a log ratio scatters
by 3 % from round to round (the mean decode by 4 %), of which a share is common to all points of a
round: the correlation. Heavy: a neighbour moves one in ten by up to 30 %. A run without a change
has a false alarm if any point is called slower or tail slower; a slowdown is that of one point.

In the second table every decode of a round is drawn: twelve of each side, a speed of the process
(0.5 %), a scatter of 2 %, under heavy noise a neighbour in a tenth of them; head stalls in some
share of the decodes, and is so much slower there.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dlm_bench.compare.sequential import SequentialTest, round_ratios
from dlm_bench.compare.statistics import SLOWER

POINTS, ROUNDS, DECODES = 10, 12, 12
FAST_NOISE, MEAN_NOISE = 0.03, 0.04  # standard deviations of a round's log ratios
SLOWDOWNS = (0.05, 0.1)
STALLS = ((0.6, 0.3), (0.4, 0.3), (0.2, 0.5), (0.1, 1.0))  # share of decodes, slower by

Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator], Array]  # (2, rounds, points): fastest, mean


def shared(correlation: float) -> Noise:
    def draw(random: np.random.Generator) -> Array:
        common = random.standard_normal((2, ROUNDS, 1))
        own = random.standard_normal((2, ROUNDS, POINTS))
        noise = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
        return noise * np.array([FAST_NOISE, MEAN_NOISE])[:, None, None]

    return draw


def heavy(random: np.random.Generator) -> Array:
    busy = random.random((2, ROUNDS, POINTS)) < 0.1
    return shared(0.0)(random) + busy * random.uniform(-0.3, 0.3, busy.shape)


NOISES: dict[str, Noise] = {
    "independent": shared(0.0),
    "heavy-tailed": heavy,
    **{f"correlation {share:g}": shared(share) for share in (0.3, 0.6, 0.9, 0.95)},
}


def judged(fastest: Array, means: Array) -> SequentialTest:
    """The test of these rounds (rounds, points), to its end."""
    rounds, points = fastest.shape
    test = SequentialTest(points)
    for i in range(rounds):
        if not test.undecided:
            break
        ratios, tails = ({p: row[p] for p in test.undecided} for row in (fastest[i], means[i]))
        test.add(ratios, (i + 1) / rounds, tails)
    test.analyse(1.0)
    return test


def alarms_and_power(noise: Noise, runs: int, power_runs: int, seed: int = 0) -> list[float]:
    """The share of runs with a false alarm, and of those that find each of SLOWDOWNS."""
    random = np.random.default_rng(seed)
    alarms = sum(bool({*SLOWER} & {*judged(*noise(random)).verdicts}) for _ in range(runs))
    shares = [alarms / runs]
    for slowdown in SLOWDOWNS:
        shift = math.log1p(slowdown) * (np.arange(POINTS) == 0)
        tests = (judged(*(noise(random) + shift)) for _ in range(power_runs))
        shares.append(sum(test.verdicts[0] in SLOWER for test in tests) / power_runs)
    return shares


def stalling(
    random: np.random.Generator, share: float, slower: float, tails: bool
) -> SequentialTest:
    """The test of one point whose head stalls."""
    shape = (2, ROUNDS, DECODES)
    decodes = 1 + 0.02 * np.abs(random.standard_normal(shape))
    decodes *= 1 + 0.005 * random.standard_normal((2, ROUNDS, 1))
    if tails:
        decodes *= 1 + (random.random(shape) < 0.1) * random.uniform(0.2, 0.7, shape)
    decodes[1] *= 1 + slower * (random.random(shape[1:]) < share)
    ratios = np.array([round_ratios(*both) for both in zip(*decodes, strict=True)])
    return judged(ratios[:, :1], ratios[:, 1:])


def found_stalls(share: float, slower: float, runs: int, tails: bool) -> float:
    random = np.random.default_rng(1)
    tests = (stalling(random, share, slower, tails) for _ in range(runs))
    return sum(test.verdicts[0] in SLOWER for test in tests) / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--simulations", type=int, default=2000, help="a cell, of no change")
    parser.add_argument("--power", type=int, default=300, help="simulations a cell, of a slowdown")
    args = parser.parse_args()
    print(f"Simulated: {POINTS} points, {ROUNDS} rounds; false alarms of {args.simulations} runs\n")
    print("| noise | runs with a false alarm | 5 % found | 10 % found |\n|---|--:|--:|--:|")
    for name, noise in NOISES.items():
        alarms, *power = alarms_and_power(noise, args.simulations, args.power)
        print(f"| {name} | {alarms:.2%} | {' | '.join(f'{p:.1%}' for p in power)} |", flush=True)
    print("\n| head stalls in | slower there | found | found in heavy noise |\n|--:|--:|--:|--:|")
    for share, slower in STALLS:
        found = (found_stalls(share, slower, args.power, tails) for tails in (False, True))
        cells = " | ".join(f"{each:.1%}" for each in found)
        print(f"| {share:.0%} of decodes | {slower:.0%} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
