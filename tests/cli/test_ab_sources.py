"""`dlm-bench ab` on plug-ins of anybody's repository, on two Pythons and on two settings."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dlm_bench.cli import main
from dlm_bench.compare.ab.checkouts import checkouts
from dlm_bench.compare.ab.sources import RevisionError
from dlm_bench.results.store import read_records
from dlm_bench.sweep.worker.process import PACKAGE

pytestmark = pytest.mark.process

EXAMPLE = Path(__file__).parents[2] / "examples" / "dlm_bench_example"

SWEEP = """
name = "test"
size = "tiny"
dtype = "float32"
lengths = [32]

[[lines]]
backbone = "{backbone}"
sampler = "{sampler}"
"""


def git(repository, *arguments):
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "core.hooksPath=")
    command = ["git", "-C", str(repository), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(root):
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "x")


def sweep(folder, backbone="diffutran", sampler="full"):
    path = folder / "s.toml"
    path.write_text(SWEEP.format(backbone=backbone, sampler=sampler))
    return str(path)


@pytest.fixture
def plugin(tmp_path):
    """A repository of the example plug-in, which is not installed, with one commit."""
    root = tmp_path / "plugin"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(EXAMPLE, root, ignore=ignored)
    (root / ".gitignore").write_text("__pycache__\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(root))
    commit(root)
    return root


def break_sampler(root):
    """Have the sampler of the working tree raise when it decodes."""
    with (root / "src" / "dlm_bench_example" / "taper.py").open("a") as file:
        file.write("\n\ndef _broken(*args, **options):\n    raise RuntimeError('head is here')\n")
        file.write("\n\nTaper.step = _broken\n")


@pytest.mark.slow
def test_two_revisions_of_a_plug_in_are_compared_each_by_its_own_source(plugin, tmp_path, capsys):
    break_sampler(plugin)
    options = ["--base", "main", "--repo", str(plugin), "--budget", "40s"]
    assert main(["ab", sweep(tmp_path, "aft", "taper"), *options]) == 1
    out = capsys.readouterr().out
    assert "1 newly failing of 1 point" in out
    assert "head is here" in out
    assert git(plugin, "worktree", "list").splitlines()[1:] == []


def test_the_checkouts_source_comes_first_with_the_entry_points_of_its_revision(plugin):
    project = plugin / "pyproject.toml"
    project.write_text(project.read_text().replace("aft = ", "renamed = "))
    with checkouts("main", None, plugin) as (base, head):
        for side, name in ((base, "aft"), (head, "renamed")):
            metadata, source, root, package = side.folders
            (entries,) = metadata.glob("*.dist-info/entry_points.txt")
            assert f"{name} = dlm_bench_example.aft:AFT" in entries.read_text()
            assert source == root / "src"
            assert (source / "dlm_bench_example" / "taper.py").exists()
            assert package == PACKAGE
        assert len(str(base.folders[0])) == len(str(head.folders[0]))
    assert not base.folders[0].exists()


def refused(plugin, message):
    with pytest.raises(RevisionError, match=message), checkouts("main", None, plugin):
        pass


def test_a_repository_without_a_plug_in_is_refused(plugin):
    (plugin / "pyproject.toml").write_text('[project]\nname = "other"\n')
    refused(plugin, r"--head: .* is neither dlm-bench nor a plug-in")
    (plugin / "pyproject.toml").write_text("[project\n")
    refused(plugin, r"--head: .*: pyproject\.toml: ")
    assert git(plugin, "worktree", "list").splitlines()[1:] == []


def test_entry_points_of_poetry_count_too(plugin):
    text = '[tool.poetry]\nname = "p"\nversion = "1"\n'
    text += '[tool.poetry.plugins."dlm_bench.samplers"]\ntaper = "dlm_bench_example.taper:Taper"\n'
    (plugin / "pyproject.toml").write_text(text)
    with checkouts("main", None, plugin) as (_, head):
        assert (head.folders[0] / "p-1.dist-info").is_dir()


@pytest.mark.slow
def test_two_pythons_and_two_settings_need_no_repository(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nDLM_BENCH_COMMIT=other exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    output = tmp_path / "records"
    options = ["--head-python", str(python), "--base-set", "batch=1", "--head-set", "batch=2"]
    options += ["--budget", "8s", "--output", str(output)]
    assert main(["ab", sweep(tmp_path), *options]) == 0
    out = capsys.readouterr().out
    assert f"{python}, batch=2" in out
    assert "not the same point: batch 1 / 2" in out
    for name, batch in (("base", 1), ("head", 2)):
        assert {each.point.batch for each in read_records(output / f"{name}.jsonl")} == {batch}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--base: base and head are the same; give --base REV"),
        (["--base-set", "graphs=off", "--head-set", "graphs=off"], "base and head are the same"),
        (["--head-python", "nobody"], "--head-python: 'nobody' is no program"),
        (["--head-set", "graphs"], "--head-set: 'graphs' is not allowed"),
        (["--head-set", "repeats=9"], "--head-set: repeats is not allowed; ab plans the repeats"),
    ],
)
def test_sides_that_cannot_be_compared_are_one_line(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ab", sweep(tmp_path), *options]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert said in err
