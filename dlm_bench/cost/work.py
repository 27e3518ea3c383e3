"""The arithmetic and the memory of a backbone, by family: what its passes are made of.

FLOPs are those of matrix products, a multiply-add being 2. The costs of passes (`cost.flops`) and
the memory of a decode (`cost.memory`) are sums of these.
"""

from dataclasses import dataclass

from dlm_bench.models.config import FREQUENCIES, ModelConfig
from dlm_bench.models.device import item_bytes
from dlm_bench.models.own import Config
from dlm_bench.models.transformer_config import TransformerConfig

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Work:
    """A backbone's numbers.

    token_flops: of a query token in all layers, whatever the others are.
    pair_flops: of a (query, key) pair in all attention layers.
    timestep_flops: of a timestep's embedding and modulations.
    embedding: numbers of the embedding, and of the LM head unless they are tied.
    body: numbers of all other parameters in the model's dtype.
    body_float32: numbers of parameters in float32 whatever the dtype.
    token_cache: numbers of a token's keys and values in all layers.
    state: numbers of a Mamba direction's states in all layers, in float32.
    tail: numbers of a direction's convolution tails in all layers.
    """

    token_flops: int
    pair_flops: int
    timestep_flops: int
    embedding: int
    tied: bool
    body: int
    body_float32: int
    token_cache: int
    state: int = 0
    tail: int = 0

    def parameter_bytes(self, dtype: str) -> int:
        """Return the bytes of all parameters."""
        heads = self.embedding * (1 if self.tied else 2)
        return heads * item_bytes(dtype) + self.body_bytes(dtype)

    def body_bytes(self, dtype: str) -> int:
        """Return the bytes of all parameters but the embedding and the LM head."""
        return self.body * item_bytes(dtype) + self.body_float32 * FLOAT32_BYTES

    def token_cache_bytes(self, dtype: str) -> int:
        """Return the bytes of a token's keys and values."""
        return self.token_cache * item_bytes(dtype)

    def state_bytes(self, dtype: str) -> int:
        """Return the bytes of a direction's Mamba states and convolution tails, of a sequence."""
        return self.state * FLOAT32_BYTES + self.tail * item_bytes(dtype)


def work_of(config: Config) -> Work:
    """Return the numbers of a backbone."""
    return _paper(config) if isinstance(config, ModelConfig) else _transformer(config)


def layer_counts(config: Config) -> tuple[int, int]:
    """Return the numbers of attention layers and of Mamba layers."""
    if not isinstance(config, ModelConfig):
        return config.layers, 0
    attention = sum(config.is_attention(layer) for layer in range(config.layers))
    return attention, config.layers - attention


def _transformer(config: TransformerConfig) -> Work:
    d, queries, kv = config.d_model, config.query_width, config.kv_width
    matrices = d * (queries + 2 * kv) + queries * d + 3 * d * config.ffn
    vectors = 2 * d + config.qkv_bias * (queries + 2 * kv) + config.qk_norm * 2 * config.head_dim
    return Work(
        token_flops=2 * config.layers * matrices,
        pair_flops=4 * config.layers * queries,
        timestep_flops=0,
        embedding=config.vocab_size * d,
        tied=config.tied,
        body=config.layers * (matrices + vectors) + d,
        body_float32=0,
        token_cache=config.layers * 2 * kv,
    )


def _paper(config: ModelConfig) -> Work:
    d, inner, state = config.d_model, config.d_inner, config.d_state
    hidden, time, layers = config.mlp_ratio * d, config.time_dim, config.layers
    attention, mamba = layer_counts(config)
    directions = mamba * config.directions

    in_width = 2 * inner + 2 * state + config.ssm_heads  # z, x, B, C and dt
    channels = inner + 2 * state  # of the convolution
    modulation = (6 * layers + 2) * d  # 6 vectors a layer, and the final shift and scale

    projections = 2 * d * (in_width + inner)
    scan = 4 * inner * state
    token_flops = attention * 8 * d * d + directions * (projections + scan)
    token_flops += layers * 4 * hidden * d

    mixer = in_width * d + (config.d_conv + 1) * channels + inner * (d + 1)
    body = attention * 4 * d * d + directions * mixer
    body += layers * (2 * hidden * d + hidden + d)
    if config.denoiser:
        body += time * (FREQUENCIES + 1) + time * (time + 1) + (time + 1) * modulation
        timestep_flops = 2 * time * (FREQUENCIES + time + modulation)
    else:
        body += (2 * layers + 1) * 2 * d  # LayerNorms' weights and biases
        timestep_flops = 0
    return Work(
        token_flops=token_flops,
        pair_flops=4 * attention * d,
        timestep_flops=timestep_flops,
        embedding=config.vocab_size * d,
        tied=False,
        body=body,
        body_float32=directions * 3 * config.ssm_heads,
        token_cache=attention * 2 * d,
        state=mamba * inner * state,
        tail=mamba * (config.d_conv - 1) * channels,
    )
