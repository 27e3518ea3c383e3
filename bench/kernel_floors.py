"""Each operation of the CUDA path: its error against plain PyTorch in float32, its time, and the
roofline's floor for its FLOPs and bytes.

    python bench/kernel_floors.py [--output kernels.jsonl]

A line of the output is a case: its status (ok, wrong or raised), the reason, and the kernels that
it ran. After a fault that leaves the process without a working GPU a new process goes on with the
next case. On a CPU the errors alone are checked, and the times mean nothing:

    TRITON_INTERPRET=1 python bench/kernel_floors.py --size tiny --sequence 48 --contexts 16 64
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from kernel_case import BATCH, LARGEST_ERROR, Bench, Case
from kernel_cases import FIELD_GROUPS, GROUPS
from rows import append, rows_of

from dlm_bench.cost.calibration import measure_hardware
from dlm_bench.cost.hardware import Hardware
from dlm_bench.errors import first_line
from dlm_bench.models.config import model_config
from dlm_bench.models.factory import parse_device
from dlm_bench.timing.capture import BrokenCaptureError, CudaCapture
from dlm_bench.timing.clocks import seconds_of

LONG_SECONDS = 5e-3  # of a graph; a batch of calls need not take longer

Group = Callable[[Bench], Iterator[Case]]
Key = tuple[str, str, str]


@torch.inference_mode()
def main() -> int:
    args = parser().parse_args()
    device = parse_device(args.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    config = model_config("diffumamba", args.size)
    bench = Bench(device, dtype, config, args.sequence, tuple(args.contexts))
    hardware = ceilings(args.ceilings, args.device)
    print(f"{hardware.peak / 1e12:.0f} TFLOP/s, {hardware.bandwidth / 1e12:.2f} TB/s")
    print(f"{'operation':27}{'implementation':24}{'size':24}{'error':>9}{'us':>10}{'x floor':>9}")
    torch.manual_seed(0)
    rows = list(rows_of(args.output))
    groups = FIELD_GROUPS if args.field else GROUPS
    # A case that failed is measured again, but by the process that goes on after it.
    done = {key_of(row) for row in rows if row["status"] == "ok" or args.keep_failed}
    rows = [row for row in rows if key_of(row) in done]
    for row, broken in measured_rows(bench, hardware, groups, done):
        rows.append(row)
        print(line_of(row), flush=True)
        append(args.output, row)
        if broken:
            go_on(args.output)
    failures = [row for row in rows if row["status"] != "ok"]
    if failures:
        names = ", ".join(dict.fromkeys(" ".join(key_of(row)[:2]).strip() for row in failures))
        print(f"kernel_floors: {len(failures)} of {len(rows)} cases are wrong or raised: {names}")
    return 1 if failures else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    found.add_argument("--size", default="1.3b")
    found.add_argument("--sequence", type=int, default=16384)
    found.add_argument("--contexts", type=int, nargs="+", default=[1024, 8192, 32768, 131072])
    found.add_argument("--output", type=Path, help="append a JSON line a case it has not")
    found.add_argument("--field", action="store_true", help="the field's models instead")
    found.add_argument("--keep-failed", action="store_true", help="leave failed cases as they are")
    found.add_argument("--ceilings", type=Path, help="the JSON of library_speeds.py, if measured")
    return found


def ceilings(path: Path | None, device: str) -> Hardware:
    """The hardware's limits from a file that has them, else by a calibration."""
    if path is not None and path.exists():
        return Hardware(**json.loads(path.read_text()))
    return measure_hardware(device)


def measured_rows(
    bench: Bench, hardware: Hardware, groups: Sequence[Group], done: Set[Key] = frozenset()
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Measure the cases that are not done; a case, or a group whose next case cannot be made, that
    raises does not keep the others from being measured.

    Yields the row of each, and True if the process can measure no more.
    """
    for group in groups:
        cases = iter(group(bench))
        while True:
            try:
                case = next(cases, None)
            except Exception as error:  # and without its generator the group has no next case
                name = group.__name__.removesuffix("_cases")
                row = raised_row({"operation": name, "implementation": "", "size": ""}, {}, error)
                if key_of(row) not in done:
                    yield row, is_broken(bench.device)
                break
            if case is None:
                break
            if (case.operation, case.implementation, case.size) not in done:
                yield measured_row(case, bench, hardware)


def key_of(row: Mapping[str, Any]) -> Key:
    """The case that a row is of."""
    return row["operation"], row["implementation"], row["size"]


def measured_row(case: Case, bench: Bench, hardware: Hardware) -> tuple[dict[str, Any], bool]:
    """Run a case against its references and the clock: its row, and True if the process can measure
    no more."""
    facts = {
        "operation": case.operation,
        "implementation": case.implementation,
        "size": case.size,
    }
    floor = max(case.flops / hardware.peak, case.bytes / hardware.bandwidth)
    try:
        bounds = {
            name: check.scale * LARGEST_ERROR[bench.dtype] for name, check in case.checks.items()
        }
        errors = {name: check.error() for name, check in case.checks.items()}
        wrong = [
            f"{name}: error {errors[name]:.1e}, allowed {bound:.0e}"
            for name, bound in bounds.items()
            if not errors[name] < bound  # nor NaN
        ]
        row = facts | {
            "status": "wrong" if wrong else "ok",
            "message": "; ".join(wrong),
            "kernels": case.kernels,
            "errors": errors,
            "seconds": seconds(case, floor, bench.device),
            "floor_seconds": floor,
        }
    except BrokenCaptureError as error:
        return raised_row(facts, case.kernels, error), True
    except Exception as error:
        return raised_row(facts, case.kernels, error), is_broken(bench.device)
    return row, False


def raised_row(facts: dict[str, Any], kernels: dict[str, str], error: Exception) -> dict[str, Any]:
    """The row of a case that raised an error."""
    message = f"{type(error).__name__}: {first_line(error)}"
    return facts | {"status": "raised", "message": message, "kernels": kernels}


def seconds(case: Case, floor: float, device: torch.device) -> float:
    """Median seconds of a run. On a GPU a graph holds up to BATCH runs, on one set of operands and
    then another: launching a few kernels takes longer than running them, as does starting a graph.
    Raises what the runs or their capture raise."""
    if device.type == "cpu":
        return seconds_of(case.runs[0], device)
    from triton.testing import do_bench

    case.runs[0]()  # compiles and tunes
    if not case.capturable:
        return do_bench(case.runs[0], warmup=20, rep=80, return_mode="median") / 1e3
    calls = max(1, min(BATCH, int(LONG_SECONDS / max(floor, 1e-9))))

    def batch() -> None:
        for run in islice(cycle(case.runs), calls):
            run()

    replay = CudaCapture(device)(batch)
    return do_bench(replay, warmup=20, rep=80, return_mode="median") / 1e3 / calls


def is_broken(device: torch.device) -> bool:
    """Tell if a kernel's fault left the process without a working GPU."""
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def go_on(output: Path | None) -> None:
    """Begin a new process, which finds in the output what is done."""
    if output is None:
        sys.exit("kernel_floors: the GPU is unusable; with --output a new process would go on")
    sys.stdout.flush()
    arguments = [each for each in sys.argv if each != "--keep-failed"]
    os.execv(sys.executable, [sys.executable, *arguments, "--keep-failed"])


def line_of(row: dict[str, Any]) -> str:
    """A row of the table, or what failed."""
    what = f"{row['operation']:27}{row['implementation']:24}{row['size']:24}"
    if row["status"] == "raised":
        return f"{what} raised {row['message']}"
    over = row["seconds"] / row["floor_seconds"]
    wrong = f"  wrong: {row['message']}" if row["status"] == "wrong" else ""
    return f"{what}{max(row['errors'].values()):9.1e}{row['seconds'] * 1e6:10.1f}{over:9.2f}{wrong}"


if __name__ == "__main__":
    sys.exit(main())
