"""A model of the field is compared with the autoregressive model of the same shape."""

import pytest
from support.records import make_record

from dlm_bench.analysis.crossover import overtakings
from dlm_bench.analysis.speedup import TWIN, speedups, usual_reference
from dlm_bench.errors import ResultsError
from dlm_bench.models.own import own_config, own_sizes
from dlm_bench.models.presets import PRESETS, is_preset_denoiser, twin_of
from dlm_bench.results.series import series_of
from dlm_bench.results.store import frame_of

BLOCKS = {"tokens_per_step": 8, "block_size": 32, "commit": "separate"}


def record(backbone, size, seconds, batch=1):
    sampler = "block-cache" if is_preset_denoiser(backbone) else "ar"
    options = BLOCKS if sampler == "block-cache" else {}
    point = {"size": size, "options": options, "batch": batch}
    return make_record(backbone, sampler, 1024, point=point, nfe=160, seconds=[seconds] * 3)


@pytest.mark.parametrize("backbone", [name for name in PRESETS if is_preset_denoiser(name)])
def test_a_twin_has_the_shape_of_its_denoiser(backbone):
    for size in own_sizes(backbone)[1:]:
        config, twin = own_config(backbone, size), own_config(*twin_of(backbone, size))
        assert not twin.denoiser
        for name in ("layers", "d_model", "heads", "kv_heads", "head_dim", "ffn", "vocab_size"):
            assert getattr(twin, name) == getattr(config, name), (size, name)
        assert (twin.yarn, twin.tied) == (config.yarn, config.tied)


def test_a_twin_is_the_reference_whatever_the_sampler():
    frame = frame_of(
        [
            record("nemotron-ld", "8b", 2.0),
            record("llama", "8b", 3.0),  # of LLaDA's shape
            record("llama", "nemotron-8b", 8.0),
            record("dream", "7b", 1.0),
        ]
    )
    assert usual_reference(frame) == TWIN
    found = speedups(frame, TWIN).set_index("backbone").speedup
    assert found["nemotron-ld"] == pytest.approx(4.0)  # a quotient of two floats
    assert found.isna()["dream"]


def test_without_a_twin_the_message_says_which_to_measure():
    frame = frame_of([record("dream", "7b", 1.0), record("qwen2", "1.5b", 1.0)])
    with pytest.raises(ResultsError, match="measure qwen2 7b with sampler ar"):
        speedups(frame, TWIN)


def test_only_a_twin_overtakes():
    names = [("nemotron-ld", "8b"), ("llama", "8b"), ("llama", "nemotron-8b"), ("qwen2", "7b")]
    frame = frame_of([record(*name, 1.0, batch) for name in names for batch in (1, 8)])
    (found,) = overtakings(series_of(frame, along="batch"))
    assert (found.rival.backbone, found.rival.settings["size"]) == ("llama", "nemotron-8b")
