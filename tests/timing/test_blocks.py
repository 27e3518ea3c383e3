"""The passes a block and the waiting that a record tells, counted by hand."""

import statistics

import pytest
from support.plans import SAMPLERS

from dlm_bench import build_sampler, measure
from dlm_bench.models.factory import build_model
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.blocks import blocks_of

# Two blocks of 4: they take 1 and 2 passes in one sequence, 3 and 1 in the other.
TRACE = Trace.by_hand([[[4], [3, 1]], [[1, 1, 2], [4]]], 4, batch=2)


def blocks(batching, batch=2, trace=TRACE):
    sampler = build_sampler("block-cache", block_size=4, trace=trace, batching=batching)
    return blocks_of(list(sampler.planned(DecodeShape(8, batch=batch))), batch)


def test_in_step_a_sequence_waits_for_the_other_in_each_block():
    found = blocks("lockstep")
    assert found["passes"] == (1 + 2 + 3 + 1) / 4
    assert [found[f"passes_p{p}"] for p in (10, 50, 90)] == [1, 1, 3]
    # 3 and 2 passes, in which the first waits twice and the second once; and a commit.
    assert found["waited"] == 3 / (5 * 2)
    assert found["tokens_per_forward"] == 16 / 6


def test_first_done_first_out_a_sequence_waits_at_the_end_alone():
    found = blocks("fdfo")
    # 1 + 2 and 3 + 1 passes with a commit each: the first is done after 4 of 5 passes.
    assert found["passes"] == 7 / 4
    assert found["waited"] == 1 / (5 * 2)
    assert found["tokens_per_forward"] == 16 / 5


def test_a_sequence_alone_never_waits():
    assert blocks("lockstep", 1) == blocks("fdfo", 1)
    assert blocks("fdfo", 1)["waited"] == 0


def test_a_pass_that_edits_alone_is_a_pass_and_no_waiting():
    options = {"accept": "joint", "threshold": 0.5, "edit_threshold": 0.0, "max_edit_passes": 4}
    sequences = (((4, 0), (3, 1, 0)), ((1, 1, 2, 0, 0), (4, 0)))
    joint = TRACE.model_copy(update={"options": options, "sequences": sequences})
    found = blocks("lockstep", trace=joint)
    assert found["passes"] == statistics.mean(joint.passes_per_block) == (2 + 3 + 5 + 2) / 4
    # 5 and 3 passes: the first waits three times, the second once.
    assert found["waited"] == 4 / (8 * 2)
    assert found["tokens_per_forward"] == 16 / 9
    alone = blocks("lockstep", 1, joint.model_copy(update={"sequences": sequences[:1]}))
    assert (alone["passes"], alone["waited"]) == (5 / 2, 0)


def test_a_pass_over_several_blocks_counts_in_each_of_them():
    # Pass 1 has the first block alone; 2 and 3 have both, 4 the second alone.
    pipeline = TRACE.model_copy(
        update={"sampler": "pipeline", "sequences": (((1, 2, 1), (0, 1, 3)),)}
    )
    sampler = build_sampler("pipeline", block_size=4, add_at=0.25, trace=pipeline)
    found = blocks_of(list(sampler.passes(8)), 2)
    assert found["passes"] == statistics.mean(pipeline.passes_per_block) == 3
    assert found["passes_p10"] == found["passes_p90"] == 3
    assert found["tokens_per_forward"] == 16 / 4
    assert found["waited"] == 0


@pytest.mark.parametrize(("name", "each"), [("separate", 4), ("dual", 4), ("ar", 1), ("full", 8)])
def test_sequences_that_are_alike_count_as_one_does(name, each):
    plan = list(SAMPLERS[name].passes(64))
    found = blocks_of(plan, 3)
    assert {found[key] for key in ("passes", "passes_p10", "passes_p90")} == {each}
    assert found["tokens_per_forward"] == 3 * 64 / len(plan)
    assert found["waited"] == 0


def test_the_record_tells_them():
    sampler = build_sampler("block-cache", block_size=4, trace=TRACE, batching="fdfo")
    record = measure(build_model("diffutran", "tiny"), sampler, 8, batch=2, warmup=0, repeats=1)
    assert record.blocks == blocks("fdfo")
