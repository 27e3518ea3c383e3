"""A point is measured under the conditions that were asked for, or fails."""

from types import SimpleNamespace

import pytest
import torch
from support.records import make_record

from dlm_bench.cli import main
from dlm_bench.errors import PointError
from dlm_bench.timing import conditions
from dlm_bench.timing.conditions import Conditions, check_idle, conditions_here
from dlm_bench.timing.host import HostSource
from dlm_bench.timing.nvml import NvmlSource
from dlm_bench.timing.telemetry import Reading

CPU = torch.device("cpu")


def runs(*flags):
    """A measurement whose records have these flags in turn, and the events."""
    events, left = [], list(flags)

    def measure():
        events.append("measure")
        return make_record("diffutran", flags=[left.pop(0)])

    return measure, events


def test_a_throttled_point_is_measured_again_after_a_rest_until_it_is_not():
    measure, events = runs("throttled", "throttled", "drifting", "throttled")
    asked = Conditions(retries=5, cooldown=30.0)
    assert asked.measured(measure, CPU, events.append).flags == ["drifting"]
    assert events == [30.0, "measure", 30.0, "measure", 30.0, "measure"]


def test_the_last_try_is_kept_with_its_flag_unless_unthrottled_is_required():
    assert Conditions(retries=1).measured(runs("throttled", "throttled")[0], CPU).flags
    with pytest.raises(PointError, match=r"in each of 2 tries .*--cooldown"):
        Conditions(retries=1, unthrottled=True).measured(runs("throttled", "throttled")[0], CPU)


def test_without_conditions_a_point_is_measured_once():
    measure, events = runs("throttled", "outliers")
    assert Conditions().measured(measure, CPU).flags == ["throttled"]
    assert events == ["measure"]


def gpu(*percent):
    """The sensors of a GPU with this use in turn."""
    left = list(percent)
    source = NvmlSource.__new__(NvmlSource)
    source.sample = lambda: Reading({"utilisation_percent": left.pop(0)})
    return source


def test_a_gpu_in_use_is_not_idle_and_a_single_peak_is_no_use():
    check_idle(gpu(0, 0, 90, 0, 0), lambda seconds: None)
    with pytest.raises(PointError, match="other work uses the GPU for 60 % of the time"):
        check_idle(gpu(60, 50, 70, 60, 0), lambda seconds: None)


@pytest.mark.parametrize(("busy", "fails"), [(0.2, False), (1.5, True)])
def test_a_cpu_with_other_work_is_not_idle(busy, fails, monkeypatch):
    source = HostSource()
    monkeypatch.setattr(source, "begin", lambda: None)
    monkeypatch.setattr(source, "end", lambda seconds: Reading({"other_busy_cpus": busy}))
    if fails:
        with pytest.raises(PointError, match=r"other work takes 1\.5 CPUs"):
            check_idle(source, lambda seconds: None)
    else:
        check_idle(source, lambda seconds: None)


def test_idleness_that_nothing_tells_is_an_error_with_the_reason():
    with pytest.raises(PointError, match="a MIG slice has no sensors"):
        check_idle("a MIG slice has no sensors")


def test_workers_are_handed_the_conditions_for_as_long_as_the_sweep_runs(monkeypatch):
    monkeypatch.delenv(conditions.VARIABLE, raising=False)
    asked = Conditions(idle=True, unthrottled=True, retries=2, cooldown=1.5)
    with asked.for_workers():
        assert conditions_here() == asked
    assert conditions_here() == Conditions()


def test_run_fails_a_point_where_other_work_uses_the_machine(monkeypatch, capsys):
    def busy(source):
        raise PointError("not idle: other work takes 2.0 CPUs")

    monkeypatch.setattr(conditions, "check_idle", busy)
    point = ["run", "diffutran", "full", "-L", "16", "--size", "tiny", "--device", "cpu"]
    assert main([*point, "--require", "idle"]) == 3
    assert "not idle" in capsys.readouterr().err


@pytest.mark.process
def test_workers_of_a_sweep_meet_its_conditions(tmp_path, monkeypatch, capsys):
    sweep = tmp_path / "s.toml"
    sweep.write_text(
        'name = "s"\nsize = "tiny"\nlengths = [16]\nwarmup = 0\nrepeats = 1\ndevice = "cpu"\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = "full"\n'
    )
    monkeypatch.setenv("DLM_BENCH_CONDITIONS", '{"unknown": 1}')  # what is asked for replaces it
    options = ["--cooldown", "0.01s", "--retry-throttled", "1"]
    assert main(["sweep", str(sweep), "--output", str(tmp_path / "r.jsonl"), *options]) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--require", "idel"], "--require: 'idel' is not known (did you mean 'idle'?)"),
        (["--retry-throttled", "-1"], "--retry-throttled: -1 is not allowed"),
        (["--lock-clocks", "base"], "--lock-clocks: is not allowed on a CPU"),
        (["--lock-clocks", "fast"], "--lock-clocks: 'fast' is not allowed; must be MHz"),
    ],
)
def test_a_wrong_condition_is_a_line(options, told, capsys):
    point = ["run", "diffutran", "full", "-L", "16", "--size", "tiny", "--device", "cpu"]
    assert main([*point, *options]) == 2
    assert told in capsys.readouterr().err


def test_the_conditions_of_a_device_without_sensors_are_not_known():
    told = conditions.source_of(SimpleNamespace(type="mps"))
    assert told == "nothing is known of a mps"
