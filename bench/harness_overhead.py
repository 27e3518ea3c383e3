"""What the harness adds to a pass of about 1 ms: exact mode's own loop against a bare one.

    OMP_WAIT_POLICY=passive python bench/harness_overhead.py

Both run the same fixed arithmetic (float64 products on one thread) as often as a decode has
passes: the bare loop calls it and reads the clock at its ends, the harness runs `time_decodes`
with its steps, its clock and its telemetry thread, which here reads as many files as a host with
an energy counter has. They alternate, forwards and backwards, so that whatever else the machine
does falls on both. Prints the median over the rounds of harness time / bare time with its 95 %
interval (of order statistics), and the same of the bare loop against itself: what noise makes.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import torch
from scipy.stats import binom

from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import PlannedPass
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.exact import Until, time_decodes
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.host import HostSource, usable_cpus
from dlm_bench.timing.telemetry import Watch

SIDE = 64  # of the matrices


class Arithmetic:
    """A pass that is nothing but arithmetic, the same amount each time."""

    def __init__(self, seconds: float) -> None:
        self._a = torch.randn(SIDE, SIDE, dtype=torch.float64)
        self._b = torch.empty_like(self._a)
        self._products = 1
        self._products = max(1, round(seconds / min(self._timed() for _ in range(2000))))

    def _timed(self) -> float:
        begin = time.perf_counter()
        self()
        return time.perf_counter() - begin

    def __call__(self) -> None:
        for _ in range(self._products):
            torch.mm(self._a, self._a, out=self._b)


class FakeSampler:
    """A sampler whose pass is the arithmetic, and which has nothing to seek."""

    def __init__(self, work: Arithmetic) -> None:
        self._work = work

    def step(self, model: object, state: object, kind: str) -> None:
        self._work()

    def seek(self, state: object, pass_index: int) -> None:
        pass


class FakeState:
    """A decode of so many passes of one kind."""

    def __init__(self, passes: int) -> None:
        place = PlannedPass(
            kind="denoise",
            query_len=1,
            context_len=0,
            block_start=0,
            block_len=1,
            masked=1,
            reveal=1,
            t=1.0,
        )
        self.plan = [place] * passes
        self.tokens = torch.zeros(1, 1, dtype=torch.int64)


def host_with_sensors(root: Path) -> HostSource:
    """This host's counters, with files of its own for a CPU frequency and two packages' energy."""
    for name in ("intel-rapl:0", "intel-rapl:1"):
        zone = root / "sys/class/powercap" / name
        zone.mkdir(parents=True)
        for file, text in (("name", "package"), ("energy_uj", "1"), ("max_energy_range_uj", "9")):
            (zone / file).write_text(text)
    (root / "proc").symlink_to("/proc")
    frequency = root / f"sys/devices/system/cpu/cpu{min(usable_cpus())}/cpufreq/scaling_cur_freq"
    frequency.parent.mkdir(parents=True)
    frequency.write_text("2600000")
    return HostSource(root)


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % interval of the median: order statistics, by the binomial distribution."""
    ordered, low = sorted(ratios), int(binom.ppf(0.025, len(ratios), 0.5))
    return ordered[low], ordered[-1 - low]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=250, help="of a decode")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1e-3, help="of a pass, about")
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = Arithmetic(args.seconds)
    sampler, state = FakeSampler(work), FakeState(args.passes)
    fakes: tuple[Any, ...] = cast(Sampler, sampler), cast(DecodeState, state)
    steps = Steps(cast(Any, None), *fakes)
    with tempfile.TemporaryDirectory() as folder:
        source = host_with_sensors(Path(folder))

        def bare() -> float:
            begin = time.perf_counter_ns()
            for _ in range(args.passes):
                work()
            return (time.perf_counter_ns() - begin) / 1e9

        def harness() -> float:
            return time_decodes(*fakes, steps, 0, Until(1), Watch(source)).seconds[0]

        runs = [("harness", harness), ("bare", bare), ("bare again", bare)]
        times: dict[str, list[float]] = {name: [] for name, _ in runs}
        for turn in range(-2, args.rounds):  # two rounds of warm-up
            for name, run in runs:
                seconds = run()
                if turn >= 0:
                    times[name].append(seconds)
            runs.reverse()
    each = 1e3 * statistics.median(times["bare"]) / args.passes
    print(f"{args.rounds} rounds of {args.passes} passes of {each:.3f} ms (the bare loop's median)")
    for name in ("harness", "bare again"):
        ratios = [a / b for a, b in zip(times[name], times["bare"], strict=True)]
        middle, low, high = (100 * (r - 1) for r in (statistics.median(ratios), *interval(ratios)))
        print(f"{name:10} {middle:+.2f} % [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
