"""Folders of the field's models are read without their code, and give transformers' own logits."""

import json
from dataclasses import replace

import pytest
import torch
from support.folders import MINISTRAL, SHIFTED, TWINS, YARN, edit_config, field_folder

from dlm_bench import ConfigError, build_model, build_sampler, measure
from dlm_bench.cli import main
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.factory import empty_model
from dlm_bench.models.own import stated_config
from dlm_bench.models.presets import SHIPPED
from dlm_bench.models.transformer_config import Yarn
from dlm_bench.models.window import Window

LENGTH, BLOCK = 24, 8
CPU = torch.device("cpu")
TRAITS = {
    "llada": {},
    "Dream": {},
    "Fast_dLLM_Qwen": {},
    "sdar": {},
    "nemotron_labs_diffusion": {},
    "llama": {"rope_parameters": YARN},
    "qwen2": {"rope_parameters": YARN | {"attention_factor": 1.5, "beta_fast": 4.0}},
    "qwen3": {},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of each model_type, built once, with its network of transformers."""
    built = {}

    def of(model_type):
        if model_type not in built:
            place = tmp_path_factory.mktemp("field") / model_type
            built[model_type] = place, field_folder(place, model_type, **TRAITS[model_type])
        return built[model_type]

    return of


def seen(kind):
    """The additive mask of a 4-D attention mask, (1, 1, LENGTH, LENGTH)."""
    place = torch.arange(LENGTH)
    last = {
        "full": place * 0 + LENGTH,
        "causal": place,
        "block": place // BLOCK * BLOCK + BLOCK - 1,
    }
    hidden = place[None] > last[kind][:, None]
    return torch.zeros(1, 1, LENGTH, LENGTH).masked_fill(hidden, torch.finfo(torch.float32).min)


def own_logits(model, tokens, kind):
    """The logits of one pass with this sight."""
    if kind == "causal":
        config = replace(model.config, denoiser=False)
        causal = empty_model(config, CPU, torch.float32)
        causal.load_state_dict(model.state_dict())
        model = causal
    caches = window = None
    if kind == "block":
        window = Window(torch.zeros(1, dtype=torch.int64), (BLOCK,) * (LENGTH // BLOCK))
        caches = model.new_caches(len(tokens), LENGTH)
    return model.logits(model(tokens, None, window, caches))


@pytest.mark.parametrize("kind", ["full", "causal", "block"])
@pytest.mark.parametrize("model_type", TWINS)
def test_logits_are_those_of_transformers(saved, model_type, kind):
    place, network = saved(model_type)
    model = build_model(f"hf:{place}")
    tokens = torch.randint(97, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    expected = network(input_ids=tokens, attention_mask=seen(kind).expand(2, -1, -1, -1)).logits
    if model_type in SHIFTED:
        expected = torch.cat((expected[:, :1], expected[:, :-1]), dim=1)
    apart = (own_logits(model, tokens, kind) - expected).abs().max()
    assert apart <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kind", ["full", "causal", "block"])
def test_a_part_of_a_head_is_turned_as_by_transformers(tmp_path, kind):
    import transformers as hf
    from safetensors.torch import save_file

    shared = {
        "vocab_size": 97,
        "hidden_size": 64,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
    }
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    config = hf.Phi3Config(**shared, pad_token_id=None, rope_parameters=rope)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = hf.Phi3ForCausalLM(config).eval().requires_grad_(False)
    tensors = {}
    for name, tensor in network.state_dict().items():
        if "qkv_proj" in name:
            parts = tensor.split([64, 32, 32])
            names = [name.replace("qkv_proj", f"{each}_proj") for each in "qkv"]
        elif "gate_up_proj" in name:
            parts = tensor.chunk(2)
            names = [name.replace("gate_up_proj", f"{each}_proj") for each in ("gate", "up")]
        else:
            parts, names = [tensor], [name]
        tensors |= {each: part.contiguous() for each, part in zip(names, parts, strict=True)}
    save_file(tensors, tmp_path / "model.safetensors")
    content = shared | {"model_type": "llama", "is_causal": False, "partial_rotary_factor": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(content))
    model = build_model(f"hf:{tmp_path}")
    assert model.config.rotary_dim == 8
    tokens = torch.randint(97, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    expected = network(input_ids=tokens, attention_mask=seen(kind).expand(2, -1, -1, -1)).logits
    apart = (own_logits(model, tokens, kind) - expected).abs().max()
    assert apart <= 1e-5 * expected.abs().max()


def test_the_fields_of_a_folder_are_those_of_its_model(saved):
    configs = {name: build_model(f"hf:{saved(name)[0]}", device="meta").config for name in TWINS}
    assert {name for name, each in configs.items() if each.token_shift} == set(SHIFTED)
    assert {name: each.block_size for name, each in configs.items() if each.block_size} == {
        "Fast_dLLM_Qwen": 8,
        "sdar": 4,
        "nemotron_labs_diffusion": 32,
    }
    assert {name for name, each in configs.items() if each.tied} == {"Fast_dLLM_Qwen", "qwen3"}
    assert {name for name, each in configs.items() if each.qk_norm} == {"sdar", "qwen3"}
    assert {name: each.mask_id for name, each in configs.items() if each.mask_id != 90} == {
        "llama": 96,
        "qwen2": 96,
        "qwen3": 96,
    }
    assert {each.bos_id for name, each in configs.items() if name != "llada"} == {2}
    assert configs["nemotron_labs_diffusion"].yarn == Yarn(16.0, 32)
    assert configs["qwen2"].yarn == Yarn(16.0, 32, fast=4.0, attention=1.5)
    assert configs["llama"].yarn.attention == pytest.approx(1.2773, abs=1e-4)  # 0.1 ln 16 + 1
    assert configs["sdar"].head_dim == 16


@pytest.mark.parametrize("model_type", TWINS)
def test_every_sampler_decodes_from_a_folder(saved, model_type):
    place, _ = saved(model_type)
    model = build_model(f"hf:{place}")
    info = backbone_info(f"hf:{place}")
    shift = model.config.token_shift
    beyond = {"sub-blocks", "pipeline", "self-speculation", *(["next-token"] if shift else [])}
    assert set(info.supports) == {"full", "fast-dllm", "block-cache", "prefill"} | beyond
    assert (info.sizes, info.block_size) == (("hf",), model.config.block_size)
    blocks = {"tokens_per_step": 2, "block_size": BLOCK}
    samplers = [("full", {"tokens_per_step": 2})]
    samplers += [("fast-dllm", blocks | {"cache": each}) for each in ("dual", "prefix")]
    samplers += [
        ("block-cache", blocks | {"commit": each}) for each in ("separate", "fused", "none")
    ]
    if shift:
        samplers.append(("block-cache", blocks | {"first_token": "commit"}))
    decoded = {}
    for name, options in samplers:
        tokens = build_sampler(name, **options).decode(model, LENGTH, prompt=torch.tensor([[5, 6]]))
        assert not (tokens == model.config.mask_id).any()
        decoded[tuple(options.values())] = tokens
    assert torch.equal(decoded[2, BLOCK, "separate"], decoded[2, BLOCK, "fused"])


def test_a_decode_under_full_follows_transformers_logits(saved):
    place, network = saved("Dream")
    model, sampler = build_model(f"hf:{place}"), build_sampler("full", tokens_per_step=4)
    state = sampler.prepare(model, LENGTH)
    for planned in state.passes:
        before = state.tokens.clone()
        logits = network(input_ids=before, attention_mask=seen("full")).logits
        logits = torch.cat((logits[:, :1], logits[:, :-1]), dim=1)
        logits[..., 90] = -torch.inf
        sampler.step(model, state, planned.kind)
        shown = state.tokens != before
        assert torch.equal(state.tokens[shown], logits.argmax(-1)[shown])
    assert not (state.tokens == 90).any()


def test_a_record_says_which_folder_it_was(saved):
    place, _ = saved("nemotron_labs_diffusion")
    model = build_model(f"hf:{place}")
    options = {"block_size": 4, "tokens_per_step": 2}
    record = measure(model, build_sampler("block-cache", **options), 16, warmup=0, repeats=1)
    assert record.point.backbone == "hf:nemotron_labs_diffusion"
    assert record.model["digest"] == model.config.digest != ""
    assert record.checkpoint == model.checkpoint != ""
    assert stated_config(json.loads(json.dumps(record.model))) == model.config


def test_a_folders_own_block_is_the_default(saved, capsys):
    place, _ = saved("sdar")
    command = ["run", f"hf:{place}", "block-cache", "-L", "16", "--warmup", "0", "--repeats", "1"]
    for more, block_size in (([], 4), (["--block-size", "8"], 8)):
        assert main([*command, "--json", *more]) == 0
        assert json.loads(capsys.readouterr().out)["point"]["options"]["block_size"] == block_size


def test_a_folder_ships_with_the_rule_of_its_models(saved):
    place, _ = saved("sdar")
    assert backbone_info(f"hf:{place}").shipped == SHIPPED["sdar"]


def test_random_weights_need_no_files_and_are_of_the_seed(saved, tmp_path):
    (tmp_path / "config.json").write_text((saved("Dream")[0] / "config.json").read_text())
    with pytest.raises(ConfigError, match="has no weights"):
        build_model(f"hf:{tmp_path}")
    first, again, other = (
        build_model(f"hf:{tmp_path}", seed=seed, random_weights=True) for seed in (1, 1, 2)
    )
    assert first.checkpoint == ""
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_the_tokenizers_mask_is_mask(saved, tmp_path):
    (tmp_path / "config.json").write_text((saved("sdar")[0] / "config.json").read_text())
    edit_config(tmp_path, mask_token_id=None)
    backbone = f"hf:{tmp_path}"
    assert build_model(backbone, device="meta", random_weights=True).config.mask_id == 96
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": "<|MASK|>"}')
    words = {"added_tokens": [{"id": 41, "content": "<|MASK|>"}], "model": {"vocab": {"a": 0}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    assert build_model(backbone, device="meta", random_weights=True).config.mask_id == 41


def test_a_malformed_tokenizer_is_a_line(saved, tmp_path):
    (tmp_path / "config.json").write_text((saved("sdar")[0] / "config.json").read_text())
    edit_config(tmp_path, mask_token_id=None)
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": "<|MASK|>"}')
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [7]}')
    with pytest.raises(ConfigError, match="mask_token_id: is missing, and the tokenizer's files"):
        build_model(f"hf:{tmp_path}", random_weights=True)


def test_a_scale_on_q_that_is_not_1_further_on_limits_the_length(saved):
    place, _ = saved("nemotron_labs_diffusion")
    assert MINISTRAL["llama_4_scaling_beta"]
    assert backbone_info(f"hf:{place}").max_length == 32
    with pytest.raises(ConfigError, match="takes at most 32 tokens"):
        build_sampler("full").decode(build_model(f"hf:{place}"), 33)


@pytest.mark.parametrize(
    ("model_type", "changes", "said"),
    [
        ("Dream", {"hidden_act": "gelu"}, "hidden_act: 'gelu' is not supported"),
        ("Dream", {"rope_scaling": {"rope_type": "llama3"}}, "rope_type: 'llama3' is not supp"),
        (
            "Dream",
            {"rope_scaling": {"type": "yarn", "factor": 2, "x": 1}},
            "rope_parameters: x: is",
        ),
        ("Dream", {"sliding_window": 8, "use_sliding_window": True}, "use_sliding_window: True"),
        ("llama", {"sliding_window": 8}, "sliding_window: 8 is not supported"),
        ("qwen2", {"layer_types": ["sliding_attention"]}, "layer_types: 'sliding_attention' is"),
        ("Dream", {"logit_softcap": 30.0}, "logit_softcap: is not known here; delete it if"),
        ("Dream", {"num_hidden_layers": None}, "config.json lacks num_hidden_layers or n_layers"),
        ("Dream", {"num_hidden_layers": "3"}, "num_hidden_layers: '3' is not allowed; must be"),
        ("Dream", {"num_key_value_heads": 2}, "num_key_value_heads: 2 does not divide 7 heads"),
        ("Dream", {"mask_token_id": 97}, "mask_token_id: 97 is not in its vocabulary of 97"),
        ("Dream", {"rope_theta": "big"}, "rope_theta: 'big' is not allowed; must be a finite"),
        ("Dream", {"tie_word_embeddings": 1}, "tie_word_embeddings: 1 is not allowed; must be t"),
        ("sdar", {"attention_bias": True}, "attention_bias: True is not supported"),
        ("sdar", {"quantization_config": {"bits": 4}}, "quantization_config: {'bits': 4} is not"),
        ("llada", {"n_layers": 0}, "config.json: n_layers: 0 is not allowed; must be an integer >"),
        ("llada", {"alibi": True}, "alibi: True is not supported"),
        ("llada", {"layer_norm_type": "default"}, "layer_norm_type: 'default' is not supported"),
        ("llada", {"block_type": "sequential"}, "block_type: 'sequential' is not supported"),
        ("llada", {"num_experts": 64}, "num_experts: is not known here"),
    ],
)
def test_a_field_that_could_change_the_mathematics_is_named_in_a_line(
    saved, tmp_path, model_type, changes, said, capsys
):
    (tmp_path / "config.json").write_text((saved(model_type)[0] / "config.json").read_text())
    edit_config(tmp_path, **changes)
    assert main(["run", f"hf:{tmp_path}", "full", "-L", "8", "--random-weights"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "config.json" in told
    assert len(told.splitlines()) == 1
