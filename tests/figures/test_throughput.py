"""The figure of throughput: series, labels, panels, data and caption."""

import pytest
from support.figure_records import (
    CPU,
    H100,
    caption_of,
    demo,
    legend_of,
    measured,
    record,
    renderer,
)

from dlm_bench.figures import draw_throughput
from dlm_bench.report import build_report


def test_throughput_has_one_labelled_series_per_backbone_and_sampler(frame):
    (axes,) = draw_throughput(frame(*demo())).axes
    names = ["DiffuTran", "DiffuMamba", "DiffuMamba-H"]
    variants = ["full sequence", "Fast-dLLM", "block cache, commit=separate"]
    expected = [f"{name}, {variant}" for name in names for variant in variants]
    expected += ["AR Transformer, autoregressive", "AR Mamba-2, autoregressive"]
    assert list(measured(axes)) == expected
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_throughput_draws_the_mean_and_its_interval(frame):
    lengths = [512, 2048, 8192]
    records = [record("diffutran", "full", n, point={"batch": 2}) for n in lengths]
    (axes,) = draw_throughput(frame(*reversed(records))).axes
    (container,) = axes.containers
    line, _, (bars,) = container.lines
    assert line.get_xdata().tolist() == lengths
    assert line.get_ydata().tolist() == [each.tokens_per_second for each in records]
    for segment, each in zip(bars.get_segments(), records, strict=True):
        low, high = each.interval_95
        # 1e-12: the bar's ends are sums of the mean and its distance to them, in float64.
        assert segment[:, 1].tolist() == pytest.approx([low, high], rel=1e-12)


def test_the_mean_of_all_measurements_of_a_point_counts_and_failures_are_told_not_drawn(frame):
    old = record("diffutran", "full", 512, seconds=[3.0])
    new = record("diffutran", "full", 512, seconds=[1.0, 1.0])
    again = record("diffutran", "full", 512, status="error", seconds=[])
    lost = record("diffutran", "full", 8192, status="timeout", seconds=[7.0])
    figure = draw_throughput(frame(old, new, again, lost, record("diffutran", "full", 1024)))
    (line,) = measured(figure.axes[0]).values()
    assert line.get_xdata().tolist() == [512, 1024]
    assert line.get_ydata()[0] == 256
    assert "Not drawn: 1 timeout." in caption_of(figure)


def test_sampled_points_are_hollow_and_the_legend_says_so(frame):
    records = [record("diffutran", "full", 512)]
    records += [record("diffutran", "full", n, mode="sampled") for n in (4096, 8192)]
    figure = draw_throughput(frame(*records))
    hollow = [x for x in figure.axes[0].lines if x.get_markerfacecolor() == "white"]
    assert [x.get_xdata().tolist() for x in hollow] == [[4096, 8192]]
    assert "sampled timing" in legend_of(figure)
    exact = draw_throughput(frame(records[0]))
    assert "Mean of 5 decodes; bars: 95 % interval of the mean." in caption_of(exact)
    assert "sampled timing" not in legend_of(exact)


def test_each_p_has_a_panel_and_the_autoregressive_series_are_in_all(frame):
    figure = draw_throughput(frame(*demo([512, 1024], steps=(16, 4))))
    assert [axes.get_title() for axes in figure.axes] == [
        "p = 4 tokens per step",
        "p = 16 tokens per step",
    ]
    four, sixteen = (measured(axes) for axes in figure.axes)
    assert list(four) == list(sixteen)
    assert len(four) == 11
    full, ar = "DiffuTran, full sequence", "AR Mamba-2, autoregressive"
    assert four[ar].get_ydata().tolist() == sixteen[ar].get_ydata().tolist()
    # Four times the tokens a pass: four times the speed but for the noise, 1 % a mean of five.
    assert sixteen[full].get_ydata() == pytest.approx(4 * four[full].get_ydata(), rel=0.06)


def test_the_caption_names_the_series_in_every_panel_that_have_no_p(frame):
    several = [*demo([512, 1024], steps=(4, 16))]
    told = "Without p, and so in the panel of every p: autoregressive."
    assert told in caption_of(draw_throughput(frame(*several)))
    assert told in build_report(several, ["r.jsonl"])
    assert "Without p" not in caption_of(draw_throughput(frame(*demo([512, 1024]))))
    full = [each for each in several if each.point.sampler == "full"]
    assert "Without p" not in caption_of(draw_throughput(frame(*full)))


def test_machines_never_share_a_panel(frame):
    gpu = [record("diffutran", "full", n, hardware=H100) for n in (512, 1024)]
    figure = draw_throughput(frame(*gpu, record("diffutran", "full", 512)))
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert titles == [f"{H100}, cuda", f"{CPU}, cpu"]
    assert [len(axes.containers) for axes in figure.axes] == [1, 1]


def test_the_caption_says_what_the_numbers_were_measured_on(frame):
    text = caption_of(draw_throughput(frame(*demo([512, 1024]))))
    assert text.startswith(
        f"{CPU}, cpu, float32, tiny, batch=1; full sequence: p=8; Fast-dLLM: p=8, B=32, "
        "cache=dual; block cache: p=8, B=32. Mean"
    )
    assert "Mean of 5 decodes" in text


def test_a_label_carries_what_tells_its_series_apart_and_commit_always(frame):
    def block_cache(commit, size="tiny"):
        options = {"tokens_per_step": 8, "block_size": 32, "commit": commit}
        point = {"options": options, "size": size}
        return record("diffumamba", "block-cache", 512, point=point)

    def labels(*records):
        return list(measured(draw_throughput(frame(*records)).axes[0]))

    assert labels(block_cache("none")) == ["DiffuMamba, commit=none"]
    assert labels(record("diffumamba", "fast-dllm", 512)) == ["DiffuMamba"]
    assert labels(block_cache("none"), block_cache("fused", "small")) == [
        "DiffuMamba, commit=none, tiny",
        "DiffuMamba, commit=fused, small",
    ]


def test_no_two_series_of_a_panel_look_the_same_not_even_a_users_own(frame):
    records = list(demo([512]))
    for commit in ("fused", "none"):
        options = {"tokens_per_step": 8, "block_size": 32, "commit": commit}
        records.append(record("diffutran", "block-cache", 512, point={"options": options}))
    for backbone in ("mine", "theirs"):
        records += [record(backbone, sampler, 512) for sampler in ("mine", "theirs", "full")]
    (axes,) = draw_throughput(frame(*records)).axes
    looks = {(line.get_color(), line.get_marker()) for line in measured(axes).values()}
    # The demo's 11, 2 more commits, and a user's own 2 backbones x 3 samplers.
    assert len(looks) == len(axes.containers) == 11 + 2 + 6


def test_variants_of_a_sampler_have_dashes_and_markers_of_their_own(frame):
    variants = [("fast-dllm", {"tokens_per_step": 8, "cache": name}) for name in ("dual", "prefix")]
    variants += [
        ("block-cache", {"tokens_per_step": 8, "commit": name})
        for name in ("separate", "fused", "none")
    ]
    variants += [
        ("block-cache", {"accept": "threshold", "threshold": value, "commit": "separate"})
        for value in (0.7, 0.9)
    ]
    records = [
        record("diffutran", sampler, 512, point={"options": {"block_size": 32} | options})
        for sampler, options in variants
    ]
    figure = draw_throughput(frame(*records, record("diffutran", "full", 512)))
    (axes,) = figure.axes
    drawn = [*measured(axes).values()]
    assert len({line.get_marker() for line in drawn}) == len(drawn) == 8
    # As matplotlib keeps them, unscaled: get_linestyle() only says that there are some.
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 8
    assert "block cache, commit=separate, threshold=0.7" in legend_of(figure)
    # A legend of long labels takes room of its own, and none of the panel's.
    assert axes.get_window_extent(renderer(figure)).height == pytest.approx(
        draw_throughput(frame(*records[:2])).axes[0].get_window_extent().height, rel=0.5
    )


def test_a_single_length_still_has_a_tick(frame):
    (axes,) = draw_throughput(frame(record("diffutran", "full", 3000))).axes
    renderer(axes.figure)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3k"]
