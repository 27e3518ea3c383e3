"""Speed-ups of backbones over a reference backbone, length by length."""

import numpy as np
import pandas as pd

from dlm_bench.errors import ResultsError
from dlm_bench.results.series import error_of, identity_columns, ok_points

REFERENCE = "diffutran"


def speedups(frame: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Return the speed-up over the reference backbone of each ok point of the other backbones.

    A point is compared with the reference at the same length, under the same sampler with the same
    options, and of the same size, batch, prompt, dtype, device and hardware: the effect of the
    backbone alone. `frame` comes from `load_results`; the last ok record of a point counts.

    The columns tell lines apart (backbone, sampler, options, size, batch, prompt_len, dtype,
    device, hardware); then come length, tokens_per_second, reference_tokens_per_second, speedup
    (the ratio of the two, each of the mean over the repeats), low and high: the 95 % interval, of
    two independent errors on a logarithmic scale. The last four are NaN without a reference point,
    as for every autoregressive line; low and high are the speed-up where an error of the two is not
    known. Lines come in the order of the frame, lengths ascending.

    Raises ResultsError if no record is ok, or none of the reference is.
    """
    points = ok_points(frame)
    identity = identity_columns(frame)
    rows = points.to_dict("records")
    errors = [np.nan if (error := error_of(row)) is None else np.log1p(error) for row in rows]
    lines = points.groupby(identity, sort=False, dropna=False).ngroup()
    points = points.assign(line=lines, error=errors).sort_values(["line", "length"], kind="stable")
    is_reference = points["backbone"].eq(reference)
    if not is_reference.any():
        there = ", ".join(dict.fromkeys(points["backbone"]))
        raise ResultsError(f"reference: no ok record of {reference!r}; there are: {there}")

    alike = [*(name for name in identity if name != "backbone"), "length"]
    speeds = ["tokens_per_second", "error"]
    against = points.loc[is_reference, [*alike, *speeds]]
    compared = points[~is_reference].merge(against, on=alike, how="left", suffixes=("", "_of_ref"))
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
