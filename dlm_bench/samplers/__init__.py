"""The samplers, by name."""

import dataclasses
from typing import Any

from dlm_bench.errors import ConfigError, unknown
from dlm_bench.samplers.autoregressive import Autoregressive
from dlm_bench.samplers.block_cache import BlockCache
from dlm_bench.samplers.fast_dllm import FastDLLM
from dlm_bench.samplers.full import Full
from dlm_bench.samplers.sampler import Sampler

SAMPLERS: dict[str, type[Sampler]] = {
    kind.name: kind for kind in (Full, FastDLLM, BlockCache, Autoregressive)
}


def build_sampler(name: str, /, **options: Any) -> Sampler:
    """A sampler by name with its options; those not given take their defaults.

    Raises ConfigError for an unknown sampler, an option it lacks, a value it does not allow, or an
    option that would mean nothing beside the others.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    kind = SAMPLERS[name]
    allowed = [field.name for field in dataclasses.fields(kind)]
    for option in options:
        if option not in allowed:
            raise ConfigError(
                f"{option}: sampler {name!r} has no such option; allowed: {', '.join(allowed)}"
            )
    sampler = kind(**options)
    for option, why in sampler.without_meaning().items():
        if option in options:
            raise ConfigError(f"{option}: {options[option]!r} is not allowed {why}")
    return sampler
