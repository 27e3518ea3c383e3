"""End sweeps again and again at random moments, resume them each time, and check that the results
file ends up with every point exactly once, no torn line, and no worker left.

    python bench/kill_resume.py --kills 200                 # SIGKILL, SIGTERM and SIGINT, by chance
    python bench/kill_resume.py --kills 200 --sweeps 2      # two sweeps at once on one file
    python bench/kill_resume.py --kills 20 --seconds 6 --torch   # real workers, `tiny` models

Without --torch the workers (sleeping_worker.py) sleep in the place of measuring.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

from dlm_bench import cli
from dlm_bench.results.record import Point
from dlm_bench.results.store import read_records
from dlm_bench.sweep import run as execute
from dlm_bench.sweep.load import Sweep
from dlm_bench.sweep.plan import Plan

BACKBONES = ("diffutran", "diffumamba", "diffumamba-h", "ar-transformer", "ar-mamba")
SLEEPING = Path(__file__).with_name("sleeping_worker.py")
START = 0.3  # of the signals come while a sweep starts, the others after its next record
EXIT_CODES = {"KILL": -signal.SIGKILL, "TERM": 143, "INT": 130}
TORCH = """
name = "kills"
size = "tiny"
dtype = "float32"
warmup = 0
repeats = 2
lengths = {lengths}

[[lines]]
backbone = ["diffutran", "diffumamba", "diffumamba-h", "ar-transformer", "ar-mamba"]
sampler = {sampler}
"""


def quick_plan(points: int) -> Plan:
    """A plan of this many points, for quick workers."""
    every = [
        Point(backbone=BACKBONES[n % len(BACKBONES)], size="tiny", sampler="full", length=1 + n)
        for n in range(points)
    ]
    return Plan(
        sweep=Sweep(name="kills", points=every),
        work=[1.0] * points,
        environment={"hardware": "imaginary"},
    )


def whole_lines(path: Path) -> bytes:
    """The whole lines of a file."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Study:
    """A sweep of a temporary folder, the processes that run it, and what became of them."""

    def __init__(self, folder: Path, points: int, torch: bool, sweeps: int) -> None:
        self.output, self.workers = folder / "r.jsonl", folder / "workers"
        self._sweep, self._torch, self._sweeps = folder / "sweep", torch, sweeps
        self.ends: Counter[str] = Counter()
        if torch:
            lengths = [32 + 8 * n for n in range(points // len(BACKBONES))]
            self._sweep = folder / "s.toml"
            sampler = '"full"\ntokens_per_step = 8'
            text = TORCH.format(lengths=lengths, sampler=sampler)
            self._sweep.write_text(text.replace(', "ar-transformer", "ar-mamba"', ""))
            from dlm_bench.sweep.planning import make_plan

            self.wanted = make_plan(self._sweep).identities()
        else:
            plan = quick_plan(points)
            self._sweep.write_text(plan.model_dump_json())
            self.wanted = plan.identities()

    def start(self) -> subprocess.Popen[str]:
        """Start one sweep that resumes."""
        arguments = ["sweep", str(self._sweep), "--resume", "--output", str(self.output)]
        own = [__file__, "--as-sweep", str(self.workers)]
        command = ["-m", "dlm_bench"] if self._torch else own
        return subprocess.Popen(
            [sys.executable, *command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end_one(self, midway: bool, moment: float, name: str, chosen: int) -> None:
        """Start the sweeps and end them, a chosen one first: at a moment after the start, or if
        `midway` after the next record."""
        before = len(whole_lines(self.output))
        processes = [self.start() for _ in range(self._sweeps)]
        if midway:
            while len(whole_lines(self.output)) == before and processes[0].poll() is None:
                time.sleep(0.005)
        time.sleep(moment)
        for process in (processes[chosen % len(processes)], *processes):
            with suppress(ProcessLookupError):
                process.send_signal(getattr(signal, f"SIG{name}"))
            _, said = process.communicate(timeout=60)
            time.sleep(moment / 2)  # another sweep takes over what this one was at
            # 0: it was done before the signal came.
            in_code = process.returncode in (0, EXIT_CODES[name]) and "Traceback" not in said
            # Python was still loading this script and what it imports.
            before = process.returncode != 0 and "/dlm_bench/cli/" not in said
            assert in_code or before, f"SIG{name}: {process.returncode}, {said}"
        self.ends[name] += 1

    def finish(self) -> None:
        """Resume until all is there: all sweeps at once."""
        processes = [self.start() for _ in range(self._sweeps)]
        for process in processes:
            _, said = process.communicate()
            assert process.returncode == 0, said
        assert not self.output.with_name(f"{self.output.name}.claims").exists()

    def check(self) -> None:
        """Assert that every point is there exactly once, every line whole, and no worker left."""
        counts = Counter(record.identity for record in read_records(self.output, strict=True))
        assert counts == Counter(self.wanted), "a point is missing, or is there twice"
        left = (
            [pid for pid in map(int, self.workers.read_text().split()) if alive(pid)]
            if (self.workers.exists())
            else []
        )
        assert not left, f"workers outlive their sweeps: {left}"


def kill_and_resume(
    kills: int,
    *,
    points: int = 110,
    sweeps: int = 1,
    signals: tuple[str, ...] = tuple(EXIT_CODES),
    seconds: float = 0.4,
    seed: int = 0,
    torch: bool = False,
) -> str:
    """Do what this script does; return what came of it. Raises AssertionError."""
    chance = random.Random(seed)
    # Ignored signals are inherited: a job in the background must be ended by them all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started, midway, again, kept = time.monotonic(), 0, 0, b""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = Study(folder, points, torch, sweeps)
        for _ in range(kills):
            if kept.count(b"\n") == len(study.wanted):  # all done: from the start
                study.check()
                study.output.unlink()
                again, kept = again + 1, b""
            late = chance.random() >= START
            moment = chance.uniform(0, seconds)
            study.end_one(late, moment, chance.choice(signals), chance.randrange(9))
            now = whole_lines(study.output)
            assert now.startswith(kept), "a completed record was lost or changed"
            midway += len(now) > len(kept)
            kept = now
        study.finish()
        study.check()
    told = ", ".join(f"{count} SIG{name}" for name, count in sorted(study.ends.items()))
    return (
        f"{kills} ends ({told}) of {sweeps} sweep{'s' * (sweeps > 1)} at once of {points} points "
        f"in {time.monotonic() - started:.0f} s, {midway} of them after new records; the file was "
        f"complete {again + 1} times: every point exactly once, no line torn, no worker left"
    )


def main() -> None:
    if sys.argv[1:2] == ["--as-sweep"]:
        command = (sys.executable, "-P", str(SLEEPING), sys.argv[2])
        execute.Executor = partial(execute.Executor, command)  # type: ignore[misc,assignment]
        sys.exit(cli.main(sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.4, help="a signal comes within them")
    parser.add_argument("--points", type=int, default=110)
    parser.add_argument("--sweeps", type=int, default=1, help="at once on one file")
    parser.add_argument("--signals", default="KILL,TERM,INT", help="to choose from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--torch", action="store_true", help="measure tiny models")
    args = parser.parse_args()
    signals = tuple(args.signals.split(","))
    told = vars(args) | {"signals": signals}
    print(kill_and_resume(told.pop("kills"), **told))


if __name__ == "__main__":
    main()
