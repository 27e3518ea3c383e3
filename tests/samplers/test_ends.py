"""A decode that stops at the end of text: which passes it makes, and which tokens count."""

import copy
from dataclasses import replace

import pytest
import torch
from support.cases import samplers
from support.reference import lively_model

from dlm_bench import ConfigError, build_sampler, measure
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.own import own_config
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.ends import Ends, check_ends, eos_of, find_ends
from dlm_bench.samplers.stop import stop_at
from dlm_bench.timing.decode_check import check_passes, digest

LENGTH, BLOCK, BATCH, PROMPT = 40, 8, 2, 5
FIELDS = ("passes", "generated", "to_eos")
SAMPLERS = samplers(block_size=BLOCK, tokens_per_step=4) | {
    "full in blocks": build_sampler("full", block_size=BLOCK, tokens_per_step=4),
    "remdm": build_sampler("remdm", tokens_per_step=4),
}
SIZES = {"ar": 1, "full": LENGTH, "remdm": LENGTH}  # of what is decoded together, if no block
# Passes of the first n of five blocks; a commit follows each block but the last one decoded.
PASSES = {
    "full": lambda n: 5,
    "full in blocks": lambda n: 2 * n,
    "remdm": lambda n: 10,
    "dual": lambda n: 2 * n,
    "prefix": lambda n: 2 * n,
    "separate": lambda n: 1 + 2 * n + n - 1,
    "fused": lambda n: 1 + 2 * n,
    "none": lambda n: 1 + 2 * n,
    "ar": lambda n: n,
}


def model_with_eos(name, eos):
    """A model whose end of text is this token."""
    model = copy.copy(lively_model("qwen2" if name == "ar" else "llada", layers=2))
    model.config = replace(model.config, eos_id=eos)
    return model


def decoded(name, model, sampler):
    return sampler.decode(model, LENGTH, BATCH, prompt_len=PROMPT)


def common_token(tokens):
    """The token that all rows have first."""
    rows = tokens.tolist()
    common = set(rows[0]).intersection(*rows)
    return min(common, key=lambda token: max(row.index(token) for row in rows))


@pytest.mark.parametrize("name", PASSES)
def test_a_decode_ends_with_the_block_in_which_the_last_sequence_ends(name):
    sampler = SAMPLERS[name]
    whole = decoded(name, model_with_eos(name, None), sampler)
    eos = common_token(whole)
    model = model_with_eos(name, eos)
    places = [row.index(eos) for row in whole.tolist()]
    size = SIZES.get(name, BLOCK)
    blocks = max(places) // size + 1
    state = sampler.prepare(model, LENGTH, BATCH, prompt_len=PROMPT)
    ends = find_ends(sampler, model, state)
    passes, generated = (PASSES[name](blocks),) * BATCH, (blocks * size,) * BATCH
    assert ends == Ends(passes, generated, tuple(place + 1 for place in places))
    # The passes of that decode, run again, give the same tokens and leave the others alone.
    stop_at(state, ends)
    sampler.seek(state, 0)
    sampler.run(model, state)
    state.check_unmasked()
    assert torch.equal(state.decoded, whole[:, : blocks * size])
    assert (state.tokens[:, state.end :] == model.config.mask_id).all()


def test_the_case_above_ends_before_the_last_block():
    for name in set(PASSES) - {"full", "remdm"}:
        whole = decoded(name, model_with_eos(name, None), SAMPLERS[name])
        eos = common_token(whole)
        assert max(row.index(eos) for row in whole.tolist()) < LENGTH - BLOCK


@pytest.mark.parametrize("name", ["separate", "ar"])
def test_a_sequence_without_an_end_has_all_tokens(name):
    sampler = SAMPLERS[name]
    model = model_with_eos(name, 256)
    assert 256 not in decoded(name, model, sampler)
    state = sampler.prepare(model, LENGTH, BATCH, prompt_len=PROMPT)
    passes, tokens = (len(state.passes),) * BATCH, (LENGTH,) * BATCH
    assert find_ends(sampler, model, state) == Ends(passes, tokens, tokens)


@pytest.mark.parametrize("mode", ["exact", "sampled"])
@pytest.mark.parametrize("name", ["separate", "dual", "full", "ar"])
def test_throughput_is_of_the_tokens_up_to_the_end(name, mode):
    sampler = SAMPLERS[name]
    whole = decoded(name, model_with_eos(name, None), sampler)
    eos = common_token(whole)
    model = model_with_eos(name, eos)
    settings = {"mode": mode, "warmup": 0, "repeats": 2, "tolerance": 1.0, "batch": BATCH}
    settings |= {"prompt_len": PROMPT}
    record = measure(model, sampler, LENGTH, **settings, stop_at_eos=True)
    to_eos = sum(row.index(eos) + 1 for row in whole.tolist())
    size = SIZES.get(name, BLOCK)
    blocks = max(row.index(eos) for row in whole.tolist()) // size + 1
    assert record.point.stop_at_eos
    assert (record.tokens_to_eos, record.generated) == (to_eos, BATCH * blocks * size)
    first = BATCH if name == "ar" else 0  # the tokens of the prefill are not timed
    assert record.timed_tokens == to_eos - first
    prefill = name in ("separate", "ar")
    assert record.nfe == PASSES[name](blocks) - prefill
    assert record.tokens_per_second == pytest.approx(record.timed_tokens / record.mean_seconds)
    if mode == "exact":
        assert record.output["length"] == blocks * size
        assert record.output["masked_left"] == 0
    assert measure(model, sampler, LENGTH, **settings).tokens_to_eos is None


def test_acceptance_by_confidence_ends_where_its_own_decode_does():
    sampler = build_sampler("block-cache", block_size=BLOCK, accept="threshold", threshold=0.05)
    whole = sampler.decode(model_with_eos("separate", None), LENGTH, prompt_len=PROMPT)
    eos = int(whole[0, BLOCK + 2])
    place = whole[0].tolist().index(eos)
    model = model_with_eos("separate", eos)
    record = measure(
        model, sampler, LENGTH, warmup=0, repeats=1, prompt_len=PROMPT, stop_at_eos=True
    )
    assert record.tokens_to_eos == place + 1
    assert record.generated == (place // BLOCK + 1) * BLOCK
    trace = sampler.scheduled(model, LENGTH, prompt_len=PROMPT).trace
    assert record.decoding_passes == sum(map(len, trace.accepted[: place // BLOCK + 1]))


@pytest.mark.parametrize("options", [{"accept_len": 3}, {"accept": "agreement"}])
def test_a_decode_of_drafts_ends_with_the_pair_in_which_the_text_ends(options):
    sampler = build_sampler("self-speculation", block_size=BLOCK, **options)
    whole = sampler.decode(model_with_eos("pairs", None), LENGTH, prompt_len=PROMPT)[0].tolist()
    eos = whole[12]
    model = model_with_eos("pairs", eos)
    record = measure(
        model, sampler, LENGTH, warmup=0, repeats=1, prompt_len=PROMPT, stop_at_eos=True
    )
    assert record.tokens_to_eos == whole.index(eos) + 1
    assert record.tokens_to_eos <= record.generated < record.tokens_to_eos + BLOCK
    assert record.output["digest"] == digest(torch.tensor([whole[: record.generated]]))


def test_a_pipeline_ends_while_later_blocks_are_under_way():
    sampler = build_sampler("pipeline", block_size=BLOCK)
    whole = sampler.decode(model_with_eos("blocks", None), LENGTH, prompt_len=PROMPT)[0].tolist()
    eos = whole[BLOCK - 1]
    model = model_with_eos("blocks", eos)
    record = measure(
        model, sampler, LENGTH, warmup=0, repeats=1, prompt_len=PROMPT, stop_at_eos=True
    )
    assert record.tokens_to_eos == whole.index(eos) + 1
    assert record.output["digest"] == digest(torch.tensor([whole[: record.generated]]))
    assert record.generated < LENGTH


TRACE = Trace.by_hand(
    (((8,), (2, 2, 2, 2), (8,), (4, 4), (8,)), ((1,) * 8, (8,), (4, 4), (8,), (5, 3))), BLOCK
)
BATCHED = [
    {"tokens_per_step": 4},
    {"trace": TRACE},
    {"trace": TRACE, "temperature": 0.8},
    {"accept": "threshold", "threshold": 0.05},
]


def apart(**options):
    """The samplers in step and first done, first out, and their first decode in step."""
    samplers = [
        build_sampler("block-cache", block_size=BLOCK, batching=how, **options)
        for how in ("lockstep", "fdfo")
    ]
    model = model_with_eos("separate", None)
    return *samplers, samplers[0].decode(model, LENGTH, BATCH, prompt_len=PROMPT)


@pytest.mark.parametrize("options", BATCHED)
def test_a_sequence_at_blocks_of_its_own_ends_where_it_ends_alone(options):
    in_step, first_done, whole = apart(**options)
    eos = common_token(whole)
    model = model_with_eos("separate", eos)
    place, alone = {"prompt_len": PROMPT, "seed": 0}, []
    for row in range(BATCH):
        shape = {"length": LENGTH, "seed": row, "prompt_len": PROMPT}
        known = in_step.scheduled(model, **shape)
        alone.append(find_ends(known, model, known.prepare(model, **shape)))
    known = first_done.scheduled(model, LENGTH, BATCH, **place)
    state = known.prepare(model, LENGTH, BATCH, **place)
    ends = find_ends(known, model, state)
    assert ends == Ends(*(sum((getattr(each, name) for each in alone), ()) for name in FIELDS))
    stop_at(state, ends)
    check_passes(model, known, state)
    known.seek(state, 0)
    known.run(model, state)
    state.check_unmasked()
    assert int(state.index) == len(state.passes) == max(ends.passes)
    for row, count in enumerate(ends.generated):
        assert torch.equal(state.decoded[row, :count], whole[row, :count])
        assert (state.decoded[row, count:] == model.config.mask_id).all()
    assert state.behind_ends == BATCH * max(ends.generated) - sum(ends.generated)


def test_a_sequence_that_ended_idles_until_the_last_one_ends():
    _, first_done, whole = apart(trace=TRACE)
    eos = common_token(whole)
    blocks = [row.index(eos) // BLOCK for row in whole.tolist()]
    # The prefill, then the passes of the trace and a commit between blocks.
    of_rows = ([2, 7, 9, 12, 14], [9, 11, 14, 16, 19])
    passes = [own[block] for own, block in zip(of_rows, blocks, strict=True)]
    state = first_done.prepare(model_with_eos("separate", eos), LENGTH, BATCH, prompt_len=PROMPT)
    stop_at(state, find_ends(first_done, model_with_eos("separate", eos), state))
    assert len(state.passes) == max(passes) > min(passes)
    early = passes.index(min(passes))
    last = PROMPT + blocks[early] * BLOCK
    for index, step in enumerate(state.passes[1:], start=1):
        start, _, masked, reveal, advance = (column[early] for column in step.rows[:5])
        if index >= min(passes):
            assert (start, masked, reveal, advance) == (last, 0, 0, False)
        else:
            assert masked or advance


@pytest.mark.parametrize("mode", ["exact", "sampled"])
def test_both_ways_of_batching_count_the_same_tokens(mode):
    in_step, first_done, whole = apart(trace=TRACE)
    model = model_with_eos("separate", common_token(whole))
    settings = {"mode": mode, "warmup": 0, "repeats": 1, "tolerance": 1.0, "batch": BATCH}
    waiting, without = (
        measure(model, sampler, LENGTH, prompt_len=PROMPT, stop_at_eos=True, **settings)
        for sampler in (in_step, first_done)
    )
    assert without.tokens_to_eos == waiting.tokens_to_eos == without.timed_tokens
    assert without.nfe < waiting.nfe
    assert without.generated <= waiting.generated
    assert without.output["masked_left"] == 0


def test_a_prefill_that_ends_every_sequence_leaves_nothing_to_time():
    sampler = SAMPLERS["ar"]
    (first,) = decoded("ar", model_with_eos("ar", None), sampler)[:1, 0].tolist()
    with pytest.raises(Exception, match="nothing is left to time"):
        measure(model_with_eos("ar", first), sampler, LENGTH, prompt_len=PROMPT, stop_at_eos=True)


def test_a_model_without_an_end_of_text_is_refused_in_one_line():
    model = model_with_eos("full", None)
    with pytest.raises(ConfigError, match="stop_at_eos: is not allowed with backbone 'llada'"):
        measure(model, SAMPLERS["full"], LENGTH, stop_at_eos=True)


@pytest.mark.parametrize(
    ("backbone", "size", "eos"),
    [
        ("diffumamba", "tiny", 256),
        ("ar-mamba", "1.3b", 50256),
        ("llada", "8b", 126081),
        ("nemotron-ld", "8b", 11),
    ],
)
def test_models_of_this_project_state_theirs(backbone, size, eos):
    assert eos_of(own_config(backbone, size)) == eos
    check_ends(backbone_info(backbone), size)
