"""Models of Hugging Face's format decode as the library's own passes say, and as nothing else."""

import json
from dataclasses import dataclass

import pytest
import torch

from dlm_bench import ConfigError, build_model, build_sampler, load_results, measure
from dlm_bench.cli import main
from dlm_bench.models.hf.folder import transformers_quiet
from dlm_bench.results.record import Point
from dlm_bench.sweep.load import Measuring
from dlm_bench.sweep.worker.jobs import JobServer

LENGTH = 24
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
CAUSAL = ["llama", "gpt2", "mistral"]


@dataclass(frozen=True)
class Saved:
    """A folder, its network as the library itself builds it, and the name of its backbone."""

    folder: str
    network: torch.nn.Module

    @property
    def backbone(self):
        return f"hf:{self.folder}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders with weights, each built once, by architecture."""
    built = {}

    def of(name, **changes):
        key = (name, *changes.items())
        if key not in built:
            folder = tmp_path_factory.mktemp("hf") / name
            built[key] = Saved(str(folder), network_of(name, folder, **changes))
        return built[key]

    return of


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


# The command line.


@pytest.fixture
def bare(tmp_path):
    """Write a folder with a configuration alone."""

    def write(name="tiny", **content):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "config.json").write_text(json.dumps(content))
        return f"hf:{tmp_path / name}"

    return write


BERT = {"model_type": "bert", **DIMENSIONS}
LLAMA = {"model_type": "llama", **DIMENSIONS}
MISTRAL = LLAMA | {"model_type": "mistral", "sliding_window": 8, "num_key_value_heads": 2}


def run(*arguments):
    return main(["run", *arguments, "--warmup", "0", "--repeats", "1"])


@pytest.mark.process
def test_a_sweep_takes_folders_beside_names_and_resumes_by_their_content(bare, tmp_path, capsys):
    sweep, output = tmp_path / "s.toml", tmp_path / "r.jsonl"
    text = (
        'name = "s"\nsize = "tiny"\nlengths = [16]\nwarmup = 0\nrepeats = 1\n'
        f'random_weights = true\n[[lines]]\nbackbone = ["{bare(**BERT)}", "diffutran"]\n'
        'sampler = "full"\n'
    )
    sweep.write_text(text)
    command = ["sweep", str(sweep), "--output", str(output)]
    assert main(command) == 0
    frame = load_results(output)
    assert list(frame.backbone) == ["hf:tiny", "diffutran"]
    assert list(frame["size"]) == ["hf", "tiny"]
    assert list(frame["status"]) == ["ok", "ok"]
    assert str(tmp_path) not in output.read_text(), "no path of this machine"

    def found():
        capsys.readouterr()
        assert main([*command, "--resume", "--dry-run"]) == 0
        return capsys.readouterr().out

    assert "2 of 2 points found" in found()
    moved = bare("elsewhere/tiny", **BERT)
    sweep.write_text(text.replace(f"hf:{tmp_path}/tiny", moved))
    assert "2 of 2 points found" in found()
    bare("elsewhere/tiny", **BERT | {"num_hidden_layers": 3})
    assert "1 of 2 points found" in found()
    asked = [moved, "full", "-L", "16", "--random-weights", "--output", str(output)]
    assert run(*asked) == 0
    assert "2 of 2 points found" in found()


def test_a_worker_takes_no_folders_model_for_anothers(saved, bare):
    desk, weights = JobServer(), saved("bert").folder
    folders = [bare(**BERT).removeprefix("hf:"), weights, weights]
    folders.append(bare("elsewhere/tiny", **BERT | {"num_hidden_layers": 3}).removeprefix("hf:"))
    point = Point(backbone="hf:x", size="hf", sampler="full", length=8, dtype="float32", options={})
    layers, checkpoints = [], []
    for folder, random_weights in zip(folders, (True, True, False, True), strict=True):
        settings = {"folders": {"hf:x": folder}, "random_weights": random_weights}
        measuring = Measuring(warmup=0, repeats=1, **settings).model_dump()
        job = {"measure": point.model_dump(), "measuring": measuring, "memory_limit": None}
        record = desk.answer(job)["record"]
        layers.append(record["model"]["layers"])
        checkpoints.append(record["checkpoint"] != "")
    assert layers == [2, 2, 2, 3]
    assert checkpoints == [False, False, True, False]


@pytest.mark.parametrize(
    ("content", "sampler", "said"),
    [
        (BERT, "full", "has no weights (*.safetensors in"),
        (BERT, "ar --random-weights", "it needs a causal model"),
        (LLAMA, "full --random-weights", "a causal model sees only the left"),
        (BERT, "full --random-weights --size tiny", "size: 'tiny' is not known; allowed: hf"),
        (BERT, "full --random-weights -L 41", "length: 41 is not allowed; backbone 'hf:tiny' ta"),
        (LLAMA, "ar --random-weights -L 41", "takes at most 40 tokens"),
        (
            LLAMA,
            "ar --random-weights -L 30 --prompt-len 11",
            "length: 30 after a prompt of 11 is not allowed; backbone 'hf:tiny' takes at most 40",
        ),
        (MISTRAL, "ar --random-weights", "takes at most 8 tokens"),
        ({"model_type": "t5"}, "full --random-weights", "model_type 't5' is not supported"),
        (
            {"model_type": "mamba", "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1},
            "ar --random-weights",
            "MambaForCausalLM keeps no cache of keys and values",
        ),
        ({"model_type": "openai-gpt"}, "ar --random-weights", "keeps no cache of keys and values"),
        ({"model_type": "gemma2"}, "ar --random-weights", "final_logit_softcapping is not supp"),
        ({"model_type": "nothing"}, "full", "transformers refuses it: ValueError"),
        ({"hidden_size": 4}, "full", "transformers refuses it: ValueError"),
        (BERT | {"mask_token_id": 97}, "full --random-weights", "mask_token_id 97 is not in its"),
        (BERT | {"num_attention_heads": 5}, "full --random-weights", "transformers refuses it"),
    ],
)
def test_a_folder_that_cannot_be_run_is_a_line(bare, content, sampler, said, capsys):
    name, *more = sampler.split()
    assert run(bare(**content), name, "-L", "16", *more) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_what_is_no_folder_of_a_model_is_a_line(tmp_path, capsys):
    for path, said in ((tmp_path / "none", "no such folder"), (tmp_path, "No such file")):
        assert run(f"hf:{path}", "full", "-L", "16") == 2
        told = capsys.readouterr().err
        assert said in told
        assert len(told.splitlines()) == 1
    (tmp_path / "config.json").write_text("{")
    assert run(f"hf:{tmp_path}", "full", "-L", "16") == 2
    assert "not valid JSON" in capsys.readouterr().err


def test_positions_of_roberta_begin_after_padding(saved):
    model = build_model(saved("roberta").backbone)
    assert model.config.max_length == 40, "of 42, as id 1 is padding"
    with pytest.raises(ConfigError, match=r"length: 41 is not allowed; .* at most 40 tokens"):
        build_sampler("full").decode(model, 41)
    with pytest.raises(ConfigError, match=r"length: 34 after a prompt of 7 is not allowed"):
        build_sampler("full").decode(model, 34, prompt_len=7)


def test_weights_of_another_model_are_refused(saved, tmp_path):
    folder = tmp_path / "other"
    network_of("bert", folder)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="the weights do not fit BertForMaskedLM: missing keys"):
        build_model(f"hf:{folder}")


def test_two_folders_of_one_name_are_not_told_apart_in_a_sweep(bare, tmp_path, capsys):
    sweep = tmp_path / "s.toml"
    one, other = bare(**BERT), bare("elsewhere/tiny", **BERT)
    sweep.write_text(
        f'name = "s"\nsize = "tiny"\nlengths = [16]\nrandom_weights = true\n[[lines]]\n'
        f'backbone = ["{one}", "{other}"]\nsampler = "full"\n'
    )
    assert main(["sweep", str(sweep), "--dry-run"]) == 2
    assert "'hf:tiny' is " in capsys.readouterr().err
