"""Speed-ups of backbones over a reference backbone, length by length."""

import numpy as np
import pandas as pd

from dlm_bench.errors import ResultsError
from dlm_bench.models.presets import twin_of
from dlm_bench.results.series import (
    BACKBONE_NAMES,
    SETTINGS,
    error_of,
    identity_columns,
    ok_points,
)

REFERENCE = "diffutran"
TWIN = "twin"  # as a reference: the autoregressive model of the same shape
AR = "ar"  # the sampler of twins
SPEEDS = ["tokens_per_second", "error"]


def speedups(frame: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Return the speed-up over the reference backbone of each ok point of the other backbones.

    A point is compared with the reference at the same length, under the same sampler with the same
    options, and of the same size, batch, prompt, seed, dtype, device and hardware: the effect of
    the backbone alone. A reference with several checkpoints at a point is none. With TWIN as the
    reference, a model of the field is compared with the autoregressive model of the same shape,
    whatever the sampler and the options: the effect of the conversion. `frame` comes from
    `load_results`.

    The columns tell lines apart (backbone, sampler, options and SETTINGS); then come length,
    tokens_per_second, reference_tokens_per_second, speedup (the ratio of the two, each of the mean
    over the repeats), low and high: the 95 % interval, of two independent errors on a logarithmic
    scale. The last four are NaN without a reference point, as for every autoregressive line; low
    and high are the speed-up where an error of the two is not known. Lines come in the order of the
    frame, lengths ascending.

    Raises ResultsError if no record is ok, or none of the reference is.
    """
    points = ok_points(frame)
    identity = identity_columns(frame)
    rows = points.to_dict("records")
    errors = [np.nan if (error := error_of(row)) is None else np.log1p(error) for row in rows]
    lines = points.groupby(identity, sort=False, dropna=False).ngroup()
    points = points.assign(line=lines, error=errors).sort_values(["line", "length"], kind="stable")
    if reference == TWIN:
        compared = _with_twins(points)
    else:
        compared = _with_reference(points, identity, reference)
    speedup = compared["tokens_per_second"] / compared["tokens_per_second_of_ref"]
    factor = np.exp(np.hypot(compared["error"], compared["error_of_ref"])).fillna(1.0)
    ratios = pd.DataFrame(
        {
            "reference_tokens_per_second": compared["tokens_per_second_of_ref"],
            "speedup": speedup,
            "low": speedup / factor,
            "high": speedup * factor,
        }
    )
    return pd.concat([compared[[*identity, "length", "tokens_per_second"]], ratios], axis=1)


def _with_reference(points: pd.DataFrame, identity: list[str], reference: str) -> pd.DataFrame:
    """Return the points of the other backbones, beside those of the reference."""
    is_reference = points["backbone"].eq(reference)
    if not is_reference.any():
        there = ", ".join(dict.fromkeys(points["backbone"]))
        raise ResultsError(f"reference: no ok record of {reference!r}; there are: {there}")
    alike = [*(name for name in identity if name not in ("backbone", "weights")), "length"]
    against = points.loc[is_reference, [*alike, *SPEEDS]].drop_duplicates(alike, keep=False)
    return points[~is_reference].merge(against, on=alike, how="left", suffixes=("", "_of_ref"))


def _with_twins(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of the field's denoisers, beside those of their autoregressive twins."""
    alike = [*(name for name in SETTINGS if name != "size"), "length"]
    twins = [twin_of(*names) for names in zip(points["backbone"], points["size"], strict=True)]
    is_denoiser = [twin is not None for twin in twins]
    names = pd.DataFrame(
        [twin or ("", "") for twin in twins], columns=["twin", "twin_size"], index=points.index
    )
    of_twins = points.rename(columns={"backbone": "twin", "size": "twin_size"})
    against = of_twins.loc[points["sampler"].eq(AR), ["twin", "twin_size", *alike, *SPEEDS]]
    compared = points.join(names)[is_denoiser].merge(
        against, on=["twin", "twin_size", *alike], how="left", suffixes=("", "_of_ref")
    )
    if compared["tokens_per_second_of_ref"].isna().all():
        wanted = ", ".join(sorted({f"{twin[0]} {twin[1]}" for twin in twins if twin is not None}))
        raise ResultsError(
            "reference: no model of the field has an ok record of its autoregressive twin at the "
            f"same length and batch{f'; measure {wanted} with sampler ar' if wanted else ''}"
        )
    return compared


def usual_reference(frame: pd.DataFrame) -> str:
    """Return DiffuTran, or TWIN where there are records of the field's models and none of
    DiffuTran."""
    points = ok_points(frame)
    names = zip(points["backbone"], points["size"], strict=True)
    has_twins = any(twin_of(*each) is not None for each in names)
    return TWIN if has_twins and not points["backbone"].eq(REFERENCE).any() else REFERENCE


def reference_name(reference: str) -> str:
    """Return the name of a reference in titles."""
    named = BACKBONE_NAMES.get(reference, reference)
    return "the autoregressive twin" if reference == TWIN else named
