"""Tokens per forward pass of a sequence against batch: fewer where sequences wait."""

import pandas as pd

from dlm_bench.errors import ResultsError
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, Row, Spread, draw_available
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.results.series import Series, labelled, series_of

FORWARD = Quantity(
    "tokens per pass of a sequence",
    explanation="All tokens generated, divided by the passes (commits included) and by the batch.",
    bars="",
    along="batch",
)


@theme.applied()
def draw_waiting(frame: pd.DataFrame) -> CaptionedFigure:
    """Draw tokens per forward pass of a sequence against batch, as `draw_batch` draws.

    The caption says which share of the sequences waited at the largest batch. Raises ResultsError
    if no series has two batches, or no record tells the passes of its blocks.
    """
    found = series_of(frame, along="batch")
    lengths = {series.settings["length"] for series in found if len(series.rows) > 1}
    if not lengths:
        raise ResultsError("no series of the records has two batches at the same length")
    drawn = [series for series in found if series.settings["length"] in lengths]
    reason = "no passes of blocks in the record"
    figure = draw_available("waiting", frame, drawn, FORWARD, tokens_per_forward, reason)
    figure.caption += waited(drawn)
    return figure


def waited(drawn: list[Series]) -> str:
    """Say which share of the sequences waited at the largest batch of each series."""
    texts = []
    for series in labelled(drawn, hidden={"length"}):
        last = max(series.rows, key=lambda row: row["batch"])
        if last["blocks"].get("waited"):
            texts.append(f"{series.label}: {last['blocks']['waited']:.0%} at {last['batch']}")
    told = " Share of the sequences that wait in a pass, at the largest batch:"
    return f"{told} {'; '.join(texts)}." if texts else ""


def tokens_per_forward(row: Row) -> Spread | None:
    """Return the tokens of a sequence per pass; None in older records."""
    found = row["blocks"].get("tokens_per_forward")
    if found is None:
        return None
    each = found / row["batch"]
    return Spread(each, each, each)
