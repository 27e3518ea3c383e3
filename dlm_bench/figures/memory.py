"""The most memory that decoding took, against sequence length."""

import pandas as pd
from matplotlib.figure import Figure

from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, Row, Spread, draw_known
from dlm_bench.results.series import lines

GIB = 2**30
MEMORY = Quantity(
    "peak memory (GiB)",
    told="Peak of torch's allocations on a GPU, of the whole process on a CPU.",
    bars="",
)


@theme.look()
def draw_memory(frame: pd.DataFrame) -> Figure:
    """Draw the peak memory of ok records, on the axes and with the marks of `draw_throughput`.

    Weights and caches included, and on a CPU the libraries' code (see `dlm_bench.timing.memory`).
    Points whose records do not say are named by a NotDrawnWarning. Raises ResultsError if all are.
    """
    lack = "no peak memory in the record"
    return draw_known("memory", frame, lines(frame), MEMORY, peak, lack)


def peak(row: Row) -> Spread | None:
    """GiB at the peak; None where the system did not tell."""
    taken = row["peak_memory_bytes"]
    if pd.isna(taken) or not taken:
        return None
    return Spread(taken / GIB, taken / GIB, taken / GIB)
