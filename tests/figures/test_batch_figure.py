"""The figure of throughput against batch, and batches in the other figures."""

import pytest
from support.figure_records import caption_of, legend_of, measured, record, renderer

from dlm_bench.analysis.waiting import waiting_table
from dlm_bench.errors import ResultsError
from dlm_bench.figures import draw_batch, draw_latency, draw_throughput, draw_waiting
from dlm_bench.figures.theme import COLUMN_WIDTH, TEXT_WIDTH

BATCHES = (1, 2, 4, 8)


def at_speed(backbone, sampler, length, batch, speed, **point):
    """A record of so many tokens per second."""
    seconds = batch * length / speed
    return record(
        backbone,
        sampler,
        length,
        point={"batch": batch, **point},
        seconds=[0.99 * seconds, 1.01 * seconds],
    )


def crossing(at, length=256, backbone="diffumamba", batches=BATCHES):
    """A diffusion model whose speed grows with the root of the batch, and an autoregressive one
    whose speed grows with the batch, as fast at one batch."""
    for batch in batches:
        yield at_speed(backbone, "block-cache", length, batch, 100 * batch**0.5)
        yield at_speed("ar-mamba", "ar", length, batch, 100 * batch * at**-0.5)


def test_each_backbone_and_sampler_is_a_series_of_tokens_per_second_against_batch(frame):
    figure = draw_batch(frame(*crossing(3)))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "batch (sequences)"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    drawn = measured(axes)
    assert list(drawn) == [
        "DiffuMamba, block cache, commit=separate",
        "AR Mamba-2, autoregressive",
    ]
    dlm, ar = drawn.values()
    assert dlm.get_xdata().tolist() == ar.get_xdata().tolist() == list(BATCHES)
    # The mean of two times 1 % off: 1e-9 is float64's rounding.
    assert dlm.get_ydata() == pytest.approx([100 * b**0.5 for b in BATCHES], rel=1e-9)
    assert "L=256" in caption_of(figure)


def test_the_caption_says_at_which_batch_autoregression_overtakes(frame):
    told = caption_of(draw_batch(frame(*crossing(3))))
    assert "AR Mamba-2 overtakes DiffuMamba at batch 3." in told
    two = [*crossing(3)]
    two += [at_speed("diffumamba", "full", 256, b, 10) for b in BATCHES]
    assert "DiffuMamba, block cache, commit=separate at batch 3" in caption_of(
        draw_batch(frame(*two))
    )
    assert "at batch 3." in told
    assert "at no batch measured" in caption_of(draw_batch(frame(*crossing(9))))
    assert "at batch 1 or before" in caption_of(draw_batch(frame(*crossing(0.5))))


def test_each_length_with_two_batches_has_a_panel(frame):
    alone = at_speed("diffumamba", "block-cache", 2048, 4, 100)
    figure = draw_batch(frame(*crossing(3), *crossing(5, length=1024), alone))
    assert [axes.get_title() for axes in figure.axes] == ["L = 256 tokens", "L = 1,024 tokens"]
    told = caption_of(figure)
    assert "at L = 256 overtakes" in told
    assert "at L = 1,024 overtakes" in told
    for axes, at in zip(figure.axes, (3, 5), strict=True):
        ar = measured(axes)["AR Mamba-2, autoregressive"]
        assert ar.get_ydata()[0] == pytest.approx(100 * at**-0.5, rel=1e-9)


def test_records_of_one_batch_make_no_figure(frame):
    records = [at_speed("diffumamba", "block-cache", n, 1, 100) for n in (256, 512)]
    with pytest.raises(ResultsError, match="no series of the records has two batches at the same"):
        draw_batch(frame(*records))
    two = [at_speed("diffumamba", "block-cache", n, b, 100) for n, b in ((256, 1), (512, 2))]
    with pytest.raises(ResultsError, match="no series of the records has two batches"):
        draw_batch(frame(*two))


def test_prompts_are_series_of_their_own(frame):
    prompted = [
        at_speed("diffumamba", "block-cache", 256, batch, 50, prompt_len=512) for batch in BATCHES
    ]
    figure = draw_batch(frame(*crossing(3), *prompted))
    assert [label for label in measured(figure.axes[0]) if "prompt=512" in label]
    assert any("prompt=512" in text for text in legend_of(figure))


@pytest.mark.parametrize("draw", [draw_throughput, lambda frame: draw_latency(frame, "full")])
def test_batches_and_prompts_are_told_apart_in_figures_against_length(draw, frame):
    places = ({"batch": 1}, {"batch": 4}, {"prompt_len": 512})
    records = [
        record("diffutran", "full", length, point=place)
        for length in (256, 512, 1024)
        for place in places
    ]
    figure = draw(frame(*records))
    said = {
        text
        for axes in figure.axes
        for text in (*axes.get_legend_handles_labels()[1], axes.get_title())
    } | (set(legend_of(figure)) if figure.legends else set())
    for wanted in ("batch=4", "prompt=512"):
        assert any(wanted in text.replace("\n", " ") for text in said), (wanted, said)


def waiting(batch, tokens, waited, **options):
    """A record of a block cache that makes so many tokens a pass, of all sequences."""
    told = {"passes": 5.0, "passes_p10": 2.0, "passes_p50": 5.0, "passes_p90": 8.0}
    return record(
        "diffumamba",
        "block-cache",
        256,
        point={"batch": batch, "options": {"commit": "separate", "block_size": 32, **options}},
        blocks=told | {"tokens_per_forward": tokens, "waited": waited},
    )


def apart():
    """A batch in step and one first done, first out."""
    for batch, in_step, first_done in ((1, 6.0, 6.0), (4, 16.0, 20.0)):
        yield waiting(batch, in_step, 0.25 * (batch > 1))
        yield waiting(batch, first_done, 0.0, batching="fdfo")


def test_waiting_is_drawn_as_tokens_per_pass_of_a_sequence(frame):
    figure = draw_waiting(frame(*apart()))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "batch (sequences)"
    lines = [line.get_ydata().tolist() for line in measured(axes).values()]
    assert sorted(lines) == [[6.0, 4.0], [6.0, 5.0]]
    assert "at the largest batch: DiffuMamba, commit=separate: 25% at 4." in caption_of(figure)


def test_records_without_passes_of_blocks_are_not_drawn_as_waiting(frame):
    with pytest.raises(ResultsError, match="no passes of blocks"):
        draw_waiting(frame(*crossing(3)))
    with pytest.raises(ResultsError, match="two batches"):
        draw_waiting(frame(waiting(2, 3.0, 0.0)))


def test_the_batch_of_overtaking_is_said_in_step_and_first_done_first_out(frame):
    records = [at_speed("ar-mamba", "ar", 256, batch, 25.0 * batch) for batch in BATCHES]
    for batch in BATCHES:
        for options, speed in (({}, 100.0), ({"batching": "fdfo"}, 100 * batch**0.5)):
            point = {"options": {"commit": "separate", "block_size": 32, **options}}
            records.append(at_speed("diffumamba", "block-cache", 256, batch, speed, **point))
    told = caption_of(draw_batch(frame(*records)))
    assert "overtakes DiffuMamba, block cache, commit=separate at batch 4, " in told
    assert "block cache, commit=separate, batching=fdfo at no batch measured." in told


def test_the_table_of_waiting_has_a_row_for_each_batch(frame):
    table = waiting_table(frame(*apart()))
    assert [[cell.text for cell in row[1:]] for row in table.rows] == [
        ["1", "5", "2", "5", "8", "6", "0.0%"],
        ["4", "5", "2", "5", "8", "16", "25.0%"],
        ["1", "5", "2", "5", "8", "6", "0.0%"],
        ["4", "5", "2", "5", "8", "20", "0.0%"],
    ]
    with pytest.raises(ResultsError, match="no record tells"):
        waiting_table(frame(*crossing(3)))


def test_the_table_of_waiting_names_the_lengths_there_are(frame):
    records = frame(*apart())
    with pytest.raises(ResultsError, match="length 4096: not in the records; there are: 256"):
        waiting_table(records, at=[4096])
    table = waiting_table(records, at=[256, 4096])
    assert len(table.rows) == 4
    assert table.notes == ["length 4096: not in the records"]


def test_a_legend_of_long_names_is_less_high_than_the_axes(frame):
    rules = (
        {"accept": "entropy", "gamma": 20.0},
        {"trace": "a-model-tiny-entropy-20@0dcfb82408e8"},
    )
    records = [
        waiting(batch, 6.0 * batch, 0.0, **options, **more)
        for batch in (1, 4)
        for options in rules
        for more in ({}, {"batching": "fdfo"})
    ]
    figure = draw_waiting(frame(*records))
    assert "All tokens generated, divided by the passes (commits included) and by the batch." in (
        caption_of(figure)
    )
    (legend,), (axes,) = figure.legends, figure.axes
    drawn = renderer(figure)
    assert legend.get_window_extent(drawn).height < axes.get_window_extent(drawn).height
    trace = "block cache, commit=separate,\ntrace=a-model-tiny-entropy-20"
    assert trace in legend_of(figure)


def many(count):
    """As many series of rules and traces, in step and first done, first out."""
    rules = [
        {"accept": "threshold", "threshold": 0.9},
        {"accept": "entropy", "gamma": 20.0},
        {"accept": "factor", "factor": 1.0},
        {"trace": "a-model-tiny-entropy-20@0dcfb82408e8"},
        {"trace": "a-model-tiny-threshold-0.9@1dcfb82408e8"},
        {"accept": "joint", "threshold": 0.9, "edit_threshold": 0.2, "max_edit_passes": 16},
        {"accept": "strict", "threshold": 0.95},
    ]
    ways = [rule | more for rule in rules for more in ({}, {"batching": "fdfo"})]
    return [
        waiting(batch, 6.0 * batch, 0.0, **options) for batch in (1, 4) for options in ways[:count]
    ]


@pytest.mark.parametrize(
    ("count", "width"), [(2, COLUMN_WIDTH), (6, COLUMN_WIDTH), (13, TEXT_WIDTH)]
)
def test_a_legend_of_many_series_is_less_high_than_the_axes_and_tells_all_apart(
    frame, count, width
):
    figure = draw_waiting(frame(*many(count)))
    (legend,), (axes,) = figure.legends, figure.axes
    drawn = renderer(figure)
    box, whole = legend.get_window_extent(drawn), figure.bbox
    assert box.height < axes.get_window_extent(drawn).height
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert figure.get_figwidth() == width
    told = [text for text in legend_of(figure) if text.strip()]
    assert len(told) == 1 + count + (count >= 3) == len({*told})
    looks = {
        (line.get_marker(), str(line._unscaled_dash_pattern)) for line in measured(axes).values()
    }
    assert len(looks) == count


def test_a_long_legend_says_once_what_the_variants_of_a_sampler_share(frame):
    told = legend_of(draw_waiting(frame(*many(6))))
    assert told[1] == "block cache, commit=separate:"
    assert told[2:] == [
        "threshold=0.9",
        "threshold=0.9, batching=fdfo",
        "accept=entropy, gamma=20",
        "accept=entropy, batching=fdfo, gamma=20",
        "factor=1",
        "batching=fdfo, factor=1",
    ]
