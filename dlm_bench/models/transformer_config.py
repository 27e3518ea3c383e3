"""The shape of a converted autoregressive Transformer: Llama's and Qwen's block, by its fields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Yarn:
    """Stretched rotary frequencies (YaRN, arXiv 2309.00071).

    factor: of the longest sequence, over the `length` tokens of the first training.
    fast, slow: turns within `length`; frequencies of more than `fast` stay, of fewer than `slow`
        are divided by `factor`.
    attention: a factor on q and k.
    """

    factor: float
    length: int
    fast: float = 32.0
    slow: float = 1.0
    attention: float = 1.0


@dataclass(frozen=True)
class TransformerConfig:
    """A Transformer with RMSNorm, grouped-query attention and a SwiGLU MLP, no timestep.

    denoiser: attention sees both sides; else causal.
    kv_heads: heads of keys and values; heads / kv_heads queries share each.
    ffn: hidden width of the MLP.
    qk_norm: RMSNorm over each head of q and k, before rotary.
    qkv_bias: a bias on the projections to q, k and v.
    tied: the LM head is the embedding.
    rotary_dim: leading columns of a head, turned by rotary.
    token_shift: token i is predicted at position i - 1, as before the conversion.
    mask_id: the id of MASK; vocab_size in a causal model, where MASK is missing.
    bos_id: the first token of an autoregressive decode.
    eos_id: the token that ends a text; None if none is stated.
    block_size: the block of the model's training; 0 without blocks.
    max_length: the most tokens of a sequence; None without a limit.
    digest: of the content of a folder's config.json; empty for a backbone by name.
    """

    backbone: str
    size: str
    denoiser: bool
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab_size: int
    mask_id: int
    bos_id: int
    norm_eps: float
    rope_theta: float
    rotary_dim: int
    yarn: Yarn | None = None
    qk_norm: bool = False
    qkv_bias: bool = False
    tied: bool = False
    token_shift: bool = False
    eos_id: int | None = None
    block_size: int = 0
    max_length: int | None = None
    digest: str = ""

    @property
    def query_width(self) -> int:
        """Columns of all heads of q."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of all heads of k, or of v."""
        return self.kv_heads * self.head_dim
