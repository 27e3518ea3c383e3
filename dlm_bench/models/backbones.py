"""Backbones by their names: this project's, a package's, or a local folder's in the format of
Hugging Face."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlm_bench.errors import ConfigError, unknown
from dlm_bench.models.hf.folder import folder_config, read_folder
from dlm_bench.models.own import (
    OWN,
    Config,
    backbone_passes,
    own_config,
    own_sizes,
    trained_block,
)
from dlm_bench.models.presets import SHIPPED
from dlm_bench.plugins import entry_points
from dlm_bench.plugins.api import BackbonePlugin

DEFAULT_SIZE = "small"
FOLDER = "hf:"  # what the name of a folder begins with


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone before it is built.

    name: as in records.
    supports: the capabilities of the models (`dlm_bench.plugins.api.CAPABILITIES`).
    sizes: the names of the sizes.
    package: distribution and version of a plug-in, else empty.
    folder: absolute path of a folder, else empty.
    max_length: the most tokens of a sequence; None if not known yet, or without a limit.
    block_size: tokens of the block that the models were trained with; 0 if none is known.
    shipped: by sampler, the options that the models' own code decodes with, as far as known.
    """

    name: str
    supports: tuple[str, ...]
    sizes: tuple[str, ...]
    package: str = ""
    folder: str = ""
    max_length: int | None = None
    block_size: int = 0
    shipped: Mapping[str, Mapping[str, int | float | str]] = field(default_factory=dict)

    @property
    def default_size(self) -> str:
        """The size of a model without a stated size."""
        return DEFAULT_SIZE if DEFAULT_SIZE in self.sizes else self.sizes[0]

    def check_size(self, size: str) -> None:
        """Raise ConfigError if the backbone has no such size."""
        if size not in self.sizes:
            raise unknown("size", size, self.sizes)

    def provenance(self, random_weights: bool) -> str:
        """Return the source that decides the numbers besides the name: empty for this project's
        own, a plug-in's package, or the content of a folder. Raises ConfigError for a folder
        without weights."""
        if not self.folder:
            return self.package
        folder = read_folder(self.folder)
        weights = folder.weights_digest(random_weights) or "random"
        return f"config {folder.digest}, weights {weights}"

    def check_length(self, length: int, prompt_len: int = 0) -> None:
        """Raise ConfigError for a sequence longer than the backbone can take."""
        check_length(self.name, length, self.max_length, prompt_len)


def check_length(backbone: str, length: int, longest: int | None, prompt_len: int = 0) -> None:
    """Raise ConfigError for `length` tokens after a prompt if they are together more than
    `longest`; None stands for no limit."""
    if longest is not None and prompt_len + length > longest:
        after = f" after a prompt of {prompt_len}" if prompt_len else ""
        raise ConfigError(
            f"length: {length}{after} is not allowed; backbone {backbone!r} takes at most "
            f"{longest} tokens"
        )


def backbone_info(backbone: str) -> BackboneInfo:
    """Look a backbone up. Raises ConfigError for an unknown backbone, a name of several packages,
    or a faulty plug-in or folder.
    """
    if backbone.startswith(FOLDER):
        folder = read_folder(backbone.removeprefix(FOLDER))
        return BackboneInfo(
            folder.name,
            folder.supports,
            ("hf",),
            folder=str(folder.path),
            max_length=folder.max_length,
            block_size=folder.block_size,
            shipped=SHIPPED.get(folder.preset, {}),
        )
    plugin = entry_points.find("backbone", backbone, OWN)
    if plugin is not None:
        found = loaded(plugin)
        return BackboneInfo(backbone, found.supports, found.sizes, plugin.package)
    if backbone not in OWN:
        others = (plugin.name for plugin in entry_points.announced("backbone"))
        raise unknown("backbone", backbone, [*OWN, *others, f"{FOLDER}FOLDER"])
    return BackboneInfo(
        backbone,
        backbone_passes(backbone),
        own_sizes(backbone),
        block_size=trained_block(backbone),
        shipped=SHIPPED.get(backbone, {}),
    )


def known_config(backbone: str, size: str, folder: str = "") -> Config | None:
    """Return the configuration of a model that is built here, by name or from a folder; None for a
    model of unknown shape."""
    if folder:
        return folder_config(folder)
    return own_config(backbone, size) if backbone in OWN else None


def loaded(plugin: entry_points.Plugin) -> BackbonePlugin:
    """The announcement of a package's entry point. Raises ConfigError for another
    object than a BackbonePlugin."""
    found = entry_points.load(plugin)
    if not isinstance(found, BackbonePlugin):
        raise entry_points.refusal(
            plugin, f"is a {type(found).__name__}; must be a dlm_bench.plugins.api.BackbonePlugin"
        )
    return found
