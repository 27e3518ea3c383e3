"""The objective after a prompt: by the passes that the samplers make."""

import pytest
import torch
from support.cases import DENOISERS
from support.reference import lively_model

from dlm_bench import ConfigError
from dlm_bench.models.window import Window
from dlm_bench.training.objective import antithetic_times, diffuse, masked_nll, subs
from dlm_bench.training.prompted import prompted_objective
from dlm_bench.training.trainable import build_trainable

PROMPT, BLOCK = 7, 9


def drawn():
    """Tokens (3, 16), and the t and z that seed 5 gives the last 9 of them."""
    x = torch.randint(256, (3, PROMPT + BLOCK), generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(5)
    t = antithetic_times(len(x), generator)
    return x, t, diffuse(x[:, PROMPT:], t, 257, generator)


def value(model, x, **options):
    generator = torch.Generator().manual_seed(5)
    return prompted_objective(model, x, PROMPT, generator, **options)


@torch.inference_mode()
@pytest.mark.parametrize("backbone", DENOISERS)
def test_a_pass_over_the_whole_sequence_never_masks_the_prompt(backbone):
    model, (x, t, z) = lively_model(backbone, layers=2), drawn()
    nll = masked_nll(model, x, torch.cat((x[:, :PROMPT], z), dim=1))
    torch.testing.assert_close(value(model, x), nll / t / BLOCK)


@torch.inference_mode()
@pytest.mark.parametrize("backbone", DENOISERS)
def test_the_cached_way_is_a_prefill_and_a_pass_over_the_block(backbone):
    model, (x, t, z) = lively_model(backbone, layers=2), drawn()
    caches, zero = model.new_caches(*x.shape), torch.zeros(1, dtype=torch.int64)
    model(
        x[:, :PROMPT], torch.zeros(3, 1), Window(zero, (PROMPT,), advance=True, first=True), caches
    )
    fraction = (z == 257).float().mean(dim=1, keepdim=True)
    hidden = model(z, fraction, Window(zero + PROMPT, (BLOCK,)), caches)
    log_x = subs(model.logits(hidden), z, 257)
    nll = -log_x.gather(-1, x[:, PROMPT:, None])[..., 0].sum(dim=1)
    # Sums of logits in another order, in float32.
    torch.testing.assert_close(value(model, x, cached=True), nll / t / BLOCK, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("backbone", DENOISERS)
def test_every_weight_has_a_gradient(backbone, cached):
    model = build_trainable(backbone)
    with torch.no_grad():  # from what a start leaves at zero none comes through
        model.head.weight.normal_()
        model.adaln.bias.normal_()
    value(model, drawn()[0], cached=cached).mean().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not without
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_what_it_does_not_take_is_one_line():
    x = drawn()[0]
    with pytest.raises(ConfigError, match="'ar-mamba' is causal; must be a denoiser"):
        value(build_trainable("ar-mamba"), x)
    model = build_trainable("diffutran")
    for prompt_len in (0, 16):
        with pytest.raises(ConfigError, match=f"prompt_len: {prompt_len} .* from 1 to 15"):
            prompted_objective(model, x, prompt_len, torch.Generator())
