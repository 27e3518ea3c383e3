"""A file of prompts: JSON Lines, each with a text or token ids."""

import codecs
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dlm_bench.errors import ConfigError, faulty_field
from dlm_bench.models.backbones import BackboneInfo, known_config
from dlm_bench.models.hf.tokenizer import encoder
from dlm_bench.samplers.prompt import Prompts

SHIPPED = "shipped"
FOLDER = Path(__file__).parents[1] / "prompts"
DIGITS = 12  # hexadecimal, of the digest in a label
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]


class Line(BaseModel):
    """A prompt: either `text` or the ids of its `tokens`; `name` is for the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = ""
    text: Annotated[str, Field(min_length=1)] | None = None
    tokens: Annotated[tuple[TokenId, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.text is None) == (self.tokens is None):
            raise ValueError("must have either text or tokens")
        return self

    def ids(self, encode: Callable[[str], list[int]]) -> tuple[int, ...]:
        """Return the token ids, of a text by `encode`."""
        return tuple(encode(self.text)) if self.text is not None else self.tokens or ()


def find_prompts(path: str | Path, base: Path = Path()) -> Path:
    """Find a file of prompts by path from a folder, or the shipped one by name. Raises ConfigError
    if there is neither."""
    given = base / Path(path).expanduser()
    if given.is_file():
        return given
    if str(path) == SHIPPED:
        return FOLDER / f"{SHIPPED}.jsonl"
    reason = "Is a directory" if given.is_dir() else "No such file or directory"
    raise ConfigError(f"prompts: {str(path)!r}: {reason}; the file of this package: {SHIPPED}")


def load_prompts(path: str | Path, folder: str = "") -> Prompts:
    """Read a file of prompts, texts by the tokenizer of a model's folder, or without one as their
    bytes. Raises ConfigError if the file is missing or a line is no prompt."""
    label, lines = read_prompt_file(find_prompts(path))
    encode = encoder(folder)
    ids = tuple(line.ids(encode) for line in lines)
    for number, each in enumerate(ids, 1):
        if not each:
            raise ConfigError(f"prompts: {str(path)!r}: prompt {number} has no tokens")
    names = tuple(line.name or str(number) for number, line in enumerate(lines, 1))
    return Prompts(label, ids, names)


def prompts_of(path: str | Path, info: BackboneInfo, size: str) -> Prompts:
    """Read a file of prompts for a backbone of a size. Raises ConfigError as `load_prompts` does,
    and for an id that is not the model's, if that is known before it is built."""
    found = load_prompts(path, info.folder)
    config = known_config(info.name, size, info.folder) if size in info.sizes else None
    if config is not None:
        found.check_ids(config.vocab_size)
    return found


def read_prompt_file(path: Path) -> tuple[str, list[Line]]:
    """Return the label of a file and its lines. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"prompts: {str(path)!r}: {error.strerror}") from None
    lines = []
    for number, text in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if text.strip():
            try:
                lines.append(Line.model_validate_json(text))
            except ValidationError as error:
                said = faulty_field(error.errors()[0])
                raise ConfigError(
                    f"prompts: {str(path)!r}: line {number} is no prompt ({said}); "
                    'must be as {"text": "..."} or {"tokens": [1, 2]}'
                ) from None
    if not lines:
        raise ConfigError(f"prompts: {str(path)!r}: has no line; must have a prompt a line")
    digest = hashlib.sha256(content).hexdigest()[:DIGITS]
    return f"{path.stem}@{digest}", lines
