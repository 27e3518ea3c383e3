"""Where the time of a pass goes: its kernels by summed time, their number, and the gaps between.

    python bench/pass_profile.py [--output profile.jsonl]

Each role of pass of a decode is captured and replayed a few times under torch.profiler, as by
`dlm-bench profile`: the block passes of each backbone, and the whole sequence. A line of the output
is a role of pass. On a CPU torch's operations stand for kernels, and a gap is the time outside
them.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rows import append

from dlm_bench import build_model, build_sampler
from dlm_bench.errors import first_line
from dlm_bench.models.factory import parse_device
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.profile import chosen_passes, profile_pass

SHOWN = 8  # kernels of a pass
# Backbone, sampler, and the longest: the whole sequence takes the time of the check.
PROFILED = (
    ("diffumamba", "block-cache"),
    ("diffumamba", "full"),
    ("diffutran", "block-cache"),
    ("diffutran", "full"),
    ("diffumamba-h", "block-cache"),
    ("ar-transformer", "ar"),
    ("ar-mamba", "ar"),
)


@torch.inference_mode()
def main() -> int:
    args = parser().parse_args()
    device, failed = parse_device(args.device), 0
    held: tuple[str, Any] = ("", None)
    for backbone, name in PROFILED:
        try:
            if held[0] != backbone:
                held = ("", None)  # free one before the next is built
                held = (backbone, build_model(backbone, args.size, device))
            rows = list(profiled(held[1], backbone, name, args.length, device))
        except Exception as error:  # the others are worth knowing all the same
            failed += 1
            print(f"{backbone} {name}: {type(error).__name__}: {first_line(error)}", flush=True)
            continue
        for row in rows:
            show(row)
            append(args.output, row)
    if failed:
        print(f"{failed} of {len(PROFILED)} could not be profiled, see above")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--device", default="cuda")
    found.add_argument("--size", default="1.3b")
    found.add_argument("--length", type=int, default=8192)
    found.add_argument("--output", type=Path, help="append a JSON line a kind of pass")
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


def show(row: dict[str, Any]) -> None:
    """Print a pass with the kernels that take most of it."""
    what = f"{row['backbone']} {row['sampler']} {row['role']}"
    print(
        f"{what}: {row['us']:.0f} us, {row['kernels']} kernels, {row['gaps_us']:.0f} us between "
        f"them, {row['graph']}"
    )
    for each in row["by_kernel"][:SHOWN]:
        print(f"  {each['us']:9.1f} us {each['count']:6.1f} x {each['name'][:70]}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
