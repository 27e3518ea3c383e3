"""The paper's Figure 2 (arXiv 2511.15927): throughput against length over the whole sequence (a, b)
and with a block cache (c, d), at p = 8 and p = 16."""

from typing import NamedTuple

import pandas as pd

from dlm_bench.cost.hardware import Hardware
from dlm_bench.errors import ResultsError
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import P, draw_series, valued
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.missing import name_missing
from dlm_bench.figures.predicted import Bounds, bounds_of
from dlm_bench.figures.throughput import THROUGHPUT, speed
from dlm_bench.results.series import (
    BACKBONE_NAMES,
    SAMPLER_NAMES,
    SETTINGS,
    Series,
    grouped,
    series_of,
)
from dlm_bench.samplers import build_sampler

STEPS = (8, 16)


class Method(NamedTuple):
    """A backbone with a sampler, whatever the options."""

    backbone: str
    sampler: str


AR = Method("ar-transformer", "ar")
FULL = (
    AR,
    Method("diffutran", "full"),
    Method("diffutran", "fast-dllm"),
    Method("diffumamba", "full"),
    Method("diffumamba-h", "full"),
    Method("diffumamba-h", "fast-dllm"),
)
BLOCK = (AR, *(Method(name, "block-cache") for name in ("diffutran", "diffumamba", "diffumamba-h")))


@theme.applied()
def draw_paper_full(frame: pd.DataFrame, predict: Hardware | None = None) -> CaptionedFigure:
    """Draw Figure 2 a, b: full-sequence decoding and Fast-dLLM beside autoregression.

    As `draw_throughput`, with the paper's series alone, in all options measured. A NotDrawnWarning
    names a series or a p without a record; `predict` draws the roofline bound nevertheless. Raises
    ResultsError without an ok record of diffusion at p = 8 or 16.
    """
    return _draw("paper-full", frame, FULL, predict)


@theme.applied()
def draw_paper_block(frame: pd.DataFrame, predict: Hardware | None = None) -> CaptionedFigure:
    """Draw Figure 2 c, d: block caches beside autoregression, otherwise as `draw_paper_full`."""
    return _draw("paper-block", frame, BLOCK, predict)


def _draw(
    name: str, frame: pd.DataFrame, methods: tuple[Method, ...], predict: Hardware | None
) -> CaptionedFigure:
    series_of(frame)  # says what there is where no record is ok
    frame = _chosen(frame, methods)
    drawn = [valued(series, speed) for series in series_of(frame)] if len(frame) else []
    if not any(P in series.settings for series in drawn):
        wanted = ", ".join(_named(method) for method in methods if method != AR)
        raise ResultsError(f"no ok record at p = 8 or 16 of {wanted}")
    name_missing(name, _missing(drawn, methods))
    bounds = None if predict is None else _bounds(frame, drawn, methods, predict)
    return draw_series(frame, drawn, THROUGHPUT, bounds)


def _chosen(frame: pd.DataFrame, methods: tuple[Method, ...]) -> pd.DataFrame:
    """Return the records of the figure."""
    shown = pd.MultiIndex.from_frame(frame[["backbone", "sampler"]]).isin(methods)
    steps = frame[P] if P in frame else pd.Series(float("nan"), frame.index)
    return frame[shown & (steps.isin(STEPS) | frame["sampler"].eq(AR.sampler))]


def _missing(drawn: list[Series], methods: tuple[Method, ...]) -> list[str]:
    """Name the paper's series without records: a whole p, or single methods."""
    there = {(series.backbone, series.sampler, series.settings.get(P)) for series in drawn}
    texts = [] if (*AR, None) in there else [_named(AR)]
    for step in STEPS:
        absent = [method for method in methods if method != AR and (*method, step) not in there]
        if len(absent) == len(methods) - 1:
            texts.append(f"p = {step} (no record)")
        elif absent:
            texts.append(f"at p = {step} " + ", ".join(map(_named, absent)))
    return texts


def _named(method: Method) -> str:
    backbone = BACKBONE_NAMES[method.backbone]
    return backbone if method == AR else f"{backbone} {SAMPLER_NAMES[method.sampler]}"


def _bounds(
    frame: pd.DataFrame, drawn: list[Series], methods: tuple[Method, ...], hardware: Hardware
) -> Bounds | None:
    """Return the bounds of the paper's series: those in the frame, measured or not, and for each
    size and machine drawn all others, with the options of their sampler there."""
    asked = grouped(frame)
    kinds = [{name: series.settings.get(name) for name in SETTINGS} for series in drawn]
    for common in [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]:
        settings = {name: value for name, value in common.items() if value is not None}
        alike = [series for series in asked if settings.items() <= series.settings.items()]
        options = {series.sampler: series.settings for series in reversed(alike)}
        there = {(series.backbone, series.sampler, series.settings.get(P)) for series in alike}
        for method in methods:
            for step in (None,) if method == AR else STEPS:
                if (*method, step) not in there:
                    own = options.get(method.sampler, build_sampler(method.sampler).options())
                    own = own | settings | ({} if step is None else {P: step})
                    asked.append(Series(*method, own, rows=[]))
    lengths = [row["length"] for series in drawn for row in series.rows]
    return bounds_of(asked, hardware, lengths)
