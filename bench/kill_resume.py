"""Kill a sweep again and again at random moments, resume it each time, and check that its results
file ends up with every point exactly once and that no completed record was lost or run twice.

    python bench/kill_resume.py --kills 20
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from dlm_bench.plan import make_plan
from dlm_bench.results.store import read_records

SWEEP = """
name = "kills"
size = "tiny"
dtype = "float32"
warmup = 0
repeats = 2
lengths = {lengths}

[[lines]]
backbone = ["diffutran", "diffumamba", "diffumamba-h"]
sampler = ["full", "fast-dllm", "block-cache"]
"""


def whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6.0, help="a kill comes within them")
    parser.add_argument("--lengths", type=int, default=40, help="of each of the 9 lines")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        sweep, output = Path(folder) / "s.toml", Path(folder) / "r.jsonl"
        sweep.write_text(SWEEP.format(lengths=[32 + 8 * i for i in range(args.lengths)]))
        command = [sys.executable, "-m", "dlm_bench.cli", "sweep", str(sweep), "--resume"]
        command += ["--output", str(output)]
        kept, torn, midway = b"", 0, 0
        for _ in range(args.kills):
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                time.sleep(moments.uniform(0, args.seconds))
                process.kill()
            assert process.returncode == -9, "it ended before it was killed; use more lengths"
            now = whole_lines(output)
            assert now.startswith(kept), "a completed record was lost or changed"
            midway += len(now) > len(kept)
            torn += output.exists() and len(output.read_bytes()) > len(now)
            kept = now
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert output.read_bytes().startswith(kept), "a completed record was lost or changed"
        counts = Counter(record.identity for record in read_records(output))
        wanted = Counter(make_plan(sweep).identities())
        assert counts == wanted, "a point is missing, or is there twice"
    survived = len(kept.splitlines())
    print(
        f"{args.kills} kills, {midway} of them after new records, {torn} torn lines; {survived} of "
        f"{wanted.total()} records are the killed sweeps'; after the last resume every point is "
        "there exactly once"
    )


if __name__ == "__main__":
    main()
