"""The presets have the sizes of the models that they are named after."""

import pytest

from dlm_bench import build_model
from dlm_bench.cost.work import work_of
from dlm_bench.figures.palette import BACKBONE_COLOURS
from dlm_bench.models.factory import count_parameters
from dlm_bench.models.own import OWN, own_config, own_sizes
from dlm_bench.models.presets import PRESETS
from dlm_bench.results.series import BACKBONE_NAMES

# Billions of parameters as published or counted in the checkpoints, and KiB of keys and values of a
# token in bfloat16 where they are published.
PUBLISHED = {
    ("llada", "8b"): (8.02, 512),
    ("dream", "7b"): (7.62, 56),
    ("fast-dllm-v2", "7b"): (7.62, 56),
    ("fast-dllm-v2", "1.5b"): (1.54, 28),
    ("sdar", "1.7b"): (1.72, None),
    ("sdar", "4b"): (4.41, None),
    ("sdar", "8b"): (8.19, 144),
    ("nemotron-ld", "3b"): (3.83, None),
    ("nemotron-ld", "8b"): (8.49, 136),
    ("nemotron-ld", "14b"): (13.5, None),
    ("open-dcoder", "0.5b"): (0.494, None),
}


@pytest.mark.parametrize(("backbone", "size"), PUBLISHED)
def test_parameters_and_caches_are_those_published(backbone, size):
    billions, kib = PUBLISHED[backbone, size]
    model = build_model(backbone, size, device="meta", dtype="bfloat16")
    assert count_parameters(model) == pytest.approx(billions * 1e9, rel=5e-3)
    if kib is not None:
        assert work_of(model.config).token_cache_bytes("bfloat16") == kib * 1024


@pytest.mark.parametrize("backbone", PRESETS)
def test_every_preset_has_a_tiny_size_of_its_own_traits(backbone):
    sizes = own_sizes(backbone)
    assert sizes[0] == "tiny"
    tiny, large = (own_config(backbone, size) for size in sizes[:2])
    traits = ("denoiser", "norm_eps", "rope_theta", "qk_norm", "qkv_bias", "token_shift")
    for trait in (*traits, "block_size"):
        assert getattr(tiny, trait) == getattr(large, trait), trait
    assert (tiny.yarn is None) == (large.yarn is None)
    assert (tiny.kv_heads == tiny.heads) == (large.kv_heads == large.heads)


def test_every_preset_has_a_name_and_a_colour_in_figures():
    assert {*OWN} == {*BACKBONE_NAMES} == {*BACKBONE_COLOURS}
    assert len({*BACKBONE_COLOURS.values()}) == len(OWN)


@pytest.mark.parametrize("backbone", PRESETS)
def test_mask_is_an_id_of_a_denoiser_alone(backbone):
    for size in own_sizes(backbone):
        config = own_config(backbone, size)
        assert (0 < config.mask_id < config.vocab_size) == config.denoiser
        assert config.bos_id < config.vocab_size
