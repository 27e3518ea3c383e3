"""bench/history_power.py: what it says of a few series."""

import pytest
from history_power import NOISES, simulate


@pytest.mark.parametrize("noise", NOISES)
def test_steps_are_found_and_false_alarms_are_rare(noise):
    found, false, _ = simulate(noise, 200)
    assert found >= 0.93  # 97 % in 2,000 series; 200 have an error of 1.2 %
    assert (
        false <= 1.0
    )  # 0.25 at most in 2,000 series: 3 of the 12,000 commits here; 12 are allowed
