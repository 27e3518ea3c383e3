"""Output files are written whole or not at all, and an old one stays until the new one is there."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dlm_bench.errors import ConfigError, ResultsError
from dlm_bench.results.files import append_text, replacing, write_file

QUICK = Path(__file__).parents[2] / "results" / "cpu" / "quick.jsonl"
# No file of this process may be larger, as if there were no more room on the disk.
FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
"""
COMMAND = FULL + "from dlm_bench.cli import main\nsys.exit(main(sys.argv[1:]))"
CHECKPOINT = (
    FULL
    + """
import dlm_bench
try:
    dlm_bench.save_checkpoint(dlm_bench.build_model("diffutran", "tiny"), sys.argv[1])
except dlm_bench.ConfigError as error:
    sys.exit(f"dlm-bench: {error}")
"""
)


@pytest.fixture
def umask():
    """A umask that is neither the usual one nor that of private files."""
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "x"
    write_file(path, "old", "report")

    def interrupted():
        with replacing(path, "report") as beside:
            beside.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    with replacing(path, "report") as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(tmp_path, umask):
    path = tmp_path / "x"
    write_file(path, b"1", "figure")
    assert mode_of(path) == umask
    path.chmod(0o604)
    write_file(path, b"2", "figure")
    assert mode_of(path) == 0o604


def test_the_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "x"
    link.symlink_to(target)
    write_file(link, "new", "report")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_what_is_no_regular_file_is_written_in_place(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "page", "report")
    assert os.read(reader, 100) == b"page"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    write_file(path, "1", "report")
    assert path.read_text() == "1"


def test_what_cannot_be_written_is_one_line_of_the_kind_asked_for(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"^report '.*file/x': its folder is a file$"):
        write_file(tmp_path / "file" / "x", "1", "report")
    with pytest.raises(ConfigError, match=r"^trace '.*': is a folder$"):
        write_file(tmp_path, "1", "trace", ConfigError)
    with pytest.raises(ResultsError, match=r"^SUMMARY: '.*none/x': No such file or directory$"):
        append_text(tmp_path / "none" / "x", "1", "SUMMARY")


def test_a_text_is_appended_to_a_pipe():
    reader, writer = os.pipe()
    append_text(f"/dev/fd/{writer}", "summary\n", "SUMMARY")
    assert os.read(reader, 100) == b"summary\n"
    os.close(reader)
    os.close(writer)


def test_a_text_that_cannot_be_appended_cuts_nothing_of_another_writer(tmp_path, monkeypatch):
    path = tmp_path / "summary"
    path.write_text("of other steps\n")
    fsync = os.fsync

    def full(fd):
        with open(path, "a") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(28, "No space left on device") from None
            other.write("meanwhile\n")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultsError, match="No space left"):
        append_text(path, "ours\n", "SUMMARY")
    assert path.read_text() == "of other steps\n"


@pytest.mark.process
def test_a_text_that_is_not_appended_whole_is_not_there_at_all(tmp_path):
    path = tmp_path / "summary"
    path.write_text("of other steps\n")
    append_text(path, "ours\n", "SUMMARY")
    code = (
        FULL + "from dlm_bench.results.files import append_text\n"
        "append_text(sys.argv[1], 'x' * 5000, 'SUMMARY')"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "SUMMARY: " in run.stderr.splitlines()[-1]
    assert path.read_text() == "of other steps\nours\n"


@pytest.mark.process
@pytest.mark.parametrize("suffix", ["pdf", "png"])
def test_a_full_disk_is_one_line_and_the_old_figure_stays(suffix, tmp_path):
    (tmp_path / "memory.pdf").write_text("old pdf")
    (tmp_path / "memory.png").write_text("old png")
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, "plot", QUICK, "--figure=memory", "--output", tmp_path],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr == f"dlm-bench: figure '{tmp_path}/memory.pdf': File too large\n"
    assert (tmp_path / f"memory.{suffix}").read_text() == f"old {suffix}"
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.process
def test_a_full_disk_leaves_the_old_report_and_the_old_checkpoint(tmp_path):
    page, weights = tmp_path / "report.html", tmp_path / "model.safetensors"
    page.write_text("old")
    weights.write_text("old")
    for code, arguments in (
        (COMMAND, ["report", QUICK, "--output", page]),
        (CHECKPOINT, [weights]),
    ):
        run = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert run.returncode in (1, 2)
        assert len(run.stderr.splitlines()) == 1
        assert "File too large" in run.stderr
    assert page.read_text() == weights.read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 2
