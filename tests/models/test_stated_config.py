"""The configuration that a record or a file states is taken as it is, or refused in a line."""

import json
from dataclasses import asdict

import pytest

from dlm_bench.errors import ConfigError
from dlm_bench.models.own import OWN, own_config, own_sizes, stated_config


@pytest.mark.parametrize("backbone", OWN)
def test_every_configuration_survives_json(backbone):
    for size in own_sizes(backbone):
        config = own_config(backbone, size)
        assert stated_config(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": "x"}, "layers"),
        ({"layers": -3}, "layers"),
        ({"layers": True}, "layers"),
        ({"kv_heads": 3}, "kv_heads"),
        ({"yarn": 5}, "yarn"),
        ({"yarn": {"factor": 16.0, "length": 64, "truncate": False}}, "truncate"),
        ({"mask_id": 10**6}, "mask_id"),
        ({"bos_id": -1}, "bos_id"),
        ({"rotary_dim": 7}, "rotary_dim"),
        ({"rotary_dim": 1024}, "rotary_dim"),
        ({"norm_eps": 0.0}, "norm_eps"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"newer": 1}, "must be a JSON object"),
        ({"backbone": "somebody's"}, "must be a JSON object|backbone"),
    ],
)
def test_a_value_that_no_model_has_is_refused_by_its_name(change, says):
    stated = asdict(own_config("nemotron-ld", "tiny")) | change
    if "backbone" in change:
        del stated["kv_heads"]
    with pytest.raises(ConfigError, match=says):
        stated_config(stated)
