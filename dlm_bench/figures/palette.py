"""The colour of each backbone, and marker and dashes of each sampler, in PDF and HTML alike.

Backbones differ in colour, samplers in marker and dashes: readable in greyscale and by a
colour-blind reader.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dlm_bench.results.series import SAMPLER_NAMES, Series

# Paul Tol's high-contrast triple, whose lightness differs most among the three that share samplers,
# with black and a light blue. Okabe-Ito's blue, vermilion and green are one grey on paper.
BACKBONE_COLOURS = {
    "diffutran": "#004488",
    "diffumamba": "#BB5566",
    "diffumamba-h": "#DDAA33",
    "ar-transformer": "#000000",
    "ar-mamba": "#66AABB",
    # The field's; an autoregressive model has a lighter shade of the denoiser's of its shape.
    "llada": "#332288",
    "llama": "#9988CC",
    "dream": "#117733",
    "qwen2": "#77BB88",
    "sdar": "#777722",
    "qwen3": "#BBBB66",
    "fast-dllm-v2": "#AA4499",
    "nemotron-ld": "#228899",
    "open-dcoder": "#996633",
}
MORE_COLOURS = ["#228833", "#AA3377", "#999999", "#663333", "#88AA00"]


class SeriesStyle(NamedTuple):
    """Marker and dashes of a series, in matplotlib's notation."""

    marker: str
    dashes: tuple[float, tuple[float, ...]]


SAMPLER_STYLES = {
    "full": SeriesStyle("o", (0, ())),
    "fast-dllm": SeriesStyle("s", (0, (4, 1.5))),
    "block-cache": SeriesStyle("^", (0, (6, 1.2, 1.2, 1.2))),
    "ar": SeriesStyle("D", (0, (1.2, 1.2))),
}
# Each with a period that a legend's handle holds, and another rhythm than those above.
MORE_DASHES = [
    (0.0, (9.0, 2.0)),
    (0.0, (2.2, 1.6)),
    (0.0, (6.0, 1.2, 1.2, 1.2, 1.2, 1.2)),
    (0.0, (8.0, 1.2, 3.0, 1.2)),
    (0.0, (3.0, 1.2, 1.2, 1.2)),
]
MORE_MARKERS = "vPX<>*phd"  # of no common factor with the dashes, so that no pair returns soon


@dataclass(frozen=True)
class Palette:
    """Colours by backbone, and styles by variant of a sampler."""

    colours: dict[str, str]
    styles: dict[str, SeriesStyle]

    def colour(self, series: Series) -> str:
        """Return the colour of a series."""
        return self.colours[series.backbone]

    def style(self, series: Series) -> SeriesStyle:
        """Return the marker and dashes of a series."""
        return self.styles[series.variant]


def palette_of(drawn: Sequence[Series]) -> Palette:
    """Return the palette of labelled series."""
    return Palette(backbone_colours(series.backbone for series in drawn), variant_styles(drawn))


def backbone_colours(backbones: Iterable[str]) -> dict[str, str]:
    """Return the colour of each backbone; a user's own backbones get the spare ones, by name."""
    unknown = sorted(set(backbones) - set(BACKBONE_COLOURS))
    spare = {name: MORE_COLOURS[i % len(MORE_COLOURS)] for i, name in enumerate(unknown)}
    return BACKBONE_COLOURS | spare


def variant_styles(drawn: Iterable[Series]) -> dict[str, SeriesStyle]:
    """Return the style of each variant, in the order of the samplers.

    The first variant of a sampler has the style of the sampler; all others (say, another commit),
    and a user's own samplers, get a spare marker and spare dashes.
    """
    known = dict(SAMPLER_STYLES)
    variants: dict[str, SeriesStyle] = {}
    markers, dashes = itertools.cycle(MORE_MARKERS), itertools.cycle(MORE_DASHES)
    taken: set[str] = set()
    order = {name: index for index, name in enumerate(SAMPLER_NAMES)}
    for series in sorted(drawn, key=lambda series: order.get(series.sampler, len(order))):
        if series.variant in variants:
            continue
        if series.sampler not in known:
            known[series.sampler] = SeriesStyle(next(markers), next(dashes))
        own = known[series.sampler]
        if series.sampler in taken:
            own = SeriesStyle(next(markers), next(dashes))
        variants[series.variant] = own
        taken.add(series.sampler)
    return variants
