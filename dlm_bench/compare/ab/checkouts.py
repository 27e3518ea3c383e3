"""Two revisions of a git repository side by side, each in a folder for a worker to run from."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dlm_bench.errors import DlmBenchError

WORKER_FILE = "dlm_bench/worker.py"


class RevisionError(DlmBenchError):
    """A revision cannot be checked out, or cannot be measured."""


@dataclass(frozen=True)
class Checkout:
    """A side of the comparison.

    name: base or head. folder: the package's. label: the revision in words, for messages.
    """

    name: str
    folder: Path
    label: str


@contextmanager
def checkouts(base: str, head: str | None, folder: Path) -> Iterator[tuple[Checkout, Checkout]]:
    """Check out both revisions of the repository around `folder`; head None is the working tree.

    Both paths have the same length: the environment moves a process's stack, and this alone can
    cost some percent. The checkouts are removed at the end. Raises RevisionError.
    """
    root = Path(_git(folder, "rev-parse", "--show-toplevel"))
    with tempfile.TemporaryDirectory(prefix="dlm-bench-ab-") as temporary:
        folders = {"base": Path(temporary) / "base", "head": Path(temporary) / "head"}
        try:
            yield (
                _revision("base", base, root, folders["base"]),
                _working_tree(root, folders["head"])
                if head is None
                else _revision("head", head, root, folders["head"]),
            )
        finally:
            for each in folders.values():
                if each.is_symlink():
                    each.unlink()
                elif each.exists():
                    _git(root, "worktree", "remove", "--force", str(each))


def _revision(name: str, revision: str, root: Path, folder: Path) -> Checkout:
    try:
        commit = _git(root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except RevisionError:
        raise RevisionError(
            f"--{name}: {revision!r} is no revision of {root} (in a shallow clone, fetch it first)"
        ) from None
    _git(root, "worktree", "add", "--detach", "--force", str(folder), commit)
    short = commit[:12]
    return _checked(name, folder, short if short.startswith(revision) else f"{revision} ({short})")


def _working_tree(root: Path, folder: Path) -> Checkout:
    os.symlink(root, folder)
    label = f"the working tree ({_git(root, 'rev-parse', '--short=12', 'HEAD')}"
    # As the records' own commit says it; an untracked file may be of ab's own output.
    dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
    return _checked("head", folder, f"{label}, with uncommitted changes)" if dirty else f"{label})")


def _checked(name: str, folder: Path, label: str) -> Checkout:
    if not (folder / WORKER_FILE).is_file():
        raise RevisionError(
            f"--{name}: {label} has no {WORKER_FILE}: it is not dlm-bench, or too old for ab"
        )
    return Checkout(name, folder, label)


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of git; raise RevisionError with the last line if git fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise RevisionError(f"git: {error.strerror}; ab needs it for its checkouts") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed"]
        raise RevisionError(f"git {arguments[0]}: {lines[-1]}")
    return done.stdout.strip()
