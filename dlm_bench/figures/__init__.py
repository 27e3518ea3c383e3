"""The figures, by name: each draws a frame of `load_results` and returns a matplotlib Figure."""

from collections.abc import Callable

from matplotlib.figure import Figure
from pandas import DataFrame

from dlm_bench.figures.latency import draw_latency
from dlm_bench.figures.style import save
from dlm_bench.figures.throughput import draw_throughput

FIGURES: dict[str, Callable[[DataFrame], Figure]] = {
    "throughput": draw_throughput,
    "latency": draw_latency,
}

__all__ = ["FIGURES", "draw_latency", "draw_throughput", "save"]
