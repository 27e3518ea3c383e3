"""What a user can get wrong, each with a message that is fit to be shown as one line."""

import difflib
from collections.abc import Iterable


class DlmBenchError(Exception):
    """Base of every error that the command line shows as one line with exit code 2."""


class ConfigError(DlmBenchError):
    """A value that was asked for is not one the benchmark can run."""


class ResultsError(DlmBenchError):
    """A results file is missing, unreadable, or lacks what was asked of it."""


def unknown(field: str, value: object, allowed: Iterable[object]) -> ConfigError:
    """The error for a name outside a closed list: says the field, the value and what is allowed."""
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return ConfigError(f"{field}: {value!r} is not known{hint}; allowed: {', '.join(names)}")


def check_int(field: str, value: object, minimum: int = 1) -> int:
    """Return `value` if it is an integer of at least `minimum`, else raise ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{field}: {value!r} is not allowed; must be an integer >= {minimum}")
    return value
