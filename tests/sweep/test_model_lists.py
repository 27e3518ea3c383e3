"""Lists of dtypes, seeds and checkpoints in a sweep file: each value makes points of its own."""

import json

import pytest
from support.records import make_record
from support.sweep_files import VALID, load

import dlm_bench
from dlm_bench.cli import main
from dlm_bench.errors import ConfigError
from dlm_bench.results.record import Record
from dlm_bench.results.series import labelled, series_of
from dlm_bench.results.store import frame_of
from dlm_bench.sweep.load import load_sweep
from dlm_bench.sweep.plan import ANY_HARDWARE, Plan, model_key
from dlm_bench.sweep.worker.jobs import JobServer
from dlm_bench.sweep.worker.messages import MeasureJob

SHORT = """
name = "lists"
size = "tiny"
lengths = 32
warmup = 0
repeats = 1

[[lines]]
backbone = "diffumamba"
sampler = "full"
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with two checkpoints, a.safetensors and b.safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate("ab", 1):
        model = dlm_bench.build_model("diffumamba", "tiny", seed=seed)
        dlm_bench.save_checkpoint(model, folder / f"{name}.safetensors")
    return folder


def load_in(folder, text):
    path = folder / "s.toml"
    path.write_text(text)
    return load_sweep(path)


def plan_of(sweep, hardware="a CPU"):
    count = len(sweep.points)
    return Plan(sweep=sweep, work=[1.0] * count, environment={"hardware": hardware})


def test_dtypes_seeds_and_checkpoints_multiply_and_models_stay_together(weights):
    lists = 'dtype = ["float32", "bfloat16"]\nseed = [0, 3]\ncheckpoint = ["", "a.safetensors"]\n'
    sweep = load_in(weights, SHORT.replace('"full"', '["full", "block-cache"]') + lists)
    (trained,) = sweep.measuring.checkpoints
    found = [(p.dtype, p.weights, p.seed) for p in sweep.points]
    models = [(d, w, s) for d in ("float32", "bfloat16") for w in ("", trained) for s in (0, 3)]
    assert found == [model for model in models for _ in range(2)]
    assert sweep.measuring.checkpoints[trained] == str(weights / "a.safetensors")
    assert len({model_key(point) for point in sweep.points}) == len(models)
    assert len({*plan_of(sweep).identities()}) == len(sweep.points)
    assert len({point.describe() for point in sweep.points}) == len(sweep.points)


def test_the_keys_of_the_sweep_hold_where_a_group_has_none(tmp_path):
    above = VALID.replace('dtype = "float32"', 'dtype = ["float32", "bfloat16"]\nseed = [1, 2]')
    assert {(p.dtype, p.seed) for p in load(tmp_path, above).points} == {
        (dtype, seed) for dtype in ("float32", "bfloat16") for seed in (1, 2)
    }
    own = load(tmp_path, f'{above}dtype = "float16"\nseed = 7\n')
    assert {(p.dtype, p.seed) for p in own.points} == {("float16", 7)}


def test_a_single_seed_is_a_setting_with_the_identity_that_a_list_gives_it(tmp_path):
    alone, several = (load(tmp_path, f"seed = {seed}\n{VALID}") for seed in ("3", "[2, 3]"))
    assert {point.seed for point in alone.points} == {None}
    assert alone.measuring.seed == 3
    (wanted, *_), found = plan_of(alone).identities(), plan_of(several).identities()
    assert [
        point.seed for point, name in zip(several.points, found, strict=True) if name == wanted
    ] == [3]


def test_a_groups_own_seed_that_is_the_sweeps_makes_no_second_point(tmp_path):
    group = VALID[VALID.index("[[lines]]") :]
    sweep = load(tmp_path, f"seed = 3\n{VALID}\n{group}seed = [3, 4]\n")
    assert [point.seed for point in sweep.points] == [None] * 8 + [4] * 8
    identities = plan_of(sweep).identities()
    assert len({*identities}) == len(identities)


def test_a_record_of_any_hardware_is_found_by_its_seed(tmp_path):
    sweep = load(tmp_path, f"seed = [2, 3]\n{VALID}")
    here, anywhere = plan_of(sweep), plan_of(sweep, ANY_HARDWARE)
    point = sweep.points[-1]
    record = make_record(seed=3, environment={"hardware": "a CPU"}).model_copy(
        update={"point": point}
    )
    record.identity = here.identity_of(point)
    assert anywhere.key_of(record) == anywhere.identity_of(point)
    record.identity = here.identity_of(sweep.points[0])
    assert anywhere.key_of(record) == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('dtype = ["float32", "int8"]', r":11: lines\[0\]: dtype: 'int8' is not known"),
        ("seed = [0, -1]", r":11: lines\[0\].seed\[1\]: -1 is not allowed"),
        ("seed = []", r"seed: \[\] is not allowed; must have at least one value"),
        ('checkpoint = "c.safetensors"', r"checkpoint '.*c.safetensors': no such file"),
        (
            'checkpoint = "a.safetensors"\nsize = "small"',
            r"size: 'small' is not allowed; checkpoint",
        ),
    ],
)
def test_a_wrong_model_is_a_line(weights, line, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_in(weights, f"{SHORT}{line}\n")
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_backbone_is_a_mistake_or_left_out_where_that_is_asked_for(weights):
    both = SHORT.replace('"diffumamba"', '["diffutran", "diffumamba"]')
    both += 'checkpoint = ["a.safetensors", "b.safetensors"]\n'
    with pytest.raises(ConfigError, match="backbone: 'diffutran' is not allowed; checkpoint"):
        load_in(weights, both)
    with pytest.warns(UserWarning, match="2 points left out"):
        sweep = load_in(weights, both.replace("repeats", "skip_impossible = true\nrepeats"))
    assert [point.backbone for point in sweep.points] == ["diffumamba"] * 2


def test_points_are_excluded_and_chosen_by_all_three(weights):
    lists = 'dtype = ["float32", "bfloat16"]\nseed = [0, 3]\ncheckpoint = ["", "a.safetensors"]\n'
    left_out = (
        '[[exclude]]\ndtype = "bfloat16"\nseed = 3\n[[exclude]]\ncheckpoint = "a*"\nseed = 0\n'
    )
    sweep = load_in(weights, f"{SHORT}{lists}{left_out}")
    found = [(p.dtype, p.weights[:1], p.seed) for p in sweep.points]
    assert found == [
        ("float32", "", 0),
        ("float32", "", 3),
        ("float32", "a", 3),
        ("bfloat16", "", 0),
    ]
    chosen = load_sweep(weights / "s.toml", only="weights=a@* seed=3")
    assert [(p.dtype, p.weights[:1], p.seed) for p in chosen.points] == [("float32", "a", 3)]


def test_a_worker_measures_the_weights_and_the_seed_of_a_point(weights, monkeypatch):
    sweep = load_in(
        weights, f'{SHORT}seed = [5]\ncheckpoint = ["", "a.safetensors", "b.safetensors"]\n'
    )
    desk, records = JobServer(), []
    for point in sweep.points:
        job = MeasureJob.of(sweep, point, sweep.measuring).json_object()
        records.append(Record(**desk.answer(job)["record"]))
    assert [record.point for record in records] == sweep.points
    assert [record.seed for record in records] == [5] * 3
    assert [bool(record.checkpoint) for record in records] == [False, True, True]
    assert len({record.output["digest"] for record in records}) == 3
    (weights / "b.safetensors").write_bytes((weights / "a.safetensors").read_bytes())
    failed = JobServer().answer(job)["failure"]["message"]
    assert "checkpoint: 'b@" in failed
    assert "by now" in failed


def test_series_are_told_apart_by_weights_and_seed_and_older_records_have_neither():
    points = ({}, {"weights": "a@1"}, {"weights": "b@2"}, {"weights": "b@2", "seed": 1})
    records = [
        make_record(length=n, point=point, seed=point.get("seed", 0))
        for point in points
        for n in (64, 128)
    ]
    names = [series.label for series in labelled(series_of(frame_of(records)))]
    assert names == [
        "DiffuTran, seed=0",
        "DiffuTran, weights=a@1, seed=0",
        "DiffuTran, weights=b@2, seed=0",
        "DiffuTran, weights=b@2, seed=1",
    ]
    plain = json.loads(records[0].model_dump_json())["point"]
    assert not {"weights", "seed"} & plain.keys()


def test_a_dry_run_shows_what_differs(weights, capsys):
    lists = 'dtype = ["float32", "bfloat16"]\nseed = [0, 3]\ncheckpoint = "a.safetensors"\n'
    load_in(weights, f"{SHORT}{lists}")
    assert main(["sweep", str(weights / "s.toml"), "--dry-run"]) == 0
    heading, titles, _, first, *_ = capsys.readouterr().out.splitlines()
    assert "weights a@" in heading
    assert titles.split()[:2] == ["dtype", "seed"]
    assert first.split()[:2] == ["float32", "0"]


def test_a_resumed_sweep_measures_what_a_list_has_more(tmp_path):
    before = plan_of(load(tmp_path, f"seed = [0, 1]\n{VALID}"))
    records = [
        make_record(seed=point.seed, identity=name).model_copy(update={"point": point})
        for point, name in zip(before.sweep.points, before.identities(), strict=True)
    ]
    text = VALID.replace('dtype = "float32"', 'dtype = ["float32", "bfloat16"]')
    plan = plan_of(load(tmp_path, f"seed = [1, 2]\n{text}"))
    found = plan.best_of(records)
    done = [point for point in plan.sweep.points if plan.identity_of(point) in found]
    assert {(point.dtype, point.seed) for point in done} == {("float32", 1)}
    assert len(done) == len(records) / 2
