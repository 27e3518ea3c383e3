"""Launches of every kind of pass at 1.3b, and the estimated time over its floor: without a GPU.

    python bench/launches.py [--length 8192] [--backbones ...] [--parts] [--kernels] [--early]

The passes run on the meta device, where a launch is written down instead of run. The nodes of a
pass are Triton's launches and the operations of torch that launch a kernel: a matmul that cuBLAS
splits takes one more. The times are estimates (pass_estimates.py), the floors those of the cost
model at the same rate of copies; "early" is the range of the ratio with `small_pass=triton-pdl`.

- `--parts` shows where the time of a block pass is estimated to go.
- `--own` takes this project's attention and scans over whole sequences, else they are libraries'.
- `--kernels` compiles each own kernel for sm_90 and shows registers and spilled bytes of a thread,
  shared memory, programs and the waves that they run in, and from the machine code the warpgroup
  matmuls (HGMMA), the waits for them, and the 16-byte loads. As many waits as matmuls: ptxas could
  not keep several in flight.
- `--early` takes the kernels of `triton-pdl`; "early" tells if they wait before they touch memory.
- `--json FILE` writes the rows there, too.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
if __name__ == "__main__":  # tests that import this keep their GPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch: no CUDA context

import torch  # noqa: E402
from pass_estimates import (  # noqa: E402
    GPUS,
    LEAST,
    MOST,
    PEAK,
    SHORT,
    block_parts,
    early_parts,
    pass_seconds,
)
from support.cases import CAUSAL, DENOISERS  # noqa: E402
from support.hopper import Compiled, Launch, compile_for_hopper, record_launches  # noqa: E402
from support.traced import Allocations, traced_model, traced_state  # noqa: E402

from dlm_bench.cost.flops import pass_costs  # noqa: E402
from dlm_bench.kernels.choice import DEPENDENT  # noqa: E402
from dlm_bench.kernels.cuda.common import SMS  # noqa: E402
from dlm_bench.models.config import model_config  # noqa: E402
from dlm_bench.samplers import build_sampler  # noqa: E402
from dlm_bench.samplers.schedule import role_of  # noqa: E402

DENOISING = (
    ("full", {}),
    ("fast-dllm", {}),
    ("block-cache", {}),
    ("block-cache", {"commit": "fused"}),
)
AUTOREGRESSIVE = (("ar", {}),)
_PARTS = " launches  MB each  reading  beside   gaps      us   early"
_YES = {True: "yes", False: "NO"}
OWN = {"attention": "triton", "walking_scan": "triton"}


@dataclass(frozen=True)
class Nodes:
    """A kind of pass: its launches, and estimated over least milliseconds on each GPU.

    triton, torch: launches of this project's and mamba-ssm's kernels, and of torch's.
    gigabytes, teraflops: of the cost model.
    early: the least and the most of over_floor with kernels that begin early, of block passes.
    """

    backbone: str
    sampler: str
    kind: str
    context: int
    triton: int
    torch: int
    gigabytes: float
    teraflops: float
    milliseconds: dict[str, float]
    over_floor: dict[str, float]
    early: dict[str, tuple[float, float]]

    @property
    def nodes(self) -> int:
        return self.triton + self.torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=8192, help="tokens (default 8192)")
    every = (*DENOISERS, *CAUSAL)
    parser.add_argument("--backbones", nargs="+", default=every, choices=every)
    parser.add_argument(
        "--own",
        action="store_true",
        help="attention and scans of whole sequences by own kernels (default libraries')",
    )
    parser.add_argument("--parts", action="store_true", help="show the parts of a block pass")
    parser.add_argument("--kernels", action="store_true", help="compile, and show the kernels")
    parser.add_argument("--early", action="store_true", help=f"those of small_pass={DEPENDENT}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    args = parser.parse_args()
    launches: dict[str, Launch] = {}
    kernels = OWN if args.own else {}
    kernels = kernels | {"small_pass": DEPENDENT if args.early else "triton"}
    rows = [
        row for name in args.backbones for row in passes_of(name, args.length, launches, **kernels)
    ]
    print_passes(rows)
    if args.parts:
        print_parts([name for name in args.backbones if name in DENOISERS], args.length)
    found = [asdict(row) | {"nodes": row.nodes} for row in rows]
    if args.kernels:
        own = [each for each in launches.values() if "dlm_bench" in each.kernel.fn.__module__]
        found += list(print_kernels(own))
    if args.json:
        args.json.write_text("".join(json.dumps(row) + "\n" for row in found))


@torch.inference_mode()
def passes_of(
    backbone: str, length: int, launches: dict[str, Launch], **kernels: str
) -> Iterator[Nodes]:
    """Each kind of pass of a backbone with these kernels, in the middle of a decode; adds to
    `launches` those that the compiler can tell apart."""
    model = traced_model(backbone, **kernels)
    own = kernels.get("attention") == OWN["attention"]
    for name, options in AUTOREGRESSIVE if backbone in CAUSAL else DENOISING:
        sampler = build_sampler(name, **options)
        state = traced_state(model, sampler, length)
        middle = len(state.passes) // 2
        kinds = {place.kind: place for place in state.passes[middle:]}
        for kind, place in kinds.items():
            with record_launches() as seen, Allocations() as allocations:
                sampler.step(model, state, kind)
            for launch in seen:
                launches.setdefault(launch.key, launch)
            cost = pass_costs(model.config, sampler, [place])
            shape = backbone, place.query_len, place.context_len
            predicts = role_of(kind) != "commit"
            seconds = {
                gpu: pass_seconds(*shape, rates, own_attention=own, walking=own, predicts=predicts)
                for gpu, rates in GPUS.items()
            }
            floors = {
                gpu: max(float(cost.flops[0]) / PEAK, float(cost.bytes[0]) / rates.bandwidth)
                for gpu, rates in GPUS.items()
            }
            yield Nodes(
                backbone=backbone,
                sampler=" ".join((name, *options.values())),
                kind=role_of(kind),
                context=place.context_len,
                triton=len(seen),
                torch=len(allocations.kernels()),
                gigabytes=float(cost.bytes[0]) / 1e9,
                teraflops=float(cost.flops[0]) / 1e12,
                milliseconds={gpu: 1e3 * each for gpu, each in seconds.items()},
                over_floor={gpu: seconds[gpu] / floors[gpu] for gpu in GPUS},
                early={
                    gpu: tuple(
                        pass_seconds(*shape, rates, early=early, predicts=predicts) / floors[gpu]
                        for early in (MOST, LEAST)
                    )
                    for gpu, rates in GPUS.items()
                    if place.query_len <= SHORT
                },
            )


def print_passes(rows: list[Nodes]) -> None:
    heads = "".join(f"{f'{gpu}, ms':>10}{'x floor':>9}{'early':>11}" for gpu in GPUS)
    print(
        f"{'backbone':16}{'sampler':18}{'pass':9}{'context':>8}{'nodes':>7}{'triton':>8}{'GB':>7}{'TFLOP':>9}{heads}"
    )
    for row in rows:
        early = {gpu: "{:.2f}-{:.2f}".format(*row.early[gpu]) for gpu in row.early}
        times = "".join(
            f"{row.milliseconds[gpu]:10.2f}{row.over_floor[gpu]:9.2f}{early.get(gpu, ''):>11}"
            for gpu in GPUS
        )
        place = f"{row.backbone:16}{row.sampler:18}{row.kind:9}{row.context:8d}"
        print(
            f"{place}{row.nodes:7d}{row.triton:8d}{row.gigabytes:7.2f}{row.teraflops:9.3f}{times}"
        )


def print_parts(backbones: list[str], context: int) -> None:
    """Print the estimated microseconds of a block pass by kernel: of all its launches together,
    reading, beside it, and in the gaps; and the least with kernels that begin early."""
    for (gpu, rates), backbone in product(GPUS.items(), backbones):
        config = model_config(backbone, "1.3b")
        parts = block_parts(config, context, 32, rates)
        early = early_parts(config, context, 32, rates, MOST)
        print(f"\n{gpu + ' ' + backbone:22}{_PARTS}")
        rows = [
            (
                part.launches,
                part.read / 1e6,
                1e6 * part.reading(),
                1e6 * part.launches * part.beside,
                1e6 * part.gaps(),
                1e6 * part.seconds(),
                1e6 * sooner.seconds(MOST),
            )
            for part, sooner in zip(parts, early, strict=True)
        ]
        sums = [sum(column) for column in zip(*rows, strict=True)]
        names = [part.name for part in parts]
        for name, row in zip((*names, "together"), (*rows, sums), strict=True):
            launches, megabytes, *times = row
            each = f"{megabytes:9.1f}" if name in names else f"{'':9}"
            print(
                f"{name:22}{launches:9}{each}"
                + "".join(f"{us:{w}.0f}" for us, w in zip(times, (9, 8, 7, 8, 8), strict=True))
            )


def waves(launch: Launch, built: Compiled) -> float:
    """The programs over those that the processors of an H100 take at once."""
    threads = 32 * int(launch.options.get("num_warps", 4))
    taken = -(-max(built.registers, 1) // 8) * 8  # registers are given out by eight
    resident = min(65536 // (taken * threads), 2048 // threads, 233472 // (built.shared + 1024), 32)
    return math.prod(launch.grid) / (resident * SMS)


def print_kernels(launches: list[Launch]) -> Iterator[dict[str, str | int]]:
    """Compile each launch for sm_90; print and return the machine code's properties."""
    print(
        f"\n{'kernel':18}{'registers':>10}{'spilled':>9}{'shared':>9}{'programs':>10}{'waves':>7}{'HGMMA':>7}{'waits':>7}{'16-byte':>9}{'early':>7}"
    )
    for launch in sorted(launches, key=lambda each: each.name):
        built = compile_for_hopper(launch)
        row = {
            "kernel": launch.name,
            "registers": built.registers,
            "spilled": built.stack,
            "shared": built.shared,
            "programs": math.prod(launch.grid),
            "waves": f"{waves(launch, built):.2f}",
            "hgmma": built.count("HGMMA"),
            "waits": built.count("WARPGROUP", ".DEPBAR"),
            "wide_loads": built.count("LDG", ".128") + built.count("LDGSTS", ".128"),
            "early": "" if "launch_pdl" not in launch.options else _YES[built.waits_first],
        }
        name, *numbers = row.values()
        print(
            f"{name:18}"
            + "".join(
                f"{n:>{w}}" for n, w in zip(numbers, (10, 9, 9, 10, 7, 7, 7, 9, 7), strict=True)
            )
        )
        yield row


if __name__ == "__main__":
    main()
