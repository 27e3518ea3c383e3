"""Sampled mode against exact mode on a GPU: passes that are timed alone against whole decodes.

    python bench/sampled_on_gpu.py [--output exact.jsonl]

A line a point, as by sampled_vs_exact.py. Kernels that kernel_floors.py found wrong (--kernels) are
not used.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checked_kernels import checked_kernels
from sampled_vs_exact import Outcome as Outcome
from sampled_vs_exact import measure_long, text_of
from watched import Event, begun, ended, main_of, raised, reason_of

from dlm_bench import build_model, build_sampler
from dlm_bench.models.device import default_dtype
from dlm_bench.models.factory import parse_device
from dlm_bench.results.record import Point

SAMPLING = {"nodes": 3, "tolerance": 0.02}  # as in gpu_first.toml
BACKBONES = ("diffumamba", "diffutran")  # that are compared
# Fewer passes over the long sequence are passes of the same cost.
POINTS: tuple[tuple[str, dict[str, int], int], ...] = (
    ("block-cache", {}, 1024),
    ("block-cache", {}, 4096),
    ("full", {"tokens_per_step": 32}, 4096),
)


def main() -> int:
    return main_of(parser(), events)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--device", default="cuda")
    found.add_argument("--size", default="1.3b")
    found.add_argument("--max-seconds", type=float, default=3.0, help="of sampling a point")
    found.add_argument("--output", type=Path, help="append a JSON line a point")
    found.add_argument("--kernels", type=Path, help="the output of kernel_floors.py")
    return found


def events(args: argparse.Namespace, done: Sequence[dict[str, Any]]) -> Iterator[Event]:
    """Measure the points that are not done."""
    device = parse_device(args.device)
    dtype, known = default_dtype(device.type), {row["point"] for row in done}
    held: tuple[Any, Any] = (None, None)
    for backbone in BACKBONES:
        for name, options, length in POINTS:
            sampler = build_sampler(name, **options)
            point = Point(
                backbone=backbone,
                size=args.size,
                sampler=name,
                options=sampler.options(),
                length=length,
                dtype=dtype,
                device=str(device),
            )
            item = {"point": point.describe()}
            if item["point"] in known:
                continue
            yield begun(item)
            try:
                kernels = checked_kernels(args.kernels, point)
                if held[0] != (key := (backbone, kernels)):
                    held = (None, None)  # free one before the next is built
                    held = (key, build_model(backbone, args.size, device, dtype, kernels=kernels))
                outcome = measure_long(held[1], sampler, length, args.max_seconds, 1, **SAMPLING)
            except Exception as error:  # the others are worth knowing all the same
                yield raised(item, reason_of(error), broken=device.type == "cuda")
                continue
            yield ended([asdict(outcome) | item], text_of(outcome))


if __name__ == "__main__":
    sys.exit(main())
