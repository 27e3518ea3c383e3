"""Tokens per forward against accuracy: checkpoints of `bench/train_tiny.py`, and AUP.

    OMP_WAIT_POLICY=passive python bench/accuracy_under_parallelism.py checkpoints/*.safetensors \\
        --output plots/cpu/accuracy

Decodes the continuation of --texts held-out texts by confidence thresholds. Accuracy is the share
of decoded bytes that the text has in the same place; tokens per forward is the bytes of a sequence
over its own passes, commits aside. AUP is that of d3LLM's leaderboard
(`dlm_bench.analysis.under_parallelism`). Prints a Markdown table, and the accuracy of
the training text's most frequent byte everywhere; --output draws the figure.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.ticker import ScalarFormatter
from torch import Tensor
from train_tiny import sequences, topics

import dlm_bench
from dlm_bench.analysis.under_parallelism import aup
from dlm_bench.figures import theme
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.output import save
from dlm_bench.figures.palette import BACKBONE_COLOURS, SAMPLER_STYLES
from dlm_bench.plugins.api import Model
from dlm_bench.results.series import BACKBONE_NAMES, SAMPLER_NAMES
from dlm_bench.samplers.acceptance.adaptive import decode_until_done
from dlm_bench.samplers.sampler import Sampler


@dataclass(frozen=True)
class Point:
    """A decode of all texts: accuracy and its standard error over the texts, in percent."""

    threshold: float
    tokens_per_forward: float
    accuracy: float
    error: float


@dataclass(frozen=True)
class Curve:
    """The points of a model and a sampler."""

    backbone: str
    sampler: str
    points: list[Point]

    def pairs(self) -> list[tuple[float, float]]:
        """Tokens per forward and accuracy of each point."""
        return [(point.tokens_per_forward, point.accuracy) for point in self.points]


@torch.inference_mode()
def point_of(model: Model, sampler: Sampler, texts: Tensor, length: int, threshold: float) -> Point:
    """Decode the last `length` bytes of texts (texts, bytes) after those before."""
    prompt, truth = texts[:, :-length], texts[:, -length:]
    state = sampler.prepare(model, length, batch=len(texts), prompt=prompt)
    rows = decode_until_done(sampler, model, state)
    passes = sum(len(block) for blocks in rows for block in blocks)
    right = 100 * (state.decoded == truth).double().mean(dim=1)  # (texts,)
    error = (right.std() / len(texts) ** 0.5).item()
    return Point(threshold, truth.numel() / passes, right.mean().item(), error)


def draw(curves: list[Curve]) -> CaptionedFigure:
    """Draw the curves, with bars of a standard error."""
    with theme.applied():
        figure = CaptionedFigure(figsize=(theme.TEXT_WIDTH / 2, 2.4), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            style = SAMPLER_STYLES[curve.sampler]
            x, y = zip(*sorted(curve.pairs()), strict=True)
            errors = [p.error for p in sorted(curve.points, key=lambda p: p.tokens_per_forward)]
            axes.errorbar(
                x,
                y,
                errors,
                color=BACKBONE_COLOURS[curve.backbone],
                marker=style.marker,
                linestyle=style.dashes,
                markersize=3,
                elinewidth=0.5,
                label=f"{BACKBONE_NAMES[curve.backbone]}, {SAMPLER_NAMES[curve.sampler]}",
            )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set(xlabel="tokens per forward", ylabel="accuracy (%)", ylim=(0, None))
        axes.legend()
        figure.caption = (
            "Share of bytes decoded as in a held-out text, against the bytes of a sequence over "
            "its passes, by confidence threshold. Bars: a standard error over the texts."
        )
    return figure


def line(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE.safetensors")
    parser.add_argument("--sampler", nargs="+", default=["full", "fast-dllm", "block-cache"])
    parser.add_argument(
        "--threshold", type=float, nargs="+", default=[1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1]
    )
    parser.add_argument("--length", type=int, default=32, help="bytes to decode (32)")
    parser.add_argument("--context", type=int, default=192, help="bytes before them (192)")
    parser.add_argument("--texts", type=int, default=64, help="held-out texts (64)")
    parser.add_argument("--output", type=Path, metavar="NAME", help="draw NAME.pdf and NAME.png")
    args = parser.parse_args()
    training, held_out = topics()
    texts = sequences(held_out, args.context + args.length)[: args.texts]
    always = 100 * (texts[:, -args.length :] == training.mode().values).double().mean().item()
    curves = []
    for path in args.checkpoints:
        model = dlm_bench.load_checkpoint(path)
        for name in args.sampler:
            points = []
            for threshold in args.threshold:
                sampler = dlm_bench.build_sampler(name, accept="threshold", threshold=threshold)
                points.append(point_of(model, sampler, texts, args.length, threshold))
            curves.append(Curve(model.config.backbone, name, points))
    best = max(point.accuracy for curve in curves for point in curve.points)
    at = [f"≥ {threshold:g}" for threshold in args.threshold]
    print(line("backbone", "sampler", *at, "AUP"))
    print(line(*["---"] * (len(at) + 3)))
    for curve in curves:
        cells = [
            f"{p.accuracy:.1f} ± {p.error:.1f} at {p.tokens_per_forward:.2f}" for p in curve.points
        ]
        print(line(curve.backbone, curve.sampler, *cells, f"{aup(curve.pairs(), best):.1f}"))
    print(f"\nalways the most frequent byte: {always:.1f} %")
    if args.output:
        save(draw(curves), args.output)


if __name__ == "__main__":
    main()
