"""The tokens of bfloat16 against those of float32, pass by pass, where the margin is clear."""

import pytest
import torch
from support.agreement import clear_places, passes_side_by_side
from support.cases import DENOISERS, samplers

from dlm_bench import build_model

LENGTH = 80  # whole blocks of 32, and a last one of 16
SAMPLERS = samplers()


def compare(model, exact, name):
    """Places that were compared, and that differ."""
    compared = wrong = 0
    for place, before, got, expected in passes_side_by_side(SAMPLERS[name], model, exact, LENGTH):
        places = clear_places(exact, place, before, expected)
        assert (expected.tokens[places] != exact.config.mask_id).all()
        compared += int(places.sum())
        wrong += int((got.tokens[places] != expected.tokens[places]).sum())
    return compared, wrong


def models(backbone, dtype="bfloat16"):
    half = build_model(backbone, "tiny", "cpu", dtype)
    exact = build_model(backbone, "tiny", "cpu", "float32")
    exact.load_state_dict({name: weight.float() for name, weight in half.state_dict().items()})
    return half, exact


@pytest.mark.parametrize("name", ["full", "separate", "fused", "dual"])
@pytest.mark.parametrize("backbone", DENOISERS)
def test_a_decode_in_bfloat16_unmasks_the_tokens_of_float32_where_the_margin_is_clear(
    backbone, name
):
    compared, wrong = compare(*models(backbone), name)
    assert compared >= LENGTH // 10
    assert wrong == 0


@pytest.mark.parametrize("name", ["full", "fused"])
def test_a_head_whose_rows_are_mixed_up_is_seen(name):
    half, exact = models("diffumamba")
    with torch.inference_mode():
        half.head.weight.copy_(half.head.weight.roll(1, dims=0))
    compared, wrong = compare(half, exact, name)
    assert wrong > compared // 2
