"""Series missing from a figure: named, never left out in silence."""

import warnings
from collections.abc import Iterable


class NotDrawnWarning(UserWarning):
    """A warning of parts missing from a figure: the figure, the parts and the reason."""


def name_missing(figure: str, texts: Iterable[str]) -> None:
    """Warn of the parts missing from a figure, if any."""
    missing = "; ".join(texts)
    if missing:
        warnings.warn(f"figure {figure!r}: not drawn: {missing}", NotDrawnWarning, stacklevel=3)
