"""Peak memory of decoding against sequence length."""

import pandas as pd

from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, Row, Spread, draw_available
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.results.series import series_of

GIB = 2**30
MEMORY = Quantity(
    "peak memory (GiB)",
    explanation="Peak of torch's allocations on a GPU, of the whole process on a CPU.",
    bars="",
)


@theme.applied()
def draw_memory(frame: pd.DataFrame) -> CaptionedFigure:
    """Draw the peak memory of ok records, with the axes and marks of `draw_throughput`.

    The peak includes weights, caches, and on a CPU the libraries (see `dlm_bench.timing.memory`).
    A NotDrawnWarning names points without a peak. Raises ResultsError if there is none at all.
    """
    reason = "no peak memory in the record"
    return draw_available("memory", frame, series_of(frame), MEMORY, peak, reason)


def peak(row: Row) -> Spread | None:
    """Return the peak in GiB; None without a reading of the system."""
    taken = row["peak_memory_bytes"]
    if pd.isna(taken) or not taken:
        return None
    return Spread(taken / GIB, taken / GIB, taken / GIB)
