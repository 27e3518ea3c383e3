"""The masked-diffusion objective: known values, exact enumeration, and what it never does."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.cases import CAUSAL, DENOISERS

from dlm_bench import build_model
from dlm_bench.errors import ConfigError
from dlm_bench.models.config import model_config
from dlm_bench.training.objective import (
    EPSILON,
    antithetic_times,
    bound,
    diffuse,
    masked_nll,
    nelbo,
    next_token_nll,
    objective,
    subs,
)
from dlm_bench.training.trainable import build_trainable


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Table:
    """A denoiser of a tiny vocabulary: `logits_of(z, fraction)` is any function of what it sees."""

    def __init__(self, vocab_size, logits_of):
        self.config = replace(model_config("diffutran", "tiny"), vocab_size=vocab_size)
        self.head = SimpleNamespace(weight=torch.empty(vocab_size, 1))
        self.logits_of = logits_of

    def __call__(self, z, fraction):
        return self.logits_of(z, fraction)

    def logits(self, hidden):
        return hidden


def uniform(vocab_size):
    return Table(vocab_size, lambda z, _: torch.zeros(*z.shape, vocab_size))


def opinionated(vocab_size, length):
    """Logits that depend on every token it sees, on the place and on the masked fraction."""
    weight = torch.randn(length, vocab_size, length, vocab_size, generator=seeded(3))

    def logits_of(z, fraction):
        seen = torch.nn.functional.one_hot(z, vocab_size).float()
        return torch.einsum("bjw,jwlv->blv", seen, weight) * (1 + fraction[..., None])

    return Table(vocab_size, logits_of)


def exact_nelbo(model, x, times):
    """The mean over these times of the expectation over all 2^L maskings, nats per token."""
    length = x.shape[1]
    total = 0.0
    for pattern in itertools.product((False, True), repeat=length):
        masked = torch.tensor(pattern)
        z = torch.where(masked, model.config.mask_id, x)
        count = int(masked.sum())
        weight = (times**count * (1 - times) ** (length - count) / times).mean()
        total += (weight * masked_nll(model, x, z).double()).item()
    return total / length


def test_times_cover_the_interval_evenly():
    t = antithetic_times(8, seeded())
    part = ((t - EPSILON) / (1 - EPSILON) * 8).floor()
    assert sorted(part.tolist()) == list(range(8))
    assert not torch.equal(part, part.sort().values)  # or a row's place would tell its level


def test_each_time_is_uniform_alone():
    t = torch.stack([antithetic_times(4, seeded(seed)) for seed in range(2000)])
    # The mean of 2000 uniform draws has a standard error of 0.29 / 45; 5 of those.
    assert (t.mean(0) - (1 + EPSILON) / 2).abs().max() < 0.033
    assert t.min() >= EPSILON
    assert t.max() <= 1


def test_a_token_is_absorbed_with_probability_t():
    x = torch.zeros(3, 20000, dtype=torch.int64)
    t = torch.tensor([0.0, 0.3, 1.0])
    z = diffuse(x, t, 7, seeded())
    assert set(z.unique().tolist()) == {0, 7}
    # A fraction of 20000 draws has a standard error of 0.0033; 5 of those.
    assert ((z == 7).float().mean(1) - t).abs().max() < 0.017


def test_subs_never_predicts_mask_and_carries_over_what_is_shown():
    logits = torch.randn(1, 3, 5, generator=seeded())
    logits[..., 4] = 100  # which would be MASK by far
    log_x = subs(logits, torch.tensor([[4, 2, 4]]), mask_id=4)
    assert (log_x[..., 4] == -torch.inf).all()
    torch.testing.assert_close(log_x.exp().sum(-1), torch.ones(1, 3))
    assert log_x[0, 1].exp().tolist() == [0, 0, 1, 0, 0]


def test_what_is_shown_costs_nothing():
    x = torch.tensor([[0, 1, 2]])
    assert masked_nll(uniform(5), x, x).item() == 0


def test_a_uniform_denoisers_bound_is_the_log_of_the_vocabulary_without_mask():
    x = torch.randint(9, (256, 32), generator=seeded())
    found = bound(uniform(10), x, draws=8)
    assert found.nats == pytest.approx(math.log(9), abs=5 * found.standard_error)
    assert found.standard_error < 0.03
    assert found.perplexity == pytest.approx(math.exp(found.nats))
    assert found.bits == pytest.approx(found.nats / math.log(2))


def test_a_perfect_denoisers_bound_is_zero():
    x = torch.randint(9, (4, 16), generator=seeded())
    logits = torch.nn.functional.one_hot(x, 10) * 200.0
    assert nelbo(Table(10, lambda *_: logits), x, seeded()).abs().max() == 0


def test_the_estimate_is_unbiased_for_the_enumerated_integral():
    x = torch.tensor([[0, 2, 1]])
    model = opinionated(4, 3)
    times = EPSILON + (1 - EPSILON) * (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    wanted = exact_nelbo(model, x, times)
    each = nelbo(model, x.expand(200_000, -1), seeded()).double()
    error = each.std().item() / len(each) ** 0.5
    assert error < 0.02 * wanted
    assert each.mean().item() == pytest.approx(wanted, abs=4 * error)


def test_the_integral_over_times_is_the_mean_over_the_number_of_masked_tokens():
    # int_0^1 t^(k-1) (1-t)^(L-k) dt = 1 / (k C(L, k)): every k weighs the same (arXiv 2110.02037).
    x, length = torch.tensor([[0, 2, 1]]), 3
    model = opinionated(4, length)
    orders = 0.0
    for k in range(1, length + 1):
        for masked in itertools.combinations(range(length), k):
            z = x.clone()
            z[0, list(masked)] = 3
            orders += masked_nll(model, x, z).item() / k / math.comb(length, k) / length
    times = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    assert exact_nelbo(model, x, times) == pytest.approx(orders, rel=1e-4)  # of the midpoint rule


def test_the_network_is_told_the_masked_fraction_as_samplers_tell_it():
    told = []

    def logits_of(z, fraction):
        told.append((fraction, (z == 9).float().mean(1, keepdim=True)))
        return torch.zeros(*z.shape, 10)

    nelbo(Table(10, logits_of), torch.zeros(6, 8, dtype=torch.int64), seeded())
    ((fraction, counted),) = told
    assert fraction.shape == (6, 1)
    assert torch.equal(fraction, counted)


def test_the_causal_likelihood_is_exact_and_sums_to_one():
    model = build_model("ar-mamba", "tiny")
    x = torch.arange(257)[:, None]  # every token there is but MASK
    assert next_token_nll(model, x).neg().exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_the_causal_likelihood_is_a_product_over_the_tokens():
    model = build_model("ar-transformer", "tiny")
    x = torch.randint(256, (1, 6), generator=seeded())
    with torch.no_grad():
        one_by_one = 0.0
        for i in range(6):
            logits = model.logits(model(torch.cat((torch.tensor([[256]]), x[:, :i]), 1)))[0, -1]
            logits[257] = -torch.inf
            one_by_one -= logits.log_softmax(-1)[x[0, i]].item()
        assert next_token_nll(model, x).item() * 6 == pytest.approx(one_by_one, rel=1e-4)


@pytest.mark.parametrize("backbone", [*DENOISERS, *CAUSAL])
def test_the_gradient_of_every_parameter_is_the_slope_of_the_loss(backbone):
    model = build_trainable(backbone)
    # From weights at which no gradient is zero, as the head's and the gates' make them at first.
    model.init_weights(seeded())
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and "adaln" not in name:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=seeded()))
    x = torch.randint(256, (4, 40), generator=seeded())  # one chunk of the scan and a part of one

    def loss():
        return objective(model, x, seeded(), epsilon=0.2).mean()

    loss().backward()
    generator = seeded(1)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator)
        direction += parameter.grad / parameter.grad.norm() * direction.norm()  # so that it matters
        step = 3e-3 * (parameter.detach().norm() + 0.1) / direction.norm()
        slope = (parameter.grad * direction).sum().item()
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter.add_(sign * step * direction)
                values.append(loss().double().item())
                parameter.sub_(sign * step * direction)
        measured = (values[0] - values[1]) / (2 * step.item())
        # The loss is some 6 and rounded at 1e-6, and the step's cubic term adds its part.
        assert measured == pytest.approx(slope, rel=0.03, abs=2e-6 / step.item()), name


def test_mask_gets_no_gradient_but_where_it_is_read():
    model = build_trainable("diffumamba")
    model.init_weights(seeded())
    x = torch.randint(256, (4, 40), generator=seeded())
    objective(model, x, seeded()).mean().backward()
    mask_id = model.config.mask_id
    assert (model.head.weight.grad[mask_id] == 0).all()
    assert model.embedding.weight.grad[mask_id].abs().max() > 0


@pytest.mark.parametrize("token", [-1, 257])
def test_tokens_that_are_no_data_are_refused(token):
    with pytest.raises(ConfigError, match=r"tokens: from .* must be from 0 to 256"):
        objective(build_model("diffutran", "tiny"), torch.tensor([[1, token]]), seeded())
