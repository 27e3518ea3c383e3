"""Self-speculation decodes, pass by pass, what a recomputation from scratch decodes."""

import pytest
import torch
from support.cases import FIELD_DENOISERS
from support.close import assert_close
from support.reference import TOLERANCE, lively_model, package_steps
from support.reference_network import mixed, network, shifted

from dlm_bench import ConfigError, build_sampler
from dlm_bench.models.backbones import backbone_info
from dlm_bench.samplers import with_models_defaults
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import Trace, load_trace, save_trace
from dlm_bench.samplers.schedule import DecodeShape, first_block_passes
from dlm_bench.testing import check_decode

BACKBONES = ("diffutran", *FIELD_DENOISERS)
LENGTH, BLOCK = 16, 6


def sampler_of(accept="agreement", **options):
    return build_sampler("self-speculation", block_size=BLOCK, accept=accept, **options)


def reference_steps(sampler, model, tokens, begin):
    """The role, hidden states and tokens after it of each pass over the whole sequence. `tokens`
    (1, length) are MASK from `begin` on; with nothing before, end of text is put in front."""
    mask = model.config.mask_id
    front = torch.full((1, 1 if begin == 0 else 0), model.config.bos_id)
    tokens = torch.cat((front, tokens), dim=1)
    shift, length, known = front.shape[1], tokens.shape[1], begin + front.shape[1]

    def evaluate(inputs, times, spans):
        return network(model, inputs, times, lambda _, mixer, x: mixed(mixer, x, spans))

    def causally(inputs):
        count = inputs.shape[1]
        hidden = evaluate(inputs, [0.0] * count, [(i, i + 1) for i in range(count)])
        logits = model.logits(hidden).clone()
        logits[..., mask] = -torch.inf
        return hidden, logits.argmax(dim=-1)

    if begin:
        hidden, after = causally(tokens[:, :known])
        tokens[:, known] = after[:, -1]
        known += 1
        yield "prefill", hidden, tokens[:, shift:].clone()
    while known < length:
        seed, end = known - 1, min(known - 1 + sampler.block_size, length - 1)
        drafted = end - seed
        drafts = tokens[:, :0]
        if drafted > 1:
            inputs = tokens[:, :end]
            spans = [(i, i + 1) for i in range(seed)] + [(seed, end)]
            times = [0.0] * seed + [(drafted - 1) / drafted] * drafted
            hidden = shifted(model, evaluate(inputs, times, spans))
            logits = model.logits(hidden[:, known:end]).clone()
            logits[..., mask] = -torch.inf
            drafts = logits.argmax(dim=-1)
            yield "draft", hidden[:, seed:], tokens[:, shift:].clone()
        hidden, after = causally(torch.cat((tokens[:, :known], drafts), dim=1))
        after = after[:, seed:]
        kept = min(sampler.accept_len, drafted)
        if sampler.accept == "agreement":
            kept = 1
            while kept < drafted and drafts[0, kept - 1] == after[0, kept - 1]:
                kept += 1
        tokens[:, known : known + kept - 1] = drafts[:, : kept - 1]
        tokens[:, known + kept - 1] = after[:, kept - 1]
        known += kept
        yield "verify", hidden[:, seed:], tokens[:, shift:].clone()


@pytest.mark.parametrize("prompt_len", [0, 7])
@pytest.mark.parametrize("accept", ["fixed", "agreement"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_decodes_what_a_recomputation_decodes(backbone, accept, prompt_len):
    model = lively_model(backbone, layers=2)
    sampler = sampler_of(accept, **({"accept_len": 4} if accept == "fixed" else {}))
    with torch.inference_mode():
        known = sampler.scheduled(model, LENGTH, prompt_len=prompt_len)
        masked = known.prepare(model, LENGTH, prompt_len=prompt_len).tokens
        steps, state = package_steps(known, model, LENGTH, prompt_len=prompt_len)
        expected = list(reference_steps(sampler, model, masked, prompt_len))
    roles = [each.kind.partition(":")[0] for each in state.passes]
    assert roles == [role for role, *_ in expected]
    for i, (step, (role, hidden, tokens)) in enumerate(zip(steps, expected, strict=True)):
        first = int(role == "draft")  # the seed's place predicts nothing
        assert_close(step.hidden[:, first:], hidden[:, first:], TOLERANCE, where=f"pass {i}")
        assert torch.equal(step.tokens, tokens), f"pass {i}"
    assert torch.equal(tokens[:, prompt_len:], decode(sampler, model, prompt_len))


def decode(sampler, model, prompt_len=0, batch=1):
    return sampler.decode(model, LENGTH, batch, prompt_len=prompt_len)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_by_agreement_the_tokens_are_those_of_one_verified_token_a_pair(backbone):
    model = lively_model(backbone, layers=2)
    one_by_one = sampler_of("fixed", accept_len=1)
    by_agreement = decode(sampler_of(), model, prompt_len=7, batch=3)
    assert torch.equal(by_agreement, decode(one_by_one, model, prompt_len=7, batch=3))
    assert len(by_agreement.unique()) > 3


def test_agreement_saves_passes_and_rows_wait_for_the_one_that_keeps_the_fewest():
    model = lively_model("diffutran", layers=2)
    (alone,) = record_trace(model, sampler_of(), LENGTH).accepted
    assert max(alone) > 1
    (together,) = record_trace(model, sampler_of(), LENGTH, batch=3, prompt_len=7).accepted
    rows = [record_trace(model, sampler_of(), LENGTH, 1, i, 7).accepted[0] for i in range(3)]
    assert len(together) >= max(map(len, rows))


@pytest.mark.parametrize(
    ("backbone", "options"),
    [("dream", {}), ("diffutran", {"accept": "fixed", "accept_len": 4, "temperature": 1.0})],
)
def test_every_check_for_authors_holds(backbone, options):
    check_decode(lively_model(backbone, layers=2), sampler_of(**options), length=13)


# The schedule.


def passes(length, prompt_len=0, **options):
    sampler = build_sampler("self-speculation", block_size=8, **options)
    return [
        (p.kind, p.query_len, p.context_len, p.count) for p in sampler.schedule(length, prompt_len)
    ]


def test_a_pair_keeps_accept_len_tokens():
    # 20 tokens of which pairs keep 5: a pair is no longer than the tokens left, 20 - 15 = 5.
    assert passes(20, accept_len=5) == [
        *(("draft", 8, 0, 1), ("verify", 8, 0, 1)),
        *(("draft", 8, 5, 1), ("verify", 8, 5, 1)),
        *(("draft", 8, 10, 1), ("verify", 8, 10, 1)),
        *(("draft:5", 5, 15, 1), ("verify:5", 5, 15, 1)),
    ]


def test_a_prompt_is_prefilled_and_decodes_the_first_token():
    # The seed, at position 100, is not in the cache yet.
    assert passes(9, 100, accept_len=8) == [
        ("prefill", 100, 0, 1),
        ("draft", 8, 100, 1),
        ("verify", 8, 100, 1),
    ]
    plan = list(build_sampler("self-speculation").passes(9, 100))
    assert [p.reveal for p in plan] == [1, 0, 8]
    assert first_block_passes(plan) == 1


def test_a_single_token_needs_no_draft():
    assert passes(9, accept_len=8)[2:] == [("verify:1", 1, 8, 1)]
    alone = build_sampler("self-speculation", block_size=1, accept_len=1).schedule(5)
    assert [(p.kind, p.context_len) for p in alone] == [("verify", i) for i in range(5)]


def test_passes_are_those_that_the_released_code_counts():
    # linear_spec_generate: nfe = 1 for the prompt and 2 a pair. Pairs keep 3, 1, 8 and 7 tokens
    # after the first, which is the prompt's: 20 tokens, 9 passes with that over the prompt.
    trace = trace_of([1, 3, 1, 8, 7], prompt_len=4)
    schedule = build_sampler("self-speculation", block_size=8, trace=trace).schedule(20, 4)
    assert schedule.forward_passes == 8
    assert schedule.prefill.count == 1
    assert schedule.query_tokens == 2 * (8 + 8 + 8 + 7)


# Traces.


def trace_of(accepted, **changes):
    return Trace.by_hand([[accepted]], None, **{"sampler": "self-speculation"} | changes)


def reveals(trace, length, prompt_len=0):
    sampler = build_sampler("self-speculation", block_size=8, trace=trace)
    return [p.reveal for p in sampler.passes(length, prompt_len) if p.reveal]


def test_a_replay_keeps_what_was_recorded():
    assert reveals(trace_of([3, 1, 4]), 8) == [3, 1, 4]
    assert reveals(trace_of([3, 1, 4]), 6) == [3, 1, 2]
    assert reveals(trace_of([1, 3, 4], prompt_len=5), 8, 5) == [1, 3, 4]


def test_a_longer_replay_leaves_out_the_pair_that_the_end_cut_short():
    assert reveals(trace_of([4, 4, 1]), 27) == [4, 4, 4, 4, 4, 4, 3]
    assert reveals(trace_of([3, 1, 4]), 13) == [3, 1, 3, 1, 3, 1, 1]
    assert reveals(trace_of([1, 3, 2, 1], prompt_len=5), 12, 5) == [1, 3, 2, 3, 2, 1]
    assert reveals(trace_of([4]), 10) == [4, 4, 2]  # there is no other


def test_a_seed_follows_its_own_sequence_and_a_batch_has_no_room_for_several():
    trace = Trace.by_hand([[[4, 4]], [[8]]], None, sampler="self-speculation", seed=3)
    sampler = build_sampler("self-speculation", block_size=8, trace=trace)
    for seed, kept in ((3, [4, 4]), (4, [8]), (5, [4, 4])):
        assert [p.reveal for p in sampler.planned(DecodeShape(8), seed) if p.reveal] == kept
    with pytest.raises(ConfigError, match=r"batch: 2 .* 2 sequences .* a trace of one sequence"):
        sampler.planned(DecodeShape(8, batch=2))
    assert not sampler.takes_batches
    with pytest.raises(ConfigError, match="up to 8 tokens a pair"):
        build_sampler("self-speculation", block_size=4, trace=trace)


def test_a_trace_comes_back_from_its_file(tmp_path):
    model = lively_model("diffutran", layers=2)
    trace = record_trace(model, sampler_of(), LENGTH, prompt_len=7)
    save_trace(trace, tmp_path / "t.json")
    assert load_trace(tmp_path / "t.json") == trace
    replay = build_sampler("self-speculation", block_size=BLOCK, trace=str(tmp_path / "t.json"))
    assert replay.options()["trace"] == trace.label
    assert torch.equal(decode(replay, model, 7), decode(sampler_of(), model, 7))


# Options.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accept_len": 9}, r"accept_len: 9 .* at most block_size \(8\)"),
        ({"accept_len": 0}, "accept_len: 0"),
        ({"accept": "threshold"}, "accept: 'threshold' .* fixed, agreement"),
        ({"accept": "agreement", "accept_len": 8}, "accept_len: 8 .* 'agreement'"),
        ({"accept": "agreement", "temperature": 0.5}, "temperature: 0.5 .* must be 0"),
        ({"accept": "agreement", "trace": "t.json"}, "trace: 't.json' .* 'agreement'"),
        ({"trace": 3}, "trace: 3 .* path of a trace"),
        ({"trace": trace_of([9, 1])}, "up to 9 tokens a pair; .* block_size 8"),
        ({"trace": trace_of([4, 4], sampler="full")}, "sampler 'full'; .* 'self-speculation'"),
        ({"trace": trace_of([4, 4]), "accept_len": 2}, "accept_len: 2 .* with trace"),
    ],
)
def test_what_cannot_be_is_one_line(options, said):
    with pytest.raises(ConfigError, match=said):
        build_sampler("self-speculation", block_size=8, **options)


def test_a_mamba_state_is_a_reason_against_it():
    sampler = build_sampler("self-speculation")
    with pytest.raises(ConfigError, match=r"'diffumamba-h' .* a Mamba state cannot be put back"):
        sampler.check_backbone("diffumamba-h")
    with pytest.raises(ConfigError, match="'qwen3' does not decode"):
        sampler.check_backbone("qwen3")
    assert "self-speculation" in backbone_info("llada").supports


def test_a_trained_block_drafts_a_block_and_keeps_a_quarter():
    found = with_models_defaults("self-speculation", {}, backbone_info("sdar"))
    assert found == {"block_size": 4, "accept_len": 1}
