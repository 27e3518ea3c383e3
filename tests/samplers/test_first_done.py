"""First done, first out: what a batch decodes, in which passes, and what each row does in them."""

import random

import pytest
import torch
from support.reference import lively_model

from dlm_bench import ConfigError, build_sampler, measure
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.decode_check import check_passes, check_plan

# Attention with a cache, states and tails of both directions with attention, a token shift, and
# groups of heads with norms of q and k.
BACKBONES = ("diffutran", "diffumamba-h", "diffumamba", "dream", "sdar")
# In blocks of 4: two of 4 tokens and a last one of 2.
SEQUENCES = (((4,), (3, 1), (2,)), ((1, 1, 2), (4,), (1, 1)), ((2, 2), (1, 1, 1, 1), (2,)))


def trace_of(sequences=SEQUENCES, block_size=4):
    return Trace.by_hand(sequences, block_size, batch=len(sequences))


def batchings(**options):
    """The sampler in step and first done, first out."""
    return [build_sampler("block-cache", batching=how, **options) for how in ("lockstep", "fdfo")]


def counted_decode(sampler, model, *place):
    """The tokens and the number of the model's passes."""
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    try:
        return sampler.decode(model, *place), len(calls)
    finally:
        hook.remove()


def random_batch(draw):
    """Options and (length, batch, seed, prompt_len) of a decode."""
    options = draw.choice(
        [
            {"accept": "threshold", "threshold": draw.uniform(0.03, 0.07)},
            {"accept": "factor", "factor": draw.uniform(2.8, 2.97)},
            {"accept": "entropy", "gamma": draw.uniform(3, 9)},
            {"accept": "bounded", "threshold": draw.uniform(0.03, 0.07), "max_passes": 3},
        ]
    )
    options |= {"block_size": draw.choice([3, 5, 8]), "temperature": draw.choice([0.0, 0.0, 0.8])}
    return options, (
        draw.randint(1, 20),
        draw.randint(1, 4),
        draw.randint(0, 99),
        draw.choice([0, 1, 9]),
    )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_random_batches_decode_in_no_more_passes_what_they_decode_in_step(backbone):
    model, draw = lively_model(backbone, layers=2), random.Random(backbone)
    for _ in range(4):
        options, (length, batch, seed, prompt_len) = random_batch(draw)
        place = (length, batch, seed, prompt_len)
        in_step, first_done = batchings(**options)
        expected, waiting = counted_decode(in_step, model, *place)
        found, without = counted_decode(first_done, model, *place)
        assert torch.equal(found, expected), (options, place)
        # By a trace, too, and then in as many passes as the slowest sequence takes alone.
        trace = record_trace(model, first_done, *place)
        plain = {name: options[name] for name in ("block_size", "temperature")}
        plain["order"] = "entropy" if options["accept"] == "entropy" else "confidence"
        replay = build_sampler("block-cache", trace=trace, batching="fdfo", **plain)
        again, planned = counted_decode(replay, model, *place)
        assert torch.equal(again, expected), (options, place)
        commits = -(-length // options["block_size"]) - 1
        slowest = max(sum(map(len, blocks)) for blocks in trace.sequences)
        assert without == planned == slowest + commits + (prompt_len > 0)
        assert without <= waiting


def test_each_pass_has_every_row_where_the_row_is():
    first_done = build_sampler("block-cache", block_size=4, trace=trace_of(), batching="fdfo")
    plan = list(first_done.planned(DecodeShape(10, 3, 3)))
    assert plan[0].kind == "prefill"
    assert [(p.kind, p.query_len, p.context_len) for p in plan[1:3]] == [("mixed", 4, 3)] * 2
    rows = [list(zip(*each.rows[:5], strict=True)) for each in plan[1:]]
    # Start, length, masked, to unmask, and if it commits: of each row, pass by pass.
    assert [row[0] for row in rows] == [
        (3, 4, 4, 4, False), (3, 4, 0, 0, True), (7, 4, 4, 3, False), (7, 4, 1, 1, False),
        (7, 4, 0, 0, True), (11, 2, 2, 2, False), (11, 2, 0, 0, False), (11, 2, 0, 0, False),
        (11, 2, 0, 0, False),
    ]  # fmt: skip
    assert [row[1] for row in rows][:5] == [
        (3, 4, 4, 1, False), (3, 4, 3, 1, False), (3, 4, 2, 2, False), (3, 4, 0, 0, True),
        (7, 4, 4, 4, False),
    ]  # fmt: skip
    assert [row[2] for row in rows][-1] == (11, 2, 2, 2, False)
    # In step the three blocks take 3 + 4 + 2 passes, and 2 commits.
    in_step = build_sampler("block-cache", block_size=4, trace=trace_of())
    assert len(list(in_step.planned(DecodeShape(10, 3, 3)))) == 1 + 3 + 4 + 2 + 2
    assert len(rows) == 9


def test_without_a_trace_rows_are_in_step():
    options = {"block_size": 8, "tokens_per_step": 3}
    in_step, first_done = batchings(**options)
    assert first_done.schedule(21, 5).forward_passes == in_step.schedule(21, 5).forward_passes
    model = lively_model("diffumamba-h", layers=2)
    place = (21, 3, 7, 5)
    assert torch.equal(first_done.decode(model, *place), in_step.decode(model, *place))


def test_blocks_of_more_tokens_than_the_form_for_few_are_the_same():
    trace = trace_of((((70,), (20, 10)), ((40, 30), (30,))), block_size=70)
    in_step, first_done = batchings(block_size=70, trace=trace)
    model = lively_model("diffumamba", layers=2)
    assert torch.equal(first_done.decode(model, 100, 2), in_step.decode(model, 100, 2))


@pytest.mark.parametrize("prompt_len", [0, 5])
def test_after_a_seek_every_row_goes_on_from_its_place(prompt_len):
    model, shape = lively_model("diffumamba-h", layers=1), DecodeShape(10, prompt_len, 3)
    sampler = build_sampler("block-cache", block_size=4, trace=trace_of(), batching="fdfo")
    state = sampler.prepare_shape(model, shape)
    check_plan(state.passes, shape)
    check_passes(model, sampler, state)
    mask, places = model.config.mask_id, torch.arange(shape.total)
    for index in (len(state.passes) - 1, 6, 3):
        sampler.seek(state, index)
        rows = state.passes[index].rows
        for row, (start, length, masked) in enumerate(zip(*rows[:3], strict=True)):
            is_masked = state.tokens[row] == mask
            assert not is_masked[places < start].any()
            assert is_masked[places >= start + length].all()
            assert int(is_masked[start : start + length].sum()) == masked
        for planned in state.passes[index:]:
            before = (state.tokens == mask).sum(dim=1)
            sampler.step(model, state, planned.kind)
            unmasked = before - (state.tokens == mask).sum(dim=1)
            assert unmasked.tolist() == [*planned.rows.reveal]
        state.check_unmasked()


def test_a_row_draws_with_the_noise_that_it_draws_with_alone():
    model, place = lively_model("diffutran", layers=1), {"batch": 3, "seed": 5, "prompt_len": 2}
    options = {"accept": "threshold", "threshold": 0.05, "temperature": 0.8, "block_size": 4}
    in_step, first_done = batchings(**options)
    state = first_done.prepare(model, 10, **place)
    with torch.inference_mode():
        first_done.run(model, state)
    by_rule = state.places.numbers[:, -1] + state.noise_start
    known = first_done.scheduled(model, 10, **place)
    state = known.prepare(model, 10, **place)
    planned = state.places.numbers[:, -1] + state.noise_start
    for row in range(3):
        drawing = [index for index, each in enumerate(state.passes) if each.of_rows(3).reveal[row]]
        alone = in_step.scheduled(model, 10, 1, 5 + row, 2).prepare(model, 10, 1, 5 + row, 2)
        seeds = (alone.table["noise"] + alone.noise_start)[
            [index for index, each in enumerate(alone.passes) if each.reveal]
        ]
        assert planned[drawing, row].tolist() == by_rule[drawing, row].tolist() == seeds.tolist()


@pytest.mark.parametrize("mode", ["exact", "sampled"])
def test_both_modes_of_timing_take_it(mode):
    model = lively_model("diffumamba-h", layers=1)
    sampler = build_sampler("block-cache", block_size=4, trace=trace_of(), batching="fdfo")
    place = {"batch": 3, "prompt_len": 5}
    record = measure(model, sampler, 10, mode=mode, warmup=0, repeats=1, tolerance=0.9, **place)
    assert (record.nfe, record.tokens, record.status) == (9, 30, "ok")
    assert record.point.options["batching"] == "fdfo"
    by_rule = build_sampler("block-cache", block_size=4, accept="threshold", batching="fdfo")
    assert measure(model, by_rule, 10, warmup=0, repeats=1, **place).nfe == 10 + 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batching": "first"}, ["batching", "'first'", "lockstep, fdfo"]),
        ({"batching": "fdfo", "commit": "fused"}, ["commit", "'fused'", "'fdfo'", "separate"]),
        ({"batching": "fdfo", "commit": "none"}, ["commit", "'none'", "'fdfo'", "separate"]),
        ({"batching": "fdfo", "sub_block_size": 8}, ["sub_block_size", "8", "'fdfo'", "0"]),
        ({"commit": "none", "trace": trace_of(), "block_size": 4}, ["commit", "several sequences"]),
    ],
)
def test_options_that_cannot_be_together_are_one_line(options, said):
    with pytest.raises(ConfigError) as caught:
        build_sampler("block-cache", **options)
    assert "\n" not in str(caught.value)
    for words in said:
        assert words in str(caught.value)


def test_lockstep_goes_without_saying_in_records():
    assert "batching" not in build_sampler("block-cache").options()
    assert build_sampler("block-cache", batching="fdfo").options()["batching"] == "fdfo"


def test_a_trace_is_the_same_by_either_batching():
    model = lively_model("sdar", layers=1)
    traces = [
        record_trace(model, sampler, 10, 2)
        for sampler in batchings(block_size=4, accept="threshold", threshold=0.05)
    ]
    assert traces[0].label == traces[1].label
    assert "batching" not in traces[1].options
