"""The paper's Figure 2 shows the paper's series at p = 8 and 16, and names missing ones."""

import warnings

import pytest
from support.figure_records import SHEET, caption_of, demo, legend_of, measured, record

from dlm_bench.errors import ResultsError
from dlm_bench.figures import NotDrawnWarning, draw_paper_block, draw_paper_full

FULL = [
    "DiffuTran, full sequence",
    "DiffuTran, Fast-dLLM",
    "DiffuMamba, full sequence",
    "DiffuMamba-H, full sequence",
    "DiffuMamba-H, Fast-dLLM",
    "AR Transformer, autoregressive",
]
BLOCK = [
    *(f"{name}, block cache, commit=separate" for name in ("DiffuTran", "DiffuMamba")),
    "DiffuMamba-H, block cache, commit=separate",
    "AR Transformer, autoregressive",
]
LENGTHS = [512, 1024, 2048]


@pytest.mark.parametrize(("draw", "lines"), [(draw_paper_full, FULL), (draw_paper_block, BLOCK)])
def test_both_panels_have_the_papers_series_and_no_others(frame, draw, lines):
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotDrawnWarning)
        figure = draw(frame(*demo(LENGTHS, steps=(4, 8, 16))))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["p = 8 tokens per step", "p = 16 tokens per step"]
    assert [list(measured(axes)) for axes in figure.axes] == [lines, lines]


def test_records_of_one_p_give_one_panel_and_the_other_p_is_named(frame):
    with pytest.warns(NotDrawnWarning, match=r"'paper-full': not drawn: p = 16 \(no record\)$"):
        (axes,) = draw_paper_full(frame(*demo(LENGTHS))).axes
    assert list(measured(axes)) == FULL


def test_what_no_record_is_of_is_named(frame):
    records = [record("diffumamba", "full", n) for n in LENGTHS]
    with pytest.warns(NotDrawnWarning) as caught:
        draw_paper_full(frame(*records))
    assert str(caught[0].message) == (
        "figure 'paper-full': not drawn: AR Transformer; at p = 8 DiffuTran full sequence, "
        "DiffuTran Fast-dLLM, DiffuMamba-H full sequence, DiffuMamba-H Fast-dLLM; "
        "p = 16 (no record)"
    )


@pytest.mark.parametrize(
    "records",
    [
        [record("ar-transformer", "ar", 512)],
        [record("diffumamba", "block-cache", 512, p=4), record("mine", "full", 512)],
    ],
)
def test_a_figure_without_a_series_of_diffusion_is_an_error_that_names_them(frame, records):
    with pytest.raises(ResultsError, match="no ok record at p = 8 or 16 of DiffuTran block cache"):
        draw_paper_block(frame(*records))


def test_failures_are_those_of_its_own_series(frame):
    lost = [record("diffutran", "block-cache", 4096, status="oom", seconds=[])]
    lost += [record("diffutran", "full", 4096, status="timeout", seconds=[])]
    data = frame(*demo(LENGTHS, steps=(8, 16)), *lost)
    assert caption_of(draw_paper_full(data)).endswith("Not drawn: 1 timeout.")
    assert caption_of(draw_paper_block(data)).endswith("Not drawn: 1 oom.")


def test_every_commit_that_was_measured_is_a_series(frame):
    options = {"tokens_per_step": 8, "block_size": 32, "commit": "none"}
    other = [record("diffumamba", "block-cache", n, point={"options": options}) for n in LENGTHS]
    with pytest.warns(NotDrawnWarning):
        figure = draw_paper_block(frame(*demo(LENGTHS), *other))
    assert len(measured(figure.axes[0])) == len(BLOCK) + 1
    assert "block cache, commit=none" in legend_of(figure)


def test_the_bounds_of_series_without_a_record_are_drawn_at_both_p(frame):
    records = [record("diffumamba", "full", n) for n in LENGTHS]
    with pytest.warns(NotDrawnWarning):
        figure = draw_paper_full(frame(*records), predict=SHEET)
    assert [len(measured(axes)) for axes in figure.axes] == [1, 0]
    for axes in figure.axes:
        bounds = [line for line in axes.lines if line.get_label().startswith("_bound of")]
        assert len(bounds) == len(FULL)
    assert "roofline bound (made-up)" in legend_of(figure)
