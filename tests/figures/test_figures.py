"""What all figures have in common: their looks, and files that are the same in every run."""

import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from support.figure_records import DRAWN, LAWS, demo, record, renderer

from dlm_bench.errors import ResultsError
from dlm_bench.figures import draw_throughput, save, theme
from dlm_bench.figures.palette import BACKBONE_COLOURS
from dlm_bench.results.series import short_number

pytestmark = pytest.mark.filterwarnings("ignore::dlm_bench.figures.NotDrawnWarning")


def test_backbones_with_the_same_sampler_differ_in_greyscale():
    def lightness(colour):  # CIE L*, 0 black to 100 white
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16

    for group in (LAWS, ("ar-transformer", "ar-mamba")):
        greys = sorted(lightness(BACKBONE_COLOURS[name]) for name in group)
        # 20 of 100: a thin line's grey needs far more than the 1 that is just noticeable.
        assert np.diff(greys).min() > 20


@pytest.mark.parametrize("with_caption", [False, True])
@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(
    ("lengths", "steps"),
    [([2**n for n in range(9, 14)], [8]), ([2**n for n in range(4, 18)], [8, 16])],
)
def test_nothing_is_cropped_and_caption_and_legend_cover_no_panel(
    frame, name, lengths, steps, with_caption
):
    figure = DRAWN[name](frame(*demo(lengths, steps, flags=["drifting"])))
    if with_caption:
        figure.draw_caption()
    draw = renderer(figure)
    panels = [axes.get_tightbbox(draw) for axes in figure.axes]
    legend = figure.legends[0].get_window_extent(draw)
    captions = [text.get_window_extent(draw) for text in figure.texts]
    assert len(captions) == with_caption
    for box in (*panels, legend, *captions):
        # Half a pixel of 100 an inch: text extents are rounded to pixels.
        assert min(box.x0, box.y0) >= -0.5
        assert box.x1 <= figure.bbox.x1 + 0.5
        assert box.y1 <= figure.bbox.y1 + 0.5
    assert all(legend.y1 <= box.y0 for box in panels)
    assert all(box.y1 <= caption.y0 for box in panels for caption in captions)
    # One column of a two-column paper, or the page where there are several panels.
    assert figure.get_figwidth() == (3.3 if len(panels) == 1 else 6.9)


def test_ticks_are_short_numbers():
    numbers = (0.1, 16, 512, 1024, 1536, 4096, 16384, 131072, 2e6)
    texts = ["0.1", "16", "512", "1k", "1.5k", "4k", "16k", "131k", "2M"]
    assert [short_number(number) for number in numbers] == texts


@pytest.mark.parametrize("draw", DRAWN.values())
def test_nothing_to_draw_is_said_in_one_line(frame, draw):
    with pytest.raises(ResultsError, match=r"no record with status ok \(no records\)"):
        draw(frame())
    failed = [record("diffutran", "full", n, status="oom", seconds=[]) for n in (1024, 2048)]
    with pytest.raises(ResultsError, match=r"no record with status ok \(2 oom\)"):
        draw(frame(*failed))


def test_drawing_leaves_matplotlib_as_it_was_and_ignores_the_users_settings(frame, tmp_path):
    data = frame(*demo([512, 1024, 2048]))
    plain = save(draw_throughput(data), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight"}):
        # Reading the backend would choose one.
        before = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
        styled = save(draw_throughput(data), tmp_path / "styled")
        assert before == {key: matplotlib.rcParams[key] for key in before}
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in styled]


def texts_of(figure):
    """All that is written on a figure and its legend, as it is drawn."""
    renderer(figure)
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_is_smaller_than_six_points_in_print(frame, name):
    sizes = {text.get_fontsize() for text in texts_of(DRAWN[name](frame(*demo())))}
    assert min(sizes) >= 6


SAVE_ALL = """
import sys, warnings
from support.figure_records import DRAWN, SHEET
from dlm_bench.figures import save
from dlm_bench.results.store import load_results
warnings.simplefilter("ignore")
frame = load_results(sys.argv[1])
for name, draw in DRAWN.items():
    options = {"predict": SHEET} if name.startswith(("throughput", "paper")) else {}
    save(draw(frame, **options), f"{sys.argv[2]}/{name}")
"""


@pytest.mark.slow
@pytest.mark.process
def test_files_are_byte_identical_from_process_to_process_with_truetype_fonts(frame, tmp_path):
    frame(*demo([512, 1024, 2048]))
    for run in ("1", "2"):  # another hash seed and another date in each
        environment = os.environ | {"PYTHONHASHSEED": run, "SOURCE_DATE_EPOCH": f"{run}000000000"}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        paths = [str(tmp_path / "results.jsonl"), str(tmp_path / run)]
        subprocess.run([sys.executable, "-c", SAVE_ALL, *paths], check=True, env=environment)
    for name in DRAWN:
        for suffix in ("pdf", "png"):
            first, second = ((tmp_path / r / f"{name}.{suffix}").read_bytes() for r in "12")
            assert first == second
        pdf = (tmp_path / "1" / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in pdf  # an embedded TrueType font
        assert b"/Type3" not in pdf
        assert b"/Subtype /Image" not in pdf  # curves are drawn as curves
        assert pdf.count(b"/FontFile2") == 1, "a ligature has a font of its own"


def test_save_makes_folders_keeps_dots_in_the_name_and_says_what_it_wrote(frame, tmp_path):
    figure = draw_throughput(frame(record("diffutran", "full", 512)))
    paths = save(figure, tmp_path / "new" / "fig.p8")
    assert [path.name for path in paths] == [
        f"fig.p8.{kind}" for kind in ("pdf", "png", "txt", "tex")
    ]
    assert all(path.stat().st_size > 1000 for path in paths[:2])
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"figure .*file"):
        save(figure, tmp_path / "file" / "fig")


def test_save_leaves_the_figure_and_its_layout_as_they_were(frame, tmp_path):
    figure = draw_throughput(frame(record("diffutran", "full", 512)))
    engine = figure.get_layout_engine()
    first = [path.read_bytes() for path in save(figure, tmp_path / "a")]
    assert figure.get_layout_engine() is engine
    assert [path.read_bytes() for path in save(figure, tmp_path / "b")] == first


def test_series_and_their_names_have_one_home():
    names = {
        "series_of",
        "grouped",
        "labelled",
        "shared_settings",
        "BACKBONE_NAMES",
        "SAMPLER_NAMES",
    }
    assert not names & {*vars(theme)}, "they are those of results.series"
