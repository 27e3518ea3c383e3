"""Generated tokens per second against batch at a fixed length, and the batches where autoregressive
decoding overtakes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from dlm_bench.analysis.crossover import Overtaking, overtakings
from dlm_bench.errors import ResultsError
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, draw_series, valued
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.throughput import speed
from dlm_bench.results.series import BACKBONE_NAMES, Series, labelled, series_of

THROUGHPUT = Quantity("throughput (tokens/s)", along="batch")


@theme.applied()
def draw_batch(frame: pd.DataFrame) -> CaptionedFigure:
    """Draw tokens/s of all sequences together against batch, with the axes and marks of
    `draw_throughput` and a panel for each length.

    A series with a single batch is drawn where others of its length have more. The caption names
    the batches of overtaking. Raises ResultsError if no series has two batches.
    """
    found = series_of(frame, along="batch")
    lengths = {series.settings["length"] for series in found if len(series.rows) > 1}
    if not lengths:
        raise ResultsError("no series of the records has two batches at the same length")
    drawn = [valued(series, speed) for series in found if series.settings["length"] in lengths]
    sentences = describe(overtakings(_named(drawn)), several=len(lengths) > 1)
    shown = frame[frame["length"].isin(lengths)]
    return draw_series(shown, drawn, replace(THROUGHPUT, explanation=sentences))


def _named(drawn: list[Series]) -> list[Series]:
    """Label the series for the caption: by backbone alone if no two share a backbone."""
    counts = Counter((series.backbone, series.settings["length"]) for series in drawn)
    if max(counts.values()) > 1:
        return labelled(drawn, hidden={"length"})
    names = BACKBONE_NAMES
    return [replace(series, label=names.get(series.backbone, series.backbone)) for series in drawn]


def describe(found: Iterable[Overtaking], several: bool) -> str:
    """Write a sentence for each autoregressive series and length, with the batch of each crossover.

    several: name the length, as there are several.
    """
    texts: dict[tuple[str, int], list[str]] = {}
    for each in found:
        length = each.series.settings["length"]
        texts.setdefault((each.rival.label, length), []).append(_overtaken(each))
    return " ".join(
        f"{rival}{f' at L = {length:,}' if several else ''} overtakes {', '.join(each)}."
        for (rival, length), each in texts.items()
    )


def _overtaken(each: Overtaking) -> str:
    name = each.series.label
    if each.batch is None:
        return f"{name} at no batch measured"
    if each.from_the_start:
        return f"{name} at batch {each.first} or before"
    return f"{name} at batch {each.batch:.3g}"
