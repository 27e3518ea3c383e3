"""Measuring a decode whose passes the model decides."""

import math

import pytest
import torch

from dlm_bench import append_record, build_model, build_sampler, load_results, measure
from dlm_bench.cost.roofline import HARDWARE, utilisation
from dlm_bench.errors import ConfigError
from dlm_bench.results.series import identity_columns
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.timing import unit_timer

LENGTH = 60
ADAPTIVE = {"accept": "factor", "factor": 2.9, "block_size": 8}


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch):
    """The passes are counted here, not timed."""
    for seconds in ("WARMUP_SECONDS", "SETTLE_SECONDS"):
        monkeypatch.setattr(unit_timer, seconds, 0.0)


@pytest.fixture(scope="module")
def model():
    return build_model("diffumamba", "tiny", layers=2)


@pytest.mark.parametrize("mode", ["exact", "sampled", "auto"])
@pytest.mark.parametrize(("batch", "prompt_len"), [(1, 0), (2, 0), (3, 20)])
def test_a_record_has_the_passes_that_the_decode_took(model, mode, batch, prompt_len):
    sampler = build_sampler("block-cache", **ADAPTIVE)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    sampler.decode(model, LENGTH, batch, prompt_len=prompt_len)
    hook.remove()
    del calls[: prompt_len > 0]  # the prefill
    settings = {"warmup": 1, "repeats": 2, "tolerance": 1.0, "batch": batch}
    record = measure(model, sampler, LENGTH, mode, prompt_len=prompt_len, **settings)
    assert record.nfe == len(calls)
    assert len(record.prefill_seconds) == (len(record.seconds) if prompt_len else 0)
    assert len(record.first_block_seconds) == len(record.seconds)
    assert record.tokens == batch * LENGTH
    assert record.point.options == sampler.options()
    commits = math.ceil(LENGTH / 8) - 1
    assert record.decoding_passes == len(calls) - commits
    assert record.tokens_per_pass == LENGTH / (len(calls) - commits)
    assert record.nfe_per_token == len(calls) / LENGTH
    assert 1 < record.tokens_per_pass < 8


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("place", [{}, {"batch": 2, "prompt_len": 20}], ids=["", "together"])
def test_the_passes_that_are_timed_are_that_very_decode(model, temperature, place):
    sampler = build_sampler("block-cache", **ADAPTIVE, temperature=temperature)
    known = sampler.scheduled(model, LENGTH, seed=3, **place)
    state = known.prepare(model, LENGTH, seed=3, **place)
    expected = sampler.decode(model, LENGTH, seed=3, **place)
    for _ in range(2):
        known.seek(state, 0)  # as every repeat begins
        for place in state.passes:
            known.step(model, state, place.kind)
        assert torch.equal(state.tokens[:, state.prompt_len :], expected)


def test_fixed_samplers_say_their_tokens_per_pass_too(model):
    settings = {"warmup": 0, "repeats": 1}
    record = measure(model, build_sampler("block-cache"), 64, **settings)
    assert (record.tokens_per_pass, record.nfe_per_token) == (8.0, 9 / 64)
    causal = build_model("ar-mamba", "tiny", layers=1)
    # Of 16 tokens after a prompt the prefill decodes one, which no pass of `nfe` does.
    for place in ({}, {"batch": 2, "prompt_len": 5}):
        record = measure(causal, build_sampler("ar"), 16, **place, **settings)
        assert (record.tokens_per_pass, record.nfe_per_token) == (1.0, 1.0)


def test_both_are_columns_of_a_frame_and_tell_no_lines_apart(model, tmp_path):
    for sampler in (build_sampler("block-cache"), build_sampler("block-cache", **ADAPTIVE)):
        append_record(tmp_path / "r.jsonl", measure(model, sampler, 64, warmup=0, repeats=1))
    frame = load_results(tmp_path / "r.jsonl")
    assert frame.tokens_per_pass[0] == 8
    assert (frame.tokens_per_pass * frame.decoding_passes == 64).all()
    assert frame.nfe_per_token.tolist() == (frame.nfe / 64).tolist()
    columns = identity_columns(frame)
    assert {"accept", "factor", "tokens_per_step"} <= set(columns)
    assert not {"tokens_per_pass", "nfe_per_token", "decoding_passes"} & set(columns)


def test_no_roofline_is_made_up_for_passes_that_a_record_does_not_list(model):
    record = measure(model, build_sampler("block-cache", **ADAPTIVE), LENGTH, warmup=0, repeats=1)
    sheet = HARDWARE["h200"]
    with pytest.raises(ConfigError, match="accept: how many passes 'factor' takes"):
        utilisation(record.model_copy(update={"point": half(record.point)}), sheet)
    trace = record_trace(model, build_sampler("block-cache", **ADAPTIVE), LENGTH)
    replay = build_sampler("block-cache", trace=trace, block_size=8)
    record = measure(model, replay, LENGTH, warmup=0, repeats=1)
    with pytest.raises(ConfigError, match=f"trace: '{trace.label}' is not allowed here"):
        utilisation(record.model_copy(update={"point": half(record.point)}), sheet)


def half(point):
    """The point in the precision that the sheets are of."""
    return point.model_copy(update={"dtype": "bfloat16"})
