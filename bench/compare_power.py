"""How often `dlm-bench ab` raises a false alarm and how often it finds a slowdown, on this machine.

    python bench/compare_power.py --minutes 20 --output results/ci
    python bench/compare_power.py --simulate results/ci/rounds.jsonl

Runs real `ab` comparisons of this checkout's HEAD, on the ten points of bench/sweeps/ci.toml: with
itself, to record the machine's noise, and then in turn with slower revisions of itself and again
with itself, each by the rules of `dlm-bench ab` and with a budget of five minutes. A slower
revision repeats a share of the calls of the model's blocks, work as real as the rest; the share
follows from a first measurement of what repeating all of them costs. Every round goes to
rounds.jsonl, every verdict to runs.jsonl.

What would take days is simulated from the rounds of HEAD against itself: pieces of three rounds in
a row with all their points, either side called base by chance, head's times of one point in ten
multiplied by a slowdown, and judged by the same code. Prints both tables as Markdown.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dlm_bench.compare.ab.checkouts import checkouts
from dlm_bench.compare.ab.comparison import matched_points
from dlm_bench.compare.ab.rounds import ABRun, RoundPlanner, run_ab
from dlm_bench.compare.ab.sides import Side
from dlm_bench.compare.sequential import SequentialTest, round_ratios

SWEEP = Path(__file__).parent / "sweeps" / "ci.toml"
BUDGET = 300.0  # seconds of an ab run
CALIBRATION, NOISE = 0.06, 0.35  # shares of the minutes; the real runs get the rest
PLANTED = (0.05, 0.1, 0.0, 0.02)  # real runs, in turn
PIECE = 3  # rounds in a row that are drawn together, as a machine's noise comes in spells

PATCH = """

_repeated_share, _credit, _forward = {share!r}, 0.0, Block.forward


def _slower(self, *inputs):
    global _credit
    _credit += _repeated_share
    while _credit >= 1:
        _credit -= 1
        _forward(self, *inputs)
    return _forward(self, *inputs)


Block.forward = _slower
"""


@dataclass(frozen=True)
class Round:
    """One round of a real run: seconds that it took, of which `start` went into the workers, what
    a turn of each point took, and the log ratios of each point by the fastest decodes and by the
    mean (None where it was not measured; older files lack the means)."""

    kind: str
    seconds: float
    start: float
    costs: list[float]
    ratios: list[float | None]
    means: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """One real run by the rules of ab."""

    kind: str
    slowdown: float
    budget: float
    seconds: float
    rounds: int
    verdicts: list[str]
    ratios: list[float | None]


def git(*arguments: str, at: Path) -> str:
    who = ("-c", "user.name=compare_power", "-c", "user.email=nobody@example.org")
    command = ["git", "-C", str(at), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def slower_commit(share: float, here: Path) -> str:
    """A commit, on no branch, of HEAD with this share of its blocks' calls repeated."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "slower"
        git("worktree", "add", "--detach", str(place), "HEAD", at=here)
        try:
            with (place / "dlm_bench" / "models" / "block.py").open("a") as file:
                file.write(PATCH.format(share=share))
            git("commit", "--all", "--no-verify", "--message", f"repeat {share:.3g}", at=place)
            return git("rev-parse", "HEAD", at=place)
        finally:
            git("worktree", "remove", "--force", str(place), at=here)


@contextmanager
def sides_of(head: str, here: Path) -> Iterator[tuple[Side, Side]]:
    with checkouts("HEAD", head, here) as (base, other):
        yield Side(base), Side(other)


def play(
    head: str, kind: str, budget: float, keep: Callable[[Round], None], *, settle: bool, here: Path
) -> tuple[ABRun, list[Round]]:
    """One real run of HEAD against `head`, with its rounds."""
    rounds: list[Round] = []
    before = [0.0, 0]

    def after_round(run: ABRun) -> None:
        newest = [run.records[which][int(before[1]) :] for which in (0, 1)]
        spent, before[0] = run.seconds - before[0], run.seconds
        before[1] = len(run.records[0])
        ratios: list[float | None] = [None] * len(points)
        means = ratios.copy()
        for base, other in zip(*newest, strict=True):
            point = points.index(other.point)
            ratios[point], means[point] = round_ratios(base.seconds, other.seconds)
        made = Round(kind, spent, run.planner.start, list(run.planner.costs), ratios, means)
        rounds.append(made)
        keep(made)
        print(f"{kind}: round {run.rounds}, {run.seconds:.0f} s", flush=True)

    with sides_of(head, here) as sides:
        matched = matched_points(sides, SWEEP)
        points = list(matched.points)
        run = run_ab(sides, matched.pairs, budget=budget, settle=settle, after_round=after_round)
    return run, rounds


def measure(minutes: float, output: Path, here: Path) -> tuple[list[Round], list[Run]]:
    """All real runs that fit, recorded as they come."""
    output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes

    def keep(made: Round | Run, name: str = "rounds.jsonl") -> None:
        with (output / name).open("a") as file:
            file.write(json.dumps(asdict(made)) + "\n")

    head = git("rev-parse", "HEAD", at=here)
    _, doubled = play(
        slower_commit(1.0, here), "blocks twice", 60 * minutes * CALIBRATION, keep,
        settle=False, here=here,
    )  # fmt: skip
    costs = [math.expm1(ratio) for made in doubled for ratio in made.ratios if ratio is not None]
    share = min(1.0, statistics.median(costs))  # blocks are not all of a pass
    print(f"repeating every block's call makes a decode {share:.0%} slower", flush=True)
    _, noise = play(head, "noise", 60 * minutes * NOISE, keep, settle=False, here=here)
    runs: list[Run] = []
    while True:
        slowdown = PLANTED[len(runs) % len(PLANTED)]
        budget = min(BUDGET, end - time.monotonic() - 15)
        typical = statistics.median(made.seconds for made in noise)
        if budget < 5 * typical:
            return noise, runs
        revision = slower_commit(slowdown / share, here) if slowdown else head
        kind = f"{slowdown:.0%} slower" if slowdown else "no change"
        run, _ = play(revision, kind, budget, keep, settle=True, here=here)
        comparisons = run.test.changes
        made = Run(
            kind, slowdown, budget, run.seconds, run.rounds, list(run.test.verdicts),
            [found.ratio if found else None for found in comparisons],
        )  # fmt: skip
        runs.append(made)
        keep(made, "runs.jsonl")


def simulated(
    noise: Sequence[Round], slowdown: float, budget: float, draw: random.Random
) -> tuple[SequentialTest, int, float]:
    """One simulated run with one point slowed down; the test, that point, and its seconds."""
    count = len(noise[0].ratios)
    slow = draw.randrange(count)
    test, planner = SequentialTest(count), RoundPlanner(count, budget)
    elapsed = 0.0
    piece: list[tuple[int, Round]] = []
    first = True
    while test.undecided:
        if not piece:
            start, sign = draw.randrange(len(noise)), draw.choice((-1, 1))
            piece = [(sign, noise[(start + i) % len(noise)]) for i in range(PIECE)]
        sign, made = piece.pop(0)
        planner.start, planner.costs = made.start, made.costs
        cost = planner.round_seconds(test.undecided)
        if not first and elapsed + cost > budget:
            break
        first = False
        elapsed += cost
        ratios, means = (
            {
                point: sign * ratio + (math.log1p(slowdown) if point == slow else 0.0)
                for point in test.undecided
                if found and (ratio := found[point]) is not None
            }
            for found in (made.ratios, made.means)
        )
        test.add(ratios, elapsed / budget, means)
    test.analyse(1.0)
    return test, slow, min(elapsed, budget)


def print_real(runs: Sequence[Run]) -> None:
    print("\nMeasured: real runs of `dlm-bench ab`, all ten points slowed alike\n")
    print("| planted | runs | exit 1 | points found | undecided | measured slowdown | seconds |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for kind in dict.fromkeys(run.kind for run in runs):
        some = [run for run in runs if run.kind == kind]
        verdicts = [verdict for run in some for verdict in run.verdicts]
        ratios = [ratio for run in some for ratio in run.ratios if ratio is not None]
        size = f"{statistics.median(ratios) - 1:+.1%}" if ratios else "-"
        failed = sum("slower" in run.verdicts for run in some)
        slower, undecided = verdicts.count("slower"), verdicts.count("undecided")
        took = statistics.median(run.seconds for run in some)
        print(
            f"| {kind} | {len(some)} | {failed} | {slower} of {len(verdicts)} | {undecided} | "
            f"{size} | {took:.0f} |"
        )


def print_simulated(noise: Sequence[Round], runs: int, seed: int) -> None:
    draw = random.Random(seed)
    count = len(noise[0].ratios)
    spread = statistics.median(
        statistics.stdev(values)
        for point in range(count)
        if len(values := [r for made in noise if (r := made.ratios[point]) is not None]) > 1
    )
    print(
        f"\nSimulated from {len(noise)} recorded rounds of no change ({runs} runs a cell; a round "
        f"took {statistics.median(made.seconds for made in noise):.0f} s, its log ratio's standard "
        f"deviation was {spread:.1%} at the median point)\n"
    )
    print("| one point in ten slower by | budget | found | false alarms | undecided | seconds |")
    print("|---|--:|--:|--:|--:|--:|")
    for slowdown in (0.0, 0.02, 0.05, 0.1):
        for budget in (60.0, 120.0, BUDGET, 600.0):
            found = false = undecided = 0
            took = []
            for _ in range(runs):
                test, slow, seconds = simulated(noise, slowdown, budget, draw)
                slower = [i for i, each in enumerate(test.verdicts) if each == "slower"]
                found += bool(slowdown) and slow in slower
                false += any(point != slow or not slowdown for point in slower)
                undecided += len(test.undecided)
                took.append(seconds)
            power = f"{found / runs:.1%}" if slowdown else "-"
            print(
                f"| {slowdown:.0%} | {budget / 60:g} min | {power} | {false} of {runs} | "
                f"{undecided / runs / count:.1%} | {statistics.median(took):.0f} |",
                flush=True,
            )


def read_rounds(path: Path) -> list[Round]:
    lines = path.read_text().splitlines()
    return [made for line in lines if (made := Round(**json.loads(line))).kind == "noise"]


def read_runs(path: Path) -> list[Run]:
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="of measuring, in all")
    parser.add_argument("--output", type=Path, default=Path("results/ci"), metavar="DIR")
    parser.add_argument("--simulate", type=Path, metavar="ROUNDS.jsonl", help="measure nothing")
    parser.add_argument("--simulations", type=int, default=200, help="runs a cell")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.simulate is None:
        measure(args.minutes, args.output, Path.cwd())
    folder = args.output if args.simulate is None else args.simulate.parent
    recorded = folder / "rounds.jsonl" if args.simulate is None else args.simulate
    if (folder / "runs.jsonl").exists():
        print_real(read_runs(folder / "runs.jsonl"))
    print_simulated(read_rounds(recorded), args.simulations, args.seed)


if __name__ == "__main__":
    main()
