"""A checkpoint's facts, read without torch: the configuration, and the digest of the file."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from dlm_bench.errors import ConfigError, first_line
from dlm_bench.models.config import ModelConfig, stated_model_config

KEY = "dlm-bench config"  # of the metadata: the ModelConfig as JSON
DIGITS = 16  # hexadecimal, of the digest that records keep
LABEL_DIGITS = 8


def checkpoint_config(path: str | Path) -> ModelConfig:
    """Read the configuration of the model in a checkpoint. Raises ConfigError for another file."""
    if not Path(path).is_file():
        raise ConfigError(f"checkpoint {str(path)!r}: no such file")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"checkpoint {str(path)!r}: {first_line(error)}") from None
    if KEY not in metadata:
        raise ConfigError(
            f"checkpoint {str(path)!r}: its metadata has no {KEY!r}; "
            "dlm_bench.save_checkpoint writes it"
        )
    try:
        return stated_model_config(json.loads(metadata[KEY]))
    except json.JSONDecodeError:
        raise ConfigError(f"checkpoint {str(path)!r}: {KEY}: not valid JSON") from None
    except ConfigError as error:
        raise ConfigError(f"checkpoint {str(path)!r}: {KEY}: {error}") from None


def check_holds(path: str | Path, backbone: str, size: str | None) -> None:
    """Raise ConfigError unless a checkpoint is of this backbone and size; None is any size."""
    config = checkpoint_config(path)
    for name, asked in (("backbone", backbone), ("size", size)):
        found = getattr(config, name)
        if asked not in (None, found):
            raise ConfigError(
                f"{name}: {asked!r} is not allowed; checkpoint {str(path)!r} holds {found!r}"
            )


def checkpoint_label(path: str | Path) -> str:
    """Return the name of a checkpoint in points: the file's, and the digest of the content."""
    return f"{Path(path).stem}@{digest(path)[:LABEL_DIGITS]}"


def digest(path: str | Path) -> str:
    """Return the first digits of the SHA-256 of a file: the name of a checkpoint in any place."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
