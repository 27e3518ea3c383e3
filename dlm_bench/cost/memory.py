"""The most memory that a decode needs: weights, caches, and the activations of its largest pass.

Activations are the tensors alive at the widest place of a layer on the fused path: the residual
stream in float32, and a branch with its input. The plain path keeps more, as do the workspaces of
libraries; so the sum is a floor, and a decode whose floor exceeds a device's memory cannot run.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from dlm_bench.cost.flops import cache_bytes, deciding
from dlm_bench.cost.work import FLOAT32_BYTES, layer_counts, work_of
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.device import item_bytes
from dlm_bench.models.own import Config
from dlm_bench.models.transformer_config import TransformerConfig
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape

SCAN_CHUNK = 256  # tokens between two states of mamba-ssm's scan


@dataclass(frozen=True)
class DecodeMemory:
    """Bytes of a decode by what they hold; activations at the peak."""

    weights: int
    caches: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.weights + self.caches + self.activations


def decode_memory(
    config: Config, sampler: Sampler, shape: DecodeShape, dtype: str, seed: int = 0
) -> DecodeMemory:
    """Return the least memory of a decode, of that with this seed where the seed decides the
    passes. Raises ConfigError for a dtype or a shape that is not allowed."""
    # The rows of a batch differ in the tokens that a pass unmasks, not in those that it takes.
    query = _longest_query(sampler, *deciding(sampler, replace(shape, batch=1), seed))
    return DecodeMemory(
        weights=work_of(config).parameter_bytes(dtype),
        caches=cache_bytes(config, sampler, shape.length, shape.batch, dtype, shape.prompt_len),
        activations=shape.batch * query * token_activations(config, dtype),
    )


@lru_cache(maxsize=256)  # the backbones of a study share their schedules
def _longest_query(sampler: Sampler, shape: DecodeShape, seed: int) -> int:
    return max(step.query_len for step in sampler.planned(shape, seed))


def token_activations(config: Config, dtype: str) -> int:
    """Return the bytes of a query token's activations at the widest place of a layer."""
    item = item_bytes(dtype)
    residual = FLOAT32_BYTES * config.d_model
    if isinstance(config, TransformerConfig):
        return residual + item * max(_attention(config), 3 * config.ffn)  # gate, up and product
    attention, mamba = layer_counts(config)
    # The norm's output, the hidden layer, the branch, and the branch before it.
    places = [item * (3 + config.mlp_ratio) * config.d_model]
    if attention:
        places.append(item * _attention(config))
    if mamba:
        places.append(_mamba(config, item))
    return residual + max(places)


def _attention(config: Config) -> int:
    """Return the numbers of q, k and v, of the heads' output, and of the projection after it."""
    queries = config.heads * config.head_dim
    return 2 * queries + 2 * config.kv_heads * config.head_dim + config.d_model


def _mamba(config: ModelConfig, item: int) -> int:
    """Return the bytes of both directions' projections, of the outputs of convolution and scan, and
    of the states between chunks."""
    channels = config.d_inner + 2 * config.d_state
    projected = 2 * config.d_inner + 2 * config.d_state + config.ssm_heads
    states = FLOAT32_BYTES * config.d_inner * config.d_state // SCAN_CHUNK
    return config.directions * (item * (projected + channels + config.d_inner) + states)
