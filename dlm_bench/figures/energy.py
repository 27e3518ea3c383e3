"""Joules a generated token takes, against sequence length."""

import math

import pandas as pd
from matplotlib.figure import Figure

from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, Row, Spread, draw_known
from dlm_bench.results.series import lines

ENERGY = Quantity(
    "energy per token (J)",
    told="Energy of the whole GPU, or of the CPU's packages.",
    bars="",
)


@theme.look()
def draw_energy(frame: pd.DataFrame) -> Figure:
    """Draw the energy of a generated token, from the telemetry of ok records, on the axes and with
    the marks of `draw_throughput`.

    Of all repeats together (see `dlm_bench.timing.telemetry`), so there are no bars. Points whose
    records have no energy are named by a NotDrawnWarning. Raises ResultsError if none has any.
    """
    lack = "no energy in the telemetry"
    return draw_known("energy", frame, lines(frame), ENERGY, joules_per_token, lack)


def joules_per_token(row: Row) -> Spread | None:
    """Joules of a generated token; None where the hardware did not tell, or told nothing."""
    joules = row["telemetry"].get("energy_joules")
    if not isinstance(joules, int | float) or not 0 < joules < math.inf:
        return None
    each = joules / (len(row["seconds"]) * row["timed_tokens"])
    return Spread(each, each, each)
