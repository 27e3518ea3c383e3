"""What a user can get wrong, each with a message that is fit to be shown as one line."""

import difflib
import math
import operator
from collections.abc import Iterable


class DlmBenchError(Exception):
    """Base of every error that the command line shows as one line with exit code 2."""


class ConfigError(DlmBenchError):
    """A value that was asked for is not one the benchmark can run."""


class ResultsError(DlmBenchError):
    """A results file is missing, unreadable, or lacks what was asked of it."""


class TornLineWarning(UserWarning):
    """A line of a results file was not a whole record and was skipped."""


class LostPointWarning(TornLineWarning):
    """A skipped line was no torn one: a point that somebody measured is missing from what is shown,
    so the command that shows it must not exit with 0."""


class NewerRecordWarning(UserWarning):
    """Records of a newer schema were read as far as this version knows them."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says; empty if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


def unknown(field: str, value: object, allowed: Iterable[object]) -> ConfigError:
    """The error for a name outside a closed list: says the field, the value and what is allowed."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return ConfigError(f"{field}: {value!r} is not known{hint}; allowed: {', '.join(names)}")


LONGEST = 1 << 24  # tokens: a schedule lists its passes, and this many take seconds to list
LARGEST_BATCH = 1 << 16
MOST_RUNS = 10_000  # warm-up runs, repeats or nodes of a point
LARGEST_SEED = (1 << 63) - 1
LONGEST_WAIT = 1e9  # seconds, some thirty years


def check_int(field: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """Return `value` if it is an integer within the bounds, else raise ConfigError."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # numpy's integers too
    except TypeError:
        number = None
    wrong = number is None or isinstance(value, bool) or number < minimum
    if wrong or (maximum is not None and number > maximum):  # type: ignore[operator]
        bounds = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ConfigError(f"{field}: {value!r} is not allowed; must be an integer {bounds}")
    return number  # type: ignore[return-value]


def check_lengths(length: object, prompt_len: object = 0) -> None:
    """Raise ConfigError for a length below 1, a prompt's below 0, or both together too long."""
    most = LONGEST - check_int("length", length, maximum=LONGEST)
    check_int("prompt_len", prompt_len, minimum=0, maximum=most)


def check_number(
    field: str,
    value: object,
    minimum: float = 0.0,
    maximum: float = math.inf,
    *,
    above: bool = False,
) -> None:
    """Raise ConfigError unless `value` is a finite number within the bounds; not `minimum` itself
    if it must be `above` that."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.inf
    inside = minimum < number if above else minimum <= number
    if isinstance(value, bool) or not math.isfinite(number) or not inside or number > maximum:
        bounds = f"{'>' if above else '>='} {minimum:g}"
        bounds += f" and <= {maximum:g}" if maximum < math.inf else ""
        raise ConfigError(f"{field}: {value!r} is not allowed; must be a finite number {bounds}")
