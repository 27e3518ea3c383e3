"""The fields of a config.json, each read once; the rest is known to change nothing, or an error."""

from collections.abc import Iterable, Mapping
from typing import Any

from dlm_bench.errors import ConfigError, check_int, check_number

_NEEDED: Any = object()


class Fields:
    """The fields that nobody has read yet.

    where: what an error begins with.
    """

    def __init__(self, where: str, content: Mapping[str, Any]) -> None:
        self.where = where
        self.left = {key: value for key, value in content.items() if not key.startswith("_")}

    def error(self, field: str, what: str) -> ConfigError:
        """The error about a field."""
        return ConfigError(f"{self.where}: {field}: {what}", field="backbone")

    def take(self, *names: str) -> Any:
        """The value of the first of these fields that is there and not null; None without any."""
        found = [self.left.pop(name, None) for name in names]
        return next((value for value in found if value is not None), None)

    def integer(self, *names: str, default: int = _NEEDED) -> int:
        """A whole number from 1 on, by any of its names. Raises ConfigError for anything else, and
        if there is none and no default."""
        value = self.take(*names)
        if value is None and default is _NEEDED:
            raise ConfigError(f"{self.where} lacks {' or '.join(names)}", field="backbone")
        return default if value is None else check_int(f"{self.where}: {names[0]}", value)

    def number(self, *names: str, default: float = _NEEDED) -> float:
        """A number above 0; as `integer`."""
        value = self.take(*names)
        if value is None and default is _NEEDED:
            raise ConfigError(f"{self.where} lacks {' or '.join(names)}", field="backbone")
        if value is None:
            return default
        check_number(f"{self.where}: {names[0]}", value, above=True)
        return float(value)

    def flag(self, *names: str) -> bool:
        """True or false; false without any. Raises ConfigError for anything else."""
        value = self.take(*names)
        if not isinstance(value, bool | None):
            raise self.error(names[0], f"{value!r} is not allowed; must be true or false")
        return bool(value)

    def identity(self, name: str) -> int | None:
        """A token's id, the first of a list; None if there is none."""
        value = self.take(name)
        value = value[0] if isinstance(value, list) and value else value
        return None if value is None else check_int(f"{self.where}: {name}", value, minimum=0)

    def allow(self, name: str, allowed: Iterable[Any]) -> None:
        """Raise ConfigError unless the field is missing or has one of these values."""
        missing = name not in self.left
        value = self.left.pop(name, None)
        if missing or any(value is each or (value and value == each) for each in allowed):
            return
        raise self.error(name, f"{value!r} is not supported")

    def finish(self, ignored: Iterable[str]) -> None:
        """Raise ConfigError for a field that nobody has read and that is not one of `ignored`."""
        for name in sorted(self.left.keys() - set(ignored)):
            raise self.error(
                name, "is not known here; delete it if it changes nothing in the model"
            )
