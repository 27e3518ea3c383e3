"""The roofline (Williams et al. 2009): the floor of a pass on given hardware, and the share of the
floor in a measured decode.

A pass takes at least max(FLOPs / peak, bytes / bandwidth) with the counts of `cost.flops`, as if
arithmetic and memory overlapped perfectly. Launches, elementwise work, activations, and clocks
falling under load come on top, and consecutive kernels, some bound by arithmetic, some by memory,
do not overlap. A decode beats the floor only if weights and caches stay in a last-level cache from
pass to pass, as small models do on CPUs, or if another matrix product exceeds the calibration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dlm_bench.cost.flops import (
    Array,
    Cost,
    cache_bytes,
    parameter_bytes,
    pass_costs,
    passes_of,
)
from dlm_bench.cost.hardware import HARDWARE, MEASURED, Hardware
from dlm_bench.errors import ConfigError, unknown
from dlm_bench.models.device import find_device
from dlm_bench.models.own import Config, stated_config
from dlm_bench.results.record import Record
from dlm_bench.samplers import SAMPLERS, build_sampler
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape


def find_hardware(name: str) -> Hardware:
    """Return a sheet by name, or for "measured" a calibration of this machine (the GPU in bfloat16,
    or else the CPU in float32). Raises ConfigError for another name."""
    if name == MEASURED:
        from dlm_bench.cost.calibration import measure_hardware  # with torch

        return measure_hardware(find_device("auto").type)
    if name not in HARDWARE:
        raise unknown("hardware", name, (*HARDWARE, MEASURED))
    return HARDWARE[name]


def floor_seconds(costs: Cost, hardware: Hardware) -> float | Array:
    """Least seconds of each pass: a float, or an array (passes,) for arrays of costs."""
    floor = np.maximum(costs.flops / hardware.peak, costs.bytes / hardware.bandwidth)
    return float(floor) if np.ndim(floor) == 0 else floor


def decode_floor(
    config: Config,
    sampler: Sampler,
    length: int,
    hardware: Hardware,
    *,
    batch: int = 1,
    dtype: str | None = None,
    prompt_len: int = 0,
    seed: int = 0,
) -> float:
    """Return the least seconds of a decode after a prompt, the prefill pass excluded; of the decode
    with this seed, where the seed decides the passes.

    The passes of a decode wait for each other, so their floors add. dtype is the hardware's unless
    given. Raises ConfigError for a wrong value.
    """
    sampler.check_backbone(config.backbone)
    passes = passes_of(sampler, DecodeShape(length, prompt_len, batch), seed)
    costs = pass_costs(config, sampler, passes, batch=batch, dtype=dtype or hardware.dtype)
    return float(np.sum(floor_seconds(costs, hardware)))


def bound(
    config: Config,
    sampler: Sampler,
    length: int,
    hardware: Hardware,
    *,
    batch: int = 1,
    dtype: str | None = None,
    prompt_len: int = 0,
    seed: int = 0,
) -> float:
    """Return the most generated tokens per second of a decode: the tokens of all passes but the
    prefill pass, over their least seconds. Raises ConfigError as `decode_floor` does."""
    place: dict[str, Any] = {"batch": batch, "dtype": dtype, "prompt_len": prompt_len}
    seconds = decode_floor(config, sampler, length, hardware, **place, seed=seed)
    passes = passes_of(sampler, DecodeShape(length, prompt_len, batch), seed)
    return batch * float(passes.reveal.sum()) / seconds


def fits(
    config: Config,
    sampler: Sampler,
    length: int,
    hardware: Hardware,
    *,
    batch: int = 1,
    prompt_len: int = 0,
) -> bool:
    """Return True if weights and caches, in the precision of the peak, are within the memory."""
    caches = cache_bytes(config, sampler, length, batch, hardware.dtype, prompt_len)
    return parameter_bytes(config, hardware.dtype) + caches <= hardware.memory


def same_precision(dtype: str, hardware: Hardware) -> bool:
    """Return True if the hardware's peak holds for `dtype`; float16 has bfloat16's."""
    return dtype == hardware.dtype or {dtype, hardware.dtype} <= {"bfloat16", "float16"}


def check_precision(dtype: str, hardware: Hardware) -> None:
    """Raise ConfigError if the hardware's peak has another precision than `dtype`."""
    if not same_precision(dtype, hardware):
        raise ConfigError(
            f"dtype: {dtype!r} is not allowed; the peak of hardware {hardware.name!r} is that of "
            f"{hardware.dtype}"
        )


@dataclass(frozen=True)
class Utilisation:
    """Fractions of the hardware's limits.

    mfu: of the peak FLOP/s.
    mbu: of the bandwidth.
    roofline: floor / measured seconds, the unavoidable share of the time.
    """

    mfu: float
    mbu: float
    roofline: float


def utilisation(measured: Record | Mapping[str, Any], hardware: Hardware) -> Utilisation:
    """Return the shares of the hardware's limits in a measured decode.

    measured: a Record, or a row of `load_results`.
    Raises ConfigError if nothing was timed, if model or sampler are missing in the record or not
    this project's, or if the hardware's peak has another precision.
    """
    facts = _facts(measured)
    if not facts["seconds"] or not facts["seconds"] > 0:  # NaN in a row of a failed point
        raise ConfigError("seconds: nothing was timed in this record")
    check_precision(facts["dtype"], hardware)
    if not facts["model"]:
        raise ConfigError("model: this record does not say what it is")
    config, sampler = stated_config(facts["model"]), facts["sampler"]
    shape = DecodeShape(facts["length"], facts["prompt_len"], facts["batch"])
    passes = passes_of(sampler, shape, facts["seed"])
    costs = pass_costs(config, sampler, passes, batch=facts["batch"], dtype=facts["dtype"])
    total, seconds = costs.total(), facts["seconds"]
    return Utilisation(
        mfu=float(total.flops / hardware.peak / seconds),
        mbu=float(total.bytes / hardware.bandwidth / seconds),
        roofline=float(np.sum(floor_seconds(costs, hardware)) / seconds),
    )


def _facts(measured: Record | Mapping[str, Any]) -> dict[str, Any]:
    """Extract the input of `utilisation` from a record or a row with options as columns."""
    if isinstance(measured, Record):
        row: Mapping[str, Any] = measured.point.model_dump() | measured.point.options
        seconds, model, seed = measured.mean_seconds, measured.model, measured.seed
    else:
        row = measured
        seconds, model, seed = row["mean_seconds"], row["model"], row.get("seed", 0)
    return {
        "seconds": seconds,
        "model": model,
        "seed": int(seed),
        "dtype": row["dtype"],
        "length": int(row["length"]),
        "batch": int(row["batch"]),
        "prompt_len": int(row["prompt_len"]),
        "sampler": sampler_of(row),
    }


def sampler_of(row: Mapping[str, Any]) -> Sampler:
    """Build the sampler of a row of `load_results`, with the options in columns of their own.

    Raises ConfigError for a sampler of another package, a wrong option, a trace, as a record only
    has the label, or a decode that ended with its texts.
    """
    if row.get("stop_at_eos"):
        raise ConfigError("stop_at_eos: a record names no passes of a decode that ends with a text")
    if row["sampler"] not in SAMPLERS:
        raise unknown("sampler", row["sampler"], SAMPLERS)
    options = {}
    for field in fields(SAMPLERS[row["sampler"]]):
        default: Any = field.default
        value = row.get(field.name)
        # A column that other samplers lack holds floats, and NaN where they lack it.
        if value is not None and value == value:
            try:
                options[field.name] = type(default)(value)
            except ValueError:
                raise ConfigError(f"{field.name}: {value!r} is not allowed") from None
    if "trace" in options:
        raise ConfigError(
            f"trace: {options['trace']!r} is not allowed here; a record names no passes of it"
        )
    return build_sampler(row["sampler"], **options)
