"""Figures of any columns, the Pareto figure and the repeats of points."""

import pytest
from support.figure_records import caption_of, legend_of, measured, record

from dlm_bench.cli import main
from dlm_bench.errors import ResultsError
from dlm_bench.figures import draw_free, draw_pareto, draw_repeats
from dlm_bench.figures.free import frontier_of
from dlm_bench.results.store import append_record


def test_a_curve_is_drawn_for_what_tells_points_apart_and_x_runs_along(frame):
    records = [
        record(b, "full", 512, point={"batch": n})
        for b in ("diffutran", "diffumamba")
        for n in (1, 8)
    ]
    figure = draw_free(frame(*records), "batch", "tokens_per_second")
    curves = measured(figure.axes[0])
    assert list(curves) == ["DiffuTran", "DiffuMamba"]
    assert all(line.get_xdata().tolist() == [1, 8] for line in curves.values())
    assert figure.axes[0].get_xscale() == "log"
    assert legend_of(figure) == ["DiffuTran", "DiffuMamba"]


def test_curves_and_panels_are_by_the_columns_asked_for(frame):
    records = [record("diffutran", "full", n, p=p) for n in (512, 1024) for p in (4, 8)]
    figure = draw_free(frame(*records), "length", "ms_per_pass", ["backbone"], "tokens_per_step")
    assert [axes.get_title() for axes in figure.axes] == ["p=4", "p=8"]
    assert [list(measured(axes)) for axes in figure.axes] == [["DiffuTran"], ["DiffuTran"]]


def test_nested_fields_and_derived_numbers_are_columns(frame):
    records = [record("diffutran", "full", n) for n in (512, 1024)]
    figure = draw_free(frame(*records), "telemetry.energy_joules", "peak_memory_gib")
    (line,) = measured(figure.axes[0]).values()
    assert line.get_ydata().tolist() == pytest.approx([1 + n / 2**18 for n in (512, 1024)])


def test_points_without_the_number_are_counted_in_the_caption(frame):
    lacking = record("diffutran", "full", 1024, telemetry={})
    figure = draw_free(
        frame(record("diffutran", "full", 512), lacking), "length", "joules_per_token"
    )
    assert "Not drawn: 1 points without length or joules_per_token." in caption_of(figure)
    with pytest.raises(ResultsError, match=r"'lenght' is no column .*did you mean 'length'"):
        draw_free(frame(lacking), "lenght", "tokens_per_second")
    with pytest.raises(ResultsError, match="no ok point has both length and joules_per_token"):
        draw_free(frame(lacking), "length", "joules_per_token")


def test_the_frontier_is_what_no_other_point_beats_in_both():
    points = [(1, 10), (2, 5), (3, 20), (4, 20), (5, 30), (3, 15)]
    assert frontier_of(points) == [(1, 10), (3, 20), (5, 30)]


def test_the_pareto_figure_has_a_panel_a_length_and_the_frontier(frame):
    records = [
        record(b, "full", n, first_block_seconds=[first])
        for n in (512, 1024)
        for b, first in (("diffutran", 0.5), ("diffumamba", 0.1))
    ]
    figure = draw_pareto(frame(*records))
    assert [axes.get_title() for axes in figure.axes] == ["L=512", "L=1024"]
    assert legend_of(figure)[-1] == "frontier"
    assert measured(figure.axes[0])["DiffuTran"].get_xdata().tolist() == [500]
    with pytest.raises(ResultsError, match="no ok point has both first_block_ms"):
        draw_pareto(frame(record("diffutran", "full", 512)))


def test_repeats_are_a_sequence_and_a_distribution_relative_to_the_median(frame):
    figure = draw_repeats(frame(record("diffutran", "full", 512, seconds=[1.0, 1.1, 0.9])))
    sequence, share = (axes.lines[0] for axes in figure.axes)
    assert sequence.get_ydata().tolist() == pytest.approx([0, 10, -10])
    assert share.get_xdata().tolist() == pytest.approx([-10, -10, 0, 10])
    assert share.get_ydata().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_repeats_of_many_points_are_refused_with_advice(frame):
    records = [record("diffutran", "full", 64 * n) for n in range(1, 14)]
    with pytest.raises(ResultsError, match="13 points; --where chooses 12 or less"):
        draw_repeats(frame(*records))
    with pytest.raises(ResultsError, match="no point has 3 repeats"):
        draw_repeats(frame(record("diffutran", "full", 64, seconds=[1.0])))


def test_the_command_draws_it_under_the_name_of_its_axes(tmp_path, capsys):
    results = tmp_path / "r.jsonl"
    for n in (512, 1024):
        append_record(results, record("diffutran", "full", n))
    out = ["--output", str(tmp_path / "plots")]
    assert main(["plot", str(results), "--x", "length", "--y", "ms_per_pass", *out]) == 0
    assert (tmp_path / "plots" / "ms_per_pass-length.pdf").stat().st_size > 1000
    wrong = {
        ("--x", "length"): "--x: and --y belong together",
        ("--curves", "batch"): "--curves: is not allowed without --x and --y",
        ("--x", "length", "--y", "nfe", "--figure", "latency"): "--figure: is not allowed with",
        ("--x", "length", "--y", "nfe", "--name", "a/b"): "--name: 'a/b' is not allowed",
    }
    for options, message in wrong.items():
        assert main(["plot", str(results), *options, *out]) == 2
        assert message in capsys.readouterr().err
