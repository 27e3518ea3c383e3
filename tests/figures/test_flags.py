"""Flagged points are ringed and the caption says why; a figure without flags is as it was."""

import pytest
from test_figures import caption_of, demo, measured, record, renderer

from dlm_bench.figures import FIGURES, draw_latency, draw_throughput, save
from dlm_bench.figures.flags import FLAGS
from dlm_bench.results.store import frame_of

LENGTHS = (512, 1024, 2048, 4096)


def with_flags(flags):
    """A line whose records have these flags, by length."""
    return frame_of(record("diffutran", "full", n, flags=flags.get(n, [])) for n in LENGTHS)


def rings(axes):
    """The rings' places."""
    found = [line for line in axes.lines if line.get_label() == "_flagged"]
    return [place for line in found for place in line.get_xydata().tolist()]


@pytest.mark.parametrize("draw", FIGURES.values())
def test_a_flagged_point_has_a_ring_around_its_mean(draw):
    (axes,) = draw(with_flags({1024: ["drifting"], 4096: ["outliers", "contended"]})).axes
    (line,) = measured(axes).values()
    assert rings(axes) == [line.get_xydata().tolist()[i] for i in (1, 3)]


@pytest.mark.parametrize("draw", FIGURES.values())
def test_the_caption_says_what_the_rings_mean_and_how_many_there_are(draw):
    told = caption_of(draw(with_flags({512: ["contended"], 1024: ["drifting", "contended"]})))
    assert told.endswith(
        "Ringed: 1 drifting (repeats get slower or faster), 2 contended (other work on the CPU)."
    )


@pytest.mark.parametrize("draw", FIGURES.values())
def test_without_flags_there_is_no_ring_and_no_word_of_it(draw):
    figure = draw(with_flags({}))
    assert rings(figure.axes[0]) == []
    assert "Ringed" not in caption_of(figure)


def test_failures_are_still_told_after_the_flags():
    lost = record("diffutran", "full", 8192, status="oom", seconds=[], flags=["throttled"])
    kept = record("diffutran", "full", 512, flags=["throttled"])
    told = caption_of(draw_throughput(frame_of([kept, lost])))
    assert told.endswith("Ringed: 1 throttled (clocks held down). Not drawn: 1 oom.")


def test_rings_are_only_around_the_points_drawn():
    other = [record("diffumamba", "ar", n, flags=["drifting"]) for n in LENGTHS]
    frame = frame_of([*(record("diffutran", "full", n) for n in LENGTHS), *other])
    assert "Ringed" not in caption_of(draw_latency(frame, sampler="full"))


@pytest.mark.parametrize("name", FIGURES)
def test_a_caption_with_every_flag_covers_no_panel(name, tmp_path):
    records = [record.model_copy(update={"flags": [*FLAGS]}) for record in demo(LENGTHS)]
    figure = FIGURES[name](frame_of(records))
    draw = renderer(figure)
    caption = figure._suptitle.get_window_extent(draw)
    assert all(axes.get_tightbbox(draw).y1 <= caption.y0 for axes in figure.axes)
    # Half a pixel of 100 an inch: text extents are rounded to pixels.
    assert caption.x1 <= figure.bbox.x1 + 0.5
    assert all(path.stat().st_size for path in save(figure, tmp_path / name))
