"""A caption is a text beside the picture, as plain text and as LaTeX."""

import pytest
from matplotlib.figure import Figure
from support.figure_records import DRAWN, demo, record

from dlm_bench.figures import draw_throughput, save
from dlm_bench.figures.caption import as_latex, as_text
from dlm_bench.results.store import frame_of

pytestmark = pytest.mark.filterwarnings("ignore::dlm_bench.figures.NotDrawnWarning")


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_has_a_caption_that_is_not_in_the_picture(name):
    figure = DRAWN[name](frame_of(demo([512, 1024, 2048])))
    assert figure.caption.endswith(".")
    assert figure.texts == []
    figure.draw_caption()
    assert [text.get_text().replace("\n", " ") for text in figure.texts] == [figure.caption]


def test_a_drawn_caption_leaves_the_panels_their_size():
    figure = draw_throughput(frame_of(demo([512, 1024, 2048])))
    figure.draw_without_rendering()
    before = figure.axes[0].get_position().height * figure.get_figheight()
    figure.draw_caption()
    figure.draw_without_rendering()
    after = figure.axes[0].get_position().height * figure.get_figheight()
    # 0.1 inch is the padding around the caption: five per cent of a panel.
    assert after == pytest.approx(before, abs=0.1)


def test_files_hold_the_caption(tmp_path):
    hardware = "a_b 50% & co"
    records = [record("diffutran", "full", n, hardware=hardware) for n in (512, 1024)]
    figure = draw_throughput(frame_of(records))
    *_, text, latex = save(figure, tmp_path / "fig")
    assert " ".join(text.read_text().split()) == figure.caption
    assert latex.read_text().startswith(r"\caption{a\_b 50\% \& co, cuda, float32")


def test_special_characters_are_escaped_in_latex_and_lines_are_short_in_text():
    caption = "1 % of $x_1 & {a} #2 ~ ^ \\ L² \N{MULTIPLICATION SIGN}"
    assert as_latex(caption) == (
        r"\caption{1 \% of \$x\_1 \& \{a\} \#2 \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{} L$^2$ $\times$}"
        "\n"
    )
    assert max(map(len, as_text("a word " * 99).splitlines())) <= 100


def test_a_figure_of_someone_else_has_no_caption_files(tmp_path):
    assert [path.suffix for path in save(Figure(), tmp_path / "own")] == [".pdf", ".png"]
