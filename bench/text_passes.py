"""Passes a block after text and after random prompts: checkpoints of `bench/train_tiny.py`.

    OMP_WAIT_POLICY=passive python bench/text_passes.py checkpoints/*.safetensors

Decodes after each of the shipped prompts, or those of --prompts, at its own length, and after
--draws random prompts of the same length, with the same threshold. A row has the mean passes over a
block, their 10th, 50th and 90th percentile over all blocks, and the mean difference between text
and random prompts with its 95 % interval: of the differences of each prompt, Student's t.
"""

import argparse
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.special import stdtrit
from scipy.stats import sem

import dlm_bench
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.prompt import Prompts
from dlm_bench.samplers.sampler import Sampler

HEAD = ("backbone", "sampler", "threshold", "after text", "p10 p50 p90", "after random prompts")
HEAD = (*HEAD, "p10 p50 p90", "text - random")


def counts_after_text(
    model: Model, sampler: Sampler, length: int, prompts: Prompts
) -> list[list[int]]:
    """The passes over each block, of each prompt."""
    trace = dlm_bench.record_trace(model, sampler, length, prompts=prompts)
    return [[len(block) for block in blocks] for blocks in trace.sequences]


def counts_after_random(
    model: Model, sampler: Sampler, length: int, prompts: Prompts, draws: int
) -> list[list[int]]:
    """The passes over each block of all draws, of each prompt's length."""
    found = []
    for number, ids in enumerate(prompts.ids):
        seeds = range(number * draws, (number + 1) * draws)
        traces = [
            dlm_bench.record_trace(model, sampler, length, seed=seed, prompt_len=len(ids))
            for seed in seeds
        ]
        found.append([passes for trace in traces for passes in trace.passes_per_block])
    return found


def difference(text: list[list[int]], random: list[list[int]]) -> tuple[float, float]:
    """The mean difference of the prompts' mean passes a block, and half its 95 % interval."""
    apart = [fmean(one) - fmean(other) for one, other in zip(text, random, strict=True)]
    return fmean(apart), float(stdtrit(len(apart) - 1, 0.975) * sem(apart))


def summary(counts: list[list[int]]) -> tuple[str, str]:
    """The mean of the prompts' means, and the percentiles."""
    return f"{fmean(map(fmean, counts)):.2f}", percentiles(counts)


def percentiles(counts: list[list[int]]) -> str:
    """The 10th, 50th and 90th percentile over all blocks."""
    every = [passes for blocks in counts for passes in blocks]
    return " ".join(f"{value:g}" for value in np.percentile(every, [10, 50, 90]))


def line(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE.safetensors")
    parser.add_argument("--prompts", default="shipped", help="file of prompts (%(default)s)")
    parser.add_argument("--sampler", nargs="+", default=["block-cache", "fast-dllm"])
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.9, 0.7, 0.5, 0.3])
    parser.add_argument("--length", type=int, default=64, help="tokens a decode (64)")
    parser.add_argument("--draws", type=int, default=3, help="random prompts a length (3)")
    args = parser.parse_args()
    prompts = dlm_bench.load_prompts(args.prompts)
    print(line(*HEAD))
    print(line(*["---"] * len(HEAD)))
    for path in args.checkpoints:
        model = dlm_bench.load_checkpoint(path)
        for name in args.sampler:
            for threshold in args.threshold:
                sampler = dlm_bench.build_sampler(name, accept="threshold", threshold=threshold)
                text = counts_after_text(model, sampler, args.length, prompts)
                random = counts_after_random(model, sampler, args.length, prompts, args.draws)
                mean, half = difference(text, random)
                cells = [*summary(text), *summary(random)]
                backbone = model.config.backbone
                shown = line(backbone, name, threshold, *cells, f"{mean:+.2f} ± {half:.2f}")
                print(shown, flush=True)


if __name__ == "__main__":
    main()
