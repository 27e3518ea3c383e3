"""Figures of any columns, the Pareto figure and the repeats of points."""

import pytest
from support.figure_records import caption_of, legend_of, measured, record, renderer

from dlm_bench.cli import main
from dlm_bench.errors import ResultsError
from dlm_bench.figures import NotDrawnWarning, draw_free, draw_pareto, draw_repeats
from dlm_bench.figures.free import frontier_of
from dlm_bench.figures.palette import BACKBONE_COLOURS, SAMPLER_STYLES
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


def block_cache(length=512, batch=1, tokens_per_forward=8.0, **options):
    point = {"batch": batch, "options": {"block_size": 32, "commit": "separate", **options}}
    blocks = {"tokens_per_forward": tokens_per_forward}
    return record("diffumamba", "block-cache", length, point=point, blocks=blocks)


def test_tokens_per_forward_of_the_blocks_are_a_column(frame):
    records = [block_cache(batch=n, tokens_per_forward=6.5 * n) for n in (1, 4)]
    figure = draw_free(frame(*records), "batch", "blocks.tokens_per_forward")
    (line,) = measured(figure.axes[0]).values()
    assert line.get_ydata().tolist() == [6.5, 26.0]
    with pytest.raises(ResultsError, match=r"did you mean 'blocks\.tokens_per_forward'"):
        draw_free(frame(*records), "batch", "tokens_per_forward")


def test_a_figure_of_many_curves_keeps_its_axes_and_their_label(frame):
    rules = [{"accept": "threshold", "threshold": 0.9 + n / 100} for n in range(9)]
    long = [{"trace": f"a-model-with-a-long-name-{rule}@0dcfb82408e8"} for rule in range(6)]
    records = [block_cache(batch=n, **options) for n in (1, 4) for options in (*rules, *long)]
    figure = draw_free(frame(*records), "batch", "blocks.tokens_per_forward")
    drawn = renderer(figure)
    (axes,) = figure.axes
    assert len(legend_of(figure)) == 15
    (legend,) = figure.legends
    assert legend.get_window_extent(drawn).height < axes.get_window_extent(drawn).height
    assert axes.get_window_extent(drawn).height > 1.4 * figure.dpi  # inches
    label = axes.yaxis.label.get_window_extent(drawn)
    assert 0 <= label.y0 < label.y1 <= figure.bbox.height


def test_a_curve_of_usual_options_is_named_by_them(frame):
    records = [
        block_cache(batch=n, **options)
        for n in (1, 4)
        for options in ({}, {"batching": "fdfo"}, {"accept": "entropy"})
    ]
    figure = draw_free(frame(*records), "batch", "nfe", ["batching", "accept"])
    assert legend_of(figure) == [
        "batching=lockstep, accept=fixed",
        "batching=fdfo",
        "accept=entropy",
    ]
    figure = draw_free(frame(block_cache(), block_cache(trace="a@0123")), "length", "nfe")
    assert legend_of(figure) == ["no trace", "trace=a"]


def test_points_at_the_same_x_have_no_line_and_a_warning_says_how_they_differ(frame):
    records = [
        block_cache(batch=n, order=order, **options)
        for n in (1, 4)
        for order, options in (("confidence", {}), ("margin", {}), ("margin", {"gamma": 2.0}))
    ]
    with pytest.warns(NotDrawnWarning, match=r"no gamma; they differ in order: add these to"):
        figure = draw_free(frame(*records), "batch", "nfe", ["gamma"])
    styles = {name: line.get_linestyle() for name, line in measured(figure.axes[0]).items()}
    assert styles["no gamma"] == "None"
    assert styles["gamma=2"] != "None"


def test_lengths_are_curves_of_their_own_against_a_setting(frame):
    records = [block_cache(length, batch=n) for length in (512, 1024) for n in (1, 4)]
    figure = draw_free(frame(*records), "batch", "nfe")
    assert legend_of(figure) == ["L=512", "L=1024"]


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


def test_backbones_and_samplers_look_as_in_other_figures(frame):
    records = [
        record(b, s, n, first_block_seconds=[0.1])
        for b in ("diffutran", "diffumamba")
        for s in ("full", "fast-dllm")
        for n in (512, 1024)
    ]
    for figure in (draw_pareto(frame(*records)), draw_free(frame(*records), "length", "nfe")):
        curves = measured(figure.axes[0])
        assert curves["DiffuMamba, Fast-dLLM"].get_color() == BACKBONE_COLOURS["diffumamba"]
        assert curves["DiffuTran, Fast-dLLM"].get_marker() == SAMPLER_STYLES["fast-dllm"].marker


def test_curves_of_several_backbones_differ_in_their_look(frame):
    records = [record(b, "full", 512, p=8) for b in ("diffutran", "diffumamba")]
    records += [record("diffutran", "full", 512, p=4)]
    with pytest.warns(NotDrawnWarning, match="p=8; they differ in backbone"):
        figure = draw_free(frame(*records), "length", "nfe", ["tokens_per_step"])
    colours = {line.get_color() for line in measured(figure.axes[0]).values()}
    assert len(colours) == 2


def test_sampled_and_flagged_points_are_marked_where_time_is_drawn(frame):
    records = [
        record("diffutran", "full", 512, mode="sampled", flags=["drifting"]),
        record("diffutran", "full", 1024),
    ]
    figure = draw_free(frame(*records), "length", "tokens_per_second")
    (hollow,), (ring,) = (
        [line for line in figure.axes[0].lines if line.get_label() == label]
        for label in ("_sampled", "_flagged")
    )
    assert hollow.get_xdata().tolist() == ring.get_xdata().tolist() == [512]
    assert legend_of(figure)[-2:] == ["sampled timing", "flagged"]
    assert "Ringed: 1 drifting" in caption_of(figure)
    assert "Ringed" not in caption_of(draw_free(frame(*records), "length", "nfe"))


def test_panels_above_a_gap_name_their_axis(frame):
    lengths = (512, 1024, 2048, 4096, 8192)
    records = [record("diffutran", "full", n, first_block_seconds=[0.1]) for n in lengths]
    axes = draw_pareto(frame(*records)).axes
    assert [bool(each.get_xlabel()) for each in axes] == [False, False, True, True, True]


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
