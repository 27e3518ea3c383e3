"""Items that hang or end their worker: each has a reason, and the others are measured."""

import argparse
import signal
import subprocess
import sys
from itertools import chain, repeat
from pathlib import Path

import pytest
import watched as module
from rows import rows_of
from watched import begun, ended, here, raised, watched

from dlm_bench.sweep.kernel_check import read_faults
from dlm_bench.sweep.worker.process import WorkerFailure, WorkerProcess

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "support" / "hanging_items.py"
pytestmark = pytest.mark.process


def ends(*names, done=(), seconds=60):
    """The message of each item that ended, empty for one that was measured."""
    command = (sys.executable, str(SCRIPT), *names, module.WORKER)
    found = {}
    for each in watched(command, [{"name": name} for name in done], seconds):
        (row,) = each.rows
        assert row["name"] not in found
        assert row.get("status", "ok") == ("raised" if "message" in row else "ok")
        found[row["name"]] = row.get("message", "")
        assert each.text == f"{row['name']}{': ' if 'message' in row else ' is measured'}" + (
            row.get("message", "")
        )
    return found


@pytest.fixture(autouse=True)
def _imports(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(module.__file__).parent))


def test_items_of_a_worker_are_measured_in_turn_but_those_that_are_done():
    assert ends("a", "b", "c", done=["b"]) == {"a": "", "c": ""}


@pytest.mark.parametrize(
    ("fault", "item", "reason"),
    [
        ("hang", "hang", "no result within 5 s"),
        ("unmade", "before unmade", "no result within 5 s"),
        ("crash", "crash", "SIGSEGV; its last words: an illegal address"),
    ],
)
def test_what_comes_to_no_end_has_a_reason_and_the_next_is_measured(fault, item, reason):
    seconds = 60 if fault == "crash" else 5  # the others answer at once
    found = ends("a", fault, "b", seconds=seconds)
    assert list(found) == ["a", item, "b"]
    assert reason in found.pop(item)
    assert found == {"a": "", "b": ""}


def test_a_worker_that_can_measure_no_more_is_replaced_after_its_row():
    assert ends("a", "break", "b") == {"a": "", "break": "", "b": ""}


def test_an_item_that_was_compiling_has_a_second_try(monkeypatch):
    kernels, started = chain([0, 0], repeat(1)), []  # one more after the first try

    def start(command):
        started.append(command)
        return WorkerProcess(command)

    monkeypatch.setattr(module, "kernels_on_disk", lambda: next(kernels))
    monkeypatch.setattr(module, "WorkerProcess", start)
    assert "no result within 5 s" in ends("hang", seconds=5)["hang"]
    assert len(started) == 3  # for two tries, and for what comes after


def test_a_worker_that_names_no_item_is_an_error(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("import sys; sys.exit('no such device')")
    with pytest.raises(WorkerFailure, match="no such device"):
        list(watched((sys.executable, str(script)), []))


def test_items_that_no_new_worker_can_measure_are_a_line_after_the_rows(tmp_path):
    output = tmp_path / "rows.jsonl"
    command = [sys.executable, str(ROOT / "bench" / "watched.py"), "--output", str(output)]
    command += [str(SCRIPT), "a", "fatal", "b"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    *_, line, last = done.stdout.splitlines()
    assert line.startswith("the rest: not measured, as no new worker starts: ")
    assert "no CUDA-capable device" in line
    assert last == "2 wrong or raised: fatal, the rest"
    assert [row["name"] for row in rows_of(output)] == ["a", "fatal"]


def test_the_rows_of_an_item_are_in_the_file_before_they_are_shown(tmp_path, monkeypatch):
    rows = [{"name": "a", "role": role} for role in ("denoise", "commit")]

    def show(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", show)
    with pytest.raises(KeyboardInterrupt):
        module.report(iter([module.Ended(rows, "a")]), tmp_path / "rows.jsonl")
    assert list(rows_of(tmp_path / "rows.jsonl")) == rows


def test_a_file_has_all_rows_of_an_item_or_none(tmp_path):
    with pytest.raises(TypeError, match="serializable"):
        module.append(tmp_path / "rows.jsonl", {"role": "denoise"}, {"role": object()})
    assert list(rows_of(tmp_path / "rows.jsonl")) == []


def test_kernels_in_triton_s_cache_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "none"))
    assert module.kernels_on_disk() == 0
    (tmp_path / "none" / "kernel").mkdir(parents=True)
    assert module.kernels_on_disk() == 1


def test_the_script_keeps_rows_as_they_arise_and_a_second_run_tries_what_failed(tmp_path):
    output = tmp_path / "rows.jsonl"
    command = [sys.executable, str(ROOT / "bench" / "watched.py"), "--output", str(output)]
    command += [str(SCRIPT), "a", "crash", "b"]
    first = subprocess.run(command, check=False, capture_output=True, text=True)
    assert first.returncode == 1, first.stderr
    assert first.stdout.splitlines()[-1] == "1 wrong or raised: crash"
    assert [row["name"] for row in rows_of(output)] == ["a", "crash", "b"]
    second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert second.stdout.startswith("crash: the worker died of SIGSEGV")
    assert [row["name"] for row in rows_of(output)] == ["a", "crash", "b", "crash"]


def test_a_kernel_that_hung_is_a_fault_to_a_sweep(tmp_path):
    kernels = {"attention": "triton"}
    item = {"operation": "attention", "implementation": "triton", "size": "L=8", "kernels": kernels}
    (row,) = raised(item, "no result within 20 s; its process was killed")["rows"]
    module.append(tmp_path / "kernels.jsonl", row)
    faults = read_faults(tmp_path / "kernels.jsonl")
    assert "no result within 20 s" in faults["attention"]["triton"]


def test_an_interrupt_ends_the_worker_too(tmp_path):
    command = [sys.executable, str(ROOT / "bench" / "watched.py")]
    command += ["--output", str(tmp_path / "rows.jsonl"), str(SCRIPT), "pid", "hang"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    worker = int(running.stdout.readline().split()[0])
    running.send_signal(signal.SIGINT)
    running.communicate()
    assert not Path(f"/proc/{worker}").exists()


def test_the_watching_process_loads_no_torch():
    code = "import sys, watched; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_items_are_measured_in_this_process_too(tmp_path, capsys):
    def events(done):
        assert done == [{"name": "z"}]
        yield begun({"name": "a"})
        yield ended([{"name": "a"}], "a is measured")
        yield begun({"name": "b"})
        yield raised({"name": "b"}, "no such tile")

    output = tmp_path / "rows.jsonl"
    module.append(output, {"name": "z"})
    module.append(output, {"name": "b", "status": "wrong"})
    assert here(events, output) == 1
    assert [row["name"] for row in rows_of(output)] == ["z", "b", "a", "b"]
    said = capsys.readouterr().out.splitlines()
    assert said == ["a is measured", "b: no such tile", "1 wrong or raised: b"]


def test_a_script_of_items_is_a_worker_or_measures_under_its_heading(monkeypatch, capsys):
    def events(args, done):
        yield ended([{"name": args.name}], f"{args.name} is measured")

    def run(*options):
        parser = argparse.ArgumentParser()
        parser.add_argument("--name")
        parser.add_argument("--output")
        monkeypatch.setattr(sys, "argv", ["script.py", *options])
        return module.main_of(parser, events, "item")

    assert run("--name", "a") == 0
    assert capsys.readouterr().out == "item\na is measured\n"
    with pytest.raises(SystemExit):
        run("--nome", "a")
    served = []
    monkeypatch.setattr(module, "serve", lambda events, others: served.append((events, others)))
    assert run("--name", "a", module.WORKER, "pipe") == 0
    ((events_of_worker, others),) = served
    assert others == ["pipe"]
    assert next(events_of_worker([]))["text"] == "a is measured"
    assert capsys.readouterr().out == ""
