"""Numbers in labels: a value is the same whether written 1 or 1.0, in the label of a trace, too."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

# The numbers that a trace's label tells behind the rule, and what follows: an order, the digest.
_TOLD = re.compile(
    r"((?:-(?:edit-|max-)?\d[\d.]*(?:e[+-]\d+)?)+)((?:-(?!fixed@)[a-z_]+)?@[0-9a-f]+)$"
)
_WHOLE = re.compile(r"(?<![xe])-(\d+)(?=-|$)")  # not that of max-16, nor of 1e-05


def value_text(value: Any) -> str:
    """Write a value with all of its digits, and a whole number as an integer."""
    return value if isinstance(value, str) else str(value).removesuffix(".0")


def label_of_now(label: str) -> str:
    """Return a trace's label with whole numbers as integers: older records have `factor-1.0`."""
    return _TOLD.sub(lambda found: re.sub(r"(-\d+)\.0(?=-|$)", r"\1", found[1]) + found[2], label)


def former_labels(label: str) -> Iterator[str]:
    """List the labels that older records may have in the place of this one, as `label_of_now`
    writes it."""
    if (found := _TOLD.search(label)) is None:
        return
    *between, rest = _WHOLE.sub(r"-\1\n", found[1]).split("\n")
    for chosen in product(("", ".0"), repeat=len(between)):
        if any(chosen):
            numbers = "".join(map("".join, zip(between, chosen, strict=True))) + rest
            yield label[: found.start()] + numbers + found[2]
