"""The checkouts of both sides: two revisions of a git repository, or what is installed, twice."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dlm_bench.compare.ab.sources import RevisionError, source_folders
from dlm_bench.sweep.worker.process import PACKAGE


@dataclass(frozen=True)
class Checkout:
    """A side of the comparison.

    name: base or head. folders: of the source, for PYTHONPATH. label: in words, for messages.
    """

    name: str
    folders: tuple[Path, ...]
    label: str


def installed() -> tuple[Checkout, Checkout]:
    """Return this dlm-bench for both sides, which then differ by Python or settings."""
    base, head = (
        Checkout(name, (PACKAGE,), f"dlm-bench {version('dlm-bench')}") for name in ("base", "head")
    )
    return base, head


@contextmanager
def checkouts(
    base: str | None, head: str | None, folder: Path
) -> Iterator[tuple[Checkout, Checkout]]:
    """Check out both revisions of the repository around `folder`; None is the working tree.

    Both paths have the same length: the environment moves a process's stack, and this alone can
    cost some percent. The checkouts are removed at the end. Raises RevisionError.
    """
    root = Path(_git(folder, "rev-parse", "--show-toplevel"))
    with tempfile.TemporaryDirectory(prefix="dlm-bench-ab-") as temporary:
        folders = {name: Path(temporary) / name for name in ("base", "head")}
        try:
            first, second = (
                _checkout(name, revision, root, folders[name])
                for name, revision in (("base", base), ("head", head))
            )
            yield first, second
        finally:
            for each in folders.values():
                if each.is_symlink():
                    each.unlink()
                elif each.exists():
                    _git(root, "worktree", "remove", "--force", str(each))


def _checkout(name: str, revision: str | None, root: Path, folder: Path) -> Checkout:
    if revision is None:
        label = _working_tree(root, folder)
    else:
        label = _revision(name, revision, root, folder)
    metadata = folder.with_name(f"{name}-metadata")
    return Checkout(name, source_folders(folder, metadata, name, label), label)


def _revision(name: str, revision: str, root: Path, folder: Path) -> str:
    try:
        commit = _git(root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except RevisionError:
        raise RevisionError(
            f"--{name}: {revision!r} is no revision of {root} (in a shallow clone, fetch it first)"
        ) from None
    _git(root, "worktree", "add", "--detach", "--force", str(folder), commit)
    short = commit[:12]
    return short if short.startswith(revision) else f"{revision} ({short})"


def _working_tree(root: Path, folder: Path) -> str:
    os.symlink(root, folder)
    label = f"the working tree ({_git(root, 'rev-parse', '--short=12', 'HEAD')}"
    # As the records' own commit says it; an untracked file may be of ab's own output.
    dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{label}, with uncommitted changes)" if dirty else f"{label})"


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
