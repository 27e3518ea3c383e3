"""The share of the roofline that decoding achieved, against sequence length."""

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from dlm_bench.cost.hardware import Hardware, sheet_of
from dlm_bench.errors import ConfigError, ResultsError
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import (
    Quantity,
    Row,
    Spread,
    draw_lines,
    over_repeats,
    valued,
)
from dlm_bench.figures.missing import name_missing
from dlm_bench.results.series import lines, short_number

ROOFLINE = Quantity(
    "share of the roofline", level=1.0, tick=lambda value: f"{short_number(100 * value)} %"
)


@theme.look()
def draw_roofline(frame: pd.DataFrame, hardware: Hardware | None = None) -> Figure:
    """Draw the least time that the hardware allows a decode over the time that it took, on the
    axes and with the marks of `draw_throughput`; the grey line at 100 % is the hardware's limit.

    Records are held against `hardware`, or without it against the sheet of the machine that they
    name. Those without a sheet, those in another precision than its peak, and those of samplers
    that are not this project's are named by a NotDrawnWarning. Raises ResultsError if nothing is
    left.
    """
    from dlm_bench.cost.roofline import utilisation

    sheets: dict[str, None] = {}
    reasons: dict[str, set[str]] = {}

    def achieved(row: Row) -> Spread | None:
        sheet = hardware or sheet_of(row["hardware"])
        if sheet is None:
            reason = f"no sheet of {row['hardware']!r}; --hardware names one"
            reasons.setdefault(reason, set()).add(row["sampler"])
            return None
        try:
            share = utilisation(row, sheet).roofline
        except ConfigError as error:
            reasons.setdefault(str(error), set()).add(row["sampler"])
            return None
        sheets.setdefault(f"{sheet.name}, {sheet.source}")
        return over_repeats(row, lambda seconds: share * row["mean_seconds"] / seconds)

    drawn = [line for line in (valued(each, achieved) for each in lines(frame)) if line.rows]
    texts = [f"{', '.join(sorted(samplers))} ({why})" for why, samplers in reasons.items()]
    if not drawn:
        raise ResultsError("; ".join(texts))
    name_missing("roofline", texts)
    told = f"Floor of the hardware ({'; '.join(sheets)}) over the time taken."
    return draw_lines(frame, drawn, replace(ROOFLINE, told=told))
