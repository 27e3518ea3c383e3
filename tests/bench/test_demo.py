"""The demo: a sweep, its figures and its report, with nothing said that nobody asked for."""

import demo
import pytest
from support.figure_records import record

from dlm_bench.results.store import append_record, frame_of, read_records
from dlm_bench.sweep.load import load_sweep

SWEEP = """
name = "two"
size = "tiny"
dtype = "float32"
mode = "exact"
warmup = 0
repeats = 2
lengths = [8, 16]
[[lines]]
backbone = ["diffutran", "diffumamba"]
sampler = "full"
tokens_per_step = 8
"""


@pytest.mark.slow
@pytest.mark.process
def test_the_demo_ends_with_a_table_a_sentence_and_three_paths(tmp_path, capsys):
    sweep, output = tmp_path / "two.toml", tmp_path / "out"
    sweep.write_text(SWEEP)
    for _ in range(2):  # the second one measures anew
        assert demo.main(["--sweep", str(sweep), "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    assert "not drawn" not in printed.err + printed.out
    *before, sentence, blank, figure, report, records = printed.out.splitlines()[-20:]
    assert any(line.strip().startswith("tokens/s") for line in before)
    assert sentence.startswith("DiffuMamba, full sequence: ")
    assert blank == ""
    assert figure.split() == ["figure", f"{output}/throughput.png"]
    assert report.split() == ["report", f"{output}/report.html"]
    assert records.split() == ["records", f"{output}/two.jsonl"]
    assert len(read_records(output / "two.jsonl")) == 4
    for name in ("throughput.png", "throughput.pdf", "speedup.pdf", "memory.png", "report.html"):
        assert (output / name).stat().st_size > 1000
    assert not (output / "batch.png").exists()


def ratios(*records):
    from dlm_bench.analysis.speedup import speedups

    return speedups(frame_of(records)).dropna(subset=["speedup"])


def timed(backbone, sampler, length, *seconds):
    return record(backbone, sampler, length, seconds=[*seconds])


def test_the_sentence_is_of_the_surest_gain_at_the_longest_length():
    found = ratios(
        timed("diffutran", "full", 512, 1.0, 1.0),
        timed("diffumamba", "full", 512, 2.0, 2.0),
        timed("diffutran", "full", 8192, 36.0, 36.0, 36.0),
        timed("diffumamba", "full", 8192, 10.0, 11.0, 12.0),
        timed("diffumamba-h", "full", 8192, 1.0, 2.0, 20.0),  # faster on average, and maybe slower
        timed("diffumamba-h", "full", 512, 0.1, 0.1),
    )
    # Half the interval of 10, 11, 12: Student's 4.30 times 0.577, times 1.41 as three values may
    # follow each other, is 32 % of 11.
    assert demo.best_of(found) == (
        "DiffuMamba, full sequence: 3.3 times as fast as DiffuTran at 8,192 tokens (2.5 to 4.3) "
        "and 0.50 times as fast as DiffuTran at 512 tokens (0.50 to 0.50)."
    )


def test_a_single_length_is_said_once():
    found = ratios(timed("diffutran", "full", 64, 30.0), timed("diffumamba", "full", 64, 2.0))
    assert demo.best_of(found) == (
        "DiffuMamba, full sequence: 15 times as fast as DiffuTran at 64 tokens (15 to 15)."
    )


def test_records_with_nothing_to_compare_say_so(tmp_path):
    append_record(tmp_path / "x", record("diffumamba", "full", 512))
    assert demo.told(tmp_path / "x") == "No point has one of DiffuTran to compare with."


@pytest.mark.parametrize(("sees", "sweep"), [(True, "quick_gpu.toml"), (False, "quick.toml")])
def test_a_machine_with_a_gpu_has_the_gpus_demo(sees, sweep, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(demo, "has_gpu", lambda: sees)
    monkeypatch.setattr(demo, "dlm_bench", lambda arguments: asked.append(arguments) or 2)
    assert demo.main(["--output", str(tmp_path)]) == 2
    ((command, path, *_),) = asked
    assert (command, path) == ("sweep", str(demo.SWEEPS / sweep))


def test_torch_is_asked_for_a_gpu_only_where_there_is_a_driver(monkeypatch):
    monkeypatch.setattr(demo.shutil, "which", lambda name: None)
    monkeypatch.setattr(demo.Path, "exists", lambda path: False)
    monkeypatch.setattr(demo.subprocess, "run", lambda *_, **__: pytest.fail("torch was asked"))
    assert not demo.has_gpu()


def test_the_gpus_demo_has_the_points_of_the_other_in_bfloat16_with_graphs():
    names = ("quick.toml", "quick_gpu.toml")
    cpu, gpu = (load_sweep(demo.SWEEPS / name, on_this_machine=False) for name in names)
    pairs = [{(p.backbone, p.sampler) for p in sweep.points} for sweep in (cpu, gpu)]
    assert pairs[0] == pairs[1]
    assert {(p.device, p.dtype, p.size) for p in gpu.points} == {("cuda:0", "bfloat16", "240m")}
    assert gpu.measuring.graphs == "auto"
