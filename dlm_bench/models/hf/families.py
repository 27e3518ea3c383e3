"""The folders that are read without `transformers` and without their code: which field of a
config.json is which of a `TransformerConfig`.

Fields and defaults are those of the models' public configuration classes: LLaDA's
configuration_llada.py, Dream's configuration_dream.py, Fast-dLLM v2's and SDAR's on Hugging Face,
Nemotron-Labs-Diffusion's, and Llama, Qwen2 and Qwen3 of `transformers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_bench.errors import ConfigError
from dlm_bench.models.hf.fields import Fields
from dlm_bench.models.hf.rope import read_rope
from dlm_bench.models.hf.tokenizer import is_code, special_token
from dlm_bench.models.presets import PRESETS, preset, preset_sizes
from dlm_bench.models.transformer_config import TransformerConfig


@dataclass(frozen=True)
class Family:
    """The meaning of a `model_type`.

    preset: the backbone here with the same MASK and block size; empty for the architectures of
        `transformers`, denoisers only with `is_causal: false`.
    names: of the tensors, a key of `dlm_bench.models.hf.tensors.NAMES`.
    architectures: the classes of `transformers` of this type, beside which code in a folder is not
        the model's.
    qkv_bias, qk_norm: of attention, always.
    head_dim: of a configuration without one; 0 for d_model / heads.
    eps: of a configuration without one.
    """

    preset: str = ""
    names: str = "llama"
    architectures: tuple[str, ...] = ()
    qkv_bias: bool = False
    qk_norm: bool = False
    head_dim: int = 0
    eps: float = 1e-6


FAMILIES = {
    "llada": Family("llada", names="llada", eps=1e-5),
    "Dream": Family("dream", qkv_bias=True),
    "Fast_dLLM_Qwen": Family("fast-dllm-v2", qkv_bias=True),
    "sdar": Family("sdar", qk_norm=True, head_dim=128),
    "nemotron_labs_diffusion": Family("nemotron-ld", names="nemotron", head_dim=128, eps=1e-5),
    "llama": Family(architectures=("LlamaForCausalLM", "LlamaModel")),
    "qwen2": Family(architectures=("Qwen2ForCausalLM", "Qwen2Model"), qkv_bias=True),
    "qwen3": Family(architectures=("Qwen3ForCausalLM", "Qwen3Model"), qk_norm=True, head_dim=128),
}

# Fields that change nothing in a pass over tokens: notes of `transformers`, and of training.
IGNORED = """
    architectures attn_implementation auto_map dtype is_decoder model_type name_or_path return_dict
    torch_dtype torchscript transformers_version use_bfloat16 use_cache tokenizer_class
    max_window_layers finetuning_task id2label label2id problem_type
    output_attentions output_hidden_states
    chunk_size_feed_forward gradient_checkpointing pretraining_tp initializer_range
    attention_dropout embedding_dropout residual_dropout hidden_dropout resid_pdrop
    pad_token_id sep_token_id unk_token_id cls_token_id decoder_start_token_id
    init_device init_fn init_std init_cutoff_factor precision flash_attention rope_full_precision
    attention_layer_norm_with_affine alibi_bias_max
    fuse_cross_entropy debug ep_size micro_forward skip_checkpoint
    ar_loss_weight dlm_loss_weight dp_varying_mask_ratio global_loss_avg
"""

OFF = (False, None)
# Fields that may change the mathematics, with the values that do not.
ALLOWED: dict[str, tuple[Any, ...]] = {
    "is_causal": OFF,
    "is_encoder_decoder": OFF,
    "add_cross_attention": OFF,
    "hidden_act": ("silu", "swish"),
    "mlp_bias": OFF,
    "use_mrope": OFF,
    "use_sliding_window": OFF,
    "use_relay": OFF,
    "quantization_config": (None,),
    "dlm_paradigm": ("bidirectional", "block_diff"),
    # LLaDA's own.
    "activation_type": ("silu",),
    "alibi": OFF,
    "attention_layer_norm": OFF,
    "bias_for_layer_norm": OFF,
    "block_group_size": (1,),
    "block_type": ("llama",),
    "clip_qkv": (None,),
    "include_bias": OFF,
    "input_emb_norm": OFF,
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "multi_query_attention": OFF,
    "rope": (True,),
    "scale_logits": OFF,
}
# The names of a field, LLaDA's second.
LAYERS = ("num_hidden_layers", "n_layers")
WIDTH = ("hidden_size", "d_model")
HEADS = ("num_attention_heads", "n_heads")
KV_HEADS = ("num_key_value_heads", "n_kv_heads")
FFN = ("intermediate_size", "mlp_hidden_size")
LENGTH = ("max_position_embeddings", "max_sequence_length")
TIED = ("tie_word_embeddings", "weight_tying")
VOCABULARY = ("embedding_size", "vocab_size")
BLOCK = ("bd_size", "block_size")
TEXT_ENDS = ("bos_token_id", "eos_token_id")  # a decode begins with the first that is stated


def family_of(content: Mapping[str, Any]) -> Family | None:
    """Return the family of a config.json; None if the model is not read here: another `model_type`,
    a causal model, or a type of `transformers` redefined by code in the folder."""
    family = FAMILIES.get(str(content.get("model_type")))
    if family is None or family.preset:
        return family
    named = content.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else None
    redefined = content.get("auto_map") and architecture not in family.architectures
    return None if redefined or content.get("is_causal") is not False else family


def read_config(
    name: str, family: Family, content: Mapping[str, Any], folder: Path, digest: str
) -> TransformerConfig:
    """Read the configuration of the model in a folder. Raises ConfigError with the name of a field
    that is missing, not known, or of a value not supported here."""
    fields = Fields(f"backbone: {name!r}: config.json", content)
    width, heads = fields.integer(*WIDTH), fields.integer(*HEADS)
    head_dim = _head_dim(fields, family, width, heads)
    kv_heads = fields.integer(*KV_HEADS, default=heads)
    if heads % kv_heads:
        raise fields.error(KV_HEADS[0], f"{kv_heads} does not divide {heads} heads")
    if fields.flag("attention_bias") and not family.qkv_bias:
        raise fields.error(
            "attention_bias", "True is not supported; attention's output here has no bias"
        )
    longest = fields.integer(*LENGTH, default=0) or None
    rope = read_rope(fields, head_dim, longest)
    limits = [limit for limit in (longest, rope.max_length) if limit]
    vocab_size = fields.integer(*VOCABULARY)
    ends = [_text_end(fields, name, vocab_size) for name in TEXT_ENDS]
    usual = preset(family.preset, preset_sizes(family.preset)[-1]) if family.preset else None
    config = TransformerConfig(
        backbone=name,
        size="hf",
        denoiser=True,
        layers=fields.integer(*LAYERS),
        d_model=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=_ffn(fields, width),
        vocab_size=vocab_size,
        mask_id=_mask_id(fields, usual, folder, vocab_size),
        bos_id=next((each for each in ends if each is not None), 0),
        eos_id=_tokenizers_end(folder, vocab_size) if ends[1] is None else ends[1],
        norm_eps=fields.number("rms_norm_eps", default=family.eps),
        rope_theta=rope.theta,
        rotary_dim=rope.width,
        yarn=rope.yarn,
        qk_norm=family.qk_norm,
        qkv_bias=fields.flag("include_qkv_bias") or family.qkv_bias,
        tied=fields.flag(*TIED),
        token_shift=usual is not None and usual.token_shift,
        block_size=fields.integer(*BLOCK, default=usual.block_size if usual else 0),
        max_length=min(limits, default=None),
        digest=digest,
    )
    _check_windows(fields)
    for field, allowed in ALLOWED.items():
        fields.allow(field, allowed)
    fields.finish(IGNORED.split())
    return config


def presets_of_shape(content: Mapping[str, Any]) -> list[str]:
    """List the backbones here, each as `dream --size 7b`, with the layers, width, heads and MLP of
    a config.json."""
    stated = [
        next((content[name] for name in names if name in content), None)
        for names in (LAYERS, WIDTH, HEADS, KV_HEADS, FFN)
    ]
    found = []
    for backbone in PRESETS:
        for size in preset_sizes(backbone):
            own = preset(backbone, size)
            if [own.layers, own.d_model, own.heads, own.kv_heads, own.ffn] == stated:
                found.append(f"{backbone} --size {size}")
    return found


def _head_dim(fields: Fields, family: Family, width: int, heads: int) -> int:
    """Return the width of a head: stated, or the family's where the field is missing, or the share
    of a head in the width of the model."""
    shared = "head_dim" in fields.left or not family.head_dim
    head_dim = fields.integer("head_dim", default=width // heads if shared else family.head_dim)
    if head_dim < 2 or head_dim % 2:
        raise fields.error("head_dim", f"{head_dim} is not allowed; rotary embedding turns pairs")
    return head_dim


def _ffn(fields: Fields, width: int) -> int:
    """Return the hidden width of the MLP, stated or by LLaDA's ratio to the model's."""
    ratio = fields.take("mlp_ratio")
    return fields.integer(*FFN) if ratio is None else fields.integer(*FFN, default=ratio * width)


def _mask_id(fields: Fields, usual: TransformerConfig | None, folder: Path, vocab_size: int) -> int:
    """Return the id of MASK: the configuration's, or the tokenizer's, or the family's, or the last
    of the vocabulary."""
    found = fields.identity("mask_token_id")
    if found is None:
        try:
            found = special_token(folder, "mask_token")
        except (KeyError, TypeError, ValueError):
            raise fields.error(
                "mask_token_id", "is missing, and the tokenizer's files are malformed; state it"
            ) from None
    if found is None and usual is not None and usual.mask_id < vocab_size:
        found = usual.mask_id
    if found is None and is_code(folder):
        raise ConfigError(
            f"{fields.where}: its tokenizer is code in the folder, which is not run; name MASK by "
            "mask_token_id in config.json instead",
            field="backbone",
        )
    found = vocab_size - 1 if found is None else found
    if found >= vocab_size:
        raise fields.error("mask_token_id", f"{found} is not in its vocabulary of {vocab_size}")
    return found


def _text_end(fields: Fields, name: str, vocab_size: int) -> int | None:
    """Return the id at an end of texts; None if none is stated, or not in the vocabulary."""
    found = fields.identity(name)
    return found if found is not None and found < vocab_size else None


def _tokenizers_end(folder: Path, vocab_size: int) -> int | None:
    """Return the end of text of the tokenizer; None without one in the vocabulary."""
    try:
        found = special_token(folder, "eos_token")
    except (KeyError, TypeError, ValueError):  # malformed files
        return None
    return found if found is not None and found < vocab_size else None


def _check_windows(fields: Fields) -> None:
    """Raise ConfigError if a layer's attention has a sliding window."""
    window, unused = fields.take("sliding_window"), "use_sliding_window" in fields.left
    if window is not None and not unused:
        raise fields.error("sliding_window", f"{window!r} is not supported")
    for kind in fields.take("layer_types") or ():
        if kind != "full_attention":
            raise fields.error("layer_types", f"{kind!r} is not supported")
