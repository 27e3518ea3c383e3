"""An autoregressive series overtakes another one at a known crossing."""

import pytest

from dlm_bench.analysis.crossover import overtaking_batch, overtakings
from dlm_bench.results.series import Series

BATCHES = (1, 2, 4, 8, 16)


def speeds(scale, power, batches=BATCHES):
    """Speeds scale * batch^power, straight on logarithmic axes."""
    return {batch: scale * batch**power for batch in batches}


@pytest.mark.parametrize("crossing", [1.5, 2, 3, 7.3, 12, 15.9])
def test_the_crossing_of_two_power_laws_is_found_between_the_batches(crossing):
    # 100 b^0.3 = s b^0.9 where b^0.6 = 100 / s. Both are straight, so interpolation is exact:
    # 1e-9 is float64's rounding.
    rival = speeds(100 / crossing**0.6, 0.9)
    assert overtaking_batch(speeds(100, 0.3), rival) == pytest.approx(crossing, rel=1e-9)


def test_batches_need_not_be_the_same_on_both_sides():
    rival = speeds(100 / 5**0.6, 0.9, (2, 3, 12))
    assert overtaking_batch(speeds(100, 0.3), rival) == pytest.approx(5, rel=1e-9)


def test_who_is_slower_at_every_batch_never_overtakes():
    assert overtaking_batch(speeds(100, 0.5), speeds(10, 0.6)) is None
    # What it would do beyond the batches measured of both is not said.
    assert overtaking_batch(speeds(100, 0.5, (1, 2, 4)), speeds(40, 0.9)) is None
    assert overtaking_batch(speeds(100, 0.5), speeds(40, 0.9)) == pytest.approx(2.5**2.5, rel=1e-9)


def test_who_is_ahead_from_the_start_overtakes_at_the_first_batch_of_both():
    assert overtaking_batch(speeds(100, 0.5), speeds(200, 0.5, (2, 4))) == 2
    assert overtaking_batch(speeds(100, 0.5), speeds(100, 0.5)) == 1  # as fast counts


def test_series_without_a_batch_in_common_say_nothing():
    assert overtaking_batch(speeds(1, 1, (1, 2)), speeds(1, 1, (4, 8))) is None


def drawn(backbone, sampler, speeds, **settings):
    rows = [{"batch": batch, "tokens_per_second": speed} for batch, speed in speeds.items()]
    common = {"size": "small", "length": 256, "prompt_len": 0, "hardware": "CPU"}
    return Series(backbone, sampler, common | settings, rows, label=f"{backbone} {sampler}")


def test_each_autoregressive_series_is_held_against_each_series_like_it():
    slow = drawn("ar-transformer", "ar", speeds(100 / 4**0.6, 0.9))
    fast = drawn("ar-mamba", "ar", speeds(100 / 2**0.6, 0.9))
    dlm = drawn("diffumamba", "block-cache", speeds(100, 0.3), tokens_per_step=8)
    others = [
        drawn("diffumamba", "block-cache", speeds(100, 0.3), length=512),
        drawn("diffumamba", "block-cache", speeds(100, 0.3), prompt_len=64),
        drawn("diffumamba", "block-cache", speeds(100, 0.3), hardware="GPU"),
        drawn("diffumamba", "full", speeds(100, 0.3, (32, 64))),
    ]
    found = overtakings([dlm, slow, fast, *others])
    assert [(each.series, each.rival) for each in found] == [(dlm, slow), (dlm, fast)]
    assert [each.batch for each in found] == pytest.approx([4, 2], rel=1e-9)
    assert not any(each.from_the_start for each in found)
