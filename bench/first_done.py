"""Decode random batches in step and first done, first out: the same tokens, and fewer passes?

    python bench/first_done.py                # 1,000 batches: some minutes
    python bench/first_done.py --batches 50   # a sample

A batch has a random backbone, number of layers, block, rule of acceptance, temperature, length,
prompt and seed. Random weights take about as many passes in each sequence; so half of the batches
replay a trace with random numbers of passes instead. Each sequence of both decodes must be that of
a decode of it alone.
"""

import argparse
import random
from collections import Counter
from typing import Any

import torch
from torch import nn

from dlm_bench import build_model, build_sampler
from dlm_bench.samplers.acceptance.trace import Trace

BACKBONES = ("diffutran", "diffumamba", "diffumamba-h", "llada", "dream", "sdar", "open-dcoder")


def sharpened(backbone: str, layers: int, seed: int) -> Any:
    """A model with random weights whose confidences are apart: with sharper attention, and without
    the gates and biases that hide its layers."""
    model = build_model(backbone, "tiny", "cpu", torch.float32, layers=layers, seed=seed)
    assert isinstance(model, nn.Module)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "qkv.weight" in name:
            weight.mul_(3)
        elif weight.std() == 0 or "adaln.bias" in name:
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return model


def counted(model: Any, sampler: Any, *place: int) -> tuple[torch.Tensor, int]:
    """The tokens of a decode and the number of the model's passes."""
    calls = Counter[str]()
    hook = model.register_forward_hook(lambda *_: calls.update(["pass"]))
    try:
        return sampler.decode(model, *place), calls["pass"]
    finally:
        hook.remove()


def parts(draw: random.Random, tokens: int) -> tuple[int, ...]:
    """The tokens that each pass over a block accepts: a few passes or many."""
    found, most = list[int](), draw.randint(1, tokens)
    while sum(found) < tokens:
        found.append(min(draw.randint(1, most), tokens - sum(found)))
    return tuple(found)


def drawn_trace(draw: random.Random, length: int, block_size: int, batch: int, seed: int) -> Trace:
    """A trace of a sequence for each of a batch."""
    blocks = [min(block_size, length - start) for start in range(0, length, block_size)]
    sequences = [[parts(draw, each) for each in blocks] for _ in range(batch)]
    return Trace.by_hand(sequences, block_size, seed=seed, batch=batch)


def main() -> None:
    """Print how many batches differ, and the passes of both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=1000, help="compare so many (default: 1000)")
    args = parser.parse_args()
    draw = random.Random(0)
    sharp = {
        (name, layers): sharpened(name, layers, layers) for name in BACKBONES for layers in (1, 2)
    }
    tokens, differ = 0, 0
    fewer, passes = Counter[bool](), {traced: [0, 0] for traced in (False, True)}
    for number in range(args.batches):
        model = sharp[draw.choice(BACKBONES), draw.choice((1, 2))]
        sure = draw.uniform(0.03, 0.08)
        options: dict[str, Any] = draw.choice(
            [
                {"accept": "threshold", "threshold": sure},
                {"accept": "strict", "threshold": sure},
                {"accept": "factor", "factor": draw.uniform(2.8, 2.97)},
                {"accept": "entropy", "gamma": draw.uniform(3, 9)},
                {"accept": "bounded", "threshold": sure, "max_passes": draw.randint(2, 8)},
            ]
        )
        options["block_size"] = draw.randint(1, 9)
        options["temperature"] = draw.choice((0.0, 0.0, 0.8))
        length, batch, seed = draw.randint(1, 40), draw.randint(2, 6), draw.randint(0, 10**6)
        place = (length, batch, seed, draw.choice((0, 1, 11)))
        traced = number % 2 == 1
        if traced:
            block_size = options["block_size"]
            options = {key: options[key] for key in ("block_size", "temperature")}
            options["trace"] = drawn_trace(draw, length, block_size, batch, seed)
        in_step = build_sampler("block-cache", **options)
        first_done = build_sampler("block-cache", batching="fdfo", **options)
        waiting, one = counted(model, in_step, *place)
        found, other = counted(model, first_done, *place)
        row = draw.randrange(batch)
        alone = in_step.decode(model, length, 1, seed + row, place[3])[0]
        wrong = not torch.equal(found, waiting) or not torch.equal(found[row], alone)
        if wrong:
            print(f"differ: {options} {place}")
        differ, tokens = differ + wrong, tokens + found.numel()
        fewer[traced] += other < one
        passes[traced] = [passes[traced][0] + one, passes[traced][1] + other]
    print(f"{differ} of {args.batches:,} batches ({tokens:,} tokens) differ")
    for traced, (one, other) in passes.items():
        number = (args.batches + (not traced)) // 2
        print(
            f"{'traces' if traced else 'confidence'}: first done, first out takes fewer passes in "
            f"{fewer[traced]:,} of {number:,} batches, {other:,} instead of {one:,} in all"
        )


if __name__ == "__main__":
    main()
