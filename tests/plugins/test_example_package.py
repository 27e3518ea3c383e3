"""The example package, installed as a user would, works by its names in every command."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlm_bench import build_model, build_sampler, load_results, read_records
from dlm_bench.cli import main
from dlm_bench.models.cache import Window
from dlm_bench.plugins import entry_points
from dlm_bench.sweep.planning import make_plan
from dlm_bench.testing import check_decode, check_model

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "dlm_bench_example"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where pip put the example."""
    place = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "example"  # pip builds beside the source
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--disable-pip-version-check", "--target", place, source]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def installed(folder, monkeypatch):
    """The example is there: in this process, and in the workers that it starts."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
    entry_points.announced.cache_clear()
    yield
    entry_points.announced.cache_clear()


def test_the_documentation_has_the_example_in_full():
    told = (ROOT / "docs" / "plugins.md").read_text()
    for name in ("aft.py", "taper.py"):
        source = (EXAMPLE / "src" / "dlm_bench_example" / name).read_text()
        assert f"```python\n{source}```" in told, f"docs/plugins.md shows another {name}"
    entries = re.search(r"\[project.entry-points.*", told[: told.index("```\n")], re.DOTALL)
    assert entries is not None
    assert entries[0].strip() in (EXAMPLE / "pyproject.toml").read_text()


@pytest.mark.usefixtures("installed")
def test_list_has_plug_ins_with_their_package(capsys):
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    for name in ("backbone +aft", "sampler +taper"):
        (line,) = re.findall(rf"^ *{name} .*", told, re.MULTILINE)
        assert "dlm-bench-example 0.1.0" in line
    assert "tiny small" in told
    assert "full block-cache prefill" in told


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_sweep_measures_and_draws_what_a_package_brings(tmp_path, capsys):
    sweep = tmp_path / "own.toml"
    sweep.write_text(
        'name = "own"\nsize = "tiny"\nlengths = [32, 64]\nwarmup = 0\nrepeats = 2\n'
        '[[lines]]\nbackbone = ["aft", "diffutran"]\nsampler = ["taper", "block-cache"]\n'
        "tokens_per_step = 8\n"
    )
    output = tmp_path / "own.jsonl"
    assert main(["sweep", str(sweep), "--output", str(output)]) == 0
    records = read_records(output)
    assert [record.status for record in records] == ["ok"] * 8
    for record in records:
        point, theirs = record.point, {"aft", "taper"}
        used = theirs & {point.backbone, point.sampler}
        assert record.environment.get("plugins") == ("dlm-bench-example 0.1.0" if used else None)
        if point.sampler == "taper":
            # 8 a pass until 16 are left; then 8, 4, 2, 1, 1.
            assert record.nfe == (point.length - 16) // 8 + 5
        if point.backbone == "aft":
            assert record.model["layers"] == 2
            assert record.kernels == {"lm_head": "torch", "elementwise": "torch"}
    assert set(load_results(output).backbone) == {"aft", "diffutran"}

    capsys.readouterr()
    resumed = ["sweep", str(sweep), "--output", str(output), "--resume"]
    assert main([*resumed, "--dry-run"]) == 0
    assert "8 of 8 points found" in capsys.readouterr().out
    figures = ["plot", str(output), "--output", str(tmp_path), "--figure", "throughput"]
    assert main([*figures, "--predict", "h100-sxm"]) == 0
    assert (tmp_path / "throughput.pdf").stat().st_size > 1000
    sweep.write_text('dtype = "bfloat16"\n' + sweep.read_text())  # the precision of the sheet
    capsys.readouterr()
    assert main(["cost", "--sweep", str(sweep), "--hardware", "h100-sxm"]) == 0
    told = capsys.readouterr().out
    assert told.count("cost not known") == 4, "two lengths under two samplers"
    assert re.search(r"diffutran tiny taper.* [\d,.]+$", told, re.MULTILINE)


@pytest.mark.usefixtures("installed")
def test_run_takes_a_packages_names_and_finds_its_record_in_a_sweep(tmp_path, capsys):
    output = tmp_path / "r.jsonl"
    run = [
        "run",
        "aft",
        "taper",
        "-L",
        "32",
        "--warmup",
        "0",
        "--repeats",
        "1",
        "--size",
        "tiny",
        "--device",
        "cpu",
    ]
    assert main([*run, "--output", str(output)]) == 0
    sweep = tmp_path / "s.toml"
    sweep.write_text(
        'name = "s"\nsize = "tiny"\nlengths = [32]\nwarmup = 0\nrepeats = 1\n'
        '[[lines]]\nbackbone = "aft"\nsampler = "taper"\n'
    )
    capsys.readouterr()
    assert main(["sweep", str(sweep), "--output", str(output), "--resume", "--dry-run"]) == 0
    assert "1 of 1 points found" in capsys.readouterr().out
    elsewhere = make_plan(sweep, on_this_machine=False)  # as a scheduler plans it
    assert [*elsewhere.found_in(output)] == elsewhere.identities()


@pytest.mark.usefixtures("installed")
def test_prompts_and_batches_multiply_with_what_a_package_brings(tmp_path, capsys):
    sweep, output = tmp_path / "s.toml", tmp_path / "r.jsonl"
    sweep.write_text(
        'name = "s"\nsize = "tiny"\nlengths = [32]\nwarmup = 0\nrepeats = 1\n'
        "batch = [1, 2]\nprompt_len = [0, 5]\n"
        '[[lines]]\nbackbone = "aft"\nsampler = ["taper", "block-cache"]\n'
    )
    assert main(["sweep", str(sweep), "--output", str(output)]) == 0
    records = read_records(output)
    assert [record.status for record in records] == ["ok"] * 8
    for record in records:
        point = record.point
        prefills = point.sampler == "block-cache" and point.prompt_len > 0
        assert len(record.prefill_seconds) == int(prefills)
        assert record.timed_tokens == 32 * point.batch
    run = [
        "run",
        "aft",
        "block-cache",
        "-L",
        "32",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "--batch",
        "2",
    ]
    run += ["--warmup", "0", "--repeats", "1", "--prompt-len", "5"]
    alone = tmp_path / "alone.jsonl"
    assert main([*run, "--output", str(alone)]) == 0
    assert [each.identity for each in read_records(alone)] == [records[-1].identity]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("prompt_len", [0, 7])
@pytest.mark.parametrize(
    ("sampler", "options"),
    [("full", {}), ("taper", {}), ("block-cache", {"commit": "fused"}), ("block-cache", {})],
)
def test_a_packages_backbone_decodes_every_token(sampler, options, prompt_len):
    model = build_model("aft", "tiny")
    decoder = build_sampler(sampler, **options)
    tokens = decoder.decode(model, 50, batch=2, prompt_len=prompt_len)
    assert tokens.shape == (2, 50)
    assert ((tokens >= 0) & (tokens < model.config.mask_id)).all()
    assert len(tokens.unique()) > 2, "an untrained network that decodes next to nothing"


@pytest.mark.usefixtures("installed")
def test_the_checks_for_authors_hold_of_the_example():
    model = build_model("aft", "tiny")
    check_model(model)
    check_decode(model, build_sampler("taper"))
    check_decode(build_model("diffumamba", "tiny"), build_sampler("taper"))


@pytest.mark.usefixtures("installed")
def test_the_cache_of_the_example_is_that_of_the_documentation():
    model = build_model("aft", "tiny")

    def decode(name, length=48, **options):
        return build_sampler(name, tokens_per_step=4, **options).decode(model, length)

    assert torch.equal(decode("block-cache", block_size=48), decode("full"))
    fused, separate = (
        decode("block-cache", block_size=16, commit=commit) for commit in ("fused", "separate")
    )
    assert torch.equal(fused, separate)
    assert not torch.equal(fused, decode("full"))
    sampler = build_sampler("block-cache", tokens_per_step=4, block_size=16)
    state = sampler.prepare(model, 48)
    sampler.seek(state, 7)  # which fills the caches with random numbers
    sampler.seek(state, 0)
    sampler.run(model, state)
    assert torch.equal(state.tokens, separate)


@pytest.mark.usefixtures("installed")
def test_a_prefill_of_the_example_leaves_what_the_documentation_says():
    model, prompt_len, block = build_model("aft", "tiny"), 11, 16
    sampler = build_sampler("block-cache", block_size=block)
    state = sampler.prepare(model, block, batch=2, prompt_len=prompt_len)
    sampler.step(model, state, "prefill")
    start, t = torch.tensor([prompt_len]), torch.tensor([[0.5]])
    tokens = state.tokens[:, prompt_len:]
    after = model(tokens, t, Window(start, (block,)), state.caches)
    whole = Window(torch.tensor([0]), (prompt_len, block))
    both = model(state.tokens, torch.tensor([[0.0, 0.5]]), whole, model.new_caches(2, 27))
    # Float32 sums of the same numbers in another order.
    torch.testing.assert_close(after, both[:, prompt_len:], rtol=1e-5, atol=1e-5)
    without = model(tokens, t, Window(start, (block,)), model.new_caches(2, 27))
    assert not torch.allclose(after, without, atol=1e-2), "the prompt makes no difference"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["aft", "ar"], "it needs a causal model"),
        (["aft", "fast-dllm"], "it needs the passes of 'fast-dllm'; there are those of full, bl"),
        (["ar-mamba", "taper"], "a causal model sees only the left"),
        (["aft", "full", "--size", "huge"], "size: 'huge' is not known; allowed: tiny, small"),
        (["aft", "tapper"], "sampler: 'tapper' is not known (did you mean 'taper'?)"),
        (["atf", "taper"], "backbone: 'atf' is not known (did you mean 'aft'?)"),
        (["aft", "taper", "--attention", "cudnn"], "allowed: lm_head, elementwise"),
        (["aft", "taper", "-o", "block_size=4"], "block_size: sampler 'taper' has no such option"),
        # What it does not do it must not take: the decode would not be what its record says.
        (["aft", "taper", "-o", "trace=t.json"], "trace: sampler 'taper' has no such option"),
        (["aft", "taper", "-o", "accept=threshold"], "accept: sampler 'taper' has no such option"),
    ],
)
def test_what_a_package_does_not_have_is_a_line(arguments, said, capsys):
    assert main(["run", *arguments, "-L", "32"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
