"""The roofline's bound of lines, measured or not, as figures of throughput draw it under them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from dlm_bench.cost.hardware import Hardware
from dlm_bench.errors import ConfigError
from dlm_bench.figures import theme
from dlm_bench.results.series import Line

if TYPE_CHECKING:
    from dlm_bench.models.config import ModelConfig
    from dlm_bench.samplers.sampler import Sampler

DOTS = (0, (1, 1.6))
WIDTH = 0.8
PALE = 0.45  # how much of the way to white a bound's colour goes


@dataclass(frozen=True)
class Bounds:
    """The bounds of lines on some hardware (`value` in tokens/s), and the legend's entry."""

    lines: list[Line]
    label: str


def bounds_of(asked: Iterable[Line], hardware: Hardware, lengths: Iterable[int]) -> Bounds | None:
    """The most tokens per second that the hardware allows each line, at the powers of two and
    the `lengths` within their range.

    It is a bound of the hardware's own precision, whatever the line's, and ends where weights and
    caches exceed the memory. Lines of someone's own backbones and samplers have none. None if no
    line has one.
    """
    ends = sorted(lengths)
    powers = (1 << n for n in range(ends[0].bit_length(), ends[-1].bit_length()))
    places = sorted({*ends, *powers})
    found, dtypes = [], set()
    for line in asked:
        rows = _rows(line, hardware, places)
        if rows:
            found.append(replace(line, rows=rows))
            dtypes.add(line.settings["dtype"])
    other = "" if dtypes == {hardware.dtype} else f", {hardware.dtype}"
    return Bounds(found, f"roofline bound ({hardware.name}{other})") if found else None


def _rows(line: Line, hardware: Hardware, lengths: list[int]) -> list[dict[str, Any]]:
    """Return the input of `draw` and of the scales for a line's bound at these lengths."""
    from dlm_bench.cost.roofline import sampler_of
    from dlm_bench.models.config import model_config, stated_model_config

    models = [row["model"] for row in line.rows if row["model"]]
    try:
        sampler = sampler_of({"sampler": line.sampler} | line.settings)
        named = (line.backbone, line.settings["size"])
        config = stated_model_config(models[0]) if models else model_config(*named)
        place = int(line.settings["batch"]), int(line.settings["prompt_len"])
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
    config: "ModelConfig",
    sampler: "Sampler",
    length: int,
    hardware: Hardware,
    batch: int,
    prompt_len: int,
) -> float | None:
    """Tokens per second at most; None where the memory is too small."""
    from dlm_bench.cost import roofline

    place = {"batch": batch, "prompt_len": prompt_len}
    if not roofline.fits(config, sampler, length, hardware, **place):
        return None
    return roofline.bound(config, sampler, length, hardware, batch=batch, prompt_len=prompt_len)


def draw(axes: Axes, line: Line, colour: str, marker: str) -> None:
    """A thin pale dotted line with the small marker of its sampler at its end."""
    red, green, blue = (channel + PALE * (1 - channel) for channel in to_rgb(colour))
    axes.plot(
        np.array([row["length"] for row in line.rows]),
        np.array([row["value"] for row in line.rows]),
        color=(red, green, blue),
        linestyle=DOTS,
        linewidth=WIDTH,
        marker=marker,
        markersize=2.4,
        markevery=[len(line.rows) - 1],
        label=f"_bound of {line.label}",
        zorder=1.7,  # above the grid
    )


def handle(bounds: Bounds) -> Line2D:
    """The legend's entry of all bounds."""
    return Line2D([], [], color=theme.GREY, linestyle=DOTS, linewidth=WIDTH, label=bounds.label)
