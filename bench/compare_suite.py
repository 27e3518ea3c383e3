"""Slowdowns of a whole suite found by `dlm-bench ab --suite-threshold`, from recorded rounds.

    python bench/compare_suite.py results/ci/rounds.jsonl

Resamples the recorded rounds of a revision against itself: twelve rounds a run, in pieces of three
in a row with all their points, a side called base by chance. Every point gets slower by the same
share. Prints, as Markdown, how often the suite is called slower (--suite-threshold 1.5%), and how
often any single point is.
"""

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

from dlm_bench.compare.sequential import SequentialTest
from dlm_bench.compare.statistics import THRESHOLD

ROUNDS, PIECE, SUITE_THRESHOLD = 12, 3, 0.015
SLOWDOWNS = (0.0, 0.01, 0.015, 0.02, 0.03)

Round = Sequence[float | None]  # the log ratio of each point


def read_rounds(path: Path) -> list[Round]:
    """The rounds of a revision against itself in which every point was measured."""
    made = [json.loads(line) for line in path.read_text().splitlines()]
    return [each["ratios"] for each in made if each["kind"] == "noise"]


def judged(rounds: Sequence[Round], slowdown: float, draw: random.Random) -> SequentialTest:
    """The test of one resampled run of ROUNDS rounds."""
    test = SequentialTest(len(rounds[0]), THRESHOLD, suite_threshold=SUITE_THRESHOLD)
    for i in range(ROUNDS):
        if i % PIECE == 0:
            start, sign = draw.randrange(len(rounds)), draw.choice((-1, 1))
        wanted = test.wanted
        if not wanted:
            break
        made = rounds[(start + i % PIECE) % len(rounds)]
        ratios = {
            point: sign * ratio + math.log1p(slowdown)
            for point in wanted
            if (ratio := made[point]) is not None
        }
        test.add(ratios, (i + 1) / ROUNDS)
    test.analyse(1.0)
    return test


def found(
    rounds: Sequence[Round], slowdown: float, runs: int, seed: int = 0
) -> tuple[float, float]:
    """The shares of runs whose suite, and any of whose points, is called slower."""
    draw, suites, points = random.Random(seed), 0, 0
    for _ in range(runs):
        test = judged(rounds, slowdown, draw)
        suites += test.overall is not None and test.overall.verdict == "slower"
        points += "slower" in test.verdicts
    return suites / runs, points / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("rounds", type=Path, metavar="ROUNDS.jsonl")
    parser.add_argument("--simulations", type=int, default=1000, help="runs a cell")
    args = parser.parse_args()
    rounds = read_rounds(args.rounds)
    print(f"Resampled from {len(rounds)} recorded rounds, {args.simulations} runs a cell\n")
    print("| all points slower by | suite called slower | any point called slower |\n|--:|--:|--:|")
    for slowdown in SLOWDOWNS:
        shares = found(rounds, slowdown, args.simulations)
        print(f"| {100 * slowdown:g} % | {' | '.join(f'{s:.1%}' for s in shares)} |", flush=True)


if __name__ == "__main__":
    main()
