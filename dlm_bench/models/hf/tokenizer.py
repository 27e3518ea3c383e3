"""The tokenizer of a folder, from its files: no code is run."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dlm_bench.errors import ConfigError, first_line

FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty if there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_code(folder: Path) -> bool:
    """Tell if a tokenizer's configuration names a class in the folder."""
    return bool(read_json(folder / "tokenizer_config.json").get("auto_map"))


def special_token(folder: Path, name: str) -> int | None:
    """Return the id of the tokenizer's token of this name, as mask_token; None without one. Raises
    KeyError, TypeError or ValueError for malformed files."""
    settings = read_json(folder / "tokenizer_config.json")
    special = read_json(folder / "special_tokens_map.json")
    token = settings.get(name) or special.get(name)
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        return None
    whole = read_json(folder / "tokenizer.json")
    found: dict[str, Any] = dict(read_json(folder / "vocab.json"))
    model = whole.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        found |= vocabulary
    found |= read_json(folder / "added_tokens.json")
    added = whole.get("added_tokens")
    for each in added if isinstance(added, list) else ():
        found[each["content"]] = each["id"]
    decoder = settings.get("added_tokens_decoder")
    for number, each in decoder.items() if isinstance(decoder, dict) else ():
        found[each["content"]] = int(number)
    return found.get(text)


@cache
def encoder(folder: str) -> Callable[[str], list[int]]:
    """Return the function from a text to token ids, without special tokens before or after: that of
    a folder's tokenizer, or of bytes where there is no folder, or none in it.

    Raises ConfigError for a tokenizer that is code, or that cannot be read.
    """
    path = Path(folder)
    if not folder or not any((path / name).is_file() for name in FILES):
        return lambda text: list(text.encode())
    where = f"prompts: the tokenizer of {folder!r}"
    try:
        if (path / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            whole = Tokenizer.from_file(str(path / "tokenizer.json"))
            return lambda text: list(whole.encode(text, add_special_tokens=False).ids)
        if is_code(path):
            raise ConfigError(f"{where} is code, which is not run; give token ids instead of text")
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ConfigError:
        raise
    except ImportError:
        raise ConfigError(f"{where} needs transformers (pip install transformers)") from None
    except Exception as error:  # each tokenizer's code raises what it likes
        raise ConfigError(
            f"{where} cannot be read ({first_line(error)}); give token ids instead of text"
        ) from error
    return lambda text: list(found.encode(text, add_special_tokens=False))
