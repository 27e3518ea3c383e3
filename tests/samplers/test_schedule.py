"""A schedule says every pass of a decode: the design's table, and what holds for any length."""

import itertools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlm_bench import build_sampler
from dlm_bench.errors import MAX_BATCH, MAX_LENGTH, ConfigError
from dlm_bench.samplers.schedule import DecodeShape, Pass

L, B, P = 96, 32, 8
N, T = L // B, B // P  # blocks, passes a block


def passes(name, length=L, **options):
    return [
        (p.role, p.query_len, p.context_len, p.count)
        for p in build_sampler(name, **options).schedule(length)
    ]


def block_passes(name, length=L, p=P, **options):
    return passes(name, length, block_size=B, tokens_per_step=p, **options)


# The design's table, for lengths that divide.


def test_full_passes_take_the_whole_sequence():
    assert passes("full", tokens_per_step=P) == [("denoise", L, 0, L // P)]


def test_dual_cache_refreshes_then_takes_the_block():
    block = [("refresh", L, 0, 1), ("denoise", B, L - B, T - 1)]
    assert block_passes("fast-dllm", cache="dual") == block * N


def test_prefix_cache_refreshes_then_takes_the_block_and_all_after_it():
    assert block_passes("fast-dllm", cache="prefix") == [
        run
        for b in range(N)
        for run in [("refresh", L, 0, 1), ("denoise", L - b * B, b * B, T - 1)]
    ]


def test_separate_commits_follow_every_block_but_the_last():
    expected = []
    for b in range(N):
        expected += [("denoise", B, b * B, T), ("commit", B, b * B, 1)]
    assert block_passes("block-cache", commit="separate") == expected[:-1]


def test_fused_commits_ride_on_the_next_blocks_first_pass():
    expected = [("denoise", B, 0, T)]
    for b in range(1, N):
        expected += [("fused", 2 * B, (b - 1) * B, 1), ("denoise", B, b * B, T - 1)]
    assert block_passes("block-cache", commit="fused") == expected


def test_no_commit_keeps_the_last_denoising_pass():
    expected = []
    for b in range(N - 1):
        expected += [("denoise", B, b * B, T - 1), ("keep", B, b * B, 1)]
    expected += [("denoise", B, (N - 1) * B, T)]
    assert block_passes("block-cache", commit="none") == expected


def test_autoregression_takes_a_token_a_pass():
    assert passes("ar") == [("decode", 1, i, 1) for i in range(L)]


@pytest.mark.parametrize("p", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_the_number_of_passes_is_the_tables(blocks, p):
    length, t = blocks * B, B // p

    def nfe(name, **options):
        return build_sampler(name, **options).schedule(length).forward_passes

    cut = {"block_size": B, "tokens_per_step": p}
    assert nfe("full", tokens_per_step=p) == length // p
    assert nfe("fast-dllm", cache="dual", **cut) == blocks * t
    assert nfe("fast-dllm", cache="prefix", **cut) == blocks * t
    assert nfe("block-cache", commit="separate", **cut) == blocks * t + blocks - 1
    assert nfe("block-cache", commit="fused", **cut) == blocks * t
    assert nfe("block-cache", commit="none", **cut) == blocks * t
    assert nfe("ar") == length


@pytest.mark.parametrize(("p", "more"), [(8, 0.25), (16, 0.5)])
def test_a_separate_commit_costs_the_designs_share_of_passes(p, more):
    length = 4096
    separate, fused = (
        build_sampler("block-cache", block_size=B, tokens_per_step=p, commit=commit)
        .schedule(length)
        .forward_passes
        for commit in ("separate", "fused")
    )
    # The last block has none: one pass of the 128 blocks' is missing.
    assert separate / fused - 1 == pytest.approx(more, rel=0.01)


def test_a_fused_commit_saves_passes_and_no_tokens():
    separate, fused = (
        build_sampler("block-cache", block_size=B, tokens_per_step=P, commit=commit).schedule(500)
        for commit in ("separate", "fused")
    )
    assert fused.query_tokens == separate.query_tokens
    assert fused.forward_passes < separate.forward_passes


# Remainders.


def reveals(name, length, **options):
    return [p.reveal for p in build_sampler(name, **options).passes(length) if p.reveal]


def test_a_remainder_is_spent_first():
    assert reveals("full", 32, tokens_per_step=7) == [7, 7, 6, 6, 6]
    cut = {"block_size": 32, "tokens_per_step": 7}
    for name in ("block-cache", "fast-dllm"):
        assert reveals(name, 64, **cut) == [7, 7, 6, 6, 6] * 2
        assert reveals(name, 42, **cut) == [7, 7, 6, 6, 6, 5, 5]


def test_a_shorter_last_block_has_passes_of_its_own_shape():
    cut = {"block_size": 8, "tokens_per_step": 4}
    assert passes("block-cache", 21, commit="fused", **cut) == [
        ("denoise", 8, 0, 2),
        ("fused", 16, 0, 1),
        ("denoise", 8, 8, 1),
        ("fused", 13, 8, 1),
        ("denoise", 5, 16, 1),
    ]
    assert passes("fast-dllm", 13, cache="dual", **cut) == [
        ("refresh", 13, 0, 1),
        ("denoise", 8, 5, 1),
        ("refresh", 13, 0, 1),
        ("denoise", 5, 8, 1),
    ]


def test_equal_neighbours_are_counted_once():
    schedule = build_sampler("full", tokens_per_step=1).schedule(100_000)
    assert list(schedule) == [Pass("denoise", 100_000, 0, 100_000)]
    assert schedule.query_tokens == 10**10


# Whatever the length, block and tokens per step.


@st.composite
def samplers(draw, max_block=80):
    """Any sampler with any option that changes its passes."""
    name = draw(st.sampled_from(["full", "fast-dllm", "block-cache", "ar"]))
    if name == "ar":
        return build_sampler(name)
    if name == "full":
        return build_sampler(name, tokens_per_step=draw(st.integers(1, 2 * max_block)))
    block_size = draw(st.integers(1, max_block))
    options = {"block_size": block_size, "tokens_per_step": draw(st.integers(1, block_size))}
    if name == "fast-dllm":
        options["cache"] = draw(st.sampled_from(["dual", "prefix"]))
    else:
        options["commit"] = draw(st.sampled_from(["separate", "fused", "none"]))
    return build_sampler(name, **options)


any_case = given(sampler=samplers(), length=st.integers(1, 400))
thorough = settings(max_examples=150)


@thorough
@any_case
def test_a_kind_of_pass_has_one_shape(sampler, length):
    shapes = {}
    for p in sampler.passes(length):
        assert shapes.setdefault(p.kind, (p.query_len, p.block_len)) == (p.query_len, p.block_len)
    lengths = {}
    for run in sampler.schedule(length):
        assert lengths.setdefault(run.kind, run.query_len) == run.query_len
    assert lengths == {kind: query_len for kind, (query_len, _) in shapes.items()}


@thorough
@any_case
def test_the_schedule_is_the_plan_in_runs(sampler, length):
    plan, schedule = list(sampler.passes(length)), sampler.schedule(length)
    unrolled = [
        (run.kind, run.query_len, run.context_len) for run in schedule for _ in range(run.count)
    ]
    assert unrolled == [(p.kind, p.query_len, p.context_len) for p in plan]
    assert schedule.length == length
    assert schedule.forward_passes == len(plan)
    assert schedule.query_tokens == sum(p.query_len for p in plan)
    runs = list(schedule)
    for run, following in itertools.pairwise(runs):
        same = (run.kind, run.query_len, run.context_len)
        assert same != (following.kind, following.query_len, following.context_len)


@thorough
@any_case
def test_the_plan_unmasks_every_token_once_from_the_left(sampler, length):
    per_step = getattr(sampler, "tokens_per_step", 1)
    masked, passes_of = {}, {}
    for p in sampler.passes(length):
        left = masked.setdefault(p.block_start, p.block_len)
        assert p.masked == (0 if p.reveal == 0 else left)
        assert (p.reveal == 0) == (p.kind == "commit")
        assert p.reveal <= min(per_step, left)
        masked[p.block_start] -= p.reveal
        if p.reveal:
            passes_of.setdefault((p.block_start, p.block_len), []).append(p.reveal)
    assert set(masked.values()) == {0}
    start = 0
    for (block_start, block_len), counts in passes_of.items():
        assert block_start == start
        assert len(counts) == math.ceil(block_len / per_step)
        assert counts == sorted(counts, reverse=True)
        assert counts[0] - counts[-1] <= 1
        start += block_len
    assert start == length


@thorough
@any_case
def test_no_pass_reaches_over_the_end(sampler, length):
    for p in sampler.passes(length):
        assert 1 <= p.query_len <= length
        assert 0 <= p.context_len <= length - p.query_len
        assert 0 <= p.t <= 1


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"length": 0}, "length: 0 "),
        ({"length": 2.5}, "length: 2.5 "),
        ({"length": MAX_LENGTH + 1}, f"from 1 to {MAX_LENGTH}"),
        ({"length": 8, "prompt_len": -1}, "prompt_len: -1 "),
        ({"length": 8, "prompt_len": MAX_LENGTH - 7}, f"from 0 to {MAX_LENGTH - 8}"),
        ({"length": 8, "batch": 0}, "batch: 0 "),
        ({"length": 8, "batch": MAX_BATCH + 1}, f"from 1 to {MAX_BATCH}"),
    ],
)
def test_a_decode_shape_is_checked_where_it_is_made(sizes, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        DecodeShape(**sizes)


def test_a_decode_shape_holds_its_prompt_in_its_total():
    assert DecodeShape(8).total == 8
    assert DecodeShape(8, prompt_len=5, batch=3).total == 13
