"""Flagged points are ringed and the caption says why; a figure without flags is as it was."""

import pytest
from support.figure_records import (
    DRAWN,
    caption_of,
    demo,
    legend_of,
    measured,
    record,
    renderer,
)

from dlm_bench.figures import draw_latency, draw_throughput, save
from dlm_bench.figures.flags import FLAGS
from dlm_bench.results.store import frame_of

LENGTHS = (512, 1024, 2048, 4096)
pytestmark = pytest.mark.filterwarnings("ignore::dlm_bench.figures.NotDrawnWarning")


def with_flags(flags, name):
    """Records whose figure is of one line that has these flags, by length."""
    sampler = "block-cache" if name == "paper-block" else "full"
    flagged = "diffumamba" if name == "speedup" else "diffutran"
    records = [record(flagged, sampler, n, flags=flags.get(n, [])) for n in LENGTHS]
    # What a speed-up is over is not drawn.
    over = [record("diffutran", sampler, n) for n in LENGTHS] if name == "speedup" else []
    return frame_of([*over, *records])


def rings(axes):
    """The rings' places."""
    found = [line for line in axes.lines if line.get_label() == "_flagged"]
    return [place for line in found for place in line.get_xydata().tolist()]


@pytest.mark.parametrize("name", DRAWN)
def test_a_flagged_point_has_a_ring_around_its_value(name):
    (axes,) = DRAWN[name](
        with_flags({1024: ["drifting"], 4096: ["outliers", "contended"]}, name)
    ).axes
    (line,) = measured(axes).values()
    assert rings(axes) == [line.get_xydata().tolist()[i] for i in (1, 3)]


@pytest.mark.parametrize("name", DRAWN)
def test_the_caption_says_what_the_rings_mean_and_how_many_there_are(name):
    told = caption_of(
        DRAWN[name](with_flags({512: ["contended"], 1024: ["drifting", "contended"]}, name))
    )
    assert told.endswith(
        "Ringed: 1 drifting (repeats get slower or faster), "
        "2 contended (other work on the machine)."
    )


@pytest.mark.parametrize("name", DRAWN)
def test_without_flags_there_is_no_ring_and_no_word_of_it(name):
    figure = DRAWN[name](with_flags({}, name))
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


def test_a_speedup_is_ringed_for_the_flags_of_what_it_is_over_too():
    flags = {"diffutran": {1024: ["drifting"]}, "diffumamba": {2048: ["drifting", "outliers"]}}
    records = [
        record(name, "full", n, flags=own.get(n, []))
        for name, own in flags.items()
        for n in LENGTHS
    ]
    figure = DRAWN["speedup"](frame_of(records))
    assert [length for length, _ in rings(figure.axes[0])] == [1024, 2048]
    assert "Ringed: 2 drifting" in caption_of(figure)


@pytest.mark.parametrize("name", DRAWN)
def test_a_caption_with_every_flag_covers_no_panel(name, tmp_path):
    records = [record.model_copy(update={"flags": [*FLAGS]}) for record in demo(LENGTHS)]
    figure = DRAWN[name](frame_of(records))
    figure.draw_caption()
    draw = renderer(figure)
    caption = figure.texts[0].get_window_extent(draw)
    assert all(axes.get_tightbbox(draw).y1 <= caption.y0 for axes in figure.axes)
    # Half a pixel of 100 an inch: text extents are rounded to pixels.
    assert caption.x1 <= figure.bbox.x1 + 0.5
    assert all(path.stat().st_size for path in save(figure, tmp_path / name))


@pytest.mark.parametrize("name", DRAWN)
def test_the_legend_has_an_entry_for_rings_only_where_there_are_any(name):
    assert "flagged" in legend_of(DRAWN[name](with_flags({512: ["drifting"]}, name)))
    assert "flagged" not in legend_of(DRAWN[name](with_flags({}, name)))
