"""Tokens per forward against accuracy, and AUP: checkpoints of `train_tiny.py --corpus tasks`.

    OMP_WAIT_POLICY=passive python bench/accuracy_under_parallelism.py checkpoints/*.safetensors \\
        --output plots/cpu/accuracy

Decodes the answers to --cases held-out questions (`tasks.py`) by each rule of acceptance at several
settings. Accuracy is the share of an answer's bytes that are right; tokens per forward is the bytes
of an answer over its own passes, commits aside. AUP is that of d3LLM's leaderboard
(`dlm_bench.analysis.under_parallelism`). Prints a Markdown table, each mean with its 95 % interval
over the cases, the accuracy by task of a token a pass, and that of the most frequent byte
everywhere; --output draws the figure.
"""

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from scipy.special import stdtrit
from tasks import ANSWER, QUESTION, TASKS, as_tokens, cases
from torch import Tensor

import dlm_bench
from dlm_bench.analysis.under_parallelism import aup
from dlm_bench.figures import theme
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.output import save
from dlm_bench.figures.palette import SeriesStyle
from dlm_bench.plugins.api import Model
from dlm_bench.results.series import BACKBONE_NAMES, SAMPLER_NAMES
from dlm_bench.samplers.acceptance.adaptive import decode_until_done
from dlm_bench.samplers.sampler import Sampler


class Rule(NamedTuple):
    """A rule of acceptance: the option that is set, the values, and the looks of the line."""

    option: str
    title: str
    values: tuple[float, ...]
    colour: str
    style: SeriesStyle


SOLID, DASHED, DOTTED, MIXED = (0, ()), (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.2, 1.2, 1.2))
RULES = {
    "fixed": Rule(
        "tokens_per_step", "fixed p", (1, 2, 4, 8, 16), "#000000", SeriesStyle("o", SOLID)
    ),
    "threshold": Rule(
        "threshold", "threshold", (0.99, 0.9, 0.7, 0.5, 0.3), "#004488", SeriesStyle("s", DASHED)
    ),
    "factor": Rule("factor", "factor", (0.1, 0.3, 1, 2, 4), "#BB5566", SeriesStyle("^", MIXED)),
    "entropy": Rule(
        "gamma", "entropy", (0.01, 0.1, 0.5, 1, 3), "#DDAA33", SeriesStyle("D", DOTTED)
    ),
}


class Mean(NamedTuple):
    """A mean over the cases, and half its 95 % interval (Student's t)."""

    value: float
    half: float


def mean_of(each: Tensor) -> Mean:
    """The mean of values (cases,)."""
    error = each.std().item() / len(each) ** 0.5
    return Mean(each.mean().item(), float(stdtrit(len(each) - 1, 0.975)) * error)


@dataclass(frozen=True)
class Point:
    """The decodes of `tokens` bytes in all cases: the share of right bytes, in percent, and passes
    of each, (cases,) float64."""

    value: float
    tokens: int
    right: Tensor
    passes: Tensor

    @cached_property
    def accuracy(self) -> Mean:
        """Of the bytes of an answer, in percent."""
        return mean_of(self.right)

    @property
    def exact(self) -> float:
        """The answers without a wrong byte, in percent."""
        return 100 * (self.right == 100).double().mean().item()

    @property
    def tokens_per_forward(self) -> float:
        """Bytes of an answer over the mean passes."""
        return self.tokens / mean_of(self.passes).value

    @property
    def spread(self) -> tuple[float, float]:
        """The tokens per forward below and above, to where the interval of the passes ends."""
        mean, half = mean_of(self.passes)
        at = self.tokens_per_forward
        return at - self.tokens / (mean + half), self.tokens / max(mean - half, 1) - at


@dataclass(frozen=True)
class Curve:
    """The points of a model, a sampler and a rule."""

    backbone: str
    sampler: str
    rule: str
    points: list[Point]

    def pairs(self) -> list[tuple[float, float]]:
        """Tokens per forward and accuracy of each point."""
        return [(point.tokens_per_forward, point.accuracy.value) for point in self.points]


@torch.inference_mode()
def point_of(model: Model, sampler: Sampler, texts: Tensor, length: int, value: float) -> Point:
    """Decode the last `length` bytes of texts (texts, bytes) after those before."""
    prompt, truth = texts[:, :-length], texts[:, -length:]
    state = sampler.prepare(model, length, batch=len(texts), prompt=prompt)
    rows = decode_until_done(sampler, model, state)
    passes = torch.tensor([sum(map(len, blocks)) for blocks in rows]).double()
    right = 100 * (state.decoded == truth).double().mean(dim=1)  # (texts,)
    return Point(value, length, right, passes)


def curve_of(model: Any, name: str, rule: str, texts: Tensor) -> Curve:
    """Decode by a rule at each of its settings."""
    asked, points = RULES[rule], []
    for value in asked.values:
        number: Any = int(value) if rule == "fixed" else value
        options = {"accept": rule, asked.option: number, "block_size": ANSWER}
        sampler = dlm_bench.build_sampler(name, **options)
        points.append(point_of(model, sampler, texts, ANSWER, value))
    return Curve(model.config.backbone, name, rule, points)


def draw(curves: list[Curve], best: float) -> CaptionedFigure:
    """Draw a panel for each model and sampler, a line a rule, with bars of 95 % intervals."""
    places = list(dict.fromkeys((curve.backbone, curve.sampler) for curve in curves))
    lowest = min(point.accuracy.value - point.accuracy.half for c in curves for point in c.points)
    with theme.applied():
        figure, panels = theme.panels(
            len(places), 2.3, 0.0, "tokens per forward", "accuracy (% of bytes)"
        )
        for axes, (backbone, sampler) in zip(panels, places, strict=True):
            axes.set_title(f"{BACKBONE_NAMES[backbone]}, {SAMPLER_NAMES[sampler]}")
            for curve in curves:
                if (curve.backbone, curve.sampler) == (backbone, sampler):
                    draw_curve(axes, curve, best)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.set_ylim(max(0.0, 10 * (lowest // 10)), 102)
            axes.legend(loc="lower left")
    settings = "; ".join(
        f"{rule.title} {', '.join(f'{value:g}' for value in rule.values)}"
        for name, rule in RULES.items()
        if any(curve.rule == name for curve in curves)
    )
    figure.caption = (
        "Share of the bytes of an answer that are right, against the bytes of an answer over its "
        f"passes. A line is a rule, a marker a setting: {settings}. Bars: 95 % intervals over the "
        "questions. AUP: area under the line as far as 5 points below its start, with a penalty "
        f"for accuracy below {best:.1f} %."
    )
    return figure


def draw_curve(axes: Axes, curve: Curve, best: float) -> None:
    """Draw a rule, its AUP in the legend."""
    rule = RULES[curve.rule]
    points = sorted(curve.points, key=lambda point: point.tokens_per_forward)
    axes.errorbar(
        [point.tokens_per_forward for point in points],
        [point.accuracy.value for point in points],
        [point.accuracy.half for point in points],
        list(zip(*(point.spread for point in points), strict=True)),
        color=rule.colour,
        marker=rule.style.marker,
        linestyle=rule.style.dashes,
        markersize=3,
        elinewidth=0.5,
        label=f"{rule.title}: AUP {aup(curve.pairs(), best):,.0f}",
    )


def line(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(curves: list[Curve], best: float) -> str:
    """A line a point: the AUP of the curve stands at its first."""
    head = "backbone", "sampler", "rule", "tokens/forward", "bytes right (%)"
    lines = [line(*head, "answers right (%)", "AUP"), line(*["---"] * (len(head) + 2))]
    for curve in curves:
        rule, area = RULES[curve.rule], f"{aup(curve.pairs(), best):,.0f}"
        for place, point in enumerate(curve.points):
            mean, half = point.accuracy
            named = curve.backbone, curve.sampler, f"{rule.title} {point.value:g}"
            found = f"{point.tokens_per_forward:.2f}", f"{mean:.1f} ± {half:.1f}"
            lines.append(line(*named, *found, f"{point.exact:.0f}", "" if place else area))
    return "\n".join(lines)


def by_task(curves: list[Curve]) -> str:
    """A line a model and sampler: the right bytes of each task by a token a pass."""
    lines = [line("backbone", "sampler", *TASKS), line(*["---"] * (len(TASKS) + 2))]
    for curve in curves:
        if curve.rule == "fixed":
            right = curve.points[0].right
            each = [right[start :: len(TASKS)].mean().item() for start in range(len(TASKS))]
            lines.append(line(curve.backbone, curve.sampler, *(f"{value:.1f}" for value in each)))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE.safetensors")
    parser.add_argument("--sampler", nargs="+", default=["block-cache", "fast-dllm"])
    parser.add_argument("--rule", nargs="+", choices=RULES, default=[*RULES])
    parser.add_argument("--cases", type=int, default=200, help="held-out questions (200)")
    parser.add_argument("--output", type=Path, metavar="NAME", help="draw NAME.pdf and NAME.png")
    args = parser.parse_args()
    texts = as_tokens(cases(args.cases, held_out=True))
    models = [dlm_bench.load_checkpoint(path) for path in args.checkpoints]
    curves = [
        curve_of(model, name, rule, texts)
        for model in models
        for name in args.sampler
        for rule in args.rule
    ]
    best = max(point.accuracy.value for curve in curves for point in curve.points)
    print(table(curves, best))
    print(f"\nA token a pass, bytes right (%):\n\n{by_task(curves)}")
    answers = texts[:, QUESTION:]
    often = 100 * (answers == answers.flatten().mode().values).double().mean().item()
    print(f"\nalways the most frequent byte: {often:.1f} %")
    if args.output:
        save(draw(curves, best), args.output)


if __name__ == "__main__":
    main()
