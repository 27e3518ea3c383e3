"""Run a sweep of the GPU check with what its earlier stages found.

    python bench/gpu_sweep.py gpu_first --output FILE.jsonl --kernels FILE --libraries FILE

DiffuTran is to be compared on its fastest attention over a long sequence; kernels that were wrong
are not used. Either file may be absent, as after a stage that was killed.
"""

import argparse
import sys
from pathlib import Path

from rows import rows_of

from dlm_bench.cli import main as dlm_bench

TIMEOUT = "150s"  # of a point: DiffuTran's pass over 131072 tokens takes nine seconds


def main() -> int:
    args = parser().parse_args()
    arguments = ["sweep", args.sweep, "--device", args.device, "--output", str(args.output)]
    arguments += ["--timeout", TIMEOUT]
    if args.output.exists():
        arguments += ["--resume", "--retry-failed"]
    if args.kernels.exists():
        arguments += ["--kernel-check", str(args.kernels)]
    attention = fastest_attention(args.libraries, args.kernels)
    print(f"attention over a whole sequence: {attention or 'not measured, the default'}")
    if attention:
        arguments += ["--attention", attention]
    return dlm_bench(arguments)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("sweep", help="a sweep file, or the name of a shipped one")
    found.add_argument("--output", type=Path, required=True, help="append the records here")
    found.add_argument("--kernels", type=Path, required=True, help="of kernel_floors.py")
    found.add_argument("--libraries", type=Path, required=True, help="of library_speeds.py")
    found.add_argument("--device", default="cuda")
    return found


def fastest_attention(libraries: Path, kernels: Path) -> str | None:
    """The fastest backend at the longest measured length, None if none was measured."""
    last = {(row["operation"], row["implementation"], row["size"]): row for row in rows_of(kernels)}
    faulty = {row["kernels"].get("attention") for row in last.values() if row["status"] != "ok"}
    rows = [
        row
        for row in rows_of(libraries)
        if row["what"] == "attention" and "seconds" in row and row["implementation"] not in faulty
    ]
    if not rows:
        return None
    longest = max(row["length"] for row in rows)
    rows = [row for row in rows if row["length"] == longest]
    return min(rows, key=lambda row: row["seconds"])["implementation"]


if __name__ == "__main__":
    sys.exit(main())
