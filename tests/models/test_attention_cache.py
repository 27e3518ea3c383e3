"""Parts of a cache of keys and values are views, kept while passes over a block ask for them."""

import torch

from dlm_bench.models.cache import AttentionCache, Window, new_caches
from dlm_bench.models.config import model_config

LENGTH = 16


def cache():
    config = model_config("diffutran", "tiny")
    made = new_caches(config, 2, LENGTH, torch.device("cpu"), torch.float32)[0]
    assert isinstance(made, AttentionCache)
    made.fill(torch.Generator().manual_seed(0))
    return made


def test_a_part_is_a_view_of_its_positions():
    made = cache()
    for start, length in ((0, 4), (4, 4), (0, 8), (3, 1), (8, 8), (0, 4)):
        for _ in range(2):
            keys, values = made.part(start, length)
            assert torch.equal(keys, made.k[:, :, start : start + length])
            assert torch.equal(values, made.v[:, :, start : start + length])
    keys.zero_()
    assert not made.k[:, :, :4].any()


def test_a_part_is_made_once_until_others_are_asked_for():
    made = cache()
    first = made.part(0, 4)
    assert made.part(0, 4) is first
    for start in range(1, 1 + made.KEPT):
        made.part(start, 4)
    assert made.part(0, 4) is not first


def test_a_window_writes_to_its_positions_alone():
    made = cache()
    before = made.k.clone()
    new = torch.ones(2, made.k.shape[1], 4, made.k.shape[3])
    made.write(Window(torch.tensor([8]), (4,)), new, 2 * new)
    assert torch.equal(made.k[:, :, 8:12], new)
    assert torch.equal(made.v[:, :, 8:12], 2 * new)
    assert torch.equal(made.k[:, :, :8], before[:, :, :8])
    assert torch.equal(made.k[:, :, 12:], before[:, :, 12:])
