"""A recorded acceptance: the number of tokens unmasked by each pass of a decode, block by block.

With a trace the passes of a decode are known before it runs, so that the behaviour of a trained
model can be timed with any weights, and at any length.
"""

import codecs
import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, model_validator
from pydantic import ValidationError as Invalid

from dlm_bench.errors import ConfigError
from dlm_bench.results.files import write_file

SCHEMA_VERSION = 1
DIGITS = 12  # hexadecimal, of the digest in a label


class Trace(BaseModel):
    """The tokens accepted by each pass of a decode by `sampler` with `options`.

    accepted: for each block the tokens that each of its passes unmasked; of a `batch` their mean,
        so that an inner pass may have 0.
    block_size: tokens of a block, None where there is one block, the sequence.
    checkpoint: the digest of the weights' file, empty if they were random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int
    backbone: str
    size: str
    sampler: str
    options: dict[str, int | float | str]
    block_size: PositiveInt | None
    length: PositiveInt
    prompt_len: NonNegativeInt = 0
    checkpoint: str
    seed: NonNegativeInt
    batch: PositiveInt = 1
    accepted: tuple[tuple[NonNegativeInt, ...], ...]

    @model_validator(mode="after")
    def _blocks_are_whole(self) -> Self:
        size = self.block_size or self.length
        whole, rest = divmod(self.length, size)
        if [sum(block) for block in self.accepted] != [size] * whole + [rest] * (rest > 0):
            raise ValueError("the tokens of its blocks must be those of block_size and length")
        if not all(block[0] and block[-1] for block in self.accepted):
            raise ValueError("the first and the last pass of a block must accept a token")
        return self

    def __hash__(self) -> int:
        return hash(self.label)

    @cached_property
    def label(self) -> str:
        """The name in records: the model, the rule, and the digest of the whole trace."""
        accept = self.options.get("accept", "fixed")
        value = f"-{self.options[str(accept)]}" if accept in self.options else ""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:DIGITS]
        return f"{self.backbone}-{self.size}-{accept}{value}@{digest}"

    @property
    def decoding_passes(self) -> int:
        """Passes that accept tokens: all but commits."""
        return sum(map(len, self.accepted))

    @property
    def tokens_per_pass(self) -> float:
        """Tokens accepted by a pass, on average."""
        return self.length / self.decoding_passes

    def counts(self, number: int, block_len: int) -> Iterator[int]:
        """The tokens that each pass over block `number` of a decode accepts, if that block has
        `block_len` tokens; together all of them.

        Beyond the trace's end its blocks come again. A block of another length goes on from its
        first pass, or ends where nothing is left.
        """
        own = self.accepted[number] if number < len(self.accepted) else ()
        if sum(own) != block_len:
            own = self._whole[number % len(self._whole)]
        left = block_len
        for count in cycle(own):
            yield min(count, left)
            left -= count
            if left <= 0:
                return

    @cached_property
    def _whole(self) -> tuple[tuple[int, ...], ...]:
        """The blocks without a shorter last one."""
        return tuple(block for block in self.accepted if sum(block) == sum(self.accepted[0]))


def save_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace as JSON, creating the folder. Raises ConfigError if that fails."""
    write_file(path, trace.model_dump_json() + "\n", "trace", ConfigError)


def load_trace(path: str | Path) -> Trace:
    """Read a trace. Raises ConfigError if the file is missing, torn or of a newer schema."""
    try:
        text = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    except (OSError, ValueError) as error:  # a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"trace {str(path)!r}: {reason}") from None
    version = _schema_of(text)
    if version not in (None, SCHEMA_VERSION):
        raise ConfigError(
            f"trace {str(path)!r}: schema_version {version} is not known; allowed: {SCHEMA_VERSION}"
        )
    try:
        return Trace.model_validate_json(text)
    except Invalid as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"trace {str(path)!r}: not a trace ({where + ': ' if where else ''}{first['msg']})"
        ) from None


def _schema_of(text: bytes) -> object:
    """Return the schema version in a trace's text, the first thing to read."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found.get("schema_version") if isinstance(found, dict) else None
