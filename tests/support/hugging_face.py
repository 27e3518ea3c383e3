"""Models of Hugging Face's format as the library itself builds and saves them."""

from dataclasses import dataclass

import torch

from dlm_bench.models.hf.folder import transformers_quiet

DIMENSIONS = {
    "vocab_size": 97,
    "hidden_size": 24,  # of which heads and tiles do not come out even
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "initializer_range": 0.5,  # so that tokens depend on each other
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
MASKED = ["bert", "roberta", "modernbert"]


@dataclass(frozen=True)
class Saved:
    """A folder, its network as the library itself builds it, and the name of its backbone."""

    folder: str
    network: torch.nn.Module

    @property
    def backbone(self):
        return f"hf:{self.folder}"


def network_of(name, folder, **changes):
    import transformers as hf

    own = {
        "roberta": {"max_position_embeddings": 42},
        "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "global_attn_every_n_layers": 1},
        "llama": {"num_key_value_heads": 1, "hidden_size": 32},
        "mistral": {"sliding_window": 16, "num_key_value_heads": 1},
    }
    config = hf.AutoConfig.for_model(name, **(DIMENSIONS | own.get(name, {}) | changes))
    kind = hf.AutoModelForMaskedLM if name in MASKED else hf.AutoModelForCausalLM
    with transformers_quiet(name), torch.random.fork_rng():
        torch.manual_seed(5)
        network = kind.from_config(config).eval().requires_grad_(False)
        head = network.get_output_embeddings()
        if head.bias is not None:
            head.bias.normal_()
        network.save_pretrained(folder)
    return network
