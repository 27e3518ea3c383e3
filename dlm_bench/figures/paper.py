"""The paper's Figure 2 (arXiv 2511.15927): throughput against length of the lines that it shows,
over the whole sequence (a, b) and with a block cache (c, d), at p = 8 and p = 16."""

from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from dlm_bench.cost.hardware import Hardware
from dlm_bench.errors import ResultsError
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import P, draw_lines, valued
from dlm_bench.figures.bound import Bounds, bounds_of
from dlm_bench.figures.missing import name_missing
from dlm_bench.figures.throughput import THROUGHPUT, speed
from dlm_bench.results.series import BACKBONE_NAMES, SAMPLER_NAMES, SETTINGS, Line, grouped, lines

STEPS = (8, 16)


class Way(NamedTuple):
    """A way of decoding, whatever the sampler's other options."""

    backbone: str
    sampler: str


AR = Way("ar-transformer", "ar")
FULL = (
    AR,
    Way("diffutran", "full"),
    Way("diffutran", "fast-dllm"),
    Way("diffumamba", "full"),
    Way("diffumamba-h", "full"),
    Way("diffumamba-h", "fast-dllm"),
)
BLOCK = (AR, *(Way(name, "block-cache") for name in ("diffutran", "diffumamba", "diffumamba-h")))


@theme.look()
def draw_paper_full(frame: pd.DataFrame, predict: Hardware | None = None) -> Figure:
    """Draw Figure 2 a, b: full-sequence decoding and Fast-dLLM beside autoregression.

    As `draw_throughput` does, of the paper's lines alone; several of one way of decoding, say with
    other options, are all drawn. A line or a p that no record has is named by a NotDrawnWarning;
    `predict` draws its roofline bound nevertheless. Raises ResultsError if no ok record is of
    diffusion at p = 8 or 16.
    """
    return _draw("paper-full", frame, FULL, predict)


@theme.look()
def draw_paper_block(frame: pd.DataFrame, predict: Hardware | None = None) -> Figure:
    """Draw Figure 2 c, d: block caches beside autoregression, otherwise as `draw_paper_full`."""
    return _draw("paper-block", frame, BLOCK, predict)


def _draw(
    name: str, frame: pd.DataFrame, ways: tuple[Way, ...], predict: Hardware | None
) -> Figure:
    lines(frame)  # says what there is where no record is ok
    frame = _chosen(frame, ways)
    drawn = [valued(line, speed) for line in lines(frame)] if len(frame) else []
    if not any(P in line.settings for line in drawn):
        wanted = ", ".join(_named(way) for way in ways if way != AR)
        raise ResultsError(f"no ok record at p = 8 or 16 of {wanted}")
    name_missing(name, _missing(drawn, ways))
    bounds = None if predict is None else _bounds(frame, drawn, ways, predict)
    return draw_lines(frame, drawn, THROUGHPUT, bounds)


def _chosen(frame: pd.DataFrame, ways: tuple[Way, ...]) -> pd.DataFrame:
    """The records that the figure is of."""
    shown = pd.MultiIndex.from_frame(frame[["backbone", "sampler"]]).isin(ways)
    steps = frame[P] if P in frame else pd.Series(float("nan"), frame.index)
    return frame[shown & (steps.isin(STEPS) | frame["sampler"].eq(AR.sampler))]


def _missing(drawn: list[Line], ways: tuple[Way, ...]) -> list[str]:
    """Name the lines of the paper without records: whole ps in a word, and ways of decoding."""
    there = {(line.backbone, line.sampler, line.settings.get(P)) for line in drawn}
    texts = [] if (*AR, None) in there else [_named(AR)]
    for step in STEPS:
        absent = [way for way in ways if way != AR and (*way, step) not in there]
        if len(absent) == len(ways) - 1:
            texts.append(f"p = {step} (no record)")
        elif absent:
            texts.append(f"at p = {step} " + ", ".join(map(_named, absent)))
    return texts


def _named(way: Way) -> str:
    backbone = BACKBONE_NAMES[way.backbone]
    return backbone if way == AR else f"{backbone} {SAMPLER_NAMES[way.sampler]}"


def _bounds(
    frame: pd.DataFrame, drawn: list[Line], ways: tuple[Way, ...], hardware: Hardware
) -> Bounds | None:
    """The bounds of the paper's lines: those asked for, measured or not, and for each size,
    machine and so on that is drawn, the others with the options that their sampler has there."""
    from dlm_bench.samplers import build_sampler

    asked = grouped(frame)
    kinds = [{name: line.settings.get(name) for name in SETTINGS} for line in drawn]
    for common in [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]:
        settings = {name: value for name, value in common.items() if value is not None}
        alike = [line for line in asked if settings.items() <= line.settings.items()]
        options = {line.sampler: line.settings for line in reversed(alike)}
        there = {(line.backbone, line.sampler, line.settings.get(P)) for line in alike}
        for way in ways:
            for step in (None,) if way == AR else STEPS:
                if (*way, step) not in there:
                    own = options.get(way.sampler, build_sampler(way.sampler).options())
                    own = own | settings | ({} if step is None else {P: step})
                    asked.append(Line(*way, own, rows=[]))
    lengths = [row["length"] for line in drawn for row in line.rows]
    return bounds_of(asked, hardware, lengths)
