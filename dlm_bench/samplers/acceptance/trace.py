"""A recorded acceptance: the tokens that each pass of a decode unmasked, block by block, in each of
its sequences.

With a trace the passes of a decode are known before it runs, so that the behaviour of a trained
model can be timed with any weights, and at any length.
"""

import codecs
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import cycle, pairwise, takewhile, zip_longest
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from pydantic import ValidationError as Invalid

from dlm_bench.errors import ConfigError, faulty_field
from dlm_bench.results.files import write_file
from dlm_bench.results.labels import label_of_now, value_text
from dlm_bench.samplers.schedule import remaining

SCHEMA_VERSION = 2
DIGITS = 12  # hexadecimal, of the digest in a label


Blocks = tuple[tuple[NonNegativeInt, ...], ...]  # for each block the tokens of each pass
# The options that a label tells behind the rule, with what stands before each value.
TOLD = {
    "threshold": "",
    "factor": "",
    "gamma": "",
    "edit_threshold": "edit-",
    "max_passes": "max-",
    "max_edit_passes": "max-",
}


class Trace(BaseModel):
    """The tokens accepted by each pass of decodes by `sampler` with `options`.

    options: of a replay its own, beside those of the trace that it followed.
    sequences: for each sequence and each of its blocks, the tokens that each pass over the block
        unmasked in that sequence, until it had nothing left to do; 0 in a pass that only edits.
    block_size: tokens of a block, None where there is one block, the sequence.
    checkpoint: the digest of the weights' file, empty if they were random.
    batch: sequences that were decoded together; the first one had `seed`, the next `seed` + 1.
    prompts: the name and digest of the file whose prompts the sequences follow, in turn from number
        `seed`; prompt_len 0 then stands for the length of each. Empty for random prompts.
    drawn: the sequence that each row of a batch follows (see `for_batch`), not in a file.
    Files of schema 1 have `accepted`, the blocks of one sequence or the mean of a batch.
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
    prompts: str = ""
    checkpoint: str
    seed: NonNegativeInt
    batch: PositiveInt = 1
    sequences: tuple[Blocks, ...]
    drawn: tuple[int, ...] = Field(default=(), exclude=True, repr=False)

    @model_validator(mode="after")
    def _blocks_are_whole(self) -> Self:
        size = self.block_size or self.length
        whole, rest = divmod(self.length, size)
        tokens = [size] * whole + [rest] * (rest > 0)
        if not self.sequences:
            raise ValueError("there must be a sequence")
        if any([sum(block) for block in blocks] != tokens for blocks in self.sequences):
            raise ValueError("the tokens of its blocks must be those of block_size and length")
        # A block of a pipeline may wait for those before it; a spread may begin with none.
        late = self.sampler == "pipeline" or self.options.get("spread", "even") != "even"
        if not late and not all(block[0] for blocks in self.sequences for block in blocks):
            raise ValueError("the first pass of a block must accept a token")
        if self.drawn:
            raise ValueError("drawn is not a field of a file")
        return self

    @model_validator(mode="after")
    def _can_be_followed(self) -> Self:
        if self.sampler == "self-speculation":
            if self.block_size is not None:
                raise ValueError("block_size must be null in a trace of self-speculation")
            if not all(all(pairs) for (pairs,) in self.sequences):
                raise ValueError("each pair of passes must keep a token")
        limit, most = (self.options.get(name) for name in ("edit_threshold", "max_edit_passes"))
        known = isinstance(limit, int | float) and isinstance(most, int)
        if self.options.get("accept") == "joint" and not known:
            raise ValueError("accept 'joint' needs the numbers edit_threshold and max_edit_passes")
        return self

    def __hash__(self) -> int:
        return hash(self.label)

    @classmethod
    def by_hand(
        cls, sequences: Sequence[Sequence[Sequence[int]]], block_size: int | None, **facts: Any
    ) -> Self:
        """Return a trace that no decode recorded: of DiffuTran `tiny` by `block-cache`, unless
        `facts` say otherwise. Raises pydantic's ValidationError if it is none."""
        blocks = tuple(tuple(map(tuple, each)) for each in sequences)
        known: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "backbone": "diffutran",
            "size": "tiny",
            "sampler": "block-cache",
            "options": {},
            "length": sum(map(sum, blocks[0])),
            "checkpoint": "",
            "seed": 0,
        }
        return cls(**known | {"sequences": blocks, "block_size": block_size} | facts)

    @cached_property
    def label(self) -> str:
        """The name in records: the model, the rule, and the digest of the whole trace."""
        rule = [str(self.options.get("accept", "fixed"))]
        told = {name: value for name in TOLD if (value := self.options.get(name)) is not None}
        rule += [TOLD[name] + value_text(value) for name, value in told.items()]
        order = str(self.options.get("order", "confidence"))
        rule += [] if order == "confidence" else [order]
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:DIGITS]
        return label_of_now(f"{self.backbone}-{self.size}-{'-'.join(rule)}@{digest}")

    @property
    def text(self) -> str:
        """The JSON of a file, in the schema of the trace."""
        if self.schema_version > 1:
            return self.model_dump_json()
        rest = self.model_dump_json(exclude={"sequences", "prompts"}).removesuffix("}")
        accepted = json.dumps(self.sequences[0], separators=(",", ":"))
        return f'{rest},"accepted":{accepted}}}'

    @property
    def blocks(self) -> dict[str, int]:
        """The options of a sampler with blocks, and maybe sub-blocks, as this trace's; none where
        there is one block, the sequence. Those of self-speculation are of its verify pass."""
        whole, size = self.options.get("block_size"), self.block_size
        if not isinstance(whole, int):
            whole = size
        if whole and size and size < whole and size == self.options.get("sub_block_size"):
            return {"block_size": whole, "sub_block_size": size}
        if self.sampler == "self-speculation":
            size = whole
        return {"block_size": size} if size else {}

    @property
    def accepted(self) -> Blocks:
        """The blocks of the first sequence."""
        return self.sequences[0]

    @cached_property
    def passes_per_block(self) -> tuple[int, ...]:
        """The passes over each block of each sequence."""
        return tuple(len(block) for blocks in self.sequences for block in blocks)

    @property
    def decoding_passes(self) -> int:
        """Passes over blocks of all sequences, commits aside."""
        return sum(self.passes_per_block)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens of a sequence accepted by a pass, on average."""
        return self.length * len(self.sequences) / self.decoding_passes

    @property
    def differs(self) -> bool:
        """True if the rows of a batch may follow different sequences."""
        return len(self.sequences) > 1

    def for_batch(self, batch: int, seed: int) -> Self:
        """Return this trace as `batch` rows follow it: the sequences in turn, the first one where
        `seed` is the trace's. So a row with seed s follows the same one in every batch."""
        first, found = seed - self.seed, len(self.sequences)
        drawn = tuple((first + row) % found for row in range(batch))
        return self.model_copy(update={"drawn": drawn})

    def counts(self, number: int, block_len: int) -> Iterator[int]:
        """The tokens that each pass over block `number` of a decode takes from the row that has
        most left, if that block has `block_len` tokens; together all of them."""
        rows = [list(remaining(counts, block_len)) for counts in self.row_counts(number, block_len)]
        steps = zip_longest(*rows, fillvalue=(0, 0))
        left = [max(masked for masked, _ in step) for step in steps]
        return (before - after for before, after in pairwise([*left, 0]))

    def row_counts(self, number: int, block_len: int) -> list[list[int]]:
        """The tokens that each pass over block `number` unmasks in each row, until the row's block
        is done.

        Beyond a sequence's end its blocks come again. A block of another length goes on from its
        first pass, or ends where nothing is left; the passes that edit alone come at its end.
        """
        found = {each: self._counts(each, number, block_len) for each in {*self.drawn} or {0}}
        return [found[each] for each in self.drawn or (0,)]

    def _counts(self, sequence: int, number: int, block_len: int) -> list[int]:
        blocks = self.sequences[sequence]
        own = blocks[number] if number < len(blocks) else ()
        if sum(own) != block_len:
            whole = self._whole[sequence]
            own = whole[number % len(whole)]
        if sum(own) == block_len:
            return list(own)
        edits = list(takewhile(lambda count: not count, reversed(own)))
        counts, left = [], block_len
        for count in cycle(own[: len(own) - len(edits)]):
            counts.append(min(count, left))
            left -= counts[-1]
            if not left:
                break
        return [*counts, *edits]

    @cached_property
    def _whole(self) -> list[Blocks]:
        """The blocks of each sequence without a shorter last one."""
        return [
            tuple(block for block in blocks if sum(block) == sum(blocks[0]))
            for blocks in self.sequences
        ]


def save_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace as JSON, creating the folder. Raises ConfigError if that fails."""
    write_file(path, trace.text + "\n", "trace", ConfigError)


def load_trace(path: str | Path) -> Trace:
    """Read a trace. Raises ConfigError if the file is missing, torn or of a newer schema."""
    try:
        text = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    except (OSError, ValueError) as error:  # a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"trace {str(path)!r}: {reason}; record one with dlm-bench trace"
        ) from None
    facts = _facts_of(text)
    version = facts.get("schema_version")
    if version not in (None, 1, SCHEMA_VERSION):
        raise ConfigError(
            f"trace {str(path)!r}: schema_version {version} is not known; "
            f"allowed: 1, {SCHEMA_VERSION}"
        )
    if version == 1 and "accepted" in facts:
        text = json.dumps({"sequences": [facts.pop("accepted")], **facts}).encode()
    try:
        return Trace.model_validate_json(text)
    except Invalid as error:
        raise ConfigError(
            f"trace {str(path)!r}: not a trace ({faulty_field(error.errors()[0])}); record one "
            "with dlm-bench trace"
        ) from None


def _facts_of(text: bytes) -> dict[str, Any]:
    """Return the fields in a trace's text, none if it is no object."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
