"""What a sweep shows while it runs."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.processes import quick_plan

from dlm_bench.results.record import Record
from dlm_bench.sweep.planning import make_plan
from dlm_bench.sweep.progress import SweepProgress, duration


def record_of(point, **values):
    settings = {"mode": "exact", "warmup": 0, "repeats": 1, "nfe": 4}
    return Record(point=point, **({"status": "ok", "seconds": [2.0]} | settings | values))


@pytest.fixture
def plan():
    points = [("diffutran", 64), ("diffutran", 128), ("diffumamba", 64)]
    return quick_plan(points).model_copy(update={"work": [1.0, 59.0, 1.0]})


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The clock of the progress, in a list: it stands still unless a test moves it."""
    now = [100.0]
    monkeypatch.setattr("dlm_bench.sweep.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def on_terminal(progress, width=100):
    progress._console = Console(file=io.StringIO(), force_terminal=True, width=width)
    return progress


def drawn(progress):
    console = Console(file=io.StringIO(), width=100)
    console.print(progress._draw())
    return console.file.getvalue().splitlines()


def test_a_terminal_shows_what_is_done_the_time_left_the_current_point_and_the_last_result(
    plan, clock
):
    progress = on_terminal(SweepProgress(plan))
    progress.begin(0)
    assert drawn(progress)[0].startswith("0/3 ")
    assert drawn(progress)[0].rstrip().endswith("0 s gone, time left not known yet")
    clock[0] += 3.0
    progress.end(0, record_of(plan.sweep.points[0]), seconds=3.0)
    progress.begin(1)
    bar, now, last = (line.rstrip() for line in drawn(progress))
    assert bar.startswith("1/3 ")
    assert bar.endswith(" 3 s gone, about 3.0 min left"), "60 units of work at 3 s each"
    assert now == "now  diffutran tiny full L=128"
    assert last == "last diffutran tiny full L=64: 32.0 tokens/s"


def test_a_failure_stays_on_the_terminal_and_teaches_no_rate(plan):
    progress = on_terminal(SweepProgress(plan), width=200)
    progress.begin(0)
    failure = record_of(plan.sweep.points[0], status="oom", seconds=[], message="no [room]")
    progress.end(0, failure, seconds=9.0)
    assert "[1/3] diffutran tiny full L=64: oom: no [room]" in progress._console.file.getvalue()
    assert "time left not known yet" in drawn(progress)[0]


def test_points_found_in_the_file_count_as_done_and_take_no_time(plan):
    progress = on_terminal(SweepProgress(plan, found=plan.identities()[:2]))
    assert drawn(progress)[0].startswith("2/3 ")
    progress.begin(2)
    progress.end(2, record_of(plan.sweep.points[2]), seconds=1.0)
    assert drawn(progress)[0].rstrip().endswith("0 s left")


def test_the_time_left_is_never_more_than_the_time_limits_leave(plan):
    limited = plan.model_copy(update={"sweep": plan.sweep.model_copy(update={"timeout": 8.0})})
    progress = on_terminal(SweepProgress(limited))
    assert drawn(progress)[0].rstrip().endswith("at most 24 s left"), "nothing else is known"
    progress.begin(0)
    progress.end(0, record_of(plan.sweep.points[0]), seconds=3.0)
    assert drawn(progress)[0].rstrip().endswith("about 11 s left"), "3 s and 8 s"
    assert SweepProgress(limited, workers=2)._left() == "at most 16 s left"


def test_the_time_left_is_that_of_the_runs_to_come_too(plan):
    limited = plan.model_copy(update={"sweep": plan.sweep.model_copy(update={"timeout": 8.0})})
    progress = on_terminal(SweepProgress(limited, runs=3))
    assert progress._left() == "at most 72 s left"
    there = limited.of_run(2).identities()
    assert SweepProgress(limited, found=there, runs=3)._left() == "at most 48 s left"
    progress.begin(0)
    progress.end(0, record_of(plan.sweep.points[0]), seconds=3.0)
    assert progress._left() == "about 39 s left", "3 s and 8 s, twice 3 s, 8 s and 3 s"
    assert SweepProgress(plan, budget=60.0, runs=3)._left() == "at most 3.0 min left"


def test_the_time_left_of_a_budget_is_what_is_left_of_it(plan):
    progress = on_terminal(SweepProgress(plan, budget=60.0))
    assert progress._left() == "at most 60 s left"
    progress.begin(0)
    progress.end(0, record_of(plan.sweep.points[0]), seconds=3.0)
    assert progress._left() == "about 60 s left", "and not 180"


def test_points_that_are_measured_again_are_counted_by_themselves(plan, capsys):
    progress = SweepProgress(plan, found=plan.identities(), budget=60.0)
    progress.improve(1, 1, 8)
    progress.end(1, record_of(plan.sweep.points[1]), seconds=3.0)
    started, ended = capsys.readouterr().err.splitlines()
    assert started == "[improving 1 of 8] diffutran tiny full L=128: started"
    assert ended.startswith("[improving 1 of 8] diffutran tiny full L=128: 64.0 tokens/s; at most ")
    assert ended.endswith(" s left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (150, "2.5 min"), (7560, "2.1 h")]
)
def test_durations_are_in_the_unit_of_their_size(seconds, text):
    assert duration(seconds) == text


WORK = """
name = "test"
size = "small"
mode = "{mode}"
lengths = [1024, 2048]

[[lines]]
backbone = ["diffutran", "diffumamba"]
sampler = "full"
"""


def test_expected_work_grows_as_the_passes_do(tmp_path):
    """Twice the length is twice the passes of an exact decode, each over twice the tokens, with
    four times the attention; sampled mode times as many passes whatever the length, which the
    few it takes of the head's falling rows show by a ten thousandth."""
    path = tmp_path / "s.toml"
    growth = {}
    for mode in ("exact", "sampled"):
        path.write_text(WORK.format(mode=mode))
        short, long, mamba_short, mamba_long = make_plan(path).work
        growth[mode] = long / short, mamba_long / mamba_short
    transformer, mamba = growth["exact"]
    assert 3.5 < mamba <= 4 < transformer < 8
    assert growth["sampled"] == pytest.approx((transformer / 2, mamba / 2), rel=1e-3)
