"""The embedding of timesteps by Triton against the plain one."""

import torch
import torch.nn.functional as F
from support.close import assert_close

from dlm_bench.kernels.cuda.timestep import embed_timestep
from dlm_bench.models.config import model_config
from dlm_bench.models.language_model import TimestepEmbedding


def test_the_embedding_and_its_silu():
    plain = TimestepEmbedding(model_config("diffumamba", "tiny"))
    t = torch.rand(2, 3)
    weights = plain.up.weight, plain.up.bias, plain.down.weight, plain.down.bias
    # Angles of up to 1000 are rounded at 2^-14, and so are their sines.
    assert_close(embed_timestep(t, *weights), F.silu(plain(t)), 1e-4, "l2")
