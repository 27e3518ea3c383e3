"""Packages of plug-ins that are wrong, and the least ones that are right."""

import sys

import pytest

from dlm_bench import ConfigError, build_model, build_sampler
from dlm_bench.cli import main
from dlm_bench.plugins import entry_points

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
            "    def passes(self, length):\n        yield\n",
            r"has passes\(self, length\); must take length and prompt_len",
        ),
    ],
)
def test_a_sampler_that_is_none_is_refused(package, module, said):
    package(module, samplers=["theirs"])
    with pytest.raises(ConfigError, match=said):
        build_sampler("theirs")


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
