"""Options of samplers that take a name of a closed list."""

import dataclasses
from collections.abc import Iterable
from typing import Any


def one_of(names: Iterable[str]) -> Any:
    """Return the field of an option that takes one of these names, by default the first."""
    names = tuple(names)
    return dataclasses.field(default=names[0], metadata={"names": names})


def names_of(option: "dataclasses.Field[Any]") -> tuple[str, ...]:
    """The names that an option takes, the default first; empty for any other option."""
    return tuple(option.metadata.get("names", ()))
