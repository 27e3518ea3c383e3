"""Predicted series: the roofline's bound, drawn unlike measurements."""

from dataclasses import replace

import pytest
from support.figure_records import H100, SHEET, demo, legend_of, measured, record, renderer

from dlm_bench.cost.roofline import HARDWARE, decode_floor
from dlm_bench.figures import draw_throughput
from dlm_bench.models.config import model_config
from dlm_bench.samplers import build_sampler

LENGTHS = [512, 700, 2048]


def bounds(axes):
    """The predicted lines of a panel by the labels of what they bound."""
    start = "_bound of "
    lines = [line for line in axes.lines if line.get_label().startswith(start)]
    return {line.get_label().removeprefix(start): line for line in lines}


def test_a_bound_is_the_length_over_the_floor_of_a_decode(frame):
    records = [record("diffutran", "block-cache", n, point={"batch": 2}) for n in LENGTHS]
    (axes,) = draw_throughput(frame(*records), predict=SHEET).axes
    (bound,) = bounds(axes).values()
    places = [512, 700, 1024, 2048]  # powers of two between the measured ones, too
    assert bound.get_xdata().tolist() == places
    config, sampler = model_config("diffutran", "tiny"), build_sampler("block-cache")
    floors = [decode_floor(config, sampler, n, SHEET, batch=2) for n in places]
    expected = [2 * n / floor for n, floor in zip(places, floors, strict=True)]
    assert bound.get_ydata().tolist() == pytest.approx(expected, rel=1e-12)  # the same quotients


def test_a_bound_has_the_passes_of_the_seed_of_its_series(frame):
    drawn = {"steps": 400, "spread": "mdlm", "order": "random"}
    records = [
        record("diffutran", "full", n, point={"options": drawn}, seed=seed)
        for n in LENGTHS
        for seed in (3, 4)
    ]
    (axes,) = draw_throughput(frame(*records), predict=SHEET).axes
    config, sampler = model_config("diffutran", "tiny"), build_sampler("full", **drawn)
    found = [line.get_ydata()[0] for line in bounds(axes).values()]
    floors = [decode_floor(config, sampler, 512, SHEET, seed=seed) for seed in (3, 4)]
    assert found == pytest.approx([512 / floor for floor in floors], rel=1e-12)
    assert floors[0] != floors[1]


def test_bounds_are_thin_dotted_pale_and_in_the_legend(frame):
    figure = draw_throughput(frame(*demo(LENGTHS)), predict=SHEET)
    (axes,) = figure.axes
    lines = measured(axes)
    assert bounds(axes).keys() == lines.keys()
    for label, bound in bounds(axes).items():
        assert bound.get_linewidth() < lines[label].get_linewidth()
        assert bound.get_zorder() < lines[label].get_zorder()
        assert bound.get_color() != lines[label].get_color()
        assert bound._unscaled_dash_pattern == (0, (1, 1.6))
    assert legend_of(figure)[-1] == "roofline bound (made-up)"
    assert "roofline" not in " ".join(legend_of(draw_throughput(frame(*demo(LENGTHS)))))


def test_a_series_of_which_nothing_could_be_measured_has_a_bound(frame):
    lost = [record("diffutran", "full", n, status="oom", seconds=[]) for n in LENGTHS]
    kept = [record("diffumamba", "full", n) for n in LENGTHS]
    (axes,) = draw_throughput(frame(*lost, *kept), predict=SHEET).axes
    assert list(measured(axes)) == ["DiffuMamba"]
    assert set(bounds(axes)) == {"DiffuTran", "DiffuMamba"}


def test_another_precision_is_named_in_the_legend(frame):
    figure = draw_throughput(frame(*demo(LENGTHS)), predict=HARDWARE["h100-sxm"])
    assert legend_of(figure)[-1] == "roofline bound\n(h100-sxm, bfloat16)"
    place = figure.legends[0].get_window_extent(renderer(figure))
    assert place.x0 >= 0
    assert place.x1 <= figure.bbox.x1
    half = [record("diffutran", "full", n, point={"dtype": "bfloat16"}) for n in LENGTHS]
    legend = legend_of(draw_throughput(frame(*half), predict=HARDWARE["h200"]))
    assert legend[-1] == "roofline bound (h200)"


def test_a_bound_ends_where_the_memory_does(frame):
    records = [record("diffutran", "block-cache", n) for n in (512, 2**17)]
    # 3 layers x 2 x 64 numbers of 4 bytes a token are 201 MB at 131072 tokens, 101 at half.
    small = replace(SHEET, memory=150e6)
    (axes,) = draw_throughput(frame(*records), predict=small).axes
    (bound,) = bounds(axes).values()
    assert bound.get_xdata()[-1] == 2**16


def test_a_users_own_series_have_no_bound_and_do_no_harm(frame):
    own = [record("mine", "full", n) for n in LENGTHS]
    own += [record("diffutran", "theirs", n) for n in LENGTHS]
    figure = draw_throughput(frame(*own), predict=SHEET)
    assert bounds(figure.axes[0]) == {}
    assert "roofline bound (made-up)" not in legend_of(figure)


def test_each_machines_panel_has_the_bounds_of_its_own_series(frame):
    gpu = [record("diffutran", "full", n, hardware=H100) for n in LENGTHS]
    cpu = [record("diffumamba", "full", n) for n in LENGTHS]
    panels = draw_throughput(frame(*gpu, *cpu), predict=SHEET).axes
    assert [list(bounds(axes)) for axes in panels] == [["DiffuTran"], ["DiffuMamba"]]
