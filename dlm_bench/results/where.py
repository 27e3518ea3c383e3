"""Conditions on points and records: `sampler=block-cache length>=16384`, of which all must hold."""

import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dlm_bench.errors import ConfigError, did_you_mean
from dlm_bench.results.record import FORMER_OPTIONS

ALIASES = {
    "L": "length",
    "p": "tokens_per_step",
    "B": "block_size",
    "lengths": "length",
    **FORMER_OPTIONS,
}
_TERM = re.compile(r"([A-Za-z_][\w.-]*)(==|!=|<=|>=|=|<|>)(.+)", re.DOTALL)
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """A condition on a field.

    values: texts, globs for names, of which `=` needs one and `!=` none. A point without the field
    meets `!=` alone.
    """

    key: str
    relation: str
    values: tuple[str, ...]

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Decide for the fields of a point or record."""
        value = facts.get(self.key)
        absent = value is None or value != value
        if self.relation in ("=", "!="):
            found = not absent and any(is_like(value, each) for each in self.values)
            return found == (self.relation == "=")
        number = None if absent else _number(value)
        limit = _number(self.values[0])
        return None not in (number, limit) and _ORDERS[self.relation](number, limit)  # type: ignore[arg-type]


def conditions(text: str, flag: str) -> list[Condition]:
    """Read the conditions of an option: KEY OP VALUE, separated by spaces. OP is = != < <= > >=;
    = and != take several values with commas. Raises ConfigError."""
    try:
        words = shlex.split(re.sub(r"\s*(==|!=|<=|>=|=|<|>)\s*", r"\1", text))
    except ValueError as error:
        raise ConfigError(f"{flag}: {text!r} is not allowed; {str(error).lower()}") from None
    if not words:
        raise ConfigError(f"{flag}: is empty; must be conditions such as 'length>=16384'")
    return [_condition(word, flag) for word in words]


def _condition(word: str, flag: str) -> Condition:
    found = _TERM.fullmatch(word)
    if found is None:
        raise ConfigError(
            f"{flag}: {word!r} is not allowed; must be KEY OP VALUE with = != < <= > >=, such as "
            "'sampler=block-cache length>=16384'"
        )
    key, relation = ALIASES.get(found[1], found[1]), found[2].replace("==", "=")
    if relation in _ORDERS and _number(found[3]) is None:
        raise ConfigError(f"{flag}: {word!r} is not allowed; {relation} needs a number")
    values = tuple(found[3].split(",")) if relation in ("=", "!=") else (found[3],)
    return Condition(key, relation, values)


def check_keys(asked: Iterable[Condition], there: Sequence[str], flag: str) -> None:
    """Raise ConfigError for a condition on a field that is not there."""
    for each in asked:
        if each.key not in there:
            hint = did_you_mean(each.key, there)
            names = ", ".join(sorted(there)[:40])
            raise ConfigError(f"{flag}: {each.key!r} is no field here{hint}; fields: {names}")


def holds(asked: Iterable[Condition], facts: Mapping[str, Any]) -> bool:
    """Decide if all conditions hold."""
    return all(each.holds(facts) for each in asked)


def is_like(value: Any, pattern: Any) -> bool:
    """Compare a value with a number, or with a glob of a name."""
    number, other = _number(value), _number(pattern)
    if number is not None and other is not None:
        return number == other
    return fnmatchcase(str(value).lower(), str(pattern).lower())


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
