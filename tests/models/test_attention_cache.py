"""A cache of keys and values takes those of a window."""

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


def test_a_window_writes_to_its_positions_alone():
    made = cache()
    before = made.k.clone()
    new = torch.ones(2, made.k.shape[1], 4, made.k.shape[3])
    made.write(Window(torch.tensor([8]), (4,)), new, 2 * new)
    assert torch.equal(made.k[:, :, 8:12], new)
    assert torch.equal(made.v[:, :, 8:12], 2 * new)
    assert torch.equal(made.k[:, :, :8], before[:, :, :8])
    assert torch.equal(made.k[:, :, 12:], before[:, :, 12:])
