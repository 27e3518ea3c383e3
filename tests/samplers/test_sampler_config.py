"""A sampler that cannot be is refused where that is known, in one line."""

import pytest

from dlm_bench import ConfigError, build_model, build_sampler
from dlm_bench.models.config import BACKBONES
from dlm_bench.samplers import SAMPLERS


def refused(call, *said):
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for words in said:
        assert words in message


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("block_cache", {}, ["sampler", "'block_cache'", "did you mean 'block-cache'", "full"]),
        ("beam", {}, ["sampler", "'beam'", "fast-dllm", "ar"]),
        ("block-cache", {"cache": "dual"}, ["cache", "'block-cache'", "commit", "block_size"]),
        ("full", {"commit": "fused"}, ["commit", "'full'", "tokens_per_step"]),
        ("ar", {"tokens_per_step": 8}, ["tokens_per_step", "'ar'", "temperature"]),
        ("ar", {"plan": 1}, ["plan", "no such option"]),
        ("block-cache", {"commit": "seperate"}, ["commit", "did you mean 'separate'", "fused"]),
        ("block-cache", {"commit": None}, ["commit", "None", "separate"]),
        ("fast-dllm", {"cache": "triple"}, ["cache", "'triple'", "dual", "prefix"]),
        ("full", {"order": "entrpy"}, ["order", "'entrpy'", "confidence", "random"]),
        (
            "block-cache",
            {"tokens_per_step": 33, "block_size": 32},
            ["tokens_per_step", "33", "at most block_size (32)"],
        ),
        (
            "fast-dllm",
            {"tokens_per_step": 8, "block_size": 4},
            ["tokens_per_step", "8", "at most block_size (4)"],
        ),
        ("full", {"tokens_per_step": 0}, ["tokens_per_step", "0", "integer >= 1"]),
        ("full", {"tokens_per_step": -8}, ["tokens_per_step", "-8", "integer >= 1"]),
        ("full", {"tokens_per_step": True}, ["tokens_per_step", "True", "integer"]),
        ("full", {"tokens_per_step": 8.0}, ["tokens_per_step", "8.0", "integer"]),
        ("full", {"tokens_per_step": "8"}, ["tokens_per_step", "'8'", "integer"]),
        ("block-cache", {"block_size": 0}, ["block_size", "0", "integer >= 1"]),
        ("block-cache", {"block_size": True}, ["block_size", "True", "integer"]),
        ("full", {"temperature": -0.1}, ["temperature", "-0.1", ">= 0"]),
        ("full", {"temperature": float("nan")}, ["temperature", "nan", "finite"]),
        ("ar", {"temperature": float("inf")}, ["temperature", "inf", "finite"]),
        ("ar", {"temperature": True}, ["temperature", "True", "number"]),
        ("ar", {"temperature": "hot"}, ["temperature", "'hot'", "number"]),
    ],
)
def test_a_wrong_sampler_or_option_names_field_value_and_what_is_allowed(name, options, said):
    refused(lambda: build_sampler(name, **options), *said)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_sampler_decodes_with_its_kind_of_backbone_only(name, backbone):
    sampler = build_sampler(name)
    model = build_model(backbone, "tiny", layers=1)
    only = {"ar": ("ar-mamba", "ar-transformer"), "self-speculation": ("diffutran",)}
    fits = only.get(name, [each for each in BACKBONES if not each.startswith("ar-")])
    if backbone in fits:
        sampler.check_backbone(backbone)
        assert sampler.decode(model, 3).shape == (1, 3)
    else:
        said = ("backbone", repr(backbone), repr(name), fits[-1])
        refused(lambda: sampler.check_backbone(backbone), *said)
        refused(lambda: sampler.decode(model, 3), *said)


def test_an_unknown_backbone_is_named():
    refused(
        lambda: build_sampler("full").check_backbone("diffumambah"),
        "'diffumambah'",
        "did you mean 'diffumamba",
    )


@pytest.mark.parametrize("length", [0, -1, True, 2.0, "16", None])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_length_below_one_or_not_an_integer_is_refused(name, length):
    sampler = build_sampler(name)
    model = build_model("ar-mamba" if name == "ar" else "diffutran", "tiny", layers=1)
    said = ("length", repr(length), "integer from 1 to 16777216")
    refused(lambda: sampler.schedule(length), *said)
    refused(lambda: sampler.decode(model, length), *said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch": 0}, ["batch", "0", "integer from 1 to 65536"]),
        ({"batch": -1}, ["batch", "-1", "integer from 1 to 65536"]),
        ({"batch": True}, ["batch", "True", "integer"]),
        ({"seed": -1}, ["seed", "-1", "integer from 0 to"]),
        ({"seed": True}, ["seed", "True", "integer"]),
        ({"seed": 1.5}, ["seed", "1.5", "integer"]),
    ],
)
def test_a_wrong_batch_or_seed_is_refused(arguments, said):
    model = build_model("diffutran", "tiny", layers=1)
    refused(lambda: build_sampler("full").decode(model, 8, **arguments), *said)


def test_a_model_without_weights_is_refused():
    model = build_model("diffutran", "tiny", device="meta")
    refused(lambda: build_sampler("full").decode(model, 8), "device", "'meta'")


def test_options_are_all_there_with_their_defaults():
    assert build_sampler("block-cache", tokens_per_step=16).options() == {
        "temperature": 0.0,
        "tokens_per_step": 16,
        "order": "confidence",
        "block_size": 32,
        "commit": "separate",
    }
    assert build_sampler("fast-dllm").options()["cache"] == "dual"
    assert build_sampler("ar").options() == {"temperature": 0.0}
