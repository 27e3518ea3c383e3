"""Joules per generated token against sequence length."""

import math

import pandas as pd

from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, Row, Spread, draw_available
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.results.series import series_of

ENERGY = Quantity(
    "energy per token (J)",
    explanation="Energy of the whole GPU, or of the CPU's packages.",
    bars="",
)


@theme.applied()
def draw_energy(frame: pd.DataFrame) -> CaptionedFigure:
    """Draw joules per generated token, from the telemetry of ok records, with the axes and marks of
    `draw_throughput`.

    There are no bars: the energy is of all repeats together (see `dlm_bench.timing.telemetry`).
    A NotDrawnWarning names points without energy. Raises ResultsError if there is none at all.
    """
    reason = "no energy in the telemetry"
    return draw_available("energy", frame, series_of(frame), ENERGY, joules_per_token, reason)


def joules_per_token(row: Row) -> Spread | None:
    """Return joules per generated token; None without a valid sensor reading."""
    joules = row["telemetry"].get("energy_joules")
    if not isinstance(joules, int | float) or not 0 < joules < math.inf:
        return None
    each = joules / (len(row["seconds"]) * row["timed_tokens"])
    return Spread(each, each, each)
