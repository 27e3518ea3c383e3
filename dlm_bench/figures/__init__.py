"""The figures, by name: each draws a frame of `load_results` and returns a matplotlib Figure with a
`caption`.

Loaded on first use: NAMES does not wait for matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlm_bench.figures.batch import draw_batch
    from dlm_bench.figures.caption import CaptionedFigure
    from dlm_bench.figures.energy import draw_energy
    from dlm_bench.figures.free import draw_free, draw_pareto
    from dlm_bench.figures.latency import draw_latency
    from dlm_bench.figures.memory import draw_memory
    from dlm_bench.figures.missing import NotDrawnWarning
    from dlm_bench.figures.output import save
    from dlm_bench.figures.paper import draw_paper_block, draw_paper_full
    from dlm_bench.figures.repeats import draw_repeats
    from dlm_bench.figures.roofline import draw_roofline
    from dlm_bench.figures.speedup import draw_speedup
    from dlm_bench.figures.throughput import draw_throughput
    from dlm_bench.figures.waiting import draw_waiting

    FIGURES: dict[str, Callable[..., CaptionedFigure]]

# Each is drawn by the function `draw_NAME`. Beside the frame some take options: predict, hardware
# or sampler (see each).
NAMES = (
    "throughput",
    "batch",
    "waiting",
    "paper-full",
    "paper-block",
    "latency",
    "speedup",
    "roofline",
    "energy",
    "memory",
    "pareto",
    "repeats",
)
_HOMES = {
    "NotDrawnWarning": "missing",
    "draw_batch": "batch",
    "draw_energy": "energy",
    "draw_free": "free",
    "draw_latency": "latency",
    "draw_memory": "memory",
    "draw_paper_block": "paper",
    "draw_paper_full": "paper",
    "draw_pareto": "free",
    "draw_repeats": "repeats",
    "draw_roofline": "roofline",
    "draw_speedup": "speedup",
    "draw_throughput": "throughput",
    "draw_waiting": "waiting",
    "save": "output",
}

__all__ = [
    "FIGURES",
    "NAMES",
    "NotDrawnWarning",
    "draw_batch",
    "draw_energy",
    "draw_free",
    "draw_latency",
    "draw_memory",
    "draw_paper_block",
    "draw_paper_full",
    "draw_pareto",
    "draw_repeats",
    "draw_roofline",
    "draw_speedup",
    "draw_throughput",
    "draw_waiting",
    "save",
]


def __getattr__(name: str) -> Any:
    if name == "FIGURES":
        return {each: __getattr__(f"draw_{each.replace('-', '_')}") for each in NAMES}
    if name not in _HOMES:
        raise AttributeError(f"module 'dlm_bench.figures' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dlm_bench.figures.{_HOMES[name]}"), name)
