"""Where the time of a pass goes: its kernels by summed time, their number, and the gaps between.

    python bench/pass_profile.py [--output profile.jsonl]

Each kind of pass of a decode is captured and replayed a few times under torch.profiler: the block
passes of each backbone, and the whole sequence. A line of the output is a kind of pass. On a CPU
torch's operations stand for kernels, and a gap is the time outside them.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rows import append
from torch.profiler import ProfilerActivity, profile

from dlm_bench import build_model, build_sampler
from dlm_bench.errors import first_line
from dlm_bench.models.factory import parse_device
from dlm_bench.samplers.schedule import role_of
from dlm_bench.timing.graphs import Steps

REPLAYS = 5
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


@dataclass(frozen=True)
class Span:
    """A kernel's run on the device, in microseconds."""

    name: str
    begin: float
    end: float


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
    """Profile a pass of each kind, the middle one of a decode."""
    sampler = build_sampler(name)
    state = sampler.prepare(model, length)
    steps = Steps(model, sampler, state)
    kinds = [place.kind for place in state.passes]
    steps.prepare(kinds)
    for kind in dict.fromkeys(kinds):
        places = [index for index, place in enumerate(state.passes) if place.kind == kind]
        middle = places[len(places) // 2]
        spans = replayed_spans(sampler, state, steps, middle, kind, device)
        place = state.passes[middle]
        facts = {"backbone": backbone, "sampler": name, "length": length, "role": role_of(kind)}
        facts |= {"query_len": place.query_len, "context_len": place.context_len}
        facts["graph"] = steps.report()[role_of(kind)]
        yield facts | summed(spans, REPLAYS)


def replayed_spans(
    sampler: Any, state: Any, steps: Steps, index: int, kind: str, device: torch.device
) -> list[list[Span]]:
    """The kernels of each of a few runs of a pass, after one that is not looked at."""
    cuda = device.type == "cuda"
    found = []
    for run in range(REPLAYS + 1):
        sampler.seek(state, index)
        _synchronize(device)
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
            steps(kind)
            _synchronize(device)
        if run:
            found.append(spans_of(seen.events(), cuda))
    return found


def spans_of(events: Any, cuda: bool) -> list[Span]:
    """The kernels among a profiler's events; on a CPU the operations that no other one holds."""
    wanted = torch.autograd.DeviceType.CUDA if cuda else torch.autograd.DeviceType.CPU
    return [
        Span(each.name, each.time_range.start, each.time_range.end)
        for each in events
        if each.device_type == wanted and (cuda or each.cpu_parent is None)
    ]


def summed(replays: Sequence[Sequence[Span]], count: int) -> dict[str, Any]:
    """Microseconds of a run, first kernel's begin to last kernel's end, its kernels by their time,
    and the gaps: the means of the runs."""
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    whole = busy = 0.0
    for spans in replays:
        reached = None
        for span in sorted(spans, key=lambda span: span.begin):
            seconds[span.name] += span.end - span.begin
            counts[span.name] += 1
            # Of kernels side by side only what is beyond the others counts as busy.
            begin = span.begin if reached is None else max(span.begin, reached)
            busy += max(0.0, span.end - begin)
            reached = max(span.end, begin)
        if spans:
            whole += max(span.end for span in spans) - min(span.begin for span in spans)
    return {
        "us": whole / count,
        "kernels": round(sum(counts.values()) / count),
        "gaps_us": (whole - busy) / count,
        "by_kernel": [
            {"name": name, "us": seconds[name] / count, "count": counts[name] / count}
            for name in sorted(seconds, key=lambda name: -seconds[name])
        ],
    }


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


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
