"""The speed-up of each line over DiffuTran, against sequence length."""

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from dlm_bench.analysis.speedup import REFERENCE, speedups
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, Row, Spread, draw_known
from dlm_bench.results import series
from dlm_bench.results.series import BACKBONE_NAMES, Line, identity_columns, short_number

NAME = BACKBONE_NAMES[REFERENCE]
SPEEDUP = Quantity(
    f"speed-up over {NAME}",
    told=f"Tokens/s over those of {NAME} with the same sampler and options.",
    bars=f"slowest over {NAME}'s fastest repeat, and the reverse",
    level=1.0,
    tick=lambda value: f"{short_number(value)}\N{MULTIPLICATION SIGN}",
)


@theme.look()
def draw_speedup(frame: pd.DataFrame) -> Figure:
    """Draw the speed-up over DiffuTran of each point, on the axes and with the marks of
    `draw_throughput`; DiffuTran itself is the grey line at 1.

    A line is compared with DiffuTran under the same sampler with the same options, and of the same
    size, batch, dtype and machine: what the backbone alone makes of it (see
    `dlm_bench.analysis.speedup`). Lines without such a counterpart, as autoregressive ones, are
    named by a NotDrawnWarning. A point is ringed for its own flags and for DiffuTran's. Raises
    ResultsError if nothing is left.
    """
    identity = [*identity_columns(frame), "length"] if len(frame) else []
    lines = series.lines(frame)
    found = {
        _key(row, identity): Spread(row["speedup"], row["low"], row["high"])
        for row in speedups(frame).dropna(subset=["speedup"]).to_dict("records")
    }

    others = _with_flags_of_reference(lines, identity[1:])
    lack = f"no {NAME} with the same sampler and options"
    return draw_known(
        "speedup", frame, others, SPEEDUP, lambda row: found.get(_key(row, identity)), lack
    )


def _with_flags_of_reference(lines: list[Line], alike: list[str]) -> list[Line]:
    """The lines but for DiffuTran's, its flags added to those of the points compared with it."""
    flags = {
        _key(row, alike): row["flags"]
        for line in lines
        if line.backbone == REFERENCE
        for row in line.rows
    }

    def both(row: Row) -> list[str]:
        return list(dict.fromkeys([*row["flags"], *flags.get(_key(row, alike), [])]))

    return [
        replace(line, rows=[row | {"flags": both(row)} for row in line.rows])
        for line in lines
        if line.backbone != REFERENCE
    ]


def _key(row: Row, identity: list[str]) -> tuple[object, ...]:
    """Return the key of a point, None for each missing value: NaN equals nothing."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in identity)
