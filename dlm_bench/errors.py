"""A user's mistakes, each with a message fit to be shown as a line."""

import difflib
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class DlmBenchError(Exception):
    """Base of the errors that the command line shows as a line, with exit code 2."""


class ConfigError(DlmBenchError):
    """A requested value that the benchmark cannot run.

    field: the setting at fault, by default the first word of the text.
    """

    def __init__(self, text: str = "", *, field: str | None = None) -> None:
        super().__init__(text)
        self.field = re.match(r"\w*", text)[0] if field is None else field  # type: ignore[index]


class PointError(DlmBenchError):
    """An allowed point could not be measured."""


class ResultsError(DlmBenchError):
    """A missing or unreadable results file, or a file without the wanted records."""


class TornLineWarning(UserWarning):
    """A line of a results file was not a whole record and was skipped."""


class LostPointWarning(TornLineWarning):
    """A skipped line was not torn: a measured point is missing from the output, so the command must
    not exit with 0."""


class NewerRecordWarning(UserWarning):
    """Records of a newer schema were read as far as this version knows them."""


class ClaimWarning(UserWarning):
    """Points cannot be claimed, so two sweeps of the same file would measure the same points."""


class FormerNameWarning(DeprecationWarning):
    """An option is given by its former name."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; empty without a text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


def is_out_of_memory(error: Exception) -> bool:
    """Recognise an error of exhausted memory; a CPU allocation's is a plain RuntimeError."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
    return named or "can't allocate memory" in str(error)


def counted(count: float, noun: str) -> str:
    """Return a count, or a mean to four digits, with a noun: `1 point`, `2 points`."""
    shown = f"{count:,}" if isinstance(count, int) else f"{count:.4g}"
    return f"{shown} {noun}{'s' * (shown != '1')}"


def unknown(field: str, value: object, allowed: Iterable[object]) -> ConfigError:
    """Return the error for a name outside a closed list, with field, value and allowed names."""
    names = [str(name) for name in allowed]
    hint = did_you_mean(str(value), names)
    text = f"{field}: {value!r} is not known{hint}; allowed: {', '.join(names)}"
    return ConfigError(text, field=field)


def unknown_option(
    option: str,
    sampler: str,
    allowed: Sequence[str],
    owners: Sequence[str],
    also: Iterable[str] = (),
) -> ConfigError:
    """Return the error for an option that a sampler lacks; `owners` are the samplers that have it,
    `also` other names that may have been meant."""
    hint = f" (it is one of {', '.join(owners)})" if owners else did_you_mean(option, allowed)
    hint = hint or did_you_mean(option, also)
    text = f"{option}: sampler {sampler!r} has no such option{hint}; allowed: {', '.join(allowed)}"
    return ConfigError(text, field=option)


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """Return the hint ` (did you mean 'h100-sxm' or 'h100-pcie'?)`; empty without a similar name.

    The names begin with the given text; else the most similar name is suggested.
    """
    close = nearest(given, names)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def nearest(given: str, names: Iterable[str]) -> list[str]:
    """Return the names that `did_you_mean` suggests."""
    names, start = list(names), given.lower()
    close = [name for name in names if start and name.lower().startswith(start)][:3]
    if not close:
        by_lower = {name.lower(): name for name in names}
        found = difflib.get_close_matches(start, by_lower, n=1)
        close = [by_lower[name] for name in found]
    return close


def faulty_field(error: Mapping[str, Any]) -> str:
    """Return the field and the fault of an error by pydantic, in this project's words."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
    elif error["type"] in ("too_short", "string_too_short"):
        text = "must not be empty"
    else:
        known = {"extra_forbidden": "no such field", "missing": "is missing"}
        text = error["msg"].replace("Input should be", "must be")
        text = known.get(error["type"], text)
    return f"{place}: {text}" if place else text


MAX_LENGTH = 1 << 24  # tokens: a schedule lists the passes, in seconds for this many
MAX_BATCH = 1 << 16
MAX_RUNS = 10_000  # warm-up runs, repeats or nodes of a point
MAX_SEED = (1 << 63) - 1
MAX_WAIT_SECONDS = 1e9  # some thirty years


def check_int(field: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """Return `value` if an integer within the bounds, else raise ConfigError."""
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
    most = MAX_LENGTH - check_int("length", length, maximum=MAX_LENGTH)
    check_int("prompt_len", prompt_len, minimum=0, maximum=most)


def check_number(
    field: str,
    value: object,
    minimum: float = 0.0,
    maximum: float = math.inf,
    *,
    above: bool = False,
) -> None:
    """Raise ConfigError unless `value` is a finite number within the bounds.

    With `above`, the minimum is excluded.
    """
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.inf
    inside = minimum < number if above else minimum <= number
    if isinstance(value, bool) or not math.isfinite(number) or not inside or number > maximum:
        bounds = f"{'>' if above else '>='} {minimum:g}"
        bounds += f" and <= {maximum:g}" if maximum < math.inf else ""
        raise ConfigError(f"{field}: {value!r} is not allowed; must be a finite number {bounds}")


_UNSIGNED = r"(?:\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(field: str, value: object) -> float:
    """Return the seconds of a duration: `90`, `"90"`, `"90s"`, `"10m"` or `"1.5h"`.

    A number without a unit is seconds. Raises ConfigError for anything else and for 0.
    """
    seconds = _plain_number(value)
    found = re.fullmatch(rf"\s*({_UNSIGNED}) ?([smh])\s*", str(value), re.ASCII)
    if found and isinstance(value, str):
        seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds is None or not 0 < seconds <= MAX_WAIT_SECONDS:
        raise ConfigError(
            f"{field}: {value!r} is not allowed; must be a duration above 0 such as 90 (seconds), "
            "90s, 10m or 1.5h"
        )
    return seconds


def share_of(field: str, value: object, *, zero: bool = False) -> float:
    """Return the share for a percentage (`"5%"`) or a number below 1 (`0.05`).

    A bare number from 1 on is refused: 5 may mean 5 % or 500 %. Raises ConfigError for such a
    number, for a share above 100 %, and for 0 unless `zero`.
    """
    share = _plain_number(value)
    if share is not None and share >= 1:
        advice = f"write {share:g}% or {share / 100:g}" if share <= 100 else "at most 100%"
        raise ConfigError(
            f"{field}: {value!r} is not allowed without a percent sign, as it may mean "
            f"{share:g}% or {100 * share:g}%; {advice}"
        )
    found = re.fullmatch(rf"\s*({_UNSIGNED}) ?%\s*", str(value), re.ASCII)
    if found and isinstance(value, str):
        share = float(found[1]) / 100
    if share is None or not (0 < share <= 1 or (zero and share == 0)):
        bounds = "from 0%" if zero else "above 0%"
        raise ConfigError(
            f"{field}: {value!r} is not allowed; must be a share such as 5% or 0.05, {bounds} to "
            "100%"
        )
    return share


def _plain_number(value: object) -> float | None:
    """Return a finite number, given as such or as text; None for anything else."""
    if isinstance(value, str):
        spelled = rf"\s*{_UNSIGNED}(?:[eE][-+]?\d{{1,2}})?\s*"
        return float(value) if re.fullmatch(spelled, value, re.ASCII) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= 1e18 else None
