"""The figures, by name: each draws a frame of `load_results` and returns a matplotlib Figure."""

from collections.abc import Callable

from matplotlib.figure import Figure

from dlm_bench.figures.batch import draw_batch
from dlm_bench.figures.energy import draw_energy
from dlm_bench.figures.latency import draw_latency
from dlm_bench.figures.memory import draw_memory
from dlm_bench.figures.missing import NotDrawnWarning
from dlm_bench.figures.paper import draw_paper_block, draw_paper_full
from dlm_bench.figures.roofline import draw_roofline
from dlm_bench.figures.speedup import draw_speedup
from dlm_bench.figures.style import save
from dlm_bench.figures.throughput import draw_throughput

# Beside the frame some take options: predict, hardware or sampler (see each).
FIGURES: dict[str, Callable[..., Figure]] = {
    "throughput": draw_throughput,
    "batch": draw_batch,
    "paper-full": draw_paper_full,
    "paper-block": draw_paper_block,
    "latency": draw_latency,
    "speedup": draw_speedup,
    "roofline": draw_roofline,
    "energy": draw_energy,
    "memory": draw_memory,
}

__all__ = [
    "FIGURES",
    "NotDrawnWarning",
    "draw_batch",
    "draw_energy",
    "draw_latency",
    "draw_memory",
    "draw_paper_block",
    "draw_paper_full",
    "draw_roofline",
    "draw_speedup",
    "draw_throughput",
    "save",
]
