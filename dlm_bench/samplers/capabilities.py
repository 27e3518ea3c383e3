"""The backbones that a sampler can decode with, and why another is refused."""

from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError
from dlm_bench.models.own import OWN, backbone_passes

if TYPE_CHECKING:
    from dlm_bench.samplers.sampler import Sampler


def check_capabilities(sampler: "Sampler", backbone: str, supports: tuple[str, ...]) -> None:
    """Raise ConfigError unless a backbone has the capability that a sampler requires."""
    if sampler.requires in supports:
        return
    if sampler.requires == "ar":
        why = "it needs a causal model, and a denoiser sees both sides"
    elif "ar" in supports:
        why = "it fills in masked tokens from both sides, and a causal model sees only the left"
    elif sampler.requires == "self-speculation" and "block-cache" in supports:
        why = "a Mamba state cannot be put back to the last token that is kept"
    else:
        why = (
            f"it needs the passes of {sampler.requires!r}; there are those of {', '.join(supports)}"
        )
    fitting = [name for name in OWN if sampler.requires in backbone_passes(name)]
    raise ConfigError(
        f"backbone: {backbone!r} does not decode with sampler {sampler.name!r}: {why}; "
        f"allowed: {', '.join(fitting)}"
    )
