"""Series that a figure lacks: named, never left out in silence."""

import warnings
from collections.abc import Iterable


class NotDrawnWarning(UserWarning):
    """A figure lacks a part of what it is for; the message names the figure, the part and why."""


def name_missing(figure: str, texts: Iterable[str]) -> None:
    """Warn of what a figure lacks, if that is anything."""
    told = "; ".join(texts)
    if told:
        warnings.warn(f"figure {figure!r}: not drawn: {told}", NotDrawnWarning, stacklevel=3)
