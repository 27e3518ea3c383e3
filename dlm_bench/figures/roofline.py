"""The achieved share of the roofline against sequence length."""

from dataclasses import replace

import pandas as pd

from dlm_bench.cost.hardware import Hardware, sheet_of
from dlm_bench.cost.roofline import utilisation
from dlm_bench.errors import ConfigError, ResultsError
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
from dlm_bench.figures.missing import name_missing
from dlm_bench.results.series import series_of, short_number

ROOFLINE = Quantity(
    "share of the roofline", level=1.0, tick=lambda value: f"{short_number(100 * value)} %"
)


@theme.applied()
def draw_roofline(frame: pd.DataFrame, hardware: Hardware | None = None) -> CaptionedFigure:
    """Draw the roofline's floor of a decode over the measured time, with the axes and marks of
    `draw_throughput`; the grey line at 100 % is the limit of the hardware.

    hardware: the sheet for all records; without it each record has the sheet of the GPU in the
    record. A NotDrawnWarning names records without a sheet, in another precision than the peak, or
    of a user's own samplers. Raises ResultsError if nothing is left.
    """
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

    drawn = [
        series for series in (valued(each, achieved) for each in series_of(frame)) if series.rows
    ]
    texts = [f"{', '.join(sorted(samplers))} ({why})" for why, samplers in reasons.items()]
    if not drawn:
        raise ResultsError("; ".join(texts))
    name_missing("roofline", texts)
    explanation = f"Floor of the hardware ({'; '.join(sheets)}) over the time taken."
    return draw_series(frame, drawn, replace(ROOFLINE, explanation=explanation), missing=texts)
