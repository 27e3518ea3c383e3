"""Each point shows, outside of what is timed, that the decode computes what was planned."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from dlm_bench import build_model, build_sampler, measure
from dlm_bench.errors import PointError
from dlm_bench.samplers.full import Full
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.decode_check import digest, is_finite, short_shape

SHORT = {"warmup": 0, "repeats": 1, "max_seconds": 0.1}


@dataclass(frozen=True)
class Wrong(Full):
    """A sampler with a fault."""

    name: ClassVar[str] = "wrong"

    fault: str = ""

    def passes(self, length, prompt_len=0):
        if self.fault == "no pass":
            return
        for step in super().passes(length, prompt_len):
            yield step._replace(reveal=step.reveal - 1) if self.fault == "plan" else step

    def step(self, model, state, kind):
        if self.fault == "no unmasking":
            model(state.tokens, state.now("t")[None])
            return state.next_pass()
        if self.fault == "no model":
            return state.next_pass()
        if self.fault == "half":
            model = _Half(model)
        super().step(model, state, kind)
        if self.fault == "counter":
            state.index -= 1
        if self.fault == "prompt":
            state.tokens[:, 0] += 1
        return None


class _Half:
    """A model called with half of the sequence, whose output is repeated."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, tokens, *rest):
        half = self._model(tokens[:, : tokens.shape[1] // 2], *rest)
        return torch.cat((half, half), dim=1)


@pytest.mark.parametrize("mode", ["exact", "sampled"])
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("no pass", "the plan of the decode has no pass"),
        ("plan", "add up to 28 tokens; the decode has 32"),
        ("no unmasking", "unmask 0 to 0 tokens a sequence; 8 are planned"),
        ("no model", "do not call the model"),
        ("half", "have 18 query tokens; 36 are planned"),
        ("counter", "do not move the counter on"),
        ("prompt", "change tokens other than the masked ones"),
    ],
)
def test_a_sampler_that_does_not_do_what_it_plans_is_an_error_of_the_point(fault, told, mode):
    with pytest.raises(PointError, match=told):
        measure(
            build_model("diffutran", "tiny"),
            Wrong(fault=fault),
            32,
            mode=mode,
            prompt_len=4,
            **SHORT,
        )


def replaced(model, change):
    """The model with another output."""
    forward = model.forward
    model.forward = lambda *args, **named: change(forward(*args, **named))
    return model


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda hidden: hidden[:, :, :-2], r"are \(1, 32, 62\); must be \(1, 32, 64\)"),
        (lambda hidden: hidden[:, 1:], r"are \(1, 31, 64\); must be \(1, 32, 64\)"),
        (lambda hidden: (hidden,), "returns a tuple"),
        (lambda hidden: hidden.double(), "are torch.float64; must be torch.float32"),
        (lambda hidden: hidden / 0, "are not finite"),
    ],
)
def test_hidden_states_of_another_shape_or_not_finite_are_an_error_of_the_point(change, told):
    model = replaced(build_model("diffutran", "tiny"), change)
    with pytest.raises((PointError, RuntimeError, AttributeError)) as raised:
        measure(model, build_sampler("full"), 32, **SHORT)
    if isinstance(raised.value, PointError):  # the head itself refuses some shapes first
        assert raised.match(told)


@pytest.mark.parametrize("sampler", ["block-cache", "fast-dllm", "ar"])
def test_a_model_that_ignores_its_cache_is_an_error_of_the_point(sampler):
    model = build_model("ar-transformer" if sampler == "ar" else "diffutran", "tiny")
    forward = model.forward

    def without_caches(tokens, t=None, window=None, caches=None):
        return forward(tokens, t)

    model.forward = without_caches
    with pytest.raises(PointError, match=r"ignore the cache of .* tokens"):
        measure(model, build_sampler(sampler), 64, **SHORT)


def test_the_record_of_whole_decodes_has_the_digest_of_their_tokens():
    model, sampler = build_model("diffumamba", "tiny"), build_sampler("block-cache")
    record = measure(model, sampler, 48, batch=2, prompt_len=5, seed=3, **SHORT)
    tokens = sampler.decode(model, 48, batch=2, seed=3, prompt_len=5)
    assert record.output == {
        "digest": digest(tokens),
        "batch": 2,
        "length": 48,
        "prompt_len": 5,
        "masked_left": 0,
        "finite": True,
    }


@pytest.mark.parametrize("accept", ["fixed", "threshold"])
def test_a_sampled_record_has_the_digest_of_a_short_decode(accept):
    model, sampler = build_model("diffumamba", "tiny"), build_sampler("block-cache", accept=accept)
    record = measure(model, sampler, 96, mode="sampled", **SHORT)
    short = record.output["length"]
    assert short < 96
    assert record.output["digest"] == digest(sampler.decode(model, short))


def test_the_short_decode_has_two_blocks_where_their_passes_are_few():
    sampler = build_sampler("block-cache")
    assert short_shape(sampler, DecodeShape(4096, 500, 2)) == DecodeShape(64, 32, 2)
    slow = build_sampler("block-cache", tokens_per_step=1)
    assert short_shape(slow, DecodeShape(4096)) == DecodeShape(16)
    assert short_shape(sampler, DecodeShape(9)) == DecodeShape(8)
    assert short_shape(sampler, DecodeShape(1)) is None


def test_a_digest_depends_on_the_ids_and_their_shape_alone():
    tokens = torch.arange(6).reshape(2, 3)
    assert digest(tokens) == digest(tokens.to(torch.int32)) == digest(tokens.t().contiguous().t())
    assert digest(tokens) != digest(tokens.reshape(3, 2))
    assert digest(tokens) != digest(tokens.flip(0))


def test_finite_is_seen_in_every_value():
    values = torch.zeros(2, 3, dtype=torch.bfloat16)
    assert is_finite(values)
    for bad in (float("nan"), float("inf"), -float("inf")):
        values[1, 2] = bad
        assert not is_finite(values)
