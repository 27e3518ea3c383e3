"""Units and strata of a plan, as the sampled mode times them."""

import numpy as np
import pytest
from support.plans import SAMPLERS, irregular

from dlm_bench import build_sampler
from dlm_bench.samplers.schedule import role_of
from dlm_bench.timing.units import (
    TOGETHER,
    first_nodes,
    interpolation_error,
    misses,
    prefill_unit,
    strata,
    units,
    weights,
)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("length", [1, 33, 500, 1024])
def test_units_are_the_plan_cut_up(name, length):
    plan = list(SAMPLERS[name].passes(length))
    covered = []
    for unit in units(plan):
        for run in unit.runs:
            place = len(covered)
            assert plan[place] == run.first
            assert {step.kind for step in plan[place : place + run.count]} == {run.first.kind}
            covered += range(place, place + run.count)
        assert unit.index + unit.count == len(covered)
    assert covered == list(range(len(plan)))
    assert sum(unit.count for stratum in strata(plan) for unit in stratum) == len(plan)


def test_a_unit_is_a_block_with_its_refresh_or_commit():
    dual = next(iter(units(list(SAMPLERS["dual"].passes(512)))))
    assert [(run.first.kind, run.count) for run in dual.runs] == [("refresh", 1), ("denoise", 3)]
    separate = next(iter(units(list(SAMPLERS["separate"].passes(512)))))
    assert [(run.first.kind, run.count) for run in separate.runs] == [("denoise", 4), ("commit", 1)]


def test_a_unit_is_a_pass_where_there_is_one_block_and_some_tokens_of_an_autoregressive_decode():
    assert [unit.count for unit in units(list(SAMPLERS["full"].passes(64)))] == [1] * 8
    assert [unit.count for unit in units(list(SAMPLERS["ar"].passes(40)))] == [
        TOGETHER,
        TOGETHER,
        8,
    ]


def test_parts_of_a_long_block_are_strata_of_their_own():
    # 128 passes a block and a commit: two parts of 64 passes, and one of the commit.
    found = strata(list(SAMPLERS["long blocks"].passes(128 * 10)))
    assert sorted(len(stratum) for stratum in found) == [9, 10, 10]
    for stratum in found:
        assert len({run.first.masked for unit in stratum for run in unit.runs[:1]}) == 1


def test_passes_over_a_whole_sequence_are_not_bundled():
    assert {unit.count for unit in units(list(SAMPLERS["p = B, dual"].passes(512)))} == {1}
    assert {unit.count for unit in units(list(SAMPLERS["p = B"].passes(512)))} == {TOGETHER}


def test_blocks_that_are_not_like_the_others_are_a_stratum_of_their_own():
    # The first one has no commit to carry, the last one is shorter.
    found = [len(stratum) for stratum in strata(list(SAMPLERS["fused"].passes(32 * 10 + 5)))]
    assert sorted(found) == [1, 1, 9]


@pytest.mark.parametrize(("name", "roles"), [("fast-dllm", 2), ("block-cache", 2)])
def test_blocks_of_many_makes_are_cut_into_passes(name, roles):
    plan = list(irregular(name, 40).passes(40 * 32))
    found = strata(plan)
    assert [unit.index for unit in units(plan)] == list(range(len(plan)))
    # A stratum for each role and each quarter of the block that is masked, of one cost or nearly.
    assert len(found) <= 4 * roles
    for stratum in found:
        assert len({role_of(run.first.kind) for unit in stratum for run in unit.runs}) == 1
        masked = [unit.runs[0].first.masked for unit in stratum]
        assert max(masked) - min(masked) < 32 / 4
    assert sum(len(first_nodes(stratum, 9)) for stratum in found) < len(plan) / 10


def test_blocks_of_few_makes_stay_whole():
    plan = list(irregular("block-cache", 7).passes(40 * 32))  # seven makes, again and again
    assert len(list(units(plan))) == 40


def test_blocks_of_one_cost_are_timed_once_in_the_middle():
    (stratum,) = strata(list(SAMPLERS["dual"].passes(512)))
    assert first_nodes(stratum, 9) == [8]
    growing = strata(list(SAMPLERS["ar"].passes(512)))[0]
    assert first_nodes(growing, 9) == [0, 16, 31]
    assert first_nodes(growing, 2) == [0, 31]


@pytest.mark.parametrize(("at", "length"), [([0], 1), ([3], 8), ([0, 7], 8), ([0, 2, 7], 8)])
def test_weights_integrate_what_is_linear_between_the_nodes_exactly(at, length):
    weight = weights(at, length)
    assert weight.sum() == pytest.approx(length)
    if len(at) > 1:
        assert weight @ np.array(at) == pytest.approx(sum(range(length)))


def test_a_node_misses_the_line_between_its_neighbours_by_its_distance_to_it():
    assert misses([0, 1, 4], np.array([1.0, 9.0, 5.0])) == pytest.approx([7.0])
    rounds = np.array([[1.0, 2.0], [9.0, 3.0], [5.0, 6.0]])
    assert misses([0, 1, 4], rounds) == pytest.approx(np.array([[7.0, 0.0]]))


@pytest.mark.parametrize("kink", [0.1, 0.4, 0.5, 0.7, 0.95])
def test_interpolation_error_of_three_nodes_covers_a_kink_anywhere(kink):
    curve = np.maximum(np.arange(1001) / 1000, kink)
    at = [0, 500, 1000]
    true = (np.interp(np.arange(1001), at, curve[at]) - curve).sum()
    assert interpolation_error(at, curve[at]) >= true


@pytest.mark.parametrize("nodes", [5, 9])
@pytest.mark.parametrize("kink", [0.13, 0.4, 0.5, 0.71])
def test_interpolation_error_of_more_nodes_covers_a_kink_between_them(nodes, kink):
    curve = np.maximum(np.arange(1001) / 1000, kink)
    at = [round(i) for i in np.linspace(0, 1000, nodes)]
    true = (np.interp(np.arange(1001), at, curve[at]) - curve).sum()
    assert interpolation_error(at, curve[at]) >= 0.9 * true


def test_where_every_unit_is_a_node_nothing_is_interpolated():
    assert interpolation_error([0, 1, 2], np.array([1.0, 5.0, 1.0])) == 0


@pytest.mark.parametrize("count", [5, 9, 33])
def test_interpolation_error_of_a_parabola_is_the_one_made(count):
    at = [round(i) for i in np.linspace(0, 1000, count)]
    curve = 1 + (np.arange(1001) / 1000) ** 2
    true = (np.interp(np.arange(1001), at, curve[at]) - curve).sum()
    # Of a parabola the mean error is a sixth of the miss at twice the spacing, but for the rounding
    # of the nodes to whole passes and the sum in place of an integral: under 2 %.
    assert interpolation_error(at, curve[at]) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_prefill_pass_is_no_part_of_the_units_of_the_decode(name):
    plan = list(SAMPLERS[name].passes(500, 70))
    prefill, decode = prefill_unit(plan), list(units(plan))
    first = int(plan[0].kind == "prefill")
    assert (prefill is None) == (first == 0)
    assert prefill is None or (prefill.index, prefill.kinds) == (0, ["prefill"])
    assert decode[0].index == first
    assert sum(unit.count for unit in decode) == len(plan) - first
    for unit in decode:
        assert plan[unit.index] == unit.runs[0].first


def test_autoregressive_tokens_after_a_prompt_are_bundled_as_without_one():
    with_prompt, without = (list(units(list(SAMPLERS["ar"].passes(40, n)))) for n in (100, 0))
    # The prefill decoded the first token.
    assert [unit.count for unit in with_prompt] == [TOGETHER, TOGETHER, 7]
    assert [unit.count for unit in without] == [TOGETHER, TOGETHER, 8]


@pytest.mark.parametrize(
    "options", [{"add_at": 0.5}, {"add_at": 0.1}, {"add_at": 0.3, "tokens_per_step": 5}]
)
def test_passes_over_other_numbers_of_blocks_are_not_alike(options):
    plan = list(build_sampler("pipeline", **options).passes(2000))

    def cost(step):
        return step.query_len * (100 + step.context_len) + step.masked

    found = 0.0
    for stratum in strata(plan):
        at = first_nodes(stratum, 3)
        steps = [plan[stratum[i].index :][: stratum[i].count] for i in at]
        found += weights(at, len(stratum)) @ np.array([sum(map(cost, each)) for each in steps])
    # Linear in the context, which grows by a block from unit to unit: float64's sums.
    assert found == pytest.approx(sum(map(cost, plan)), rel=1e-12)
