"""A point that cannot fit in the device's memory is told before anything is built."""

import json

import pytest

from dlm_bench.results.record import Point
from dlm_bench.samplers.acceptance.trace import Trace, save_trace
from dlm_bench.sweep.load import Sweep, load_sweep
from dlm_bench.sweep.memory import lack_of_memory, point_memory
from dlm_bench.sweep.plan import Plan
from dlm_bench.sweep.planning import make_plan
from dlm_bench.sweep.run import Limits

SWEEP = """
name = "large"
size = "8b"
device = "cpu"
dtype = "bfloat16"
lengths = [1024, 32768]
batch = 8

[[lines]]
backbone = "llada"
sampler = "block-cache"
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "large.toml"
    path.write_text(SWEEP)
    sweep = load_sweep(path)
    return Plan(sweep=sweep, work=[1, 1], environment={"hardware": "x"}, memory=80_000_000_000)


def test_a_point_that_cannot_fit_is_skipped_and_says_by_how_much(plan):
    limits = Limits([])
    short, long = plan.sweep.points
    assert limits.skip(plan, short) is None
    record = limits.skip(plan, long)
    assert record.status == "skipped"
    # 16.03 GB of weights, 8 x 32768 x 512 KiB of keys and values.
    assert "needs at least 153 GB (weights 16, caches 137, activations " in record.message
    assert "73.5 GB more than there are: 80" in record.message


def test_an_unknown_memory_skips_nothing(plan):
    anywhere = plan.model_copy(update={"memory": None})
    assert all(Limits([]).skip(anywhere, point) is None for point in plan.sweep.points)


def test_a_backbone_of_unknown_shape_is_tried():
    point = Point(backbone="hf:somebody", size="hf", sampler="full", length=8)
    assert point_memory(Sweep(name="s", points=[point]), point) is None
    assert lack_of_memory(None, 1) is None


def test_a_folder_of_the_same_shape_needs_the_same_memory(plan, tmp_path):
    shape = {
        "model_type": "llada",
        "n_layers": 32,
        "d_model": 4096,
        "n_heads": 32,
        "mlp_hidden_size": 12288,
        "vocab_size": 126464,
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(shape))
    path = tmp_path / "folder.toml"
    path.write_text("random_weights = true\n" + SWEEP.replace("llada", "hf:mine"))
    sweep = load_sweep(path)
    needed = [point_memory(sweep, point) for point in sweep.points]
    assert needed == [point_memory(plan.sweep, point) for point in plan.sweep.points]


def test_the_plan_knows_the_memory_of_this_machine(tmp_path):
    path = tmp_path / "large.toml"
    path.write_text(SWEEP)
    found = make_plan(path, memory_limit="2GiB")
    assert found.memory == 2 * 2**30
    assert make_plan(path).memory > 2**30
    assert make_plan(path, on_this_machine=False).memory is None


PIPELINE = """
name = "pipeline"
size = "tiny"
device = "cpu"
seed = [0, 1]
lengths = [64]

[[lines]]
backbone = "diffutran"
sampler = "pipeline"
trace = "two.json"
block_size = 8
"""


def test_a_pipelines_memory_is_that_of_the_sequence_that_the_seed_follows(tmp_path):
    """A pass over four blocks under way holds more than one that each block takes alone."""
    alone, waiting = [[8]] * 8, [[1] * 8] * 8
    save_trace(Trace.by_hand([alone, waiting], 8), tmp_path / "two.json")
    save_trace(Trace.by_hand([waiting], 8), tmp_path / "waiting.json")
    path = tmp_path / "pipeline.toml"

    def activations(text):
        path.write_text(text)
        sweep = load_sweep(path)
        return [point_memory(sweep, point).activations for point in sweep.points]

    first, second = activations(PIPELINE)
    assert second > 1.5 * first
    assert activations(PIPELINE.replace("two", "waiting")) == [second, second]
