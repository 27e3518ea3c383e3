"""The example package, installed as a user would, works by its names in every command."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlm_bench import ConfigError, build_model, build_sampler, load_results, read_records
from dlm_bench.cli import main
from dlm_bench.models.cache import Window
from dlm_bench.plugins import entry_points
from dlm_bench.sweep.plan import make_plan

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[1]
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
    elsewhere = make_plan(sweep, here=False)  # as a scheduler plans it
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


# Packages that are not what they must be.


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package of one module that announces names of it."""

    def install(module, backbones=(), samplers=(), name="someones"):
        (tmp_path / f"{name}.py").write_text(module)
        info = tmp_path / f"{name}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
        groups = {"dlm_bench.backbones": backbones, "dlm_bench.samplers": samplers}
        lines = []
        for group, names in groups.items():
            lines += [f"[{group}]", *(f"{each} = {name}:THING" for each in names)]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.delitem(sys.modules, name, raising=False)
        entry_points.announced.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    entry_points.announced.cache_clear()


def test_a_package_that_cannot_be_imported_is_named(package, capsys):
    package("raise OSError('no licence')\n", ["theirs"], ["theirs"])
    said = "of package someones 2.5 cannot be loaded: OSError: no licence"
    for arguments in (["theirs", "full"], ["diffutran", "theirs"]):
        assert main(["run", *arguments, "-L", "32"]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert len(told.splitlines()) == 1
    assert main(["list"]) == 0
    assert capsys.readouterr().out.count("not usable: ") == 2
    assert build_sampler("full").decode(build_model("diffutran", "tiny"), 8).shape == (1, 8)


def test_a_backbone_that_cannot_be_built_is_named(package, capsys):
    package(BACKBONE.replace("return Model()", "return {}['x']"), ["theirs"])
    assert main(["run", "theirs", "full", "-L", "32"]) == 2
    told = capsys.readouterr().err
    assert "of package someones 2.5 cannot be built: KeyError: 'x'" in told
    assert len(told.splitlines()) == 1


def test_a_name_that_is_taken_is_refused(package):
    package("THING = 1\n", ["diffutran", "same"], ["full"])
    package("THING = 1\n", ["same"], name="others")
    with pytest.raises(ConfigError, match="'diffutran' is dlm-bench's own, and package someones"):
        build_model("diffutran", "tiny")
    with pytest.raises(ConfigError, match=r"'full' is dlm-bench's own, and package someones 2.5"):
        build_sampler("full")
    with pytest.raises(ConfigError, match=r"in package others 2.5 and package someones 2.5"):
        build_model("same")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("THING = 1\n", "is not a subclass of dlm_bench.samplers.sampler.Sampler"),
        ("from dlm_bench.samplers.full import Full as THING\n", "has name 'full'"),
        (
            "from dlm_bench.samplers.full import Full\nclass THING(Full):\n    name = 'theirs'\n",
            "is not a dataclass",
        ),
        (
            "from dataclasses import dataclass\nfrom dlm_bench.samplers.full import Full\n"
            "@dataclass(frozen=True)\nclass THING(Full):\n    name = 'theirs'\n"
            "    def plan(self, length):\n        yield\n",
            r"has plan\(self, length\); must take length and prompt_len",
        ),
    ],
)
def test_a_sampler_that_is_none_is_refused(package, module, said):
    package(module, samplers=["theirs"])
    with pytest.raises(ConfigError, match=said):
        build_sampler("theirs")


BACKBONE = """
import torch
from dataclasses import dataclass
from dlm_bench.kernels.choice import UnmaskKernels
from dlm_bench.plugins.api import BackbonePlugin
@dataclass
class Config:
    backbone: str = "theirs"
    size: str = "one"
    vocab_size: int = 9
    mask_id: int = 8
    bos_id: int = 7
class Model(torch.nn.Module):
    kernels, checkpoint, supports = UnmaskKernels(), "", ("full",)
    def __init__(self):
        super().__init__()
        self.config = Config()
        self.head = torch.nn.Linear(4, 9, bias=False)
    def forward(self, tokens, t):
        return torch.nn.functional.one_hot(tokens % 4, 4).to(self.head.weight.dtype)
def build(size, device, dtype, seed):
    return Model().to(device, dtype)
THING = BackbonePlugin(build=build, sizes=("one",))
"""


def test_the_least_backbone_there_is_decodes(package):
    package(BACKBONE, ["theirs"])
    model = build_model("theirs")
    assert model.config.size == "one", "the only size is the default"
    assert build_sampler("full").decode(model, 20).max() < 8


def test_a_prompt_is_refused_where_a_backbone_has_no_pass_for_it(package, tmp_path, capsys):
    supports = '("full", "block-cache")'
    module = BACKBONE.replace('("one",))', f'("one",), supports={supports})')
    module = module.replace('"", ("full",)', f'"", {supports}').replace(
        "def forward(self, tokens, t):",
        "def new_caches(self, batch, length, *, reverse_state=False):\n        return []\n"
        "    def forward(self, tokens, t, window=None, caches=None):",
    )
    package(module, ["theirs"])
    model, sampler = build_model("theirs"), build_sampler("block-cache")
    assert sampler.decode(model, 20).max() < 8
    assert build_sampler("full").decode(model, 20, prompt_len=5).max() < 8
    said = (
        "prompt_len: 5 is not allowed with backbone 'theirs' and sampler 'block-cache', which "
        "begins with a 'prefill' pass; there are those of full, block-cache"
    )
    with pytest.raises(ConfigError, match=said):
        sampler.decode(model, 20, prompt_len=5)
    sweep = tmp_path / "s.toml"
    sweep.write_text(
        'name = "s"\nsize = "one"\nlengths = [20]\nprompt_len = 5\n'
        '[[lines]]\nbackbone = "theirs"\nsampler = "block-cache"\n'
    )
    run = ["run", "theirs", "block-cache", "-L", "20", "--prompt-len", "5"]
    for command in (run, ["sweep", str(sweep), "--dry-run"]):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert said in told
        assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "THING = BackbonePlugin",
            "THING = dict",
            "must be a dlm_bench.plugins.api.BackbonePlugin",
        ),
        ('sizes=("one",)', 'sizes="one"', "sizes: 'one' is not allowed; must be a tuple"),
        ('("one",))', '("one",), supports=("fully",))', "supports: 'fully' is not known"),
        ("Model().to", "torch.zeros(2).to", "is a Tensor; must be a torch.nn.Module"),
        ("self.config = Config()", "self.config = {}", "config that is no dataclass"),
        ('backbone: str = "theirs"', 'backbone: str = "x"', "config.backbone 'x'; must be 'theirs"),
        ("mask_id: int = 8", "mask_id: int = 10", "mask_id of 'theirs': 10 is not allowed"),
        ("Linear(4, 9, bias=False)", "Linear(4, 9)", "has a bias in its head"),
        ("Linear(4, 9,", "Linear(4, 8,", r"no head.weight of \(9, d_model\)"),
        (".to(device, dtype)", ".half()", "asked for was torch.float32 on cpu"),
        ('"", ("full",)', '"", ("ar",)', r"supports \('ar',\); its package announces \('full',\)"),
        ("self.head = ", "self.tail = ", "has no 'head'"),
    ],
)
def test_a_backbone_that_is_not_as_documented_is_refused_by_name(package, before, after, said):
    assert before in BACKBONE
    package(BACKBONE.replace(before, after), ["theirs"])
    with pytest.raises(ConfigError, match=said) as caught:
        build_model("theirs")
    assert "\n" not in str(caught.value)
    assert "someones 2.5" in str(caught.value)


def test_the_former_name_of_a_models_description_warns():
    from dlm_bench.plugins import api

    with pytest.warns(DeprecationWarning, match="ModelInfo"):
        assert api.Facts is api.ModelInfo
    with pytest.raises(AttributeError, match="nothing"):
        _ = api.nothing
