"""A measured decode that is faster than the hardware allows did not compute what was asked for."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec

import numpy as np

from dlm_bench.cost.flops import pass_costs, passes_of
from dlm_bench.cost.hardware import Hardware, sheet_of
from dlm_bench.cost.roofline import same_precision
from dlm_bench.errors import ConfigError, PointError
from dlm_bench.models.own import stated_config
from dlm_bench.results.record import Record
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.measure import measure as timing_measure

CACHED_BYTES = 128e6  # of weights that a GPU may keep in its last-level cache from pass to pass
MARGIN = 0.9  # of the floor, for what the counts of the cost model round up


def check_not_too_fast(record: Record, sampler: Sampler, hardware: Hardware | None = None) -> None:
    """Raise PointError if the decode of a record is faster than its roofline floor on a GPU with a
    sheet (see `cost.hardware`), less the bytes that its cache can hold.

    Nothing is said of other machines, other precisions than the sheet's, models without a cost
    model, and passes that depend on the model or its end of text.
    """
    sheet = hardware or sheet_of(record.environment.get("hardware"))
    point, mean = record.point, record.mean_seconds
    if sheet is None or mean is None or not same_precision(point.dtype, sheet):
        return
    if point.stop_at_eos:  # not all passes ran
        return
    try:
        config = stated_config(record.model)
        sampler.check_fixed()
        shape = DecodeShape(point.length, point.prompt_len, point.batch)
        passes = passes_of(sampler, shape, record.seed)
        costs = pass_costs(config, sampler, passes, batch=point.batch, dtype=point.dtype)
    except ConfigError:
        return
    read = np.maximum(np.asarray(costs.bytes) - CACHED_BYTES, 0.0)
    least = float(np.sum(np.maximum(costs.flops / sheet.peak, read / sheet.bandwidth)))
    if mean < MARGIN * least:
        raise PointError(
            f"decode: {mean:.4g} s is faster than {sheet.name} can be, {least:.4g} s by the FLOPs "
            "and bytes of its passes (dlm-bench cost); some of them were not computed"
        )


P = ParamSpec("P")


def _checked(measure: Callable[P, Record]) -> Callable[P, Record]:
    @wraps(measure)
    def checked(*args: P.args, **settings: P.kwargs) -> Record:
        record = measure(*args, **settings)
        sampler = signature(measure).bind(*args, **settings).arguments["sampler"]
        check_not_too_fast(record, sampler)
        return record

    return checked


measure = _checked(timing_measure)
