"""The seconds of a measurement by whole decodes, least times included."""

from dlm_bench.sweep.load import Measuring

LEAST_SOAK = 30.0  # before which nothing counts as flat, as in timing.soak


def seconds_at_least(measuring: Measuring, decode: float) -> float:
    """Return the least seconds of a measurement whose decodes take `decode` seconds."""
    warmup = max(measuring.warmup * decode, measuring.min_warmup)
    timed = max(measuring.repeats * decode, measuring.min_time)
    return warmup + min(measuring.soak, LEAST_SOAK) + timed


def seconds_at_most(measuring: Measuring, decode: float) -> float:
    """Return the most: all of the soak, and `max_seconds` where there is a tolerance to reach."""
    timed = max(measuring.repeats * decode, measuring.min_time)
    if has_tolerance(measuring):
        timed = max(timed, measuring.max_seconds)
    return max(measuring.warmup * decode, measuring.min_warmup) + measuring.soak + timed


def has_tolerance(measuring: Measuring) -> bool:
    """Tell if whole decodes go on until the error is within a tolerance."""
    return measuring.mode == "exact" and measuring.tolerance is not None


def has_range(measuring: Measuring) -> bool:
    """Tell if the least and the most seconds of whole decodes differ."""
    return has_tolerance(measuring) or measuring.soak > LEAST_SOAK


def scaled_seconds(
    measuring: Measuring, seconds: float, decode: float, repeats: float, soak: float, factor: float
) -> float:
    """Return the seconds of a point whose decodes take `factor` times as long as those of a point
    measured in `seconds`: `repeats` decodes of `decode` seconds after a soak."""

    def region(each: float) -> float:
        count = repeats if has_tolerance(measuring) else measuring.repeats
        timed = max(count * each, measuring.min_time)
        most = seconds_at_most(measuring, each) - measuring.soak
        return min(max(measuring.warmup * each, measuring.min_warmup) + timed, most) + soak

    here, there = region(decode), region(factor * decode)
    if here > seconds:  # the decodes took less than as many of the mean
        return seconds * there / here
    return factor * (seconds - here) + there
