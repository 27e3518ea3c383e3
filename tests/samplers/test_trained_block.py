"""A model's own block is the default of the samplers that have blocks."""

import pytest

from dlm_bench import ConfigError
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.presets import SHIPPED
from dlm_bench.samplers import build_sampler, with_models_defaults
from dlm_bench.samplers.acceptance.trace import Trace, save_trace

PARTS = {"block_size": 32, "sub_block_size": 8}


def options(backbone, sampler="block-cache", **asked):
    found = with_models_defaults(sampler, asked, backbone_info(backbone))
    return build_sampler(sampler, **found).options()


@pytest.mark.parametrize(
    ("backbone", "block_size", "per_pass"),
    [("sdar", 4, 1), ("fast-dllm-v2", 32, 8), ("nemotron-ld", 32, 8), ("dream", 32, 8)],
)
def test_block_and_tokens_of_a_pass_are_those_of_the_model(backbone, block_size, per_pass):
    for sampler in ("block-cache", "fast-dllm"):
        found = options(backbone, sampler)
        assert (found["block_size"], found["tokens_per_step"]) == (block_size, per_pass)


def test_what_is_asked_for_stays():
    found = options("sdar", block_size=16, tokens_per_step=2)
    assert (found["block_size"], found["tokens_per_step"]) == (16, 2)
    found = options("sdar", block_size=16)
    assert (found["block_size"], found["tokens_per_step"]) == (16, 4)
    assert options("sdar", block_size=4)["tokens_per_step"] == 1
    assert options("diffutran", block_size=16)["tokens_per_step"] == 8  # has no block of its own
    assert options("sdar", tokens_per_step=4)["tokens_per_step"] == 4
    assert "block_size" not in options("sdar", "full")
    assert "tokens_per_step" not in options("sdar", accept="threshold")


@pytest.mark.parametrize(
    ("of_trace", "block_size", "sampler", "wanted"),
    [
        ({}, 8, "block-cache", {"block_size": 8}),
        ({}, 8, "full", {"block_size": 8}),
        ({}, None, "full", {}),
        (PARTS, 8, "block-cache", PARTS),
        (PARTS, 8, "fast-dllm", {"block_size": 8}),
        (PARTS, 16, "block-cache", {"block_size": 16}),  # a replay without sub-blocks of its own
    ],
)
def test_a_replay_has_the_blocks_of_its_trace(tmp_path, of_trace, block_size, sampler, wanted):
    blocks = [[16]] if block_size in (None, 16) else [[8], [8]]
    trace = Trace.by_hand([blocks], block_size, options=of_trace)
    save_trace(trace, tmp_path / "t.json")
    asked = {"trace": str(tmp_path / "t.json")}
    found = with_models_defaults(sampler, asked, backbone_info("sdar"))
    assert found == asked | wanted
    assert build_sampler(sampler, **found).acceptance.trace == trace


def test_a_block_that_is_asked_for_stays_with_a_trace():
    asked = {"trace": Trace.by_hand([[[8]]], 8), "block_size": 4}
    assert with_models_defaults("block-cache", asked, backbone_info("sdar")) == asked


def test_a_replay_of_pairs_has_the_verify_pass_of_its_trace():
    pairs = {"sampler": "self-speculation", "options": {"block_size": 16}}
    asked = {"trace": Trace.by_hand([[[8, 8]]], None, **pairs)}
    found = with_models_defaults("self-speculation", asked, backbone_info("nemotron-ld"))
    assert found == asked | {"block_size": 16}


def test_a_trace_is_not_replayed_by_the_rule_of_a_model():
    asked = {"trace": Trace.by_hand([[[8]]], 8), "accept": "shipped"}
    with pytest.raises(ConfigError, match=r"^accept: 'shipped' is not allowed with trace, .*leave"):
        with_models_defaults("full", asked, backbone_info("dream"))


def test_every_shipped_rule_builds_and_what_is_asked_for_comes_first():
    for backbone, samplers in SHIPPED.items():
        for sampler, rule in samplers.items():
            found = options(backbone, sampler, accept="shipped")
            assert rule.items() <= found.items()
            build_sampler(sampler, **found).check_backbone(backbone)
    found = options("sdar", accept="shipped", threshold=0.7)
    assert (found["accept"], found["threshold"], found["block_size"]) == ("strict", 0.7, 4)


@pytest.mark.parametrize(
    ("backbone", "sampler", "said"),
    [
        ("sdar", "full", "it is with sampler block-cache"),
        ("diffutran", "block-cache", "of this backbone nothing is"),
    ],
)
def test_a_rule_that_no_model_ships_with_is_refused_in_one_line(backbone, sampler, said):
    with pytest.raises(ConfigError, match=f"accept: 'shipped' is not known .*; {said}"):
        options(backbone, sampler, accept="shipped")
