"""Generated tokens per second against batch at a fixed length, one line per backbone and sampler,
and the batches at which autoregressive decoding overtakes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from dlm_bench.analysis.crossover import Overtaking, overtakings
from dlm_bench.errors import ResultsError
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, draw_lines, valued
from dlm_bench.figures.throughput import speed
from dlm_bench.results import series
from dlm_bench.results.series import BACKBONE_NAMES, Line, labelled

THROUGHPUT = Quantity("throughput (tokens/s)", along="batch")


@theme.look()
def draw_batch(frame: pd.DataFrame) -> Figure:
    """Draw tokens/s of all sequences together against batch from the ok records of `load_results`.

    On the axes and with the marks of `draw_throughput`, with a panel for each length besides. Lines
    with one batch alone are drawn where others of their length have more. The caption says at
    which batch each autoregressive line overtakes each other one. Raises ResultsError if no line
    has two batches.
    """
    lines = series.lines(frame, along="batch")
    lengths = {line.settings["length"] for line in lines if len(line.rows) > 1}
    if not lengths:
        raise ResultsError("no line of the records has two batches at the same length")
    drawn = [valued(line, speed) for line in lines if line.settings["length"] in lengths]
    several = len(lengths) > 1
    told = told_of(overtakings(_named(drawn)), several)
    shown = frame[frame["length"].isin(lengths)]
    return draw_lines(shown, drawn, replace(THROUGHPUT, told=told))


def _named(drawn: list[Line]) -> list[Line]:
    """The lines as the caption calls them: by their backbones, if these tell them apart."""
    counts = Counter((line.backbone, line.settings["length"]) for line in drawn)
    if max(counts.values()) > 1:
        return labelled(drawn, hidden={"length"})
    names = BACKBONE_NAMES
    return [replace(line, label=names.get(line.backbone, line.backbone)) for line in drawn]


def told_of(found: Iterable[Overtaking], several: bool) -> str:
    """Say the batch of each crossover, a sentence for each autoregressive line and length."""
    texts: dict[tuple[str, int], list[str]] = {}
    for each in found:
        length = each.line.settings["length"]
        texts.setdefault((each.rival.label, length), []).append(_told(each))
    return " ".join(
        f"{rival}{f' at L = {length:,}' if several else ''} overtakes {', '.join(each)}."
        for (rival, length), each in texts.items()
    )


def _told(each: Overtaking) -> str:
    name = each.line.label
    if each.batch is None:
        return f"{name} at no batch measured"
    if each.from_the_start:
        return f"{name} at batch {each.first} or before"
    return f"{name} at batch {each.batch:.3g}"
