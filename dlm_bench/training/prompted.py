"""The objective of what follows a prompt, by either of the passes that samplers make.

In a pass over the whole sequence (`full`, a refresh of `fast-dllm`) the prompt sees what follows,
and one t holds for all. In a block cache it does not: the prompt is a clean segment at t = 0, and
the block behind it has a t of its own (block diffusion, arXiv 2503.09573), here of one block.
"""

import torch
from torch import Tensor

from dlm_bench.errors import ConfigError
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.models.window import Window
from dlm_bench.training.objective import EPSILON, antithetic_times, diffuse, subs


def prompted_objective(
    model: LanguageModel,
    x: Tensor,
    prompt_len: int,
    generator: torch.Generator,
    epsilon: float = EPSILON,
    *,
    cached: bool = False,
) -> Tensor:
    """An estimate of each sequence's NELBO after its first `prompt_len` tokens, (batch,) nats per
    token behind them: by the pass of a block cache if `cached`, else over the whole sequence.

    Raises ConfigError for a causal model, or a prompt that leaves no token.
    """
    if not model.config.denoiser:
        raise ConfigError(f"backbone: {model.config.backbone!r} is causal; must be a denoiser")
    if not 0 < prompt_len < x.shape[1]:
        raise ConfigError(
            f"prompt_len: {prompt_len} is not allowed; must be from 1 to {x.shape[1] - 1}"
        )
    mask_id, rest = model.config.mask_id, x[:, prompt_len:]
    t = antithetic_times(len(x), generator, epsilon)
    z = diffuse(rest, t, mask_id, generator)
    fraction = (z == mask_id).float().mean(dim=1, keepdim=True)  # (batch, 1)
    tokens = torch.cat((x[:, :prompt_len], z), dim=1)
    if cached:
        window = Window(
            torch.zeros(1, dtype=torch.int64, device=x.device), (prompt_len, rest.shape[1])
        )
        caches = model.new_caches(*x.shape)
        hidden = model(tokens, torch.cat((0 * fraction, fraction), dim=1), window, caches)
    else:
        hidden = model(tokens, fraction * rest.shape[1] / x.shape[1])
    log_x = subs(model.logits(hidden[:, prompt_len:]), z, mask_id)
    nll = -log_x.gather(-1, rest[..., None])[..., 0].sum(dim=1)
    return nll / t / rest.shape[1]
