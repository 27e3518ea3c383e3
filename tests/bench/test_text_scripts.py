"""The scripts about text: passes after prompts, and accuracy against tokens per forward."""

import pytest
import torch
from accuracy_under_parallelism import Curve, Point, by_task, draw, point_of, table
from support.reference import lively_model
from text_passes import Row, counts_after_random, counts_after_text, difference, percentiles
from text_passes import draw as draw_passes

from dlm_bench import build_sampler, record_trace
from dlm_bench.samplers.prompt import Prompts

PROMPTS = Prompts("two@0", ((1, 2, 3), (4, 5)), ("a", "b"))
SAMPLER = build_sampler("block-cache", block_size=8, accept="threshold", threshold=0.05)


def test_passes_are_counted_for_each_prompt_and_for_draws_of_its_length():
    model = lively_model("diffutran", layers=1)
    text = counts_after_text(model, SAMPLER, 16, PROMPTS)
    assert [len(blocks) for blocks in text] == [2, 2]
    random = counts_after_random(model, SAMPLER, 16, PROMPTS, draws=2)
    assert [len(blocks) for blocks in random] == [4, 4]
    second = record_trace(model, SAMPLER, 16, seed=3, prompt_len=2)
    assert random[1][2:] == [len(block) for block in second.accepted]


def test_the_difference_is_that_of_the_prompts_means_with_students_interval():
    mean, half = difference([[4, 6], [8], [6]], [[6], [8, 10], [6]])
    # Differences -1, -1 and 0: mean -2/3, standard error 1/3, t(2) = 4.303.
    assert mean == pytest.approx(-2 / 3)
    assert half == pytest.approx(4.303 / 3, rel=1e-3)
    assert percentiles([[1, 2], [3, 4, 5, 6, 7, 8, 9, 10, 11]]) == "2 6 10"


def test_accuracy_is_the_share_of_bytes_in_their_places():
    model = lively_model("diffutran", layers=1)
    texts = torch.arange(24).view(2, 12)
    sampler = build_sampler("full", accept="threshold", threshold=0.05)
    decoded = sampler.decode(model, 4, batch=2, prompt=texts[:, :8])
    truth = decoded.clone()
    truth[0, :2] = 255 - truth[0, :2]
    found = point_of(model, sampler, torch.cat((texts[:, :8], truth), dim=1), 4, 0.05)
    mean, half = found.accuracy
    assert mean == pytest.approx(100 * 6 / 8)
    # Rows with 50 and 100 %: standard error 25, t(1) = 12.706.
    assert half == pytest.approx(12.706 * 25, rel=1e-3)
    assert found.exact == 50
    assert 1 <= found.tokens_per_forward <= 4


def test_tokens_per_forward_are_over_the_mean_passes_with_their_interval():
    point = Point(0.5, 12, torch.tensor([100.0, 100.0]), torch.tensor([2.0, 4.0]).double())
    assert point.tokens_per_forward == 12 / 3
    below, above = point.spread  # 3 passes, standard error 1, t(1) = 12.706
    assert below == pytest.approx(4 - 12 / 15.706, rel=1e-3)
    assert above == 12 - 4  # no fewer than a pass


def test_both_figures_name_what_they_draw():
    whole = torch.full((5,), 100.0).double()
    points = [Point(p, 16, whole - p, torch.full((5,), 16.0 / p).double()) for p in (1, 2, 4)]
    drawn = draw([Curve("diffutran", "full", "fixed", points)], 99.0)
    (axes,) = drawn.axes
    assert axes.get_title() == "DiffuTran, full sequence"
    (label,) = [text.get_text() for text in axes.get_legend().get_texts()]
    assert label.startswith("fixed p: AUP ")
    assert "fixed p 1, 2, 4, 8, 16" in drawn.caption
    rows = [Row("diffutran", "full", each, [[3], [4, 2]], [[9], [8]]) for each in (0.9, 0.5)]
    (axes,) = draw_passes(rows).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.9", "0.5"]
    (text, random) = (bars.lines[0].get_ydata() for bars in axes.containers)
    assert [*text] == [3, 3]
    assert [*random] == [8.5, 8.5]


def test_a_table_has_the_area_of_each_rule_and_the_right_bytes_of_each_task():
    exact = torch.tensor([100.0] * 5).double()
    half = torch.tensor([100.0, 0, 100, 0, 50]).double()
    points = [
        Point(1, 16, exact, torch.full((5,), 16.0).double()),
        Point(2, 16, half, torch.full((5,), 8.0).double()),
    ]
    curves = [Curve("diffutran", "full", "fixed", points)]
    rows = table(curves, 100.0).splitlines()
    # The second point is more than 5 below: rho_1 y_1 alone.
    assert rows[2] == "| diffutran | full | fixed p 1 | 1.00 | 100.0 ± 0.0 | 100 | 100 |"
    assert rows[3].startswith("| diffutran | full | fixed p 2 | 2.00 | 50.0 ±")
    assert rows[3].endswith(" | 40 |  |")
    assert (
        by_task(curves).splitlines()[2]
        == "| diffutran | full | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |"
    )
