"""The objective of masked diffusion (MDLM, Sahoo et al. 2024, arXiv 2406.07524) and its bound.

    q(z_t | x) = Cat(alpha_t x + (1 - alpha_t) m)        alpha_t = 1 - t (log-linear), m: MASK
    NELBO = E_q int_0^1 alpha'_t / (1 - alpha_t) sum_l log <x_theta^l(z_t), x^l> dt
          = E_q int_0^1 1 / t sum_{l: z_t^l = m} -log <x_theta^l(z_t), x^l> dt

x_theta is the denoiser in the SUBS parameterisation (`subs`). Its timestep is the masked fraction
of z_t, as in a sampler, and not the level t at the drawing of z_t: a function of z_t, for the bound
to hold. The causal backbones have the exact likelihood (`next_token_nll`).

Shapes: tokens x and z (batch, length) int64, t (batch,) in [0, 1]. Units: nats per token.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.errors import ConfigError, check_int, check_number
from dlm_bench.models.language_model import LanguageModel

EPSILON = 1e-3  # the least t drawn, MDLM's: the weight 1/t of a rare token has no finite variance


def antithetic_times(batch: int, generator: torch.Generator, epsilon: float = EPSILON) -> Tensor:
    """One t in each of `batch` equal parts of [epsilon, 1], in random order (MDLM's low-discrepancy
    sampler): each is uniform alone, and together they cover the interval evenly. (batch,)."""
    check_number("epsilon", epsilon, 0.0, 1.0)
    device = generator.device
    inside = torch.rand(batch, generator=generator, device=device)
    u = (torch.randperm(batch, generator=generator, device=device) + inside) / batch
    return epsilon + (1 - epsilon) * u


def diffuse(x: Tensor, t: Tensor, mask_id: int, generator: torch.Generator) -> Tensor:
    """z_t from q(z_t | x): each token is absorbed by MASK with probability 1 - alpha_t = t."""
    absorbed = torch.rand(x.shape, generator=generator, device=x.device) < t[:, None]
    return torch.where(absorbed, mask_id, x)


def subs(logits: Tensor, z: Tensor, mask_id: int) -> Tensor:
    """log x_theta (batch, length, vocabulary) in float32 by SUBS.

    Zero masking probability: MASK's is -inf. Carry-over unmasking: what z shows is kept with
    probability 1, at no cost.
    """
    is_mask = torch.arange(logits.shape[-1], device=logits.device) == mask_id
    log_p = F.log_softmax(logits.float().masked_fill(is_mask, -torch.inf), dim=-1)
    shown = (z[..., None] == torch.arange(logits.shape[-1], device=z.device)).float().log()
    return torch.where((z == mask_id)[..., None], log_p, shown)


def masked_nll(model: LanguageModel, x: Tensor, z: Tensor) -> Tensor:
    """-sum_l log <x_theta^l(z), x^l> of each sequence in nats, (batch,)."""
    mask_id = model.config.mask_id
    fraction = (z == mask_id).float().mean(dim=1, keepdim=True)  # (batch, 1)
    log_x = subs(model.logits(model(z, fraction)), z, mask_id)
    return -log_x.gather(-1, x[..., None])[..., 0].sum(dim=1)


def nelbo(
    model: LanguageModel, x: Tensor, generator: torch.Generator, epsilon: float = EPSILON
) -> Tensor:
    """An estimate of each sequence's NELBO, (batch,) nats per token, by one t for each.

    Unbiased for the mean over t in [epsilon, 1], in the place of the mean over [0, 1]: too high
    where the integrand grows with t, as happens where more context helps.
    """
    t = antithetic_times(len(x), generator, epsilon)
    z = diffuse(x, t, model.config.mask_id, generator)
    return masked_nll(model, x, z) / t / x.shape[1]


def next_token_nll(model: LanguageModel, x: Tensor) -> Tensor:
    """-log p(x) of each sequence under a causal model, (batch,) nats per token; exact. The first
    token is predicted from end of text, as in an `ar` decode."""
    before = F.pad(x[:, :-1], (1, 0), value=model.config.bos_id)
    logits = model.logits(model(before)).float()
    # As in a decode, MASK is never predicted.
    is_mask = torch.arange(logits.shape[-1], device=logits.device) == model.config.mask_id
    logits = logits.masked_fill(is_mask, -torch.inf)
    return F.cross_entropy(logits.transpose(1, 2), x, reduction="none").mean(dim=1)


def objective(
    model: LanguageModel, x: Tensor, generator: torch.Generator, epsilon: float = EPSILON
) -> Tensor:
    """The loss of each sequence, (batch,) nats per token, whose mean training minimises: the
    NELBO's estimate of a denoiser, the negative log-likelihood of a causal model. Raises
    ConfigError for tokens that the model has not, or MASK among them."""
    if x.dim() != 2 or not x.numel():
        raise ConfigError(f"tokens: {tuple(x.shape)} is not allowed; must be (batch, length)")
    if int(x.min()) < 0 or int(x.max()) >= model.config.mask_id:
        raise ConfigError(
            f"tokens: from {int(x.min())} to {int(x.max())} is not allowed; "
            f"must be from 0 to {model.config.mask_id - 1} (MASK is never data)"
        )
    if model.config.denoiser:
        return nelbo(model, x, generator, epsilon)
    return next_token_nll(model, x)


@dataclass(frozen=True)
class Bound:
    """An upper bound on -log p per token in nats, with the standard error of its estimate over the
    sequences; exact but for the choice of text where the model is causal."""

    nats: float
    standard_error: float

    @property
    def bits(self) -> float:
        """Bits per token."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(NELBO): a bound on the perplexity per token."""
        return math.exp(self.nats)


@torch.inference_mode()
def bound(
    model: LanguageModel, tokens: Tensor, *, draws: int = 8, batch: int = 64, seed: int = 0
) -> Bound:
    """The bound on held-out sequences, tokens (sequences, length) int64 on the model's device.

    `draws` times for each sequence, `batch` sequences at once; equal arguments give an equal
    estimate. Raises ConfigError as `objective` does.
    """
    check_int("draws", draws)
    check_int("batch", batch)
    generator = torch.Generator(tokens.device).manual_seed(seed)
    draws = draws if model.config.denoiser else 1
    each = torch.stack(
        [
            torch.cat([objective(model, part, generator).double() for part in tokens.split(batch)])
            for _ in range(draws)
        ]
    )
    return mean_bound(each)


def mean_bound(each: Tensor) -> Bound:
    """The bound by estimates (draws, sequences) in nats per token."""
    means = each.mean(dim=0)
    error = means.std().item() / math.sqrt(len(means)) if len(means) > 1 else math.inf
    return Bound(means.mean().item(), error)
