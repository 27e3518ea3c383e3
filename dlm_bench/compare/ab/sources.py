"""The source of a checkout of dlm-bench or of a plug-in: the folders that a worker imports from."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlm_bench.errors import DlmBenchError
from dlm_bench.plugins.entry_points import GROUPS
from dlm_bench.sweep.worker.process import PACKAGE

WORKER_FILE = "dlm_bench/worker.py"


class RevisionError(DlmBenchError):
    """A revision cannot be checked out, or cannot be measured."""


def source_folders(checkout: Path, metadata: Path, name: str, label: str) -> tuple[Path, ...]:
    """Return the folders of a checkout to import from, first to last.

    A checkout of dlm-bench brings its own; any other is a plug-in for this dlm-bench. The entry
    points of this checkout's pyproject.toml are written to `metadata`, a folder to make, where they
    take precedence over those of an installed version. Raises RevisionError.
    """
    if (checkout / WORKER_FILE).is_file():
        return (checkout,)
    if (checkout / "dlm_bench" / "__init__.py").is_file():
        raise RevisionError(f"--{name}: {label} has no {WORKER_FILE}: it is too old for ab")
    project = _read_project(checkout, name, label)
    entries = {group: _entries(project, group) for group in GROUPS.values()}
    if not any(entries.values()):
        raise RevisionError(
            f"--{name}: {label} is neither dlm-bench nor a plug-in: its pyproject.toml announces "
            "no backbone and no sampler (docs/plugins.md)"
        )
    _write_metadata(metadata, project, entries)
    found = project.get("tool", {}).get("setuptools", {}).get("packages", {})
    where = found.get("find", {}).get("where", []) if isinstance(found, dict) else []
    folders = [checkout / each for each in dict.fromkeys([*where, "src", "."])]
    return (metadata, *(each for each in folders if each.is_dir()), PACKAGE)


def _read_project(checkout: Path, name: str, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RevisionError(f"--{name}: {label}: pyproject.toml: {error}") from None


def _entries(project: Mapping[str, Any], group: str) -> dict[str, str]:
    """Return the entry points of a group, by the standard table or Poetry's."""
    standard = project.get("project", {}).get("entry-points", {}).get(group, {})
    poetry = project.get("tool", {}).get("poetry", {}).get("plugins", {}).get(group, {})
    return {**poetry, **standard}


def _write_metadata(
    folder: Path, project: Mapping[str, Any], entries: Mapping[str, Mapping[str, str]]
) -> None:
    about = project.get("project") or project.get("tool", {}).get("poetry", {})
    name, version = about.get("name", "plugin"), about.get("version", "0")
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, names in entries.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in names.items()), ""]
    (place / "entry_points.txt").write_text("\n".join(lines))
