"""Passes a block after text and after random prompts: checkpoints of `bench/train_tiny.py`.

    OMP_WAIT_POLICY=passive python bench/text_passes.py checkpoints/*.safetensors \\
        --output plots/cpu/text-passes

Decodes after each of the shipped prompts, or those of --prompts, at its own length, and after
--draws random prompts of the same length, with the same threshold. A row has the mean passes over a
block, their 10th, 50th and 90th percentile over all blocks, and the mean difference between text
and random prompts with its 95 % interval: of the differences of each prompt, Student's t. --output
draws both means with intervals of their own.
"""

import argparse
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import sem

import dlm_bench
from dlm_bench.figures import theme
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.output import save
from dlm_bench.plugins.api import Model
from dlm_bench.results.series import BACKBONE_NAMES, SAMPLER_NAMES
from dlm_bench.samplers.prompt import Prompts
from dlm_bench.samplers.sampler import Sampler

HEAD = ("backbone", "sampler", "threshold", "after text", "p10 p50 p90", "after random prompts")
HEAD = (*HEAD, "p10 p50 p90", "text - random")


class Row(NamedTuple):
    """The passes over each block, of each prompt, after text and after random prompts."""

    backbone: str
    sampler: str
    threshold: float
    text: list[list[int]]
    random: list[list[int]]


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
    return mean_of([fmean(one) - fmean(other) for one, other in zip(text, random, strict=True)])


def mean_of(values: list[float]) -> tuple[float, float]:
    """The mean, and half its 95 % interval (Student's t)."""
    return fmean(values), float(stdtrit(len(values) - 1, 0.975) * sem(values))


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


def row_text(row: Row) -> str:
    """A row as a line of the table."""
    mean, half = difference(row.text, row.random)
    cells = [*summary(row.text), *summary(row.random)]
    return line(row.backbone, row.sampler, row.threshold, *cells, f"{mean:+.2f} ± {half:.2f}")


def draw(rows: list[Row]) -> CaptionedFigure:
    """Draw a panel for each model and sampler: passes a block by threshold, after both prompts."""
    places = list(dict.fromkeys((row.backbone, row.sampler) for row in rows))
    thresholds = sorted({row.threshold for row in rows}, reverse=True)
    ways = (("text", "#004488", "o", -0.07), ("random", "#BB5566", "s", 0.07))
    with theme.applied():
        figure, panels = theme.panels(len(places), 1.9, 0.0, "threshold", "passes a block")
        for axes, place in zip(panels, places, strict=True):
            axes.set_title(f"{BACKBONE_NAMES[place[0]]}, {SAMPLER_NAMES[place[1]]}")
            own = [row for row in rows if (row.backbone, row.sampler) == place]
            for way, colour, marker, shift in ways:
                found = [mean_of([fmean(each) for each in getattr(row, way)]) for row in own]
                axes.errorbar(
                    [thresholds.index(row.threshold) + shift for row in own],
                    [mean for mean, _ in found],
                    [half for _, half in found],
                    color=colour,
                    marker=marker,
                    markersize=3,
                    linestyle="none",
                    capsize=2,
                    label="after text" if way == "text" else "after random prompts",
                )
            axes.set_xticks(range(len(thresholds)), [f"{value:g}" for value in thresholds])
            axes.set_xlim(-0.5, len(thresholds) - 0.5)
            axes.set_ylim(0, None)
        panels[0].legend(loc="best")
    figure.caption = (
        "Passes over a block, decoded by a confidence threshold, after each text of a file of "
        "prompts and after random prompts of the same lengths. Bars: 95 % intervals of the means "
        "over the prompts."
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE.safetensors")
    parser.add_argument("--prompts", default="shipped", help="file of prompts (%(default)s)")
    parser.add_argument("--sampler", nargs="+", default=["block-cache", "fast-dllm"])
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.9, 0.7, 0.5, 0.3])
    parser.add_argument("--length", type=int, default=64, help="tokens a decode (64)")
    parser.add_argument("--block-size", type=int, default=32, help="tokens a block (32)")
    parser.add_argument("--draws", type=int, default=3, help="random prompts a length (3)")
    parser.add_argument("--output", type=Path, metavar="NAME", help="draw NAME.pdf and NAME.png")
    args = parser.parse_args()
    prompts, rows = dlm_bench.load_prompts(args.prompts), list[Row]()
    print(line(*HEAD))
    print(line(*["---"] * len(HEAD)))
    for path in args.checkpoints:
        model = dlm_bench.load_checkpoint(path)
        for name in args.sampler:
            for threshold in args.threshold:
                sampler = dlm_bench.build_sampler(
                    name, accept="threshold", threshold=threshold, block_size=args.block_size
                )
                text = counts_after_text(model, sampler, args.length, prompts)
                random = counts_after_random(model, sampler, args.length, prompts, args.draws)
                rows.append(Row(model.config.backbone, name, threshold, text, random))
                print(row_text(rows[-1]), flush=True)
    if args.output:
        save(draw(rows), args.output)


if __name__ == "__main__":
    main()
