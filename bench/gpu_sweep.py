"""Run a sweep of the GPU check with what its earlier stages found.

    python bench/gpu_sweep.py gpu_first --output FILE.jsonl --kernels FILE

DiffuTran is to be compared on its fastest attention over a long sequence; kernels that were wrong
are not used. The file of kernels may be absent, as after a stage that was killed.
"""

import argparse
import sys
from pathlib import Path

from rows import rows_of

from dlm_bench.cli import main as dlm_bench

SOME_FAILED = 3
TIMEOUT = "60s"  # of a point: by estimates it takes up to 20 s


def main() -> int:
    args = parser().parse_args()
    arguments = ["sweep", args.sweep, "--device", args.device, "--output", str(args.output)]
    arguments += ["--timeout", args.timeout]
    if args.only:
        arguments += ["--only", args.only]
    if args.kernels.exists():
        arguments += ["--kernel-check", str(args.kernels)]
    attention = fastest_attention(args.kernels)
    print(f"attention over a whole sequence: {attention or 'not measured, the default'}")
    if attention:
        arguments += ["--attention", attention]
    if not args.output.exists():
        return dlm_bench(arguments)
    # What is missing comes before what failed, which may take its timeout again.
    code = dlm_bench([*arguments, "--resume"])
    return dlm_bench([*arguments, "--resume", "--retry-failed"]) if code == SOME_FAILED else code


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("sweep", help="a sweep file, or the name of a shipped one")
    found.add_argument("--output", type=Path, required=True, help="append the records here")
    found.add_argument("--kernels", type=Path, required=True, help="of kernel_floors.py")
    found.add_argument("--only", help="the points that meet these conditions")
    found.add_argument("--timeout", default=TIMEOUT, help="of a point (default: %(default)s)")
    found.add_argument("--device", default="cuda")
    return found


def fastest_attention(kernels: Path) -> str | None:
    """The fastest attention over a whole sequence of those that are right, None if none is."""
    last = {(row["operation"], row["implementation"], row["size"]): row for row in rows_of(kernels)}
    rows = [row for row in last.values() if row["operation"] == "attention"]
    faulty = {row["implementation"] for row in rows if row["status"] != "ok"}
    seconds = {
        row["implementation"]: row["seconds"]
        for row in rows
        if row["implementation"] not in faulty and "causal" not in row["size"]
    }
    return min(seconds, key=seconds.__getitem__, default=None)


if __name__ == "__main__":
    sys.exit(main())
