"""The fields of a config.json, each read once; the others must be known to change nothing."""

from collections.abc import Iterable, Mapping
from typing import Any

from dlm_bench.errors import ConfigError, check_int, check_number

_NEEDED: Any = object()


class Fields:
    """The fields not read yet.

    where: the first words of an error.
    """

    def __init__(self, where: str, content: Mapping[str, Any]) -> None:
        self.where = where
        self.left = {key: value for key, value in content.items() if not key.startswith("_")}

    def error(self, field: str, what: str) -> ConfigError:
        """Return the error about a field."""
        return ConfigError(f"{self.where}: {field}: {what}", field="backbone")

    def take(self, *names: str) -> Any:
        """Return the first value among these fields other than null; None without any."""
        return self._first(names)[1]

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        found = [(name, self.left.pop(name, None)) for name in names]
        return next(((name, value) for name, value in found if value is not None), (names[0], None))

    def _lacks(self, names: tuple[str, ...]) -> ConfigError:
        return ConfigError(f"{self.where} lacks {' or '.join(names)}", field="backbone")

    def integer(self, *names: str, default: int = _NEEDED) -> int:
        """Return an integer from 1 on, by any of these names. Raises ConfigError for another value,
        and for none without a default."""
        name, value = self._first(names)
        if value is None and default is _NEEDED:
            raise self._lacks(names)
        return default if value is None else check_int(f"{self.where}: {name}", value)

    def number(self, *names: str, default: float = _NEEDED) -> float:
        """Return a number above 0; as `integer`."""
        name, value = self._first(names)
        if value is None and default is _NEEDED:
            raise self._lacks(names)
        if value is None:
            return default
        check_number(f"{self.where}: {name}", value, above=True)
        return float(value)

    def flag(self, *names: str) -> bool:
        """Return true or false; false without any. Raises ConfigError for another value."""
        name, value = self._first(names)
        if not isinstance(value, bool | None):
            raise self.error(name, f"{value!r} is not allowed; must be true or false")
        return bool(value)

    def identity(self, name: str) -> int | None:
        """Return a token's id, the first of a list; None without any."""
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
        """Raise ConfigError for a field neither read nor in `ignored`."""
        for name in sorted(self.left.keys() - set(ignored)):
            raise self.error(
                name, "is not known here; delete it if it changes nothing in the model"
            )
