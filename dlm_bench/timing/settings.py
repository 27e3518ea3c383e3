"""The settings of a measurement with their defaults, the paper's protocol.

`measure`, sweep files, the command line and the pytest plugin read the defaults here. This module
imports nothing heavy: a parser needs it before anything is measured.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError

if TYPE_CHECKING:
    from dlm_bench.results.record import Graphs, Mode


@dataclass(frozen=True)
class MeasureSettings:
    """Settings behind the numbers of a point.

    mode: whole decodes, units of passes with integration, or chosen by the time of a decode.
    warmup: untimed runs.
    repeats: timed runs; in sampled mode the least number of rounds.
    nodes: sampled mode: most timed places of the schedule, of each kind of pass.
    tolerance: relative error to reach; None for 1 % in sampled mode, and for `repeats`
        whole decodes in exact mode. In mode "auto" for sampled points alone.
    max_seconds: seconds after which `tolerance` is given up.
    min_warmup: least seconds of untimed decodes.
    min_time: least seconds of timed decodes.
    soak: most seconds of decodes, before the timed ones, until speed and sensors are flat.
    seed: of weights and tokens.
    graphs: CUDA graphs.
    """

    mode: "Mode" = "exact"
    warmup: int = 3
    repeats: int = 5
    nodes: int = 9
    tolerance: float | None = None
    max_seconds: float = 30.0
    min_warmup: float = 0.0
    min_time: float = 0.0
    soak: float = 0.0
    seed: int = 0
    graphs: "Graphs" = "auto"


DEFAULTS = MeasureSettings()
OF_WHOLE_DECODES = ("min_warmup", "min_time", "soak")


def check_whole_decodes(name: str, value: float, mode: str) -> None:
    """Raise ConfigError for a setting of whole decodes in mode "sampled"."""
    if value and mode == "sampled":
        raise ConfigError(
            f"{name}: {value:g} s is not allowed in mode 'sampled', which times no whole decodes; "
            "leave it out, or take mode 'exact' or 'auto'"
        )
