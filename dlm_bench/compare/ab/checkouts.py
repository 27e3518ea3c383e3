"""Two revisions of a git repository side by side, each in a folder that a worker can run from."""

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
    """One side: `name` is base or head, `folder` holds its package, `label` says what it is."""

    name: str
    folder: Path
    label: str


@contextmanager
def checkouts(base: str, head: str | None, here: Path) -> Iterator[tuple[Checkout, Checkout]]:
    """Check out both revisions of the repository around `here`; head None is its working tree.

    Both folders have paths of one length: that of the environment moves a process's stack, which
    alone can make it some percent slower. They are gone afterwards. Raises RevisionError.
    """
    root = Path(_git(here, "rev-parse", "--show-toplevel"))
    with tempfile.TemporaryDirectory(prefix="dlm-bench-ab-") as folder:
        places = {"base": Path(folder) / "base", "head": Path(folder) / "head"}
        try:
            yield (
                _revision("base", base, root, places["base"]),
                _working_tree(root, places["head"])
                if head is None
                else _revision("head", head, root, places["head"]),
            )
        finally:
            for place in places.values():
                if place.is_symlink():
                    place.unlink()
                elif place.exists():
                    _git(root, "worktree", "remove", "--force", str(place))


def _revision(name: str, revision: str, root: Path, place: Path) -> Checkout:
    try:
        commit = _git(root, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except RevisionError:
        raise RevisionError(
            f"--{name}: {revision!r} is no revision of {root} (in a shallow clone, fetch it first)"
        ) from None
    _git(root, "worktree", "add", "--detach", "--force", str(place), commit)
    short = commit[:12]
    return _checked(name, place, short if short.startswith(revision) else f"{revision} ({short})")


def _working_tree(root: Path, place: Path) -> Checkout:
    os.symlink(root, place)
    label = f"the working tree ({_git(root, 'rev-parse', '--short=12', 'HEAD')}"
    # As the records' own commit says it; an untracked file may be of ab's own output.
    dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
    return _checked("head", place, f"{label}, with uncommitted changes)" if dirty else f"{label})")


def _checked(name: str, place: Path, label: str) -> Checkout:
    if not (place / WORKER_FILE).is_file():
        raise RevisionError(
            f"--{name}: {label} has no {WORKER_FILE}: it is not dlm-bench, or too old for ab"
        )
    return Checkout(name, place, label)


def _git(where: Path, *arguments: str) -> str:
    """Return the output of git; raise RevisionError with the last line if git fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(where), *arguments], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise RevisionError(f"git: {error.strerror}; ab needs it for its checkouts") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed"]
        raise RevisionError(f"git {arguments[0]}: {lines[-1]}")
    return done.stdout.strip()
