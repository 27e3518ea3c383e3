"""Each operation of the CUDA path: its error against plain PyTorch in float32, its time, and the
roofline's floor for its FLOPs and bytes.

    python bench/kernel_floors.py [--output kernels.jsonl]

On a CPU it checks the errors alone, and the times mean nothing:

    TRITON_INTERPRET=1 python bench/kernel_floors.py --size tiny --sequence 48 --contexts 16 64
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from kernel_cases import GROUPS, Bench, Case
from torch import Tensor

from dlm_bench.cost.roofline import Hardware, measure_hardware
from dlm_bench.models.config import model_config
from dlm_bench.models.factory import parse_device
from dlm_bench.timing.clocks import seconds_of

# Relative, of one operation: in bfloat16 of rounded inputs and outputs, in float32 of the sums.
LARGEST_ERROR = {torch.bfloat16: 2e-2, torch.float32: 1e-4}


def seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    """Median seconds with cold caches on a GPU, as a graph: a few kernels take less time than it
    takes Python to launch them."""
    if device.type == "cpu":
        return seconds_of(run, device)
    from triton.testing import do_bench

    stream, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    timed: Callable[[], object] = graph.replay
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError:  # the plain ones ask the device for values
        torch.cuda.set_stream(stream)
        timed = run
    return do_bench(timed, warmup=20, rep=80, return_mode="median") / 1e3


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="1.3b")
    parser.add_argument("--sequence", type=int, default=16384)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 8192, 32768, 131072])
    parser.add_argument("--output", type=Path, help="append a JSON line a case")
    parser.add_argument("--group", type=int, default=0, help="begin with this group of operations")
    parser.add_argument("--failures", type=int, default=0, help="how many there were before it")
    args = parser.parse_args()
    device = parse_device(args.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    config = model_config("diffumamba", args.size)
    bench = Bench(device, dtype, config, args.sequence, tuple(args.contexts))
    hardware = measure_hardware(args.device)
    print(f"{hardware.peak / 1e12:.0f} TFLOP/s, {hardware.bandwidth / 1e12:.2f} TB/s measured")
    print(f"{'operation':27}{'implementation':24}{'size':24}{'error':>9}{'us':>10}{'x floor':>9}")
    torch.manual_seed(0)
    failures = args.failures
    for cases in GROUPS[args.group :]:
        for case in cases(bench):
            try:
                row = measure_case(case, bench.device, hardware)
            except Exception as error:  # the others are worth knowing all the same
                failures += 1
                print(f"{case.operation} {case.implementation} {case.size}: {error!r}", flush=True)
                if _is_broken(bench.device):
                    _go_on_after(cases)
                continue
            if not row["relative_error"] < LARGEST_ERROR[bench.dtype]:  # nor NaN
                failures += 1
                print(f"wrong: {case.operation} {case.implementation} {case.size}", flush=True)
            over = row["seconds"] / row["floor_seconds"]
            print(
                f"{case.operation:27}{case.implementation:24}{case.size:24}"
                f"{row['relative_error']:9.1e}{row['seconds'] * 1e6:10.1f}{over:9.2f}",
                flush=True,
            )
            if args.output:
                with args.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    return 1 if failures else 0


def _is_broken(device: torch.device) -> bool:
    """Whether a kernel's fault left the process without a working GPU."""
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def _go_on_after(cases: Callable[[Bench], Iterator[Case]]) -> NoReturn:
    """Begin a new process with the next group of operations."""
    arguments = [*sys.argv, "--group", str(GROUPS.index(cases) + 1), "--failures", "1"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *arguments])


def measure_case(case: Case, device: torch.device, hardware: Hardware) -> dict[str, Any]:
    """Run a case against its reference and the clock."""
    got, expected = (case.check or case.run)().double(), case.reference().double()
    return {
        "operation": case.operation,
        "implementation": case.implementation,
        "size": case.size,
        "relative_error": ((got - expected).norm() / expected.norm()).item(),
        "seconds": seconds(case.run, device),
        "floor_seconds": max(case.flops / hardware.peak, case.bytes / hardware.bandwidth),
    }


if __name__ == "__main__":
    sys.exit(main())
