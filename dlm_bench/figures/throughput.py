"""Generated tokens per second against sequence length, one line per backbone and sampler."""

import pandas as pd
from matplotlib.figure import Figure

from dlm_bench.cost.hardware import Hardware
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import (
    Quantity,
    Row,
    Spread,
    draw_lines,
    over_repeats,
    valued,
)
from dlm_bench.figures.bound import bounds_of
from dlm_bench.results.series import grouped, lines

THROUGHPUT = Quantity("throughput (tokens/s)")


@theme.look()
def draw_throughput(frame: pd.DataFrame, predict: Hardware | None = None) -> Figure:
    """Draw tokens/s against length on logarithmic axes from the ok records of `load_results`.

    Points are the mean over the repeats, bars their slowest and fastest repeat, hollow markers
    sampled timing, rings records with flags. Each machine and each tokens per step (p) has a panel
    of its own; lines without p, which are the autoregressive ones, are in all panels of their
    machine. `predict` draws that hardware's roofline bound under each line, and of lines of which
    no point could be measured. Raises ResultsError if there is nothing to draw.
    """
    drawn = [valued(line, speed) for line in lines(frame)]
    lengths = [row["length"] for line in drawn for row in line.rows]
    bounds = bounds_of(grouped(frame), predict, lengths) if predict else None
    return draw_lines(frame, drawn, THROUGHPUT, bounds)


def speed(row: Row) -> Spread:
    """Tokens per second of a record, and of its slowest and fastest repeat."""
    return over_repeats(row, lambda seconds: row["timed_tokens"] / seconds)
