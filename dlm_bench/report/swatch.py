"""A line's sample in the legend, as SVG: its colour, dashes and marker."""

import math

from markupsafe import Markup

from dlm_bench.figures.theme import LineStyle


def _regular(corners: int, radius: float, inner: float | None = None, turn: float = -90) -> str:
    """The path of a regular polygon, or of a star whose notches are at radius `inner`."""
    radii = [radius] if inner is None else [radius, inner]
    count = corners * len(radii)
    places = []
    for i in range(count):
        angle, reach = math.radians(turn + 360 * i / count), radii[i % len(radii)]
        places.append(f"{reach * math.cos(angle):.1f},{reach * math.sin(angle):.1f}")
    return f"M{'L'.join(places)}Z"


# By matplotlib's names, as Bokeh draws them; those with a cross inside show their outline alone.
_CIRCLE = "M-4,0a4,4 0 1 0 8,0a4,4 0 1 0 -8,0"
_SQUARE = _regular(4, 5, turn=45)
_PATHS = {
    "o": _CIRCLE,
    "s": _SQUARE,
    "^": _regular(3, 5),
    "D": "M0,-5L3.4,0L0,5L-3.4,0Z",
    "v": _regular(3, 5, turn=90),
    "P": "M-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7Z",
    "X": _SQUARE,
    "<": _regular(3, 5, inner=1.8),
    ">": _regular(4, 5.5, inner=3, turn=45),
    "*": _regular(5, 5, inner=2),
    "p": _CIRCLE,
    "h": _regular(6, 4.6),
    "8": _SQUARE,
    "d": "M0,-5L3.4,0L0,5L-3.4,0Z",
}


def swatch(colour: str, look: LineStyle) -> Markup:
    """An SVG of 34 by 12 pixels."""
    dashes = " ".join(f"{2 * dash:g}" for dash in look.dashes[1])
    return Markup(
        '<svg width="34" height="12" viewBox="-17 -6 34 12" aria-hidden="true">'
        '<path d="M-17,0H17" stroke="{}" stroke-width="2" stroke-dasharray="{}" fill="none"/>'
        '<path d="{}" fill="{}"/></svg>'
    ).format(colour, dashes, _PATHS.get(look.marker, _PATHS["h"]), colour)
