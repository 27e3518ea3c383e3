"""Generated tokens per second against sequence length, a series per backbone and sampler."""

import pandas as pd

from dlm_bench.cost.hardware import Hardware
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import (
    Quantity,
    Row,
    Spread,
    draw_series,
    over_repeats,
    valued,
)
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.predicted import bounds_of
from dlm_bench.results.series import grouped, series_of

THROUGHPUT = Quantity("throughput (tokens/s)")


@theme.applied()
def draw_throughput(frame: pd.DataFrame, predict: Hardware | None = None) -> CaptionedFigure:
    """Draw tokens/s against length on logarithmic axes from the ok records of `load_results`.

    Points are means over the repeats, bars their 95 % interval, hollow markers sampled
    timing, rings records with flags. Each machine and each p has a panel; series without p are in
    all panels of their machine. predict: hardware for a roofline bound under each series, series
    without a measured point included. Raises ResultsError if there is nothing to draw.
    """
    drawn = [valued(series, speed) for series in series_of(frame)]
    lengths = [row["length"] for series in drawn for row in series.rows]
    bounds = bounds_of(grouped(frame), predict, lengths) if predict else None
    return draw_series(frame, drawn, THROUGHPUT, bounds)


def speed(row: Row) -> Spread:
    """Return tokens per second of a record, with the 95 % interval."""
    return over_repeats(row, lambda seconds: row["timed_tokens"] / seconds)
