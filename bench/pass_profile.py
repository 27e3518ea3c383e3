"""Where the time of a pass goes: its kernels by summed time, their number, and the gaps between.

    python bench/pass_profile.py [--output profile.jsonl]

Each role of pass of a decode is captured and replayed a few times under torch.profiler, as by
`dlm-bench profile`: the block passes of each backbone, and the whole sequence. A line of the output
is a role of pass. Kernels that kernel_floors.py found wrong (--kernels) are not used. On a CPU
torch's operations stand for kernels, and a gap is the time outside them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from checked_kernels import checked_kernels
from watched import Event, begun, ended, main_of, raised, reason_of

from dlm_bench import build_model, build_sampler
from dlm_bench.models.device import default_dtype
from dlm_bench.models.factory import parse_device
from dlm_bench.results.record import Point
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.profile import chosen_passes, profile_pass

SHOWN = 8  # kernels of a pass
# Backbone and sampler.
PROFILED = (
    ("diffumamba", "block-cache"),
    ("diffumamba", "full"),
    ("diffutran", "block-cache"),
    ("diffutran", "full"),
    ("diffumamba-h", "block-cache"),
)


def main() -> int:
    return main_of(parser(), events)


def events(args: argparse.Namespace, done: Sequence[dict[str, Any]]) -> Iterator[Event]:
    """Profile what is not done."""
    device = parse_device(args.device)
    held: tuple[Any, Any] = (None, None)
    for backbone, name in PROFILED:
        item = {"backbone": backbone, "sampler": name}
        if any(item.items() <= row.items() for row in done):
            continue
        yield begun(item)
        dtype = default_dtype(device.type)
        point = Point(**item, size=args.size, length=args.length, dtype=dtype, device=str(device))
        try:
            kernels = checked_kernels(args.kernels, point)
            if held[0] != (key := (backbone, kernels)):
                held = (None, None)  # free one before the next is built
                held = (key, build_model(backbone, args.size, device, dtype, kernels=kernels))
            with torch.inference_mode():
                rows = list(profiled(held[1], backbone, name, args.length, device))
        except Exception as error:  # the others are worth knowing all the same
            yield raised(item, reason_of(error), broken=device.type == "cuda")
            continue
        yield ended(rows, "\n".join(map(text_of, rows)))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--device", default="cuda")
    found.add_argument("--size", default="1.3b")
    found.add_argument("--length", type=int, default=8192)
    found.add_argument("--output", type=Path, help="append a JSON line a kind of pass")
    found.add_argument("--kernels", type=Path, help="the output of kernel_floors.py")
    return found


def profiled(
    model: Any, backbone: str, name: str, length: int, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Profile a pass of each role, the middle one of a decode."""
    sampler = build_sampler(name)
    state = sampler.prepare(model, length)
    steps = Steps(model, sampler, state)
    chosen = chosen_passes(state.passes)
    steps.prepare(state.passes[index].kind for index in chosen.values())
    for role, index in chosen.items():
        found, place = profile_pass(sampler, state, steps, index), state.passes[index]
        facts = {"backbone": backbone, "sampler": name, "length": length, "role": role}
        facts |= {"query_len": place.query_len, "context_len": place.context_len}
        facts |= {"graph": steps.report()[role], "us": found.us, "gaps_us": found.gaps_us}
        facts["kernels"] = round(found.count)
        yield facts | {"by_kernel": [asdict(each) for each in found.operations]}


def text_of(row: dict[str, Any]) -> str:
    """A pass with the kernels that take most of it."""
    what = f"{row['backbone']} {row['sampler']} {row['role']}"
    lines = [
        f"{what}: {row['us']:.0f} us, {row['kernels']} kernels, {row['gaps_us']:.0f} us between "
        f"them, {row['graph']}"
    ]
    for each in row["by_kernel"][:SHOWN]:
        lines.append(f"  {each['us']:9.1f} us {each['count']:6.1f} x {each['name'][:70]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
