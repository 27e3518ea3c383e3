"""A rehearsal of the GPU check with a stand-in for each stage's command: whatever a stage does,
what was recorded stays, the next ones run, and the summary names the reason."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import gpu_check
import pytest
import stages
from rows import append, rows_of
from stages import Check, Stage, last_line, statuses

from dlm_bench.cost.hardware import Hardware

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process
NAMES = [stage.name for stage in gpu_check.stages(Path("out"), 1)]
# What a stage does after it has recorded something, its status, and its reason.
FAULTS = {
    "fail": (
        "echo 'RuntimeError: no kernel image'; exit 1",
        "failed",
        "RuntimeError: no kernel image",
    ),
    "hang": ("echo at case 3; sleep 60", "timed out", "last: at case 3"),
    "ignore SIGINT": ("trap '' INT; echo at case 3; sleep 60; sleep 60", "timed out", "at case 3"),
    "be killed": ("echo at case 3; kill -KILL $$", "failed", "SIGKILL; last: at case 3"),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(stages, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(stages, "POLL_SECONDS", 0.002)
    monkeypatch.setenv("DLM_BENCH_COMMIT", "abc")
    monkeypatch.delenv("STAGES", raising=False)


def rehearse(monkeypatch, output, does=None, *arguments):
    """Run the whole check with commands that record their stage's name; `does` is what some of them
    do then. Returns its exit code."""
    does = does or {}
    real = gpu_check.stages

    def stand_ins(folder, jobs):
        for stage in real(folder, jobs):
            record = f"echo '{{\"stage\": \"{stage.name}\"}}' >> '{folder}/records.jsonl'; "
            command = ("sh", "-c", record + does.get(stage.name, "exit 0"))
            hangs = "sleep" in does.get(stage.name, "")
            seconds = 0.5 if hangs else stage.seconds
            yield replace(stage, command=command, seconds=seconds)

    with monkeypatch.context() as patch:
        patch.setattr(gpu_check, "stages", lambda *a: list(stand_ins(*a)))
        return gpu_check.main([str(output), *arguments])


def recorded(output):
    return [row["stage"] for row in rows_of(output / "records.jsonl")]


def summary(output):
    """The summary's lines by stage: status and reason."""
    lines = (output / "summary.txt").read_text().splitlines()
    return {line.split()[0]: line for line in lines}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_stage_does_the_others_run_and_the_summary_names_the_reason(
    monkeypatch, tmp_path, capsys, name, fault
):
    command, status, reason = FAULTS[fault]
    assert rehearse(monkeypatch, tmp_path / "out", {name: command}) == 1
    lines = summary(tmp_path / "out")
    assert list(lines) == NAMES
    assert f"{name:10} {status}" in lines[name]
    assert reason in lines[name]
    others = [each for each in NAMES if each != name]
    vital = name == "imports" and status == "failed"
    assert sorted(recorded(tmp_path / "out")) == sorted([name] if vital else NAMES)
    for each in others:
        expected = "skipped      0.0 s  imports was not ok" if vital else "ok"
        assert lines[each].startswith(f"{each:10} {expected}")
    assert statuses(tmp_path / "out")[name] == status
    assert lines[name] in capsys.readouterr().out


def test_a_check_of_which_all_is_well_exits_with_0(monkeypatch, tmp_path):
    assert rehearse(monkeypatch, tmp_path / "out") == 0
    assert set(recorded(tmp_path / "out")) == set(NAMES)


def test_a_second_run_goes_on_where_the_first_was_cut_short(monkeypatch, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    rehearse(monkeypatch, first, {"sweep": "sleep 60", "tests": "exit 1"})
    assert rehearse(monkeypatch, second, None, "--resume", str(first)) == 0
    again = recorded(second)[len(NAMES) :]
    assert again == ["imports", "sweep", "tests"]
    assert "in an earlier run" in summary(second)["kernels"]
    assert len(recorded(first)) == len(NAMES)  # which is left as it was


def test_a_run_goes_on_in_its_own_folder(monkeypatch, tmp_path):
    rehearse(monkeypatch, tmp_path, {"kernels": "exit 1"})
    assert rehearse(monkeypatch, tmp_path, None, "--resume", str(tmp_path)) == 0
    assert recorded(tmp_path)[len(NAMES) :] == ["imports", "kernels"]


def test_named_stages_run_alone_though_they_were_ok_before(monkeypatch, tmp_path):
    rehearse(monkeypatch, tmp_path)
    monkeypatch.setenv("STAGES", "profile tests")
    rehearse(monkeypatch, tmp_path, None, "--resume", str(tmp_path))
    assert recorded(tmp_path)[len(NAMES) :] == ["imports", "profile", "tests"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "holds a run already"),
        (("--resume", "nothing"), "holds no run"),
        (("--resume", "here", "--stages", "sweeep"), "no stage 'sweeep'"),
    ],
)
def test_a_mistake_in_the_call_is_a_line(monkeypatch, tmp_path, arguments, says):
    rehearse(monkeypatch, tmp_path)
    arguments = [str(tmp_path) if each == "here" else each for each in arguments]
    with pytest.raises(SystemExit, match=says):
        rehearse(monkeypatch, tmp_path, None, *arguments)


def test_stages_beside_each_other_share_the_time_and_are_waited_for(tmp_path):
    wait = "for i in $(seq 200); do [ -e there ] && exit 0; sleep 0.02; done; exit 1"
    check = checked(
        tmp_path,
        Stage("compile", 20, ("sh", "-c", wait + "; echo compiled >> order"), beside=True),
        Stage("libraries", 20, ("sh", "-c", "touch there")),
        Stage("kernels", 20, ("sh", "-c", "true"), after=("compile",)),
    )
    assert check.run()
    began = [row["stage"] for row in rows_of(tmp_path / "stages.jsonl") if row["status"] == "ok"]
    assert began[-1] == "kernels"


def test_what_no_time_is_left_for_is_skipped(tmp_path):
    check = checked(tmp_path, Stage("late", 60, ("sh", "-c", "true")), seconds=5)
    assert not check.run()
    assert "skipped" in summary(tmp_path)["late"]
    assert "s were left" in summary(tmp_path)["late"]


def checked(folder, *of, seconds=100):
    return Check(folder, of, seconds, cwd=folder, variables={}, before={})


def test_an_interrupted_check_ends_its_stage_and_says_so(tmp_path):
    check = checked(
        tmp_path,
        Stage("sweep", 20, ("sh", "-c", "echo point 7; kill -INT $PPID; sleep 60")),
        Stage("tests", 20, ("sh", "-c", "true")),
    )
    assert not check.run()
    lines = summary(tmp_path)
    assert "failed" in lines["sweep"]
    assert "the check was interrupted; last: point 7" in lines["sweep"]
    assert "skipped" in lines["tests"]


def test_a_killed_check_leaves_what_it_knew(tmp_path):
    code = f"""if True:
        import sys; sys.path.insert(0, {str(ROOT / "bench")!r})
        from pathlib import Path; from stages import Check, Stage
        folder = Path({str(tmp_path)!r})
        a = Stage("first", 20, ("true",))
        b = Stage("second", 20, ("sh", "-c", "kill -KILL $PPID"))
        c = Stage("third", 20, ("true",))
        Check(folder, [a, b, c], 100, cwd=folder, variables={{}}, before={{}}).run()
    """
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -9
    assert statuses(tmp_path) == {"first": "ok", "second": "running"}
    lines = summary(tmp_path)
    assert "running" in lines["second"]
    assert "waiting" in lines["third"]


def test_what_a_stage_left_running_is_ended(tmp_path):
    check = checked(tmp_path, Stage("sweep", 20, ("sh", "-c", "sleep 60 & echo $! > child")))
    assert check.run()
    child = int((tmp_path / "child").read_text())
    for _ in range(500):
        try:
            os.kill(child, 0)
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return
    pytest.fail("it runs on")


def test_a_command_that_is_not_there_is_a_reason(tmp_path):
    check = checked(tmp_path, Stage("sweep", 20, ("no-such-program",)))
    assert not check.run()
    assert "No such file" in summary(tmp_path)["sweep"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("a\nRuntimeError: no kernel\n\n", "RuntimeError: no kernel"),
        ("point 3\n^^^^\n  File \"x.py\", line 1\nKeyboardInterrupt\n", "point 3"),
        ("\x1b[1m50 %\x1b[0m\rdone 7 of 9\r", "done 7 of 9"),
        ("FAILED a/b.py::c - assert 1\nERROR a/b.py::d\n== 2 failed in 3 s ==\n",
         "FAILED a/b.py::c - assert 1 (and 1 more)"),
        ("===== 3 passed in 2 s =====\n", "3 passed in 2 s"),
        ("", "no output"),
    ],
)  # fmt: skip
def test_a_reason_is_the_last_line_that_says_something(said, reason):
    assert last_line(said) == reason


def test_triton_s_cache_travels_in_the_output(tmp_path):
    cache = tmp_path / "cache"
    (cache / "kernel").mkdir(parents=True)
    (cache / "kernel" / "a.cubin").write_text("code")
    output = tmp_path / "out"
    output.mkdir()
    (cache / "tmp.pid_7_x").mkdir()
    (cache / "tmp.pid_7_x" / "half.cubin").write_text("half")  # a compiler is at it
    gpu_check.keep(cache, output, None)
    gpu_check.take_over(output, tmp_path / "second", tmp_path / "cache2")
    assert (tmp_path / "cache2" / "kernel" / "a.cubin").read_text() == "code"
    with tarfile.open(tmp_path / "second" / gpu_check.CACHE) as archive:
        assert archive.getnames() == ["kernel/a.cubin"]


def test_a_stage_does_not_wait_for_what_is_kept_of_the_last_and_is_kept_next():
    there, kept, packing, packed = [1], [], threading.Semaphore(0), threading.Semaphore(0)

    def keep():
        kept.append(list(there))
        packing.release()
        assert packed.acquire(timeout=60)

    keeper = gpu_check.Keeper(keep)
    keeper.begin()
    assert packing.acquire(timeout=60)
    for stage in (2, 3):
        there.append(stage)
        keeper.begin()  # the first is at it
    packed.release()
    assert packing.acquire(timeout=60)  # before another stage ends
    there.append(4)
    packed.release(2)
    keeper.finish()
    assert kept == [[1], [1, 2, 3], [1, 2, 3, 4]]


def test_a_check_that_breaks_off_keeps_the_cache_whole(monkeypatch, tmp_path):
    class Broken:
        def __init__(self, *_, variables, kept, **__):
            self.cache, self.kept = Path(variables["TRITON_CACHE_DIR"]), kept

        def run(self):
            self.cache.mkdir()
            (self.cache / "a.cubin").write_text("code")
            self.kept()
            raise RuntimeError("a mistake in the check")

    keep = gpu_check.keep

    def keep_slowly(*arguments):
        time.sleep(0.2)
        keep(*arguments)

    monkeypatch.setattr(gpu_check, "Check", Broken)
    monkeypatch.setattr(gpu_check, "keep", keep_slowly)
    with pytest.raises(RuntimeError, match="a mistake"):
        gpu_check.main([str(tmp_path)])
    with tarfile.open(tmp_path / gpu_check.CACHE) as archive:
        assert archive.getnames() == ["a.cubin"]


def test_records_are_packed_before_the_cache_and_without_unfinished_archives(monkeypatch, tmp_path):
    cache, output, folder = tmp_path / "cache", tmp_path / "out", tmp_path / "archives"
    for path in (cache, output):
        path.mkdir()
        (path / "a").write_text("a")
    (output / "triton-cache.tar.new").write_text("half")  # of a run that was killed
    packed, pack = [], gpu_check.pack

    def seen(source, target, without=()):
        packed.append(target.name)
        pack(source, target, without)

    monkeypatch.setattr(gpu_check, "pack", seen)
    gpu_check.keep(cache, output, folder)
    assert packed == [gpu_check.ARCHIVE, gpu_check.CACHE]
    assert sorted(path.name for path in folder.iterdir()) == sorted(packed)
    with tarfile.open(folder / gpu_check.ARCHIVE) as archive:
        assert archive.getnames() == ["a"]


def test_a_full_disk_takes_no_stage_with_it():
    def keep():
        raise OSError(28, "No space left on device")

    keeper = gpu_check.Keeper(keep)
    keeper.begin()
    keeper.finish()


def test_two_archives_hold_a_run_and_a_second_run_takes_them(monkeypatch, tmp_path):
    folder = tmp_path / "archives"
    stages_of_first = {"sweep": "exit 1"}
    assert rehearse(monkeypatch, tmp_path / "out", stages_of_first, "--archive", str(folder)) == 1
    assert {path.name for path in folder.iterdir()} <= {gpu_check.ARCHIVE, gpu_check.CACHE}
    assert rehearse(monkeypatch, tmp_path / "second", {}, "--resume", str(folder)) == 0
    assert recorded(tmp_path / "second")[len(NAMES) :] == ["imports", "sweep"]


def test_wheels_of_what_is_here_are_left_alone(tmp_path):
    for name in ("numpy", "no_such_package"):
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
    gpu_check.extract_missing(tmp_path, tmp_path / "site")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["no_such_package"]


def test_half_a_row_is_neither_read_nor_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": 1}) + '\n{"b": ')
    assert list(rows_of(path)) == [{"a": 1}]
    append(path, {"c": 3})
    assert path.read_text() == '{"a": 1}\n{"c": 3}\n'


def test_every_stage_s_command_is_one_that_its_script_takes(tmp_path):
    import gpu_sweep
    import kernel_floors
    import library_speeds
    import pass_profile
    import sampled_on_gpu

    modules = [gpu_sweep, kernel_floors, library_speeds, pass_profile, sampled_on_gpu]
    parsers = {f"{module.__name__}.py": module.parser() for module in modules}
    seen = set()
    for stage in gpu_check.stages(tmp_path, 2):
        python, *command = stage.command
        assert python == sys.executable
        if command[0] == "-m":
            assert Path(command[-1]).exists()
            continue
        assert Path(command[0]).exists()
        if Path(command[0]).name == "watched.py":
            command = [str(Path(command[0]).parent / command[3]), *command[4:]]
            assert Path(command[0]).exists()
        name = Path(command[0]).name
        if name in parsers:
            parsers[name].parse_args(command[1:])
            seen.add(name)
    assert seen == set(parsers)


def test_figures_and_floors_of_a_run_are_made_afterwards(tmp_path, capfd):
    shutil.copy(gpu_check.ROOT / "results" / "cpu" / "quick.jsonl", tmp_path / gpu_check.RECORDS)
    sheet = Hardware("a test", 1e12, 1e11, 1e11, source="made up", dtype="float32")
    (tmp_path / "ceilings.json").write_text(json.dumps(asdict(sheet)))
    assert gpu_check.main([str(tmp_path), "--figures"]) == 0
    assert (tmp_path / "figures" / "throughput.pdf").stat().st_size > 5000
    assert "x_floor" in capfd.readouterr().out
