"""The seconds that a sweep must take on some hardware, before any point is run."""

from typing import Any

from dlm_bench.cost.roofline import Hardware, decode_floor, fits
from dlm_bench.errors import counted
from dlm_bench.results.record import Point
from dlm_bench.samplers import build_sampler
from dlm_bench.sweep.budget import MIN_SAMPLING_SECONDS
from dlm_bench.sweep.floor import at_peak, precision_note
from dlm_bench.sweep.load import Sweep
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.progress import duration
from dlm_bench.sweep.whole import has_range, seconds_at_least, seconds_at_most
from dlm_bench.sweep.work import by_schedule, expected_work


def sweep_seconds_text(plan: Plan, hardware: Hardware) -> str:
    """Say in a line how long all points of a plan take on some hardware, without loading.

    At least: the roofline of the timed passes, and MIN_SAMPLING_SECONDS for a sampled point. At
    most: all sampled points take their `max_seconds`, as do whole decodes with a tolerance, and
    the soak all of its time. A point in another precision than the
    hardware's peak is predicted in the precision of the peak, with a note.
    """
    measuring, least, most = plan.sweep.measuring, 0.0, 0.0
    sampled = whole = unknown = 0
    once = measuring.model_copy(update={"mode": "exact", "warmup": 0, "repeats": 1})
    for index in by_schedule(plan.sweep):
        asked, work = plan.sweep.points[index], plan.work[index]
        point = at_peak(asked, hardware)
        options = plan.sweep.options_of(point)
        decode = _floor(point, plan.sweep, hardware)
        if decode is None:
            unknown += 1
            continue
        exact = (measuring.warmup + measuring.repeats) * decode
        if measuring.mode == "exact" or (
            measuring.mode == "auto" and exact <= measuring.max_seconds
        ):
            whole += has_range(measuring)
            least += seconds_at_least(measuring, decode)
            most += seconds_at_most(measuring, decode)
            continue
        sampled += 1
        # Of the point as asked for: the work of the plan is in the same precision.
        rounds = decode * work / expected_work(asked, once, options)
        least += max(rounds, min(MIN_SAMPLING_SECONDS, measuring.max_seconds))
        most += max(rounds, measuring.max_seconds)
    count = len(plan.sweep.points) - unknown
    text = (
        f"at least {duration(least)} for {counted(count, 'point')} on {hardware.name}, "
        "by its roofline"
    )
    if whole:
        points = counted(sampled + whole, "point")
        text += f"; {duration(most)} if {points} take all of max_seconds or soak"
    elif sampled:
        text += f"; {duration(most)} if {counted(sampled, 'sampled point')} take all of max_seconds"
    if unknown:
        text += f"; {counted(unknown, 'more point')} without a known cost or room in its memory"
    return text + precision_note(plan.sweep.points, hardware)


def _floor(point: Point, sweep: Sweep, hardware: Hardware) -> float | None:
    """Return the roofline of a decode in seconds; None if unknown, or out of memory."""
    sampler = build_sampler(point.sampler, **sweep.options_of(point))
    config = sweep.config_of(point)
    if not sampler.is_fixed or point.stop_at_eos or config is None:
        return None
    decode = (config, sampler, point.length, hardware)
    place: dict[str, Any] = {"batch": point.batch, "prompt_len": point.prompt_len}
    if not fits(*decode, **place):
        return None
    return decode_floor(*decode, **place, dtype=point.dtype, seed=sweep.measuring.seed_of(point))
