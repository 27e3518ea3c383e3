"""A sweep's budget: every point once, then the time where the stated error is largest."""

import pytest

from dlm_bench.cli import main
from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Point, Record
from dlm_bench.results.store import read_records
from dlm_bench.sweep.budget import (
    MIN_GAIN,
    PILOT_SETTINGS,
    Improvable,
    common_error,
    predict,
    run_within,
)
from dlm_bench.sweep.load import Measuring, Sweep
from dlm_bench.sweep.plan import Plan, model_key
from dlm_bench.sweep.work import expected_work
from dlm_bench.timing.measure import check_settings

pytestmark = pytest.mark.process

LOADING = 2.0  # seconds that a worker needs for another model


class Lab:
    """Stands for the executor: a point's error falls with the root of its seconds of sampling."""

    def __init__(self, noise, rounds=0.1):
        self.noise, self.rounds = noise, rounds  # by length: the error after one second
        self.now, self.model, self.measured = 0.0, None, []

    def measure(self, plan, index, max_seconds=None):
        point = plan.sweep.points[index]
        if model_key(point) != self.model:
            self.now += LOADING
            self.model = model_key(point)
        sampling = max(max_seconds or 0.0, self.rounds)
        self.now += sampling
        self.measured.append((index, sampling))
        noise = self.noise[point.length]
        record = Record(
            point=point,
            status="error" if noise is None else "ok",
            mode="sampled",
            warmup=0,
            repeats=5,
            seconds=[1.0],
            nfe=1,
            error_estimate=None if noise is None else noise / sampling**0.5,
            telemetry={"region_seconds": sampling},
            identity=plan.identity_of(point),
        )
        return record, sampling

    def run(self, plan, found, begin, max_seconds, wanted):
        done = {record.identity for record in found}
        for index, identity in enumerate(plan.identities()):
            if identity not in done and wanted(index):
                begin(index)
                yield index, *self.measure(plan, index, max_seconds(index))


def plan_of(lengths, backbones=("diffutran",), tolerance=0.01):
    points = [
        Point(backbone=backbone, size="tiny", sampler="full", length=length)
        for backbone in backbones
        for length in lengths
    ]
    measuring = Measuring(mode="sampled", tolerance=tolerance)
    sweep = Sweep(name="test", points=points, measuring=measuring)
    work = [expected_work(point, measuring) for point in points]
    return Plan(sweep=sweep, work=work, environment={"hardware": "a lab"})


def spend(lab, plan, budget, found=()):
    begun = []
    results = list(run_within(budget, lab, plan, found, begun.append, lambda: lab.now))
    assert begun == [index for index, _, _ in results]
    return results


def test_what_is_left_goes_to_the_points_with_the_largest_error():
    lab = Lab({100: 0.01, 200: 0.30, 300: 0.05})
    results = spend(lab, plan_of([100, 200, 300]), budget=100.0)
    assert [index for index, _, _ in results[:3]] == [0, 1, 2]
    again = dict(lab.measured[3:])
    # The noisy point gets most of the time, the quiet one none: it is within the tolerance.
    assert 0 not in again
    assert again[1] > 10 * again.get(2, 0.0)
    assert 80 < lab.now <= 101
    last = {index: record.error_estimate for index, record, _ in results}
    first = {index: record.error_estimate for index, record, _ in results[:3]}
    assert last[1] < first[1] / 1.5


def test_points_are_brought_to_one_error():
    lab = Lab({100: 0.3, 200: 0.3, 300: 0.6})
    results = spend(lab, plan_of([100, 200, 300]), budget=200.0)
    last = {index: record.error_estimate for index, record, _ in results}
    assert max(last.values()) / min(last.values()) < MIN_GAIN


def test_points_of_one_model_are_measured_again_one_after_the_other():
    lab = Lab({100: 0.3, 200: 0.4}, rounds=0.01)
    spend(lab, plan_of([100, 200], ("diffutran", "diffumamba"), 1e-4), budget=2000.0)
    again = [index for index, _ in lab.measured[4:]]
    assert len(again) == 4
    assert [index // 2 for index in again] in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_a_budget_too_short_for_one_look_at_each_point_still_takes_that_and_no_more():
    lab = Lab({100: 0.3, 200: 0.3}, rounds=5.0)
    spend(lab, plan_of([100, 200]), budget=1.0)
    assert [index for index, _ in lab.measured] == [0, 1]


def test_no_point_within_the_tolerance_is_measured_again():
    lab = Lab({100: 0.001, 200: 0.002})
    spend(lab, plan_of([100, 200]), budget=1000.0)
    assert len(lab.measured) == 2


def test_a_failed_point_is_not_tried_again():
    lab = Lab({100: None, 200: 0.5})
    spend(lab, plan_of([100, 200]), budget=60.0)
    assert [index for index, _ in lab.measured].count(0) == 1


def test_a_resumed_sweep_improves_what_it_found():
    lab = Lab({100: 0.3, 200: 0.3})
    plan = plan_of([100, 200])
    found = [lab.measure(plan, 0, 0.1)[0]]
    lab.measured.clear()
    spend(lab, plan, budget=60.0, found=found)
    assert lab.measured[0][0] == 1
    assert 0 in dict(lab.measured[1:])


def test_a_sweep_that_goes_on_looks_at_the_best_record_of_a_point_alone():
    """After a wait for other sweeps its records hold a first and an improved one of a point."""
    lab = Lab({100: 0.3})
    plan = plan_of([100])
    found = [lab.measure(plan, 0, seconds)[0] for seconds in (0.1, 1000.0)]
    lab.measured.clear()
    assert found[1].error_estimate <= plan.sweep.measuring.tolerance
    assert spend(lab, plan, budget=60.0, found=found) == []


def test_a_point_that_another_sweep_improves_is_left_to_it():
    lab = Lab({100: 0.3, 200: 0.3})
    plan = plan_of([100, 200])
    run = run_within(60.0, lab, plan, [], print, lambda: lab.now, wanted_again=lambda i: i == 1)
    assert [index for index, _, _ in run] == [0, 1, 1]


def test_the_common_error_costs_no_more_than_there_is():
    looks = [Improvable(i, ("m",), error, 1.0, 0.5) for i, error in enumerate((0.02, 0.1, 0.4))]
    target = common_error(looks, 50.0, 2.0, 0.001)
    wanted = [look for look in looks if look.error > MIN_GAIN * target]
    cost = 2.0 + sum(look.seconds_to(target) + 0.5 for look in wanted)
    assert 45 < cost <= 50
    assert common_error(looks, 1e9, 2.0, 0.001) == 0.001
    # Nothing can be had for nothing: the largest error stays.
    assert common_error(looks, 0.0, 2.0, 0.001) >= 0.4 / MIN_GAIN


def test_a_prediction_looks_at_each_line_once_and_scales_by_work():
    lab = Lab({1024: 0.1, 2048: 0.1}, rounds=3.0)
    plan = plan_of([2048, 1024], ("diffutran", "diffumamba"))
    told = predict(lab, plan, clock=lambda: lab.now)
    assert told.series == 2
    assert [index for index, _ in lab.measured] == [1, 3]
    # Two models to load, and a second to settle at each point. Five rounds of 3 s of the short
    # ones and twice that or more of the long ones; or the 30 s that a point may take.
    overhead = 2 * LOADING + 4 * 1.0
    assert overhead + 2 * (15 + 30) < told.least < overhead + 2 * (15 + 100)
    assert told.most == pytest.approx(overhead + 4 * 30)


def test_a_prediction_of_several_runs_has_one_pilot_and_each_runs_points_and_models():
    plan = plan_of([1024, 2048])

    def told(found=(), runs=1):
        lab = Lab({1024: 0.1, 2048: 0.1}, rounds=3.0)
        return predict(lab, plan, dict.fromkeys(found), lambda: lab.now, runs=runs)

    once, thrice = told(), told(runs=3)
    assert thrice.series == once.series == 1
    assert (thrice.least, thrice.most) == pytest.approx((3 * once.least, 3 * once.most))
    assert told(plan.of_run(2).identities(), runs=3).most == pytest.approx(2 * once.most)


def test_a_prediction_leaves_room_for_the_least_times_of_whole_decodes():
    plan = plan_of([1024])
    measuring = plan.sweep.measuring.model_copy(update={"mode": "auto", "soak": 60.0})
    soaked = plan.model_copy(
        update={"sweep": plan.sweep.model_copy(update={"measuring": measuring})}
    )
    pilot = measuring.model_copy(update=PILOT_SETTINGS)
    check_settings(pilot.settings_of(plan.sweep.points[0]))
    lab, other = Lab({1024: 0.1}), Lab({1024: 0.1})
    most = predict(lab, plan, clock=lambda: lab.now).most
    assert predict(other, soaked, clock=lambda: other.now).most == pytest.approx(most + 60)


def test_a_prediction_of_nothing_left_is_nothing():
    plan = plan_of([100])
    done = Lab({100: 0.1}).measure(plan, 0)[0]
    assert predict(Lab({100: 0.1}), plan, {done.identity: done}).most == 0


def test_sampling_leaves_room_below_the_time_limit_of_a_point():
    lab = Lab({100: 0.9, 200: 0.9})
    plan = plan_of([100, 200])
    plan = plan.model_copy(update={"sweep": plan.sweep.model_copy(update={"timeout": 10.0})})
    spend(lab, plan, budget=300.0)
    assert max(sampling for _, sampling in lab.measured) <= 7.0


def test_a_prediction_of_points_that_all_fail_says_so():
    with pytest.raises(ResultsError, match="no point could be measured, so nothing can be"):
        predict(Lab({100: None}), plan_of([100]))


SWEEP = """
name = "test"
size = "tiny"
mode = "{mode}"
warmup = 0
repeats = 2
nodes = 2
lengths = [32, 64]

[[lines]]
backbone = "diffutran"
sampler = "full"
"""


def sweep_file(tmp_path, mode="sampled"):
    path = tmp_path / "s.toml"
    path.write_text(SWEEP.format(mode=mode))
    return str(path)


@pytest.mark.slow
def test_a_sweep_within_a_budget_measures_every_point(tmp_path, capsys):
    output = tmp_path / "r.jsonl"
    assert main(["sweep", sweep_file(tmp_path), "--budget", "3s", "--output", str(output)]) == 0
    records = read_records(output)
    assert {record.point.length for record in records} == {32, 64}
    assert len({record.identity for record in records}) == 2
    assert f"{len(records)} records appended" in capsys.readouterr().out


def test_a_dry_run_with_a_budget_predicts_the_time(tmp_path, capsys):
    assert main(["sweep", sweep_file(tmp_path), "--dry-run", "--budget", "10m"]) == 0
    out = capsys.readouterr().out
    assert "budget: 10.0 min; by a pilot run of 1 series" in out


def test_whole_decodes_have_no_budget(tmp_path, capsys):
    assert main(["sweep", sweep_file(tmp_path, "exact"), "--budget", "3s"]) == 2
    assert "--budget: is not allowed with mode 'exact'" in capsys.readouterr().err


def test_the_mode_of_a_file_can_be_overridden(tmp_path):
    output = tmp_path / "r.jsonl"
    arguments = ["sweep", sweep_file(tmp_path), "--mode", "auto", "--output", str(output)]
    assert main(arguments) == 0
    assert {record.mode for record in read_records(output)} == {"exact"}
