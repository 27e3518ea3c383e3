"""AUP by hand, from d3LLM's definition."""

import math

import pytest

from dlm_bench import ConfigError
from dlm_bench.analysis.under_parallelism import aup


def test_a_single_point_is_its_rectangle():
    assert aup([(1.0, 80.0)], best=90.0) == 80.0


def test_without_a_loss_it_is_the_area_under_the_curve():
    assert aup([(1, 80), (2, 80), (5, 80)], best=80) == pytest.approx(5 * 80)


def test_a_worked_example():
    # W(80) = 1 and W(78) = exp(-3 (1 - 0.975)) = exp(-0.075).
    expected = 1 * 80 + 1 * (80 + 80) / 2 + 2 * (78 * math.exp(-0.075) + 80) / 2
    assert aup([(4, 78), (1, 80), (2, 80)], best=80) == pytest.approx(expected)
    assert expected == pytest.approx(312.363, abs=1e-3)


def test_a_point_more_than_five_below_the_first_is_left_out():
    curve = [(1, 80), (2, 80)]
    assert aup([*curve, (8, 74.9)], best=80) == aup(curve, best=80)
    assert aup([*curve, (8, 75.0)], best=80) > aup(curve, best=80)


def test_a_better_method_of_the_same_task_lowers_it():
    curve = [(1, 80), (2, 79)]
    assert aup(curve, best=90) < aup(curve, best=80)


@pytest.mark.parametrize(("points", "best"), [([], 80), ([(1, 0)], 0)])
def test_nothing_to_measure_is_an_error(points, best):
    with pytest.raises(ConfigError, match="aup: needs a point"):
        aup(points, best)
