"""Models of Hugging Face's format decode as the library's own passes say, and as nothing else."""

import json

import pytest
import torch
from support.hugging_face import MASKED, network_of

from dlm_bench import ConfigError, build_model, build_sampler, measure

LENGTH = 24
CAUSAL = ["llama", "gpt2", "mistral"]


def own_confidences(network, tokens, mask_id):
    """The library's own best token of each place, MASK apart, and its probability."""
    logits = network(input_ids=tokens).logits.float()
    logits[..., mask_id] = -torch.inf
    return logits.softmax(-1).max(-1)


def decode_beside(model, network, length, tokens_per_step, batch=2, prompt_len=0):
    """A decode under `full`, each pass of which is held against the library's own logits."""
    sampler, mask_id = build_sampler("full", tokens_per_step=tokens_per_step), model.config.mask_id
    state = sampler.prepare(model, length, batch=batch, prompt_len=prompt_len)
    for planned in state.passes:
        before = state.tokens.clone()
        confidence, best = own_confidences(network, before, mask_id)
        sampler.step(model, state, planned.kind)
        masked, shown = before == mask_id, (before == mask_id) & (state.tokens != mask_id)
        assert (shown.sum(1) == planned.reveal).all()
        assert torch.equal(state.tokens[shown], best[shown])
        assert torch.equal(state.tokens[~masked], before[~masked])
        left = confidence.masked_fill(~masked | shown, 0).amax(1)
        # What rounding may do to a probability; a model that is told no places has equal ones.
        assert (confidence.masked_fill(~shown, 1).amin(1) >= left - 1e-5).all()
    return state.tokens


def greedy_decode(network, begin, length):
    """What comes after `begin` (batch, tokens), every token by a whole pass without a cache."""
    tokens = begin
    for _ in range(length):
        logits = network(input_ids=tokens, use_cache=False).logits[:, -1]
        tokens = torch.cat((tokens, logits.argmax(-1, keepdim=True)), dim=1)
    return tokens[:, begin.shape[1] :]


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_lm_decodes_by_its_own_logits(saved, name):
    model = build_model(saved(name).backbone)
    assert model.config.mask_id == 96, "the last id, where nothing names one"
    for prompt_len in (0, 9):
        tokens = decode_beside(model, saved(name).network, LENGTH, 4, prompt_len=prompt_len)
        assert not (tokens == 96).any()
    tokens = torch.randint(97, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    logits = model(tokens) @ model.head.weight.t()
    # Float32 rounding of logits of about 10.
    torch.testing.assert_close(
        logits, saved(name).network(input_ids=tokens).logits, rtol=0, atol=1e-4
    )


def test_a_causal_architecture_told_not_to_be_causal_is_a_denoiser(saved):
    here = saved("llama", is_causal=False)
    model = build_model(here.backbone)
    decode_beside(model, here.network, LENGTH, 4)
    tokens = torch.arange(12)[None]
    other = tokens.clone()
    other[0, -1] = 50
    assert not torch.allclose(model(tokens)[0, 0], model(other)[0, 0]), "it sees to the right"


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_lm_decodes_with_its_cache_as_without(saved, name):
    model = build_model(saved(name).backbone)
    length = 16 if name == "mistral" else LENGTH
    sampler = build_sampler("ar")
    expected = greedy_decode(saved(name).network, torch.tensor([[2]]), length)
    assert torch.equal(sampler.decode(model, length), expected)
    assert len(expected.unique()) > 5
    state = sampler.prepare(model, length)
    sampler.seek(state, 9)  # which fills the cache with random numbers
    sampler.seek(state, 0)
    sampler.run(model, state)
    assert torch.equal(state.tokens, expected)


@pytest.mark.parametrize("prompt_len", [1, 7])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_lm_decodes_after_a_prompt_as_without_a_cache(saved, name, prompt_len):
    model, sampler = build_model(saved(name).backbone), build_sampler("ar")
    length = 16 - prompt_len if name == "mistral" else LENGTH
    state = sampler.prepare(model, length, batch=2, prompt_len=prompt_len)
    expected = greedy_decode(saved(name).network, state.tokens[:, :prompt_len], length)
    assert not torch.equal(*expected), "the prompt makes no difference"
    sampler.run(model, state)
    assert torch.equal(state.tokens[:, prompt_len:], expected)
    sampler.seek(state, 5)  # which fills the cache with random numbers
    sampler.step(model, state, "decode")
    sampler.seek(state, 0)
    sampler.run(model, state)
    assert torch.equal(state.tokens[:, prompt_len:], expected)


def test_a_prefill_attends_to_the_prompt_alone_and_needs_no_mask(saved, monkeypatch):
    model, sampler = build_model(saved("llama").backbone), build_sampler("ar")
    state = sampler.prepare(model, LENGTH, prompt_len=7)
    attend, seen = torch.nn.functional.scaled_dot_product_attention, []

    def watch(query, key, value, attn_mask=None, **how):
        seen.append((query.shape[2], key.shape[2], attn_mask is None, how["is_causal"]))
        return attend(query, key, value, attn_mask, **how)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    sampler.step(model, state, "prefill")
    assert set(seen) == {(7, 7, True, True)}
    seen.clear()
    sampler.step(model, state, "decode")
    assert {keys for _, keys, *_ in seen} == {7 + LENGTH}


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_low_precision_and_shapes_alone_work_too(saved, name):
    model = build_model(saved(name).backbone, dtype="bfloat16")
    sampler = build_sampler("full" if name == "bert" else "ar")
    tokens = sampler.decode(model, LENGTH)
    assert ((tokens >= 0) & (tokens < 97)).all()
    shapes = build_model(saved(name).backbone, device="meta")
    sizes = [sum(p.numel() for p in each.parameters()) for each in (shapes, saved(name).network)]
    assert sizes[0] == sizes[1]


def test_a_pass_at_any_place_continues_from_what_is_there(saved):
    model, sampler = build_model(saved("llama").backbone), build_sampler("ar")
    state = sampler.prepare(model, LENGTH)
    for planned in state.passes[:10]:
        sampler.step(model, state, planned.kind)
    before = state.tokens.clone()
    state.index.fill_(9)  # the tenth pass once more: its position is the device's, not the host's
    sampler.step(model, state, "decode")
    assert torch.equal(state.tokens, before)


def test_a_batch_decodes_the_same_in_every_row(saved):
    model = build_model(saved("gpt2").backbone)
    tokens = build_sampler("ar").decode(model, 8, batch=2)
    assert torch.equal(tokens, build_sampler("ar").decode(model, 8).expand(2, -1))


def test_a_causal_model_has_no_mask_and_may_decode_its_last_id(saved):
    model = build_model(saved("gpt2").backbone)
    model.head.linear.weight[:96] = 0
    hidden = model(torch.full((1, 1), model.config.bos_id))[0, 0, :24]
    model.head.linear.weight[96] = hidden[:24]
    assert build_sampler("ar").decode(model, 1).item() == 96


def test_random_weights_are_the_librarys_of_the_seed(saved):
    folder, network = saved("llama").folder, saved("llama").network
    first, again, other = (
        build_model(f"hf:{folder}", seed=seed, random_weights=True) for seed in (5, 5, 6)
    )
    assert torch.equal(first.head.linear.weight, network.lm_head.weight)
    assert torch.equal(first.head.linear.weight, again.head.linear.weight)
    assert not torch.equal(first.head.linear.weight, other.head.linear.weight)
    assert first.checkpoint == ""
    assert build_model(f"hf:{folder}").checkpoint != ""


def test_a_head_with_a_bias_is_stored_once(saved):
    model = build_model(saved("bert").backbone)
    own = saved("bert").network
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in own.parameters())
    embedding = model.network.get_input_embeddings().weight  # tied to the head
    assert embedding.data_ptr() == model.head.weight.data_ptr()
    assert model.head.weight.shape == (97, 64)


def test_the_tokenizers_mask_is_mask(saved, tmp_path):
    folder = tmp_path / "with-words"
    network_of("bert", folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(92))]
    (folder / "vocab.txt").write_text("\n".join(words))
    model = build_model(f"hf:{folder}")
    assert model.config.mask_id == 4
    prompt = torch.tensor([[90, 96, 0]])  # ids on both sides of MASK's
    tokens = build_sampler("full").decode(model, 37, prompt=prompt)
    assert not (tokens == 4).any()
    with pytest.raises(ConfigError, match=r"token 97 is not allowed; .* 0 to 96"):
        build_sampler("full").decode(model, 37, prompt=torch.tensor([[90, 97]]))
    config = json.loads((folder / "config.json").read_text()) | {"mask_token_id": 11}
    (folder / "config.json").write_text(json.dumps(config))
    assert build_model(f"hf:{folder}").config.mask_id == 11


def test_ids_that_stand_for_decoded_ones_are_neither_mask_nor_beginning(saved):
    model = build_model(saved("bert").backbone)
    state = build_sampler("full").prepare(model, 40, batch=50)
    assert set(state.stand_ins.unique().tolist()) == set(range(97)) - {2, 96}


@pytest.mark.parametrize("prompt_len", [0, 8])
def test_sampled_timing_of_a_cache_runs(saved, prompt_len):
    model = build_model(saved("gpt2").backbone, random_weights=True)
    settings = {"mode": "sampled", "warmup": 0, "max_seconds": 0.2, "prompt_len": prompt_len}
    record = measure(model, build_sampler("ar"), 32, **settings)
    assert record.nfe == (31 if prompt_len else 32)
    assert bool(record.prefill_seconds) == bool(prompt_len)
    assert record.environment["transformers"]
    assert record.model["architecture"] == "GPT2LMHeadModel"
