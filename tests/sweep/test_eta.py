"""The time that points will still take: within a factor of 2, or not known."""

import itertools

import pytest
from support.processes import quick_plan
from support.records import make_record

from dlm_bench.results.record import Point, Record
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.sweep import progress
from dlm_bench.sweep.eta import TimeLeft
from dlm_bench.sweep.load import Measuring
from dlm_bench.sweep.work import expected_load

OVERHEAD, RATE = 2e-4, 3e-11  # seconds of a pass, and of a unit of its work
EXACT = Measuring(mode="exact", warmup=1, repeats=2)


def load_of(length, backbone="diffutran", measuring=EXACT):
    point = Point(
        backbone=backbone,
        size="tiny",
        sampler="full",
        options={"tokens_per_step": 1},
        length=length,
        dtype="float32",
    )
    return point, *expected_load(point, measuring)


def seconds_of(work, passes):
    return passes * OVERHEAD + work * RATE


def test_whole_decodes_are_told_within_a_factor_of_two_or_not_at_all():
    """Length 8 says nothing of length 8192: a short pass is overhead alone."""
    lengths = [8, 32, 128, 512, 1024, 2048, 4096, 8192]
    known = 0
    for first, last in itertools.combinations(lengths, 2):
        left = TimeLeft()
        point, work, passes = load_of(first)
        left.learn(point, work, seconds_of(work, passes), 0.0, passes)
        other = load_of(last)
        true = seconds_of(*other[1:])
        told = left.reliable_seconds([other])
        if told is not None:
            known += 1
            assert true / 2 <= told <= 2 * true
    assert 6 <= known < len(lengths) * (len(lengths) - 1) / 2
    left = TimeLeft()
    point, work, passes = load_of(8)
    left.learn(point, work, seconds_of(work, passes), 0.0, passes)
    assert left.reliable_seconds([load_of(8192)]) is None


def test_the_nearest_length_tells_most():
    left = TimeLeft()
    for length in (8, 4096):
        point, work, passes = load_of(length)
        left.learn(point, work, seconds_of(work, passes), 0.0, passes)
    _, work, passes = other = load_of(8192)
    assert left.reliable_seconds([other]) == pytest.approx(seconds_of(work, passes), rel=0.5)


def test_several_points_of_another_backbone_are_known_by_a_factor_of_two():
    left = TimeLeft()
    point, work, passes = load_of(1024)
    left.learn(point, work, 10.0, 0.0, passes)
    assert left.reliable_seconds([load_of(1024, "diffumamba-h")]) is None, (
        "its ratios of work and passes differ"
    )
    left.learn(load_of(1024, "diffumamba-h")[0], *[5.0] * 2, 0.0)
    assert left.reliable_seconds([load_of(1024)]) == pytest.approx(10.0)


def test_no_point_takes_longer_than_its_timeout():
    left = TimeLeft(timeout=8.0)
    point, work, passes = load_of(1024)
    left.learn(point, work, 3.0, 0.0, passes)
    assert left.reliable_seconds([load_of(length) for length in (4096, 8192, 16384)]) == 24.0


def test_sampling_ends_at_its_max_seconds_however_long_the_decode():
    sampled = Measuring(mode="sampled", warmup=0, repeats=2, max_seconds=30.0)
    left = TimeLeft(max_seconds=30.0)
    point, work, passes = load_of(1024, measuring=sampled)
    record = Record(point=point, status="ok", mode="sampled", warmup=0, repeats=2, nfe=1)
    record.seconds = [1.0] * 60
    record.telemetry = {"region_seconds": 30.0}
    left.learn(point, work, 31.0, 0.0, passes, record)
    other = load_of(4096, measuring=sampled)
    assert other[1] / work > 4, "of its rounds there are fewer"
    assert 30 < left.reliable_seconds([other]) < 40


def learned():
    """The time left after a point of length 1024, measured in 600 s with nothing besides."""
    left = TimeLeft()
    point, work, passes = load_of(1024)
    left.learn(point, work, 600.0, 0.0, passes)
    return left


def test_one_point_left_is_no_quicker_for_the_workers_that_have_none():
    assert learned().reliable_seconds([load_of(1024)], at_once=8) == pytest.approx(600)


def test_workers_share_the_points_and_none_is_quicker_than_the_longest():
    short, long = load_of(1024), load_of(2048)
    left = learned()
    left.learn(long[0], long[1], 3000.0, 0.0, long[2])
    assert left.reliable_seconds([short] * 4, at_once=2) == pytest.approx(1200)
    assert left.reliable_seconds([short, short, long], at_once=3) == pytest.approx(3000)


def test_a_point_under_way_takes_what_is_left_of_its_seconds():
    left = learned()
    assert left.reliable_seconds([load_of(1024)], elapsed=[450.0]) == pytest.approx(150)
    assert left.reliable_seconds(
        [load_of(1024)] * 2, at_once=2, elapsed=[450.0, 0.0]
    ) == pytest.approx(600)
    assert left.reliable_seconds([load_of(1024)], elapsed=[700.0]) == 0


def point(backbone, length=64, sampler="full"):
    return Point(backbone=backbone, size="tiny", sampler=sampler, length=length)


def test_the_time_left_is_the_work_left_at_the_rate_of_what_is_most_alike():
    left = TimeLeft()
    assert left.seconds([(point("diffutran"), 5.0)]) is None
    left.learn(point("diffutran"), work=10.0, seconds=1.0, overhead=0.0)
    left.learn(point("diffumamba"), work=10.0, seconds=3.0, overhead=0.0)
    other = point("diffumamba", sampler="block-cache")
    assert left.seconds([(other, 5.0)]) == pytest.approx(1.5), "of the same backbone"
    left.learn(other, work=10.0, seconds=9.0, overhead=0.0)
    assert left.seconds([(other, 5.0)]) == pytest.approx(4.5)
    assert left.seconds([(point("diffumamba"), 5.0)]) == pytest.approx(1.5)
    unseen = point("diffumamba-h")
    assert left.seconds([(unseen, 5.0)]) == pytest.approx(1.0), "of the same sampler"
    unseen = point("ar-mamba", sampler="ar")
    assert left.seconds([(unseen, 6.0)]) == pytest.approx(2.6), "of all"
    assert left.seconds([]) == 0


def test_the_time_left_counts_a_start_of_each_model_to_come():
    left = TimeLeft()
    left.learn(point("diffutran"), work=1.0, seconds=1.0, overhead=4.0)
    left.learn(point("diffutran", 128), work=1.0, seconds=1.0, overhead=0.0)
    assert left.seconds([(point("diffutran", 256), 1.0)]) == pytest.approx(1.0)
    to_come = [(point("diffumamba", 64), 1.0), (point("diffumamba", 128), 1.0)]
    assert left.seconds(to_come) == pytest.approx(6.0)


def learnt(measuring, seconds, decode, repeats, soak=None):
    """What is known after a point of length 64 of `repeats` decodes, measured in `seconds`."""
    left = TimeLeft(measuring=measuring)
    point, work, passes = load_of(64, measuring=measuring)
    record = make_record(seconds=[decode] * repeats, soak=soak or {}).model_copy(
        update={"point": point}
    )
    left.learn(point, work, seconds, 0.0, passes, record)
    return left


def test_least_times_of_whole_decodes_do_not_grow_with_the_length():
    measuring = EXACT.model_copy(update={"min_warmup": 5.0, "min_time": 10.0})
    left = learnt(measuring, seconds=15.0, decode=0.01, repeats=1000)
    assert left.reliable_seconds([load_of(256, measuring=measuring)]) == pytest.approx(15.0)
    plain = learnt(EXACT, seconds=0.03, decode=0.01, repeats=2)
    assert plain.reliable_seconds([load_of(256)]) != pytest.approx(0.03, rel=0.5)


def test_a_soak_takes_as_long_at_any_length():
    measuring = EXACT.model_copy(update={"soak": 120.0})
    left = learnt(measuring, 60.03, decode=0.01, repeats=2, soak={"seconds": 60.0})
    assert left.reliable_seconds([load_of(256, measuring=measuring)]) == pytest.approx(60, abs=0.5)


def test_decodes_to_a_tolerance_end_at_max_seconds():
    measuring = EXACT.model_copy(update={"tolerance": 0.001, "max_seconds": 4.0})
    left = learnt(measuring, seconds=4.01, decode=0.01, repeats=400)
    told = left.reliable_seconds([load_of(256, measuring=measuring)])
    assert told == pytest.approx(4.0, abs=0.5), "not sixteen times as long"


def test_new_workers_build_every_model():
    left = TimeLeft()
    point, work, passes = load_of(64)
    left.learn(point, work, 1.0, 5.0, passes)
    points = [load_of(64)] * 2
    assert left.reliable_seconds(points) == pytest.approx(2.0)
    assert left.reliable_seconds(points, fresh=True) == pytest.approx(7.0)
    assert left.reliable_seconds([], fresh=True) == 0.0


def test_a_prediction_that_takes_long_is_made_seldom(monkeypatch):
    """It takes a second here, as long as ten points."""
    now, made = [0.0], []

    def predict(self):
        made.append(now[0])
        now[0] += 1.0
        return "about 1 s left"

    monkeypatch.setattr(progress.SweepProgress, "_predict", predict)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.SweepProgress(quick_plan([("diffutran", n) for n in range(1, 300)]))
    for _ in range(300):
        assert shown._left() == "about 1 s left"
        now[0] += 0.1
    assert made == pytest.approx([0.0, 21.0], abs=0.2)


@pytest.mark.parametrize(("seed", "passes"), [(0, 3), (1, 65)])
def test_a_replay_takes_the_passes_of_the_sequence_of_its_seed(seed, passes):
    trace = Trace.by_hand([[[32]], [[1] * 32]], 32)
    point = Point(backbone="diffutran", size="tiny", sampler="block-cache", length=64)
    once = Measuring(mode="exact", warmup=0, repeats=1, seed=seed)
    assert expected_load(point, once, {"trace": trace})[1] == passes
    of_its_own = point.model_copy(update={"seed": seed})
    assert expected_load(of_its_own, EXACT, {"trace": trace})[1] == 3 * passes
