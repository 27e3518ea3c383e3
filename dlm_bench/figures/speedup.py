"""The speed-up of each series over DiffuTran, against sequence length."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from dlm_bench.analysis.speedup import TWIN, reference_name, speedups, usual_reference
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import Quantity, Row, Spread, draw_available
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.models.config import BACKBONES
from dlm_bench.results.series import (
    BACKBONE_NAMES,
    Series,
    identity_columns,
    series_of,
    short_number,
)

ATTENTION = {
    "attention": "(whole sequences)",
    "cached_attention": "(blocks over a cache)",
}


@theme.applied()
def draw_speedup(frame: pd.DataFrame) -> CaptionedFigure:
    """Draw the speed-up over DiffuTran of each point, with the axes and marks of `draw_throughput`;
    DiffuTran itself is the grey line at 1.

    The counterpart of a series has the same sampler, options, size, batch, dtype and machine, so
    only the backbone differs (see `dlm_bench.analysis.speedup`). Of the field's models alone it is
    the autoregressive twin. A NotDrawnWarning names series without a counterpart. A ring marks
    flags of the point or of DiffuTran. Raises ResultsError if nothing is left.
    """
    reference = usual_reference(frame) if len(frame) else ""
    identity = [*identity_columns(frame), "length"] if len(frame) else []
    drawn = series_of(frame)
    found = {
        _key(row, identity): Spread(row["speedup"], row["low"], row["high"])
        for row in speedups(frame, reference).dropna(subset=["speedup"]).to_dict("records")
    }

    others = _with_flags_of_reference(drawn, identity[1:], reference)
    how = "of the same shape" if reference == TWIN else "with the same sampler and options"
    reason = f"no {reference_name(reference).removeprefix('the ')} {how}"
    figure = draw_available(
        "speedup",
        frame,
        others,
        _quantity(reference, how),
        lambda row: found.get(_key(row, identity)),
        reason,
    )
    figure.caption = " ".join(filter(None, [figure.caption, attention_of(drawn)]))
    return figure


def _quantity(reference: str, how: str) -> Quantity:
    name = reference_name(reference)
    return Quantity(
        f"speed-up over {name}",
        explanation=f"Tokens/s over those of {name} {how}.",
        bars="95 % interval of the ratio of the means",
        level=1.0,
        tick=lambda value: f"{short_number(value)}\N{MULTIPLICATION SIGN}",
    )


def attention_of(drawn: Sequence[Series]) -> str:
    """Name the attention of each backbone for the caption: a speed-up over a slow attention is no
    merit of the other backbone. Empty if all is torch's own choice, as on a CPU."""
    named: dict[str, dict[str, set[str]]] = {}  # backbone to operation to implementations
    for series in drawn:
        paper = BACKBONES.get(series.backbone)
        if paper is not None and not paper.attention_every:
            continue
        for row in series.rows:
            for operation in ATTENTION.keys() & row["kernels"].keys():
                operations = named.setdefault(series.backbone, {})
                operations.setdefault(operation, set()).add(row["kernels"][operation])
    if all(names == {"torch"} for each in named.values() for names in each.values()):
        return ""
    texts = []
    for backbone, operations in named.items():
        by = [
            f"{' or '.join(sorted(operations[each]))} {place}"
            for each, place in ATTENTION.items()
            if each in operations
        ]
        texts.append(f"{BACKBONE_NAMES.get(backbone, backbone)} {', '.join(by)}")
    return f"Attention: {'; '.join(texts)}."


def _with_flags_of_reference(drawn: list[Series], alike: list[str], reference: str) -> list[Series]:
    """Return all series but the reference's, with its flags added to those of the points
    compared."""
    flags = {
        _key(row, alike): row["flags"]
        for series in drawn
        if series.backbone == reference
        for row in series.rows
    }

    def both(row: Row) -> list[str]:
        return list(dict.fromkeys([*row["flags"], *flags.get(_key(row, alike), [])]))

    return [
        replace(series, rows=[row | {"flags": both(row)} for row in series.rows])
        for series in drawn
        if series.backbone != reference and not (reference == TWIN and series.sampler == "ar")
    ]


def _key(row: Row, identity: list[str]) -> tuple[object, ...]:
    """Return the key of a point, with None for NaN, as NaN equals nothing."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in identity)
