"""The markers of matplotlib in the report: as Bokeh names them, and as SVG in the legend."""

import math
from typing import NamedTuple

from markupsafe import Markup

from dlm_bench.figures.palette import SeriesStyle


def _regular(corners: int, radius: float, inner: float | None = None, turn: float = -90) -> str:
    """Return the path of a regular polygon, or of a star with notches at radius `inner`."""
    radii = [radius] if inner is None else [radius, inner]
    count = corners * len(radii)
    places = []
    for i in range(count):
        angle, reach = math.radians(turn + 360 * i / count), radii[i % len(radii)]
        places.append(f"{reach * math.cos(angle):.1f},{reach * math.sin(angle):.1f}")
    return f"M{'L'.join(places)}Z"


class Marker(NamedTuple):
    """A marker as Bokeh names it, and its outline as an SVG path of about 10 by 10."""

    bokeh: str
    path: str


_CIRCLE = "M-4,0a4,4 0 1 0 8,0a4,4 0 1 0 -8,0"
_SQUARE = _regular(4, 5, turn=45)
_DIAMOND = "M0,-5L3.4,0L0,5L-3.4,0Z"
_PLUS = "M-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7Z"
_HEXAGON = Marker("hex", _regular(6, 4.6))
# By matplotlib's names. Bokeh lacks some of the spare ones, and has others in their place.
MARKERS = {
    "o": Marker("circle", _CIRCLE),
    "s": Marker("square", _SQUARE),
    "^": Marker("triangle", _regular(3, 5)),
    "D": Marker("diamond", _DIAMOND),
    "v": Marker("inverted_triangle", _regular(3, 5, turn=90)),
    "P": Marker("plus", _PLUS),
    "X": Marker("square_x", _SQUARE),
    "<": Marker("triangle_pin", _regular(3, 5, inner=1.8)),
    ">": Marker("square_pin", _regular(4, 5.5, inner=3, turn=45)),
    "*": Marker("star", _regular(5, 5, inner=2)),
    "p": Marker("circle_cross", _CIRCLE),
    "h": _HEXAGON,
    "d": Marker("diamond_cross", _DIAMOND),
}


def marker_of(style: SeriesStyle) -> Marker:
    """Return the marker of a style."""
    return MARKERS.get(style.marker, _HEXAGON)


def swatch(colour: str, style: SeriesStyle) -> Markup:
    """Draw a sample of a series for the legend: an SVG of 34 by 12 pixels."""
    dashes = " ".join(f"{2 * dash:g}" for dash in style.dashes[1])
    return Markup(
        '<svg width="34" height="12" viewBox="-17 -6 34 12" aria-hidden="true">'
        '<path d="M-17,0H17" stroke="{}" stroke-width="2" stroke-dasharray="{}" fill="none"/>'
        '<path d="{}" fill="{}"/></svg>'
    ).format(colour, dashes, marker_of(style).path, colour)
