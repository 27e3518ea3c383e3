"""Each operation of the CUDA path: its error against plain PyTorch in float32, its time, and the
roofline's floor for its FLOPs and bytes.

    python bench/kernel_floors.py [--output kernels.jsonl]

A line of the output is a case: its status (ok, wrong or raised), the reason, and the kernels that
it ran. On a GPU watched.py runs this script: a case that hangs, or leaves a process without a
working GPU, does not keep the others from being measured. On a CPU the errors alone are checked,
and the times mean nothing:

    TRITON_INTERPRET=1 python bench/kernel_floors.py --size tiny --sequence 48 --contexts 16 64
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from kernel_case import BATCH, LARGEST_ERROR, Bench, Case
from kernel_cases import FIELD_GROUPS, GROUPS
from watched import Event, begun, ended, main_of, raised, reason_of

from dlm_bench.cost.calibration import measure_hardware
from dlm_bench.cost.hardware import Hardware
from dlm_bench.models.config import model_config
from dlm_bench.models.factory import parse_device
from dlm_bench.timing.capture import BrokenCaptureError, CudaCapture
from dlm_bench.timing.clocks import seconds_of

HEADING = f"{'operation':27}{'implementation':24}{'size':24}{'error':>9}{'us':>10}{'x floor':>9}"
LONG_SECONDS = 5e-3  # of a graph; a batch of calls need not take longer

Group = Callable[[Bench], Iterator[Case]]
Key = tuple[str, str, str]


def main() -> int:
    return main_of(parser(), events, HEADING)


def events(args: argparse.Namespace, done: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
    """Measure the cases that are not done."""
    device = parse_device(args.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    config = model_config("diffumamba", args.size)
    bench = Bench(device, dtype, config, args.sequence, tuple(args.contexts))
    hardware = ceilings(args.ceilings, args.device)
    torch.manual_seed(0)
    groups = FIELD_GROUPS if args.field else GROUPS
    with torch.inference_mode():
        yield from measured_cases(bench, hardware, groups, {key_of(row) for row in done})


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    found.add_argument("--size", default="1.3b")
    found.add_argument("--sequence", type=int, default=16384)
    found.add_argument("--contexts", type=int, nargs="+", default=[1024, 8192, 32768, 131072])
    found.add_argument("--output", type=Path, help="append a JSON line a case it has not")
    found.add_argument("--field", action="store_true", help="the field's models instead")
    found.add_argument("--ceilings", type=Path, help="the JSON of library_speeds.py, if measured")
    return found


def ceilings(path: Path | None, device: str) -> Hardware:
    """The hardware's limits from a file that has them, else by a calibration."""
    if path is not None and path.exists():
        return Hardware(**json.loads(path.read_text()))
    return measure_hardware(device)


def measured_cases(
    bench: Bench, hardware: Hardware, groups: Sequence[Group], done: Set[Key] = frozenset()
) -> Iterator[Event]:
    """Measure the cases that are not done; a case, or a group whose next case cannot be made, that
    raises does not keep the others from being measured."""
    for group in groups:
        name = group.__name__.removesuffix("_cases")
        making = {"operation": name, "implementation": "", "size": "", "kernels": {}}
        if key_of(making) in done:  # its next case could not be made
            continue
        cases = iter(group(bench))
        while True:
            yield begun(making)
            try:
                case = next(cases, None)
            except Exception as error:  # and without its generator the group has no next case
                yield raised(making, reason_of(error), broken=is_broken(bench.device))
                break
            if case is None:
                break
            facts = facts_of(case)
            if key_of(facts) not in done:
                yield begun(facts)
                yield measured(case, bench, hardware)


def key_of(row: Mapping[str, Any]) -> Key:
    """The case that a row is of."""
    return row["operation"], row["implementation"], row["size"]


def measured(case: Case, bench: Bench, hardware: Hardware) -> Event:
    """Run a case against its references and the clock."""
    floor = max(case.flops / hardware.peak, case.bytes / hardware.bandwidth)
    try:
        references = {name: check.expected() for name, check in case.checks.items()}
        first = {name: check.error(references[name]) for name, check in case.checks.items()}
        taken = seconds(case, floor, bench.device)
        # Once more: an earlier launch may have left counters or buffers that spoil a later one.
        errors = {
            name: max(first[name], check.error(references[name]))
            for name, check in case.checks.items()
        }
        wrong = [
            f"{name}: error {errors[name]:.1e}, allowed {bound:.0e}"
            for name, check in case.checks.items()
            if not errors[name] < (bound := check.scale * LARGEST_ERROR[bench.dtype])
        ]
        row = facts_of(case) | {
            "status": "wrong" if wrong else "ok",
            "message": "; ".join(wrong),
            "errors": errors,
            "seconds": taken,
            "floor_seconds": floor,
        }
    except BrokenCaptureError as error:
        return raised(facts_of(case), reason_of(error), broken=True)
    except Exception as error:
        return raised(facts_of(case), reason_of(error), broken=is_broken(bench.device))
    return ended([row], line_of(row))


def facts_of(case: Case) -> dict[str, Any]:
    """What is known of a case before it runs."""
    return {
        "operation": case.operation,
        "implementation": case.implementation,
        "size": case.size,
        "kernels": case.kernels,
    }


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


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    what = f"{row['operation']:27}{row['implementation']:24}{row['size']:24}"
    over = row["seconds"] / row["floor_seconds"]
    wrong = f"  wrong: {row['message']}" if row["status"] == "wrong" else ""
    return f"{what}{max(row['errors'].values()):9.1e}{row['seconds'] * 1e6:10.1f}{over:9.2f}{wrong}"


if __name__ == "__main__":
    sys.exit(main())
