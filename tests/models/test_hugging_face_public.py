"""The public configurations of the field's models are read as the backbones of their names."""

import json
from dataclasses import replace

import pytest
from support.folders import MINISTRAL

from dlm_bench import build_model
from dlm_bench.models.presets import preset

# The fields of the public config.json files.
LLADA_8B = {
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"},
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 4096,
    "embedding_dropout": 0.0,
    "embedding_size": 126464,
    "eos_token_id": 126081,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 126336,
    "max_sequence_length": 4096,
    "mlp_hidden_size": 12288,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": 32,
    "n_kv_heads": 32,
    "n_layers": 32,
    "pad_token_id": 126081,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "transformers_version": "4.46.3",
    "use_cache": False,
    "vocab_size": 126464,
    "weight_tying": False,
}
QWEN_7B = {
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.2",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
DREAM_7B = QWEN_7B | {
    "model_type": "Dream",
    "mask_token_id": 151666,
    "sliding_window": None,
    "use_mrope": False,
}
FAST_DLLM_7B = QWEN_7B | {"model_type": "Fast_dLLM_Qwen", "bd_size": 32, "sliding_window": 131072}
SDAR_8B = {
    "attention_bias": False,
    "block_size": 4,
    "bos_token_id": 151643,
    "fuse_cross_entropy": True,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 32768,
    "model_type": "sdar",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
NEMOTRON_8B = {
    "ar_loss_weight": 1.0,
    "attention_bias": False,
    "attn_implementation": "sdpa",
    "block_size": 32,
    "bos_token_id": 1,
    "dlm_loss_weight": None,
    "dlm_paradigm": "bidirectional",
    "dp_varying_mask_ratio": False,
    "eos_token_id": 11,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "mask_token_id": 100,
    "max_position_embeddings": 262144,
    "mlp_bias": False,
    "model_type": "nemotron_labs_diffusion",
    "num_attention_heads": 32,
    "num_hidden_layers": 34,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_parameters": MINISTRAL | {"original_max_position_embeddings": 16384},
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 131072,
}


@pytest.mark.parametrize(
    ("content", "backbone", "size", "longest"),
    [
        (LLADA_8B, "llada", "8b", 4096),
        (DREAM_7B, "dream", "7b", 131072),
        (FAST_DLLM_7B, "fast-dllm-v2", "7b", 131072),
        (SDAR_8B, "sdar", "8b", 32768),
        (NEMOTRON_8B, "nemotron-ld", "8b", 16384),
    ],
)
def test_a_public_configuration_is_the_backbone_of_this_name(
    tmp_path, content, backbone, size, longest
):
    (tmp_path / "config.json").write_text(json.dumps(content))
    found = build_model(f"hf:{tmp_path}", device="meta", random_weights=True).config
    assert found.max_length == longest
    known = preset(backbone, size)
    named = replace(found, backbone=backbone, size=size, max_length=None, digest="")
    if "eos_token_id" not in content:  # SDAR's stands in the tokenizer's files
        named = replace(named, eos_id=known.eos_id)
    assert named == known
