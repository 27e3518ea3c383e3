"""Count the decodes whose tokens depend on batch, threads or the processor's vector units.

    python bench/ties.py                       # 200 models: about 6 minutes on 2 cores
    python bench/ties.py --models 12 --quick   # a sample

Random models decode 13 tokens without a prompt, where confidences tie (docs/acceptance.md), with
every sampler. Each sequence of a batch is compared with its decode alone on one thread, and that
with the one of a process whose ATEN_CPU_CAPABILITY is another.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import torch

from dlm_bench import build_model, build_sampler
from dlm_bench.samplers.sampler import Sampler

DENOISERS = ("diffutran", "diffumamba", "diffumamba-h")
LENGTH, SEED = 13, 5  # a block of 8 and a shorter one
BATCHES, THREADS = (1, 2, 3, 5), (1, 2)
CAPABILITIES = ("default", "avx2", "avx512")


def samplers() -> dict[str, Sampler]:
    """Every sampler, cache, commit and rule, by a short name."""
    blocks = {"block_size": 8, "tokens_per_step": 3}
    return {
        "full": build_sampler("full", tokens_per_step=3),
        "margin": build_sampler("full", tokens_per_step=3, order="margin"),
        "entropy": build_sampler("full", tokens_per_step=3, order="entropy"),
        "entropy bound": build_sampler("block-cache", block_size=8, accept="entropy", gamma=10.0),
        "joint": build_sampler("block-cache", block_size=8, accept="joint", threshold=0.05),
        "full threshold": build_sampler("full", accept="threshold", threshold=0.05),
        "dual": build_sampler("fast-dllm", **blocks),
        "prefix": build_sampler("fast-dllm", cache="prefix", **blocks),
        "factor": build_sampler("fast-dllm", block_size=8, accept="factor", factor=2.9),
        "separate": build_sampler("block-cache", **blocks),
        "fused": build_sampler("block-cache", commit="fused", **blocks),
        "none": build_sampler("block-cache", commit="none", **blocks),
        "threshold": build_sampler("block-cache", block_size=8, accept="threshold", threshold=0.05),
    }


def decodes(models: int, quick: bool) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """The sampler's name, a sequence's tokens in a batch, and its tokens alone on one thread."""
    for number in range(models):
        layers = (1, 2, 3)[number // len(DENOISERS) % 3]
        model = build_model(DENOISERS[number % len(DENOISERS)], "tiny", seed=number, layers=layers)
        for name, sampler in samplers().items():
            torch.set_num_threads(1)
            alone = [sampler.decode(model, LENGTH, 1, SEED + row)[0] for row in range(max(BATCHES))]
            for threads in THREADS[1:] if quick else THREADS:
                torch.set_num_threads(threads)
                for batch in BATCHES[1::2] if quick else BATCHES:
                    together = sampler.decode(model, LENGTH, batch, SEED)
                    yield from ((name, *pair) for pair in zip(together, alone, strict=False))


def alone(models: int) -> list[list[int]]:
    """The tokens of each model and sampler on one thread."""
    torch.set_num_threads(1)
    found = []
    for number in range(models):
        model = build_model(DENOISERS[number % len(DENOISERS)], "tiny", seed=number, layers=2)
        found += [s.decode(model, LENGTH, 1, SEED)[0].tolist() for s in samplers().values()]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=200, help="random models (default: 200)")
    parser.add_argument("--quick", action="store_true", help="2 threads and batches 2 and 5 only")
    parser.add_argument("--print-tokens", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.print_tokens:
        print(json.dumps(alone(args.models)))
        return 0
    count = differ = 0
    for name, together, single in decodes(args.models, args.quick):
        count += 1
        if not torch.equal(together, single):
            differ += 1
            print(f"{name}: {together.tolist()} in a batch, {single.tolist()} alone")
    print(f"{differ} of {count} sequences decode other tokens in a batch or on other threads")
    across = total = 0
    command = [sys.executable, __file__, "--models", str(args.models), "--print-tokens"]
    runs = [
        json.loads(
            subprocess.check_output(command, env=os.environ | {"ATEN_CPU_CAPABILITY": capability})
        )
        for capability in CAPABILITIES
    ]
    for other in runs[1:]:
        total += len(other)
        across += sum(a != b for a, b in zip(runs[0], other, strict=True))
    print(f"{across} of {total} decodes differ between {', '.join(CAPABILITIES)}")
    return int(differ + across > 0)


if __name__ == "__main__":
    sys.exit(main())
