"""The implementations that a measurement on a GPU chooses, kept on disk."""

import pytest
import torch

from dlm_bench import build_model
from dlm_bench.kernels.choice import Kernels
from dlm_bench.models import measured
from dlm_bench.models.config import model_config
from dlm_bench.models.measured import (
    fastest,
    results_file,
    settle_attention,
    settle_scan,
    settle_small_pass,
)
from dlm_bench.models.own import own_config

FACTS = ("a GPU", "1.3b")
NAMES = ("triton", "torch")


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return results_file("small_pass")


def never(name):
    raise AssertionError(f"{name} is timed again")


def choose(seconds, facts=FACTS):
    return fastest("small_pass", NAMES, facts, seconds)


@pytest.mark.parametrize(("own", "chosen"), [(1.0, "triton"), (3.0, "torch"), (2.0, "torch")])
def test_the_faster_stays_and_is_timed_once(own, chosen):
    assert choose({"triton": own, "torch": 2.0}.get) == chosen
    assert choose(never) == chosen


def test_the_fastest_of_several():
    times = {"triton": 2.0, "other": 1.0, "torch": 3.0}
    assert fastest("small_pass", tuple(times), FACTS, times.get) == "other"


def test_other_facts_are_timed_anew():
    choose({"triton": 1.0, "torch": 2.0}.get)
    assert choose({"triton": 3.0, "torch": 2.0}.get, ("another GPU", "1.3b")) == "torch"
    assert choose(never) == "triton"


def test_a_changed_kernel_is_timed_anew(monkeypatch):
    choose({"triton": 1.0, "torch": 2.0}.get)
    monkeypatch.setattr(measured, "kernels_digest", lambda: "of other kernels")
    assert choose({"triton": 3.0, "torch": 2.0}.get) == "torch"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_file_is_replaced(text, path):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert choose({"triton": 1.0, "torch": 2.0}.get) == "triton"
    assert choose(never) == "triton"


def test_without_a_place_to_write_each_process_measures(path):
    path.parent.parent.mkdir()
    path.parent.write_text("a file where the folder would be")
    for _ in range(2):
        assert choose({"triton": 3.0, "torch": 2.0}.get) == "torch"


def test_a_kernel_that_raises_is_not_chosen_and_named(path):
    def seconds(name):
        if name == "triton":
            raise RuntimeError("ptxas: out of registers")
        return 2.0

    with pytest.warns(UserWarning, match="ptxas: out of registers"):
        assert choose(seconds) == "torch"
    assert not path.exists()  # another version may do better


def test_an_error_of_what_others_fall_back_on_is_an_error():
    def seconds(name):
        raise RuntimeError("no GPU")

    with pytest.raises(RuntimeError, match="no GPU"):
        choose(seconds)


def test_too_little_memory_is_no_choice():
    def seconds(name):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        choose(seconds)


class TestSmallPass:
    """A GPU on which the kernels that begin early take the least time."""

    SECONDS = {"triton-pdl": 1.0, "triton": 2.0, "torch": 3.0}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _a_gpu_with_dependent_launches(self, monkeypatch):
        pytest.importorskip("triton", reason="triton is not installed")
        self.early = torch.ones(2)  # hidden states of those kernels
        self.timed = []

        def timed_pass(model):
            assert model.head.weight.std() > 0.01  # not what was in memory
            name = model.kernels.small_pass
            self.timed.append(name)
            return self.SECONDS[name], self.early if name == "triton-pdl" else torch.ones(2)

        monkeypatch.setattr(measured, "_timed_pass", timed_pass)
        monkeypatch.setattr(measured, "launches_dependents", lambda device: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")

    def settled(self):
        model = build_model("diffumamba", "tiny", "cpu")
        model.head.weight.zero_()
        settle_small_pass(model)
        return model.kernels.small_pass

    def test_the_fastest_stays(self):
        assert self.settled() == "triton-pdl"
        assert sorted(self.timed) == sorted(self.SECONDS)

    def test_kernels_that_ran_ahead_of_their_inputs_are_not_taken(self):
        self.early = torch.tensor([1.0, 1.0 + 2**-20])
        with pytest.warns(UserWarning, match="hidden states that are not those of 'triton'"):
            assert self.settled() == "triton"

    def test_other_gpus_launch_as_usual(self, monkeypatch):
        monkeypatch.setattr(measured, "launches_dependents", lambda device: False)
        assert self.settled() == "triton"
        assert self.timed == ["torch", "triton"]


class TestScan:
    BOTH = Kernels(ssd="mamba-ssm", walking_scan="triton")

    @pytest.fixture(autouse=True)
    def _a_gpu_on_which_chunks_are_faster(self, monkeypatch):
        self.timed = []

        def seconds(name, *shape_and_place):
            self.timed.append((name, shape_and_place[:4]))
            return {"triton": 2.0, "torch": 1.0}[name]

        monkeypatch.setattr(measured, "_scan_seconds", seconds)
        monkeypatch.setattr(measured, "version", lambda package: "1.0")
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")

    def settled(self, backbone, kernels=BOTH):
        config = model_config(backbone, "1.3b")
        return settle_scan(kernels, config, torch.device("cuda", 0), torch.bfloat16).walking_scan

    def test_the_faster_one_is_chosen_once_for_the_heads_of_a_model(self):
        assert self.settled("diffumamba") == "torch"
        assert self.timed == [(name, (2, 60, 64, 128)) for name in ("torch", "triton")]
        assert self.settled("diffumamba-h") == "torch"  # of equal mixers
        assert len(self.timed) == 2
        assert self.settled("ar-mamba") == "torch"
        assert len(self.timed) == 4

    @pytest.mark.parametrize(
        ("backbone", "kernels"),
        [
            ("diffutran", BOTH),
            ("diffumamba", Kernels(walking_scan="triton")),
            ("diffumamba", Kernels(ssd="mamba-ssm")),
        ],
        ids=["no scan", "without mamba-ssm", "without triton"],
    )
    def test_nothing_is_timed_where_there_is_one_scan(self, backbone, kernels):
        assert self.settled(backbone, kernels) == kernels.walking_scan
        assert not self.timed


class TestAttention:
    DEVICE = torch.device("cuda", 0)
    CUDNN = Kernels(attention="cudnn")

    @pytest.fixture(autouse=True)
    def _a_gpu_on_which_the_own_attention_is_faster(self, monkeypatch):
        pytest.importorskip("triton", reason="triton is not installed")
        self.timed = []

        def seconds(name, heads, head_dim, device, dtype, *, causal):
            self.timed.append((name, heads, head_dim, causal))
            return {"triton": 1.0}.get(name, 2.0)

        monkeypatch.setattr(measured, "_attention_seconds", seconds)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")

    def settled(self, config, kernels=CUDNN, dtype=torch.bfloat16):
        return settle_attention(kernels, config, self.DEVICE, dtype).attention

    def test_the_faster_one_is_chosen_once_for_the_heads_of_a_model(self):
        config = model_config("ar-transformer", "1.3b")
        assert self.settled(config) == "triton"
        assert self.timed == [(name, (24, 24, 24), 80, True) for name in ("cudnn", "triton")]
        assert self.settled(config) == "triton"
        assert len(self.timed) == 2
        assert self.settled(model_config("diffumamba-h", "1.3b")) == "triton"  # sees both sides
        assert len(self.timed) == 4

    @pytest.mark.parametrize(
        ("config", "kernels", "dtype"),
        [
            (model_config("diffumamba", "1.3b"), CUDNN, torch.bfloat16),
            (own_config("dream", "7b"), CUDNN, torch.bfloat16),  # heads of 128
            (model_config("diffutran", "1.3b"), CUDNN, torch.float32),
            (
                model_config("diffutran", "1.3b"),
                Kernels(attention="flash-attn-4"),
                torch.bfloat16,
            ),
        ],
        ids=["no attention", "heads as wide as tiles", "float32", "exact tiles"],
    )
    def test_nothing_is_timed_where_nothing_is_padded(self, config, kernels, dtype):
        assert self.settled(config, kernels, dtype) == kernels.attention
        assert not self.timed

    def test_without_triton_the_library_stays(self, monkeypatch):
        monkeypatch.setattr(measured.importlib.util, "find_spec", lambda name: None)
        assert self.settled(model_config("diffutran", "1.3b")) == "cudnn"
        assert not self.timed
