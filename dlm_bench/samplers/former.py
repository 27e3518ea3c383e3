"""The former names of a sampler's members and options, until version 0.2."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from dlm_bench.errors import FormerNameWarning
from dlm_bench.results.record import FORMER_OPTIONS

NAMES = {
    "plan": "passes",
    "needs": "requires",
    "known": "is_fixed",
    "check_known": "check_fixed",
}


def renamed(options: Mapping[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    """Return options by their names of now, with a FormerNameWarning for each former one, as far
    as a sampler has the options `allowed`."""
    found = {}
    for option, value in options.items():
        name = FORMER_OPTIONS.get(option, option)
        if name in allowed and option not in allowed and name not in options:
            text = f"option {option} is {name} now"
            warnings.warn(text, FormerNameWarning, stacklevel=3)
            found[name] = value
        else:
            found[option] = value
    return found


def adopt(kind: type) -> None:
    """Give the members of a plug-in's class their names of now, with a DeprecationWarning."""
    for former, name in NAMES.items():
        if former in vars(kind) and name not in vars(kind):
            _warn(kind, former, stacklevel=5)  # the class statement
            setattr(kind, name, vars(kind)[former])


class Former:
    """A descriptor that reads a member by its former name."""

    def __set_name__(self, owner: type, former: str) -> None:
        self.former = former

    def __get__(self, instance: Any, owner: type) -> Any:
        _warn(owner, self.former, stacklevel=3)
        for base in owner.__mro__:
            found = vars(base).get(NAMES[self.former])
            # A plug-in's adopted `plan` that calls super().plan does not mean itself.
            if found is not None and found is not vars(base).get(self.former):
                return found.__get__(instance, owner) if hasattr(found, "__get__") else found
        raise AttributeError(self.former)


def _warn(kind: type, former: str, stacklevel: int) -> None:
    text = f"{kind.__name__}.{former} is {NAMES[former]} now"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)
