"""bench/compare_runs.py, reduced: what docs/ci.md says of `compare`."""

import numpy as np
import pytest
from compare_runs import POINTS, slower

from dlm_bench.compare.statistics import RUN_SPREAD


@pytest.mark.parametrize("noise", ["independent", "shared"])
def test_runs_that_differ_as_assumed_raise_few_alarms(noise):
    random = np.random.default_rng(0)
    setting = (3, RUN_SPREAD, RUN_SPREAD)
    alarms = sum(slower(random, POINTS, *setting, 0.0, noise) for _ in range(200))
    assert alarms < 4  # FALSE_ALARMS allows 0.4 of 200; 4 or more come once in 1,300 such tests


def test_a_tenth_is_found_in_five_runs_a_side():
    random = np.random.default_rng(1)
    found = sum(slower(random, 1, 5, RUN_SPREAD, RUN_SPREAD, 0.1) for _ in range(100))
    assert found >= 90
