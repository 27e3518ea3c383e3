"""The batch at which autoregressive decoding overtakes a diffusion language model.

A pass of a batch reads the weights once for all sequences. A block of a diffusion model shares them
among many tokens already; a token of an autoregressive pass does not. So a batch speeds
autoregressive decoding up for longer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from dlm_bench.models.presets import PRESETS, twin_of
from dlm_bench.results.series import SETTINGS, Series

AR = "ar"  # the sampler of the series that overtake
ALIKE = (*SETTINGS, "length")  # what must be the same on both sides


@dataclass(frozen=True)
class Overtaking:
    """The batch at which a `rival` gets as fast as a `line`, both of tokens per second against
    batch.

    batch: None if the rival stays slower at the batches measured of both.
    first: the first batch measured of both.
    """

    series: Series
    rival: Series
    batch: float | None
    first: int

    @property
    def from_the_start(self) -> bool:
        """Return True if the rival is ahead at the first batch of both."""
        return self.batch == self.first


def overtaking_batch(series: Mapping[int, float], rival: Mapping[int, float]) -> float | None:
    """Return the first batch at which a rival's speed reaches a line's; both are speeds by batch.

    The logarithm of a speed is taken as linear in the logarithm of the batch between measured
    batches; nothing is said beyond the batches measured of both. None if the rival is slower at all
    of them, or without a common batch.
    """
    low, high = max(min(series), min(rival)), min(max(series), max(rival))
    places = np.array(sorted(b for b in {*series, *rival} if low <= b <= high), dtype=float)
    if not len(places):
        return None
    at = np.log(places)
    own, other = (
        np.interp(at, np.log(sorted(speeds)), np.log([speeds[b] for b in sorted(speeds)]))
        for speeds in (series, rival)
    )
    lead = other - own
    ahead = np.flatnonzero(lead >= 0)
    if not len(ahead):
        return None
    place = ahead[0]
    if place == 0:
        return float(places[0])
    share = lead[place - 1] / (lead[place - 1] - lead[place])
    return float(np.exp(at[place - 1] + share * (at[place] - at[place - 1])))


def comparable(series: Series, rival: Series) -> bool:
    """Tell if an autoregressive line may overtake: of the same size, prompt, length, dtype and
    machine; for a model of the field the autoregressive model of the same shape."""
    twin = twin_of(series.backbone, series.settings["size"])
    if twin is not None and twin != (rival.backbone, rival.settings["size"]):
        return False
    if twin is None and rival.backbone in PRESETS:
        return False
    alike = [name for name in ALIKE if not (twin and name == "size")]
    return all(series.settings.get(name) == rival.settings.get(name) for name in alike)


def overtakings(drawn: "Iterable[Series]") -> list[Overtaking]:
    """Return the overtaking of each line by each `comparable` autoregressive line. Lines without a
    common batch are left out."""
    drawn = list(drawn)
    found = []
    for series in (series for series in drawn if series.sampler != AR):
        for rival in (rival for rival in drawn if rival.sampler == AR):
            if not comparable(series, rival):
                continue
            own, other = (
                {row["batch"]: row["tokens_per_second"] for row in each.rows}
                for each in (series, rival)
            )
            first = max(min(own), min(other))
            if first <= min(max(own), max(other)):
                found.append(Overtaking(series, rival, overtaking_batch(own, other), first))
    return found
