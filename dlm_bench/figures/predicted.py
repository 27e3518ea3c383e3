"""The roofline bound of series, measured or not, drawn under them in figures of throughput."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from dlm_bench.cost import roofline
from dlm_bench.cost.hardware import Hardware
from dlm_bench.errors import ConfigError
from dlm_bench.figures import theme
from dlm_bench.models.own import Config, own_config, stated_config
from dlm_bench.results.series import Series
from dlm_bench.samplers.sampler import Sampler

DOTS = (0, (1, 1.6))
WIDTH = 0.8
PALE = 0.45  # share of white in the colour of a bound


@dataclass(frozen=True)
class Bounds:
    """The bounds of series on some hardware (`value` in tokens/s), with the label of the legend."""

    series: list[Series]
    label: str


def bounds_of(asked: Iterable[Series], hardware: Hardware, lengths: Iterable[int]) -> Bounds | None:
    """Return the largest tokens per second of each series on the hardware, at `lengths` and the
    powers of two between them, with the passes of the series' seed; None if no series has a bound.

    The bound is in the precision of the hardware, and ends where weights and caches exceed the
    memory. A user's own backbones and samplers have none.
    """
    ends = sorted(lengths)
    powers = (1 << n for n in range(ends[0].bit_length(), ends[-1].bit_length()))
    places = sorted({*ends, *powers})
    found, dtypes = [], set()
    for series in asked:
        rows = _rows(series, hardware, places)
        if rows:
            found.append(replace(series, rows=rows))
            dtypes.add(series.settings["dtype"])
    other = "" if dtypes == {hardware.dtype} else f", {hardware.dtype}"
    return Bounds(found, f"roofline bound ({hardware.name}{other})") if found else None


def _rows(series: Series, hardware: Hardware, lengths: list[int]) -> list[dict[str, Any]]:
    """Return the bound of a series at these lengths, as rows of `draw`."""
    models = [row["model"] for row in series.rows if row["model"]]
    try:
        sampler = roofline.sampler_of({"sampler": series.sampler} | series.settings)
        named = (series.backbone, series.settings["size"])
        config = stated_config(models[0]) if models else own_config(*named)
        place = [int(series.settings[name]) for name in ("batch", "prompt_len", "seed")]
        speeds = [_speed(config, sampler, length, hardware, *place) for length in lengths]
    except ConfigError:
        return []
    return [
        {"length": length, "value": speed, "low": speed, "high": speed}
        for length, speed in zip(lengths, speeds, strict=True)
        if speed is not None
    ]


@lru_cache(maxsize=1 << 12)  # several figures show the same bounds
def _speed(
    config: Config,
    sampler: Sampler,
    length: int,
    hardware: Hardware,
    batch: int,
    prompt_len: int,
    seed: int,
) -> float | None:
    """Return the largest tokens per second; None where the memory is too small."""
    place: dict[str, Any] = {"batch": batch, "prompt_len": prompt_len}
    if not roofline.fits(config, sampler, length, hardware, **place):
        return None
    return roofline.bound(config, sampler, length, hardware, **place, seed=seed)


def draw(axes: Axes, series: Series, colour: str, marker: str) -> None:
    """Draw a thin pale dotted line, with the small marker of the sampler at the end."""
    red, green, blue = (channel + PALE * (1 - channel) for channel in to_rgb(colour))
    axes.plot(
        np.array([row["length"] for row in series.rows]),
        np.array([row["value"] for row in series.rows]),
        color=(red, green, blue),
        linestyle=DOTS,
        linewidth=WIDTH,
        marker=marker,
        markersize=2.4,
        markevery=[len(series.rows) - 1],
        label=f"_bound of {series.label}",
        zorder=1.7,  # above the grid
    )


def handle(bounds: Bounds) -> Line2D:
    """Return the legend entry of all bounds."""
    label = bounds.label
    if len(label) > 29:  # wider than a variant, beside the backbones in a column of a paper
        label = label.replace(" (", "\n(", 1)
    return Line2D([], [], color=theme.GREY, linestyle=DOTS, linewidth=WIDTH, label=label)
