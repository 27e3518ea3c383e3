"""The id of MASK in the tokenizer's files of a folder, read as JSON: no code is run."""

import json
from pathlib import Path
from typing import Any

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


def mask_of_tokenizer(folder: Path) -> int | None:
    """Return the id of the tokenizer's mask token; None without a mask token."""
    settings = read_json(folder / "tokenizer_config.json")
    special = read_json(folder / "special_tokens_map.json")
    token = settings.get("mask_token") or special.get("mask_token")
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
