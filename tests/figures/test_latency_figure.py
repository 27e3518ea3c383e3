"""The figure of latency: each series with its terms and equation."""

import numpy as np
import pytest
from support.figure_records import LAWS, caption_of, demo, legend_of, measured, record, renderer

from dlm_bench.errors import ResultsError
from dlm_bench.figures import draw_latency


def test_latency_takes_each_full_series_apart(frame):
    records = [record(name, "full", n) for name in LAWS for n in (512, 2048, 4096, 8192)]
    figure = draw_latency(frame(*records, *demo()))
    assert [axes.get_title() for axes in figure.axes] == ["DiffuTran", "DiffuMamba", "DiffuMamba-H"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    axes = figure.axes[0]
    curves = {line.get_label(): line for line in axes.lines}
    terms = sum(curves[name].get_ydata() for name in ("quadratic", "linear", "constant"))
    # 1e-12: the same three terms, added in float64.
    assert terms == pytest.approx(curves["fitted law"].get_ydata(), rel=1e-12)
    points, curve = measured(axes)["measured"], curves["fitted law"]
    fitted = np.interp(points.get_xdata(), curve.get_xdata(), curve.get_ydata())
    # 5 %: the law is fitted to means of five repeats of 2 % noise, 0.9 % each.
    assert points.get_ydata() == pytest.approx(fitted, rel=0.05)


def test_latency_prints_the_law_in_milliseconds_and_thousands_of_tokens(frame):
    lengths = [512, 1024, 4096, 8192]
    figure = draw_latency(frame(*(record("diffutran", "full", n, noise=0) for n in lengths)))
    (text,) = (each.get_text() for each in figure.axes[0].texts)
    # 4e-9 s/token², 1e-5 s/token and 1e-3 s of LAWS, without noise.
    assert text == "4 L² + 10 L + 1 ms\nR² = 1.0000, largest error 0.0 %"
    assert "L in thousands" in caption_of(figure)


def test_latency_omits_a_zero_term_and_admits_that_three_points_prove_nothing(frame):
    def panel(*name):
        return draw_latency(frame(*(record(*name, n, noise=0) for n in (512, 1024, 4096)))).axes[0]

    flat = panel("ar-mamba", "ar")
    assert {line.get_label() for line in flat.lines} >= {"fitted law", "constant"}
    assert "quadratic" not in {line.get_label() for line in flat.lines}
    (text,) = panel("diffutran", "full").texts
    assert text.get_text().endswith("(3 terms, 3 points)")


def test_latency_draws_the_sampler_asked_for_or_all_where_full_is_missing(frame):
    titles = [x.get_title() for x in draw_latency(frame(*demo()), sampler="block-cache").axes]
    assert titles[0] == "DiffuTran, commit=separate"
    assert len(titles) == 3
    rest = [each for each in demo() if each.point.sampler != "full"]
    assert len(draw_latency(frame(*rest)).axes) == 8


def test_latency_equations_stay_inside_their_panels_and_off_the_data(frame):
    for records in (demo(), demo([2**n for n in range(4, 18)])):
        figure = draw_latency(frame(*records))
        draw = renderer(figure)
        for axes in figure.axes:
            text = axes.texts[0].get_window_extent(draw)
            assert text.x1 <= axes.bbox.x1
            points = axes.transData.transform(measured(axes)["measured"].get_xydata())
            assert text.y0 > points[:, 1].max()


def test_latency_says_how_many_lengths_there_are_if_too_few(frame):
    two = frame(*(record("diffutran", "full", n) for n in (512, 1024)))
    with pytest.raises(ResultsError, match=r"no 3 ok lengths for any series; .* full \(2\)"):
        draw_latency(two)
    with pytest.raises(ResultsError, match=r"for sampler 'ar'; .* full \(2\)"):
        draw_latency(two, sampler="ar")


def test_sampled_points_of_latency_are_hollow_and_the_bars_are_told(frame):
    sampled = [
        record("diffutran", "full", n, mode="sampled", error_estimate=0.1)
        for n in (512, 1024, 2048)
    ]
    exact = [record("diffutran", "full", n) for n in (4096, 8192)]
    figure = draw_latency(frame(*sampled, *exact))
    hollow = [x for x in figure.axes[0].lines if x.get_markerfacecolor() == "white"]
    assert [list(x.get_xdata()) for x in hollow] == [[512, 1024, 2048]]
    assert {"measured", "sampled timing"} <= set(legend_of(figure))
    assert "bars: 95 % interval of the mean." in caption_of(figure)
    alone = draw_latency(frame(*sampled))
    assert "measured" not in legend_of(alone)
    assert "rounds of sampled timing; bars: 95 % interval of the mean." in caption_of(alone)
    assert "sampled timing" not in legend_of(draw_latency(frame(*demo())))
