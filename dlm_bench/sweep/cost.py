"""The seconds that a sweep must take on some hardware, before any of it is run."""

from typing import Any

from dlm_bench.cost.roofline import Hardware, check_precision, decode_floor, fits
from dlm_bench.models.config import BACKBONES, model_config
from dlm_bench.results.record import Point
from dlm_bench.samplers import build_sampler
from dlm_bench.sweep.budget import LEAST_SECONDS
from dlm_bench.sweep.plan import Plan, expected_work
from dlm_bench.sweep.progress import duration


def sweep_seconds_text(plan: Plan, hardware: Hardware) -> str:
    """Say what measuring all points of a plan takes on some hardware, without its loading.

    At least: the roofline of the timed passes, and of a sampled point LEAST_SECONDS. At most: all
    sampled points take their `max_seconds`. Raises ConfigError for a point in another precision
    than the hardware's peak.
    """
    measuring = plan.sweep.measuring
    least, most, sampled, unknown = 0.0, 0.0, 0, 0
    once = measuring.model_copy(update={"mode": "exact", "warmup": 0, "repeats": 1})
    for point, work in zip(plan.sweep.points, plan.work, strict=True):
        check_precision(point.dtype, hardware)
        options = plan.sweep.options_of(point)
        decode = _floor(point, options, hardware)
        if decode is None:
            unknown += 1
            continue
        exact = (measuring.warmup + measuring.repeats) * decode
        if measuring.mode == "exact" or (
            measuring.mode == "auto" and exact <= measuring.max_seconds
        ):
            least += exact
            most += exact
            continue
        sampled += 1
        rounds = decode * work / expected_work(point, once, options)
        least += max(rounds, min(LEAST_SECONDS, measuring.max_seconds))
        most += max(rounds, measuring.max_seconds)
    count = len(plan.sweep.points) - unknown
    text = f"at least {duration(least)} for {count} points on {hardware.name}, by its roofline"
    if sampled:
        text += f"; {duration(most)} if its {sampled} sampled points take all of their max_seconds"
    if unknown:
        text += f"; {unknown} more points have no known cost, or no room in its memory"
    return text


def _floor(point: Point, options: dict[str, Any], hardware: Hardware) -> float | None:
    """The roofline of one decode in seconds; None where it is not known, or has no room."""
    sampler = build_sampler(point.sampler, **options)
    if not sampler.known or point.backbone not in BACKBONES:
        return None
    decode = (model_config(point.backbone, point.size), sampler, point.length, hardware)
    place: dict[str, Any] = {"batch": point.batch, "prompt_len": point.prompt_len}
    return decode_floor(*decode, **place, dtype=point.dtype) if fits(*decode, **place) else None
