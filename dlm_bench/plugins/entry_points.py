"""Backbones and samplers that other installed packages announce by entry points.

Looking a name up reads the packages' metadata alone; a package is imported on first use.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dlm_bench.errors import ConfigError, first_line

GROUPS = {"backbone": "dlm_bench.backbones", "sampler": "dlm_bench.samplers"}


@dataclass(frozen=True)
class Plugin:
    """A name in a package's announcement; `package` is the distribution with the version."""

    kind: str
    name: str
    package: str
    entry: EntryPoint


@cache
def announced(kind: str) -> tuple[Plugin, ...]:
    """Return the plug-ins of a kind, "backbone" or "sampler", by name, without importing them."""
    found = (
        Plugin(kind, entry.name, f"{entry.dist.name} {entry.dist.version}", entry)
        for entry in entry_points(group=GROUPS[kind])
        if entry.dist is not None
    )
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.package)))


def find(kind: str, name: str, own: Collection[str]) -> Plugin | None:
    """Find the plug-in of this name, None if no package has any.

    Raises ConfigError if the name is among dlm-bench's `own`, or if several packages announce the
    name.
    """
    found = [plugin for plugin in announced(kind) if plugin.name == name]
    if not found:
        return None
    packages = " and ".join(f"package {plugin.package}" for plugin in found)
    if name in own:
        raise ConfigError(f"{kind}: {name!r} is dlm-bench's own, and {packages} has it too")
    if len(found) > 1:
        raise ConfigError(f"{kind}: {name!r} is in {packages}; uninstall one of them")
    return found[0]


def package_of(kind: str, name: str, own: Collection[str]) -> str:
    """Return the distribution and version of a plug-in's name; empty for any other name."""
    plugin = None if name in own else find(kind, name, own)
    return "" if plugin is None else plugin.package


def load(plugin: Plugin) -> Any:
    """Import the object of an entry point. Raises ConfigError, with the package, if this fails."""
    try:
        return plugin.entry.load()
    except Exception as error:  # whatever somebody else's module raises
        raise failure(plugin, "cannot be loaded", error) from error


def failure(plugin: Plugin, what: str, error: Exception) -> ConfigError:
    """Return the error for a plug-in whose code raised."""
    reason = f"{type(error).__name__}: {first_line(error)}".rstrip(": ")
    return refusal(plugin, f"{what}: {reason}")


def refusal(plugin: Plugin, why: str) -> ConfigError:
    """Return the error for an unusable plug-in."""
    return ConfigError(f"{plugin.kind}: {plugin.name!r} of package {plugin.package} {why}")
