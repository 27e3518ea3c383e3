"""What the figures show: lines, labels, data, scales, and files that are the same in every run."""

import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from dlm_bench.errors import ResultsError
from dlm_bench.figures import FIGURES, draw_latency, draw_throughput, save, style
from dlm_bench.results.record import Point, Record
from dlm_bench.results.store import append_record, load_results

LAWS = {  # seconds per pass: quadratic, linear, constant
    "diffutran": (4e-9, 1e-5, 1e-3),
    "diffumamba": (0, 1.4e-5, 2.4e-3),
    "diffumamba-h": (9e-10, 1.3e-5, 2e-3),
}
SAMPLERS = {
    "full": {},
    "fast-dllm": {"block_size": 32, "cache": "dual"},
    "block-cache": {"block_size": 32, "commit": "separate"},
}
CPU = "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
H100 = "NVIDIA H100 80GB HBM3"


def record(backbone, sampler, length, *, p=8, noise=0.02, point=None, hardware=CPU, **more):
    """A record whose times follow the backbone's law, the same ones for the same arguments."""
    random = np.random.default_rng([length, p, *map(ord, backbone + sampler)])
    quadratic, linear, constant = LAWS.get(backbone, (0, 1e-7, 1e-3))
    query = length if sampler == "full" else 32
    passes = length if sampler == "ar" else length // p
    per_pass = quadratic * query * length + linear * query + constant
    options = SAMPLERS.get(sampler, {}) | ({} if sampler == "ar" else {"tokens_per_step": p})
    fields = {"size": "tiny", "options": options, "dtype": "float32"} | (point or {})
    gpu = hardware != CPU
    fields |= {"device": "cuda"} if gpu else {}
    defaults = {
        "status": "ok",
        "mode": "exact",
        "nfe": passes,
        "seconds": (passes * per_pass * (1 + noise * random.standard_normal(5))).tolist(),
        "environment": {"hardware": hardware},
    }
    where = Point(backbone=backbone, sampler=sampler, length=length, **fields)
    return Record(point=where, warmup=3, repeats=5, **(defaults | more))


def demo(lengths=(512, 1024, 2048, 4096, 8192), steps=(8,), **more):
    """The records of the demo: 3 backbones x 3 samplers for each p, and 2 AR baselines."""
    for length in lengths:
        for p in steps:
            for backbone in LAWS:
                yield from (record(backbone, name, length, p=p, **more) for name in SAMPLERS)
        yield from (record(name, "ar", length, **more) for name in ("ar-transformer", "ar-mamba"))


@pytest.fixture
def frame(tmp_path):
    """A function that stores records and loads them again, as the command line does."""

    def load(*records):
        path = tmp_path / "results.jsonl"
        path.unlink(missing_ok=True)
        path.touch()
        for each in records:
            append_record(path, each)
        return load_results(path)

    return load


def measured(axes):
    """The measured lines of a panel by their labels."""
    return {each.get_label(): each.lines[0] for each in axes.containers}


def caption_of(figure):
    return figure.get_suptitle().replace("\n", " ")


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def renderer(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def test_throughput_has_one_labelled_line_per_backbone_and_sampler(frame):
    (axes,) = draw_throughput(frame(*demo())).axes
    names = ["DiffuTran", "DiffuMamba", "DiffuMamba-H"]
    variants = ["full sequence", "Fast-dLLM", "block cache, commit=separate"]
    expected = [f"{name}, {variant}" for name in names for variant in variants]
    expected += ["AR Transformer, autoregressive", "AR Mamba-2, autoregressive"]
    assert list(measured(axes)) == expected
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_throughput_draws_the_mean_and_the_spread_of_the_repeats(frame):
    lengths = [512, 2048, 8192]
    records = [record("diffutran", "full", n, point={"batch": 2}) for n in lengths]
    (axes,) = draw_throughput(frame(*reversed(records))).axes
    (container,) = axes.containers
    line, _, (bars,) = container.lines
    assert line.get_xdata().tolist() == lengths
    assert line.get_ydata().tolist() == [each.tokens_per_second for each in records]
    for segment, each in zip(bars.get_segments(), records, strict=True):
        low, high = (2 * each.point.length / f(each.seconds) for f in (max, min))
        # 1e-12: the bar's ends are sums of the mean and its distance to them, in float64.
        assert segment[:, 1].tolist() == pytest.approx([low, high], rel=1e-12)


def test_the_last_measurement_of_a_point_counts_and_failures_are_told_not_drawn(frame):
    old = record("diffutran", "full", 512, seconds=[9.0])
    new = record("diffutran", "full", 512, seconds=[1.0, 1.0])
    again = record("diffutran", "full", 512, status="error", seconds=[])
    lost = record("diffutran", "full", 8192, status="timeout", seconds=[7.0])
    figure = draw_throughput(frame(old, new, again, lost, record("diffutran", "full", 1024)))
    (line,) = measured(figure.axes[0]).values()
    assert line.get_xdata().tolist() == [512, 1024]
    assert line.get_ydata()[0] == 512
    assert "Not drawn: 1 timeout." in caption_of(figure)


def test_sampled_points_are_hollow_and_the_legend_says_so(frame):
    records = [record("diffutran", "full", 512)]
    records += [record("diffutran", "full", n, mode="sampled") for n in (4096, 8192)]
    figure = draw_throughput(frame(*records))
    hollow = [x for x in figure.axes[0].lines if x.get_markerfacecolor() == "white"]
    assert [x.get_xdata().tolist() for x in hollow] == [[4096, 8192]]
    assert "sampled timing" in legend_of(figure)
    exact = draw_throughput(frame(records[0]))
    assert "exact timing" in caption_of(exact)
    assert "sampled timing" not in legend_of(exact)


def test_each_p_has_a_panel_and_the_autoregressive_lines_are_in_all(frame):
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


def test_machines_never_share_a_panel(frame):
    gpu = [record("diffutran", "full", n, hardware=H100) for n in (512, 1024)]
    figure = draw_throughput(frame(*gpu, record("diffutran", "full", 512)))
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert titles == [f"{H100}, cuda", f"{CPU}, cpu"]
    assert [len(axes.containers) for axes in figure.axes] == [1, 1]


def test_the_caption_says_what_the_numbers_were_measured_on(frame):
    text = caption_of(draw_throughput(frame(*demo([512, 1024]))))
    assert text.startswith(f"{CPU}, cpu, float32, tiny, p=8, B=32, batch=1.")
    assert "Mean of 5 decodes" in text


def test_a_label_carries_what_tells_its_line_apart_and_commit_always(frame):
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


def test_no_two_lines_of_a_panel_look_the_same_not_even_a_users_own(frame):
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


def test_backbones_with_the_same_sampler_differ_in_greyscale():
    def lightness(colour):  # CIE L*, 0 black to 100 white
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16

    for group in (LAWS, ("ar-transformer", "ar-mamba")):
        greys = sorted(lightness(style.BACKBONE_COLOURS[name]) for name in group)
        # 20 of 100: a thin line's grey needs far more than the 1 that is just noticeable.
        assert np.diff(greys).min() > 20


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    ("lengths", "steps"),
    [([2**n for n in range(9, 14)], [8]), ([2**n for n in range(4, 18)], [8, 16])],
)
def test_nothing_is_cropped_and_caption_and_legend_cover_no_panel(frame, name, lengths, steps):
    figure = FIGURES[name](frame(*demo(lengths, steps)))
    draw = renderer(figure)
    panels = [axes.get_tightbbox(draw) for axes in figure.axes]
    legend = figure.legends[0].get_window_extent(draw)
    caption = figure._suptitle.get_window_extent(draw)
    for box in (*panels, legend, caption):
        # Half a pixel of 100 an inch: text extents are rounded to pixels.
        assert min(box.x0, box.y0) >= -0.5
        assert box.x1 <= figure.bbox.x1 + 0.5
        assert box.y1 <= figure.bbox.y1 + 0.5
    assert all(legend.y1 <= box.y0 and box.y1 <= caption.y0 for box in panels)
    # One column of a two-column paper, or the page where there are several panels.
    assert figure.get_figwidth() == (3.3 if len(panels) == 1 else 6.9)


def test_a_single_length_still_has_a_tick(frame):
    (axes,) = draw_throughput(frame(record("diffutran", "full", 3000))).axes
    renderer(axes.figure)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3k"]


def test_ticks_are_short_numbers():
    numbers = (0.1, 16, 512, 1024, 1536, 4096, 16384, 131072, 2e6)
    texts = ["0.1", "16", "512", "1k", "1.5k", "4k", "16k", "131k", "2M"]
    assert [style.short_number(number) for number in numbers] == texts


def test_latency_takes_each_full_line_apart(frame):
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


@pytest.mark.parametrize("draw", FIGURES.values())
def test_nothing_to_draw_is_said_in_one_line(frame, draw):
    with pytest.raises(ResultsError, match=r"no record with status ok \(no records\)"):
        draw(frame())
    failed = [record("diffutran", "full", n, status="oom", seconds=[]) for n in (1024, 2048)]
    with pytest.raises(ResultsError, match=r"no record with status ok \(2 oom\)"):
        draw(frame(*failed))


def test_latency_says_how_many_lengths_there_are_if_too_few(frame):
    two = frame(*(record("diffutran", "full", n) for n in (512, 1024)))
    with pytest.raises(ResultsError, match=r"no 3 ok lengths for any line; .* full \(2\)"):
        draw_latency(two)
    with pytest.raises(ResultsError, match=r"for sampler 'ar'; .* full \(2\)"):
        draw_latency(two, sampler="ar")


def test_drawing_leaves_matplotlib_as_it_was_and_ignores_the_users_settings(frame, tmp_path):
    data = frame(*demo([512, 1024, 2048]))
    plain = save(draw_throughput(data), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight"}):
        # Reading the backend would choose one.
        before = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
        styled = save(draw_throughput(data), tmp_path / "styled")
        assert before == {key: matplotlib.rcParams[key] for key in before}
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in styled]


def test_files_are_byte_identical_from_process_to_process_with_truetype_fonts(frame, tmp_path):
    frame(*demo([512, 1024, 2048]))
    code = (
        "import sys; from dlm_bench.figures import FIGURES, save;"
        "from dlm_bench.results.store import load_results;"
        "[save(FIGURES[n](load_results(sys.argv[1])), f'{sys.argv[2]}/{n}') for n in FIGURES]"
    )
    for run in ("1", "2"):  # another hash seed and another date in each
        environment = os.environ | {"PYTHONHASHSEED": run, "SOURCE_DATE_EPOCH": f"{run}000000000"}
        command = [sys.executable, "-c", code, str(tmp_path / "results.jsonl"), str(tmp_path / run)]
        subprocess.run(command, check=True, env=environment)
    for name in FIGURES:
        for suffix in ("pdf", "png"):
            first, second = ((tmp_path / r / f"{name}.{suffix}").read_bytes() for r in "12")
            assert first == second
        pdf = (tmp_path / "1" / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in pdf  # an embedded TrueType font
        assert b"/Type3" not in pdf


def test_save_makes_folders_keeps_dots_in_the_name_and_says_what_it_wrote(frame, tmp_path):
    figure = draw_throughput(frame(record("diffutran", "full", 512)))
    paths = save(figure, tmp_path / "new" / "fig.p8")
    assert [path.name for path in paths] == ["fig.p8.pdf", "fig.p8.png"]
    assert all(path.stat().st_size > 1000 for path in paths)
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"figure .*file"):
        save(figure, tmp_path / "file" / "fig")
