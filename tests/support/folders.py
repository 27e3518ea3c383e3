"""Folders as the models of the field have them: saved by `transformers`, then renamed."""

import json
import re

import torch
from safetensors.torch import load_file, save_file

from dlm_bench.models.hf.folder import transformers_quiet

YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
MINISTRAL = YARN | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
DIMENSIONS = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "intermediate_size": 80,
    "max_position_embeddings": 512,
    "head_dim": 16,
    "pad_token_id": None,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
# The class of transformers with the mathematics of a model_type, and this type's own traits.
TWINS = {
    "llada": ("llama", {"num_attention_heads": 3, "num_key_value_heads": 3, "rms_norm_eps": 1e-5}),
    "Dream": ("qwen2", {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 112}),
    "Fast_dLLM_Qwen": (
        "qwen2",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_size": 64,
            "tie_word_embeddings": True,
        },
    ),
    "sdar": ("qwen3", {"num_attention_heads": 4, "num_key_value_heads": 1}),
    "nemotron_labs_diffusion": (
        "ministral3",
        {
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5,
            "rope_parameters": MINISTRAL,
        },
    ),
    "llama": ("llama", {"num_attention_heads": 4, "num_key_value_heads": 1}),
    "qwen2": ("qwen2", {"num_attention_heads": 3, "num_key_value_heads": 3}),
    "qwen3": (
        "qwen3",
        {"num_attention_heads": 7, "num_key_value_heads": 1, "tie_word_embeddings": True},
    ),
}
SHIFTED = ("Dream", "Fast_dLLM_Qwen")
OWN_FIELDS = {
    "llada": {"mask_token_id": 90, "activation_type": "silu", "block_type": "llama", "rope": True},
    "Dream": {"mask_token_id": 90, "use_mrope": False, "auto_map": {"AutoModel": "m.DreamModel"}},
    "Fast_dLLM_Qwen": {"mask_token_id": 90, "bd_size": 8},
    "sdar": {"mask_token_id": 90, "block_size": 4, "fuse_cross_entropy": True},
    "nemotron_labs_diffusion": {"mask_token_id": 90, "dlm_paradigm": "bidirectional"},
}
LLADA_FIELDS = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "intermediate_size": "mlp_hidden_size",
    "max_position_embeddings": "max_sequence_length",
    "tie_word_embeddings": "weight_tying",
    "rms_norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "eos_token_id": "eos_token_id",
}
LLADA_TENSORS = (
    ("embed_tokens", "transformer.wte"),
    ("layers", "transformer.blocks"),
    ("self_attn.o_proj", "attn_out"),
    ("self_attn.", ""),
    ("mlp.gate_proj", "ff_proj"),
    ("mlp.down_proj", "ff_out"),
    ("mlp.", ""),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ff_norm"),
    ("model.norm", "model.transformer.ln_f"),
    ("lm_head", "model.transformer.ff_out"),
)
NEMOTRON_TENSORS = (("model.", "encoder."), ("lm_head", "diffusion_head"))


def field_folder(place, model_type, shard="1GB", **changes):
    """A folder of this type at `place`, and the network of transformers with the same weights."""
    import transformers as hf

    twin, traits = TWINS[model_type]
    config = hf.AutoConfig.for_model(twin, **(DIMENSIONS | traits | changes))
    with transformers_quiet(twin), torch.random.fork_rng():
        torch.manual_seed(7)
        network = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        for parameter in network.parameters():  # so that no bias is 0 and no norm's weight is 1
            wide = parameter.dim() > 1
            parameter.normal_(0 if wide else 0.5, parameter.shape[-1] ** -0.5 if wide else 0.5)
        network.save_pretrained(place, max_shard_size=shard)
    rename(place, model_type)
    return network


def rename(place, model_type):
    """Make a folder of transformers' one of `model_type`: its fields and its tensors' names."""
    content = json.loads((place / "config.json").read_text())
    rope = content["rope_parameters"]
    if model_type == "llada":
        content = {LLADA_FIELDS[key]: content[key] for key in LLADA_FIELDS if key in content}
        content |= {"rope_theta": rope["rope_theta"], "embedding_size": content["vocab_size"]}
    elif model_type != "nemotron_labs_diffusion":  # as transformers wrote it before 5
        del content["rope_parameters"]
        content["rope_theta"] = rope.pop("rope_theta")
        content["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    content["model_type"] = model_type
    content |= OWN_FIELDS.get(model_type, {"is_causal": False})
    (place / "config.json").write_text(json.dumps(content))
    changed = {"llada": LLADA_TENSORS, "nemotron_labs_diffusion": NEMOTRON_TENSORS}
    rename_tensors(place, changed.get(model_type, ()))


def rename_tensors(place, changes):
    """Rename every tensor of a folder, in its index too."""

    def renamed(name):
        for old, new in changes:
            name = re.sub(rf"(^|(?<=[.])){re.escape(old)}", new, name)
        return name

    for path in place.glob("*.safetensors"):
        save_file({renamed(name): each for name, each in load_file(path).items()}, path)
    index = place / "model.safetensors.index.json"
    if index.exists():
        content = json.loads(index.read_text())
        content["weight_map"] = {
            renamed(name): file for name, file in content["weight_map"].items()
        }
        index.write_text(json.dumps(content))


def edit_config(place, **changes):
    """Change fields of a folder's config.json; None deletes one."""
    content = json.loads((place / "config.json").read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (place / "config.json").write_text(json.dumps(kept))
