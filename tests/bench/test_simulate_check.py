"""The time plan of the GPU check, by estimated passes: it fits, and what matters most is first."""

import gpu_sweep
import pytest
from pass_estimates import GPUS, pass_seconds
from simulate_check import WORKER_SECONDS, is_headline, point_seconds, simulate

from dlm_bench.errors import seconds_of
from dlm_bench.sweep.load import load_sweep
from dlm_bench.sweep.run import series_key

LAST = ("diffutran", "full", 131072)  # some 9 s a pass


@pytest.fixture(scope="module", params=GPUS)
def ends(request):
    return list(simulate(GPUS[request.param], cores=16))


def at(ends, what):
    return next(end.at for end in ends if end.what == what)


def name_of(point):
    return point.backbone, point.sampler, point.length


def points(ends):
    first = load_sweep("gpu_first", device="cpu").points
    return [end for end in ends if end.point in first]


def test_all_that_a_first_run_is_for_ends_in_480_s(ends):
    assert at(ends, "tests") < 470
    assert LAST in [name_of(end.point) for end in ends if end.point]
    assert ends[-1].at <= 470  # and ten more, if the last one has to be interrupted


def test_no_stage_of_a_first_run_needs_its_whole_limit(ends):
    """The sweep is cut off at 260 s, the longest pass at 110: all points are within."""
    first = load_sweep("gpu_first", device="cpu").points
    assert [end.point for end in points(ends)] == first
    assert at(ends, "sweep") - at(ends, "exact") < 260
    assert at(ends, "longest") - at(ends, "tests") < 110


def test_the_first_260_s_hold_the_headline(ends):
    measured = {
        name_of(end.point) for end in points(ends) if end.at < 260 and is_headline(end.point)
    }
    wanted = {
        (backbone, sampler, length)
        for backbone in ("diffumamba", "diffutran")
        for sampler in ("block-cache", "full")
        for length in (1024, 8192, 32768, 131072)
    }
    assert wanted - measured == {LAST}


def test_the_first_sweep_holds_every_backbone_and_no_model_twice(ends):
    backbones = [end.point.backbone for end in points(ends)]
    changes = [a for a, b in zip(backbones, [*backbones[1:], None], strict=True) if a != b]
    assert changes == ["diffumamba", "diffutran", "diffumamba-h", "ar-transformer", "ar-mamba"]


@pytest.mark.parametrize("name", ["gpu_first", "gpu_check"])
def test_the_shortest_point_of_a_series_comes_first(name):
    """One that hangs has the longer ones skipped, and no shorter one to hang again."""
    last = {}
    for point in load_sweep(name, device="cpu").points:
        assert point.length > last.get(series_key(point), 0)
        last[series_key(point)] = point.length


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_a_point_takes_less_than_half_of_its_timeout_but_the_longest_pass(gpu):
    timeout = seconds_of("--timeout", gpu_sweep.TIMEOUT)
    for name in ("gpu_first", "gpu_check"):
        sweep = load_sweep(name, device="cpu")
        for point in sweep.points:
            if name_of(point) != LAST:
                assert WORKER_SECONDS + point_seconds(point, sweep, gpu) < timeout / 2


def test_the_rest_of_the_paper_repeats_no_point_and_measures_as_the_first(ends):
    first, rest = (load_sweep(name, device="cpu") for name in ("gpu_first", "gpu_check"))
    assert rest.measuring == first.measuring
    keys = [point.model_dump_json() for point in (*first.points, *rest.points)]
    assert len(set(keys)) == len(keys)


def test_estimates_are_those_of_the_paper_s_passes():
    """In ms: of a block with little and much context, and of a whole sequence."""
    h100 = GPUS["h100"]
    passes = {
        ("diffutran", 32, 131072): 11.4,
        ("diffumamba", 32, 131072): 1.8,
        ("diffutran", 131072, 0): 8650,
        ("diffumamba", 131072, 0): 890,
        ("diffumamba-h", 131072, 0): 2480,
    }
    for what, expected in passes.items():
        assert pass_seconds(*what, h100) * 1e3 == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_fewer_cores_compile_later():
    few, many = (at(list(simulate(GPUS["h100"], cores)), "compile") for cores in (2, 16))
    assert few > many + 30
