"""The passes of a decode, known before anything runs.

In the paper's letters: L tokens at p a pass take T = L/p denoising steps over the whole sequence;
in N = L/B blocks of B tokens they take t = B/p passes a block. Each quotient is rounded up.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import NamedTuple, Self

from dlm_bench.errors import MAX_BATCH, check_int, check_lengths
from dlm_bench.samplers.prompt import Prompts

PREFILL = "prefill"  # the kind of the pass that puts a prompt into the caches
COMMIT = "commit"  # the role of the pass that puts a finished block into them
MIXED = "mixed"  # the kind of a pass in which some sequences commit a block and others denoise one


def role_of(kind: str) -> str:
    """A kind of pass without its shape."""
    return kind.partition(":")[0]


@dataclass(frozen=True)
class DecodeShape:
    """The size of a decode, checked here and nowhere below.

    length: L, tokens that each sequence decodes.
    prompt_len: tokens of the prompt before them.
    batch: sequences.
    prompts: of which the prompt of each sequence is one; None for random prompts.
    stop_at_eos: the decode ends with the block in which the last sequence has its end of text.
    Raises ConfigError for a length or batch below 1, a prompt's below 0, or too much of any.
    """

    length: int
    prompt_len: int = 0
    batch: int = 1
    prompts: Prompts | None = None
    stop_at_eos: bool = False

    def __post_init__(self) -> None:
        check_lengths(self.length, self.prompt_len)
        check_int("batch", self.batch, maximum=MAX_BATCH)

    @property
    def total(self) -> int:
        """Tokens of a whole sequence, its prompt among them."""
        return self.prompt_len + self.length

    def after(self, prompts: Prompts, seed: int) -> Self:
        """Return the decode after prompts of a file: of prompt_len tokens, or if that is 0 of as
        many as the shortest prompt of its sequences has."""
        check_int("seed", seed, minimum=0)
        seeds = range(seed, seed + self.batch)
        return replace(self, prompts=prompts, prompt_len=self.prompt_len or prompts.shortest(seeds))


@dataclass(frozen=True, slots=True)
class Pass:
    """`count` forward evaluations in a row of `query_len` tokens over `context_len` cached tokens.

    Passes of a kind have the same shape, as a CUDA graph is captured for each kind. The part after
    a colon separates shapes of a role: `denoise:17` for a last block of 17 tokens.
    """

    kind: str
    query_len: int
    context_len: int
    count: int = 1

    @property
    def role(self) -> str:
        """The kind without the shape: the purpose of the pass."""
        return role_of(self.kind)


@dataclass(frozen=True)
class Schedule:
    """The passes of a decode of `length` tokens after a prompt of `prompt_len`, run-length encoded.

    The first pass may be a prefill over the prompt.
    """

    length: int
    passes: tuple[Pass, ...]
    prompt_len: int = 0

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    @property
    def prefill(self) -> Pass | None:
        """The pass over the prompt, if it has one of its own."""
        return next((p for p in self.passes if p.kind == PREFILL), None)

    @property
    def forward_passes(self) -> int:
        """The number of function evaluations (NFE), the prefill pass not among them."""
        return sum(p.count for p in self.passes if p.kind != PREFILL)

    @property
    def query_tokens(self) -> int:
        """Tokens that go through the network, over all passes but the prefill pass."""
        return sum(p.count * p.query_len for p in self.passes if p.kind != PREFILL)


class Rows(NamedTuple):
    """The fields of a pass, by their names in PlannedPass, in which the sequences of a batch
    differ: an entry for each.

    advance: the sequences whose block enters the cache by the pass, where not all of them do the
        same; else empty, and the kind of the pass says it.
    edits: the sequences without MASK whose tokens may still be replaced, if there are any.
    """

    block_start: tuple[int, ...]
    block_len: tuple[int, ...]
    masked: tuple[int, ...]
    reveal: tuple[int, ...]
    advance: tuple[bool, ...] = ()
    edits: tuple[bool, ...] = ()


class Part(NamedTuple):
    """A block's part in a pass over several blocks: its length, the MASK tokens when the pass
    starts, the tokens to unmask, and if it is activated (see `samplers.pipeline`)."""

    length: int
    masked: int
    reveal: int
    activated: bool


class PlannedPass(NamedTuple):
    """A single pass, and its unmasking. Built by keyword: the fields are numbers side by side.

    kind: passes of a kind have the same shape (see Pass).
    query_len: tokens through the network.
    context_len: cached tokens in their sight.
    block_start: position of the block's first token, from the first token of the prompt.
    block_len: tokens of the block.
    masked: MASK tokens of the block when the pass starts.
    reveal: tokens to unmask.
    t: the timestep for the network, not the paper's t = B/p.
    rows: where sequences of a batch differ; masked and reveal are then of the slowest one.
    parts: of a pass over several blocks, in order; the fields above are then those of all together,
        but each block has a timestep of its own, and t is 0.
    """

    kind: str
    query_len: int
    context_len: int
    block_start: int
    block_len: int
    masked: int
    reveal: int
    t: float
    rows: Rows | None = None
    parts: tuple[Part, ...] = ()

    @property
    def denoises(self) -> bool:
        """True if the pass may unmask or replace tokens of its query: it is no prefill and no
        commit, which may unmask the token after it."""
        role = role_of(self.kind)
        return role == "denoise" or (self.masked > 0 and role not in (PREFILL, COMMIT))

    @property
    def mean_masked(self) -> float:
        """MASK tokens of a sequence's block when the pass starts, on average."""
        return sum(self.rows.masked) / len(self.rows.masked) if self.rows else self.masked

    @property
    def mean_reveal(self) -> float:
        """Tokens to unmask in a sequence, on average."""
        return sum(self.rows.reveal) / len(self.rows.reveal) if self.rows else self.reveal

    @property
    def mean_advance(self) -> float:
        """The share of the sequences whose block the pass commits beside others' denoising."""
        return sum(self.rows.advance) / len(self.rows.masked) if self.rows else 0.0

    def of_rows(self, batch: int) -> Rows:
        """Return the numbers of each of `batch` sequences."""
        if self.rows is not None:
            return self.rows
        return Rows(
            block_start=(self.block_start,) * batch,
            block_len=(self.block_len,) * batch,
            masked=(self.masked,) * batch,
            reveal=(self.reveal,) * batch,
        )


def run_lengths(length: int, plan: Iterable[PlannedPass], prompt_len: int = 0) -> Schedule:
    """The schedule of a plan: equal neighbours are counted."""
    runs = groupby(plan, key=lambda each: (each.kind, each.query_len, each.context_len))
    passes = tuple(
        Pass(kind=kind, query_len=query_len, context_len=context_len, count=len(list(run)))
        for (kind, query_len, context_len), run in runs
    )
    return Schedule(length, passes, prompt_len)


def blocks(length: int, block_size: int, prompt_len: int = 0) -> Iterator[tuple[int, int]]:
    """(start, length) of each of the N = ceil(L / B) blocks after a prompt; the last one may be
    shorter."""
    L, B = length, block_size
    N = -(-L // B)
    for b in range(N):
        yield prompt_len + b * B, min(B, L - b * B)


def prefill_passes(plan: Sequence[PlannedPass]) -> int:
    """Number of passes of a plan, 0 or 1, that only put the prompt into the caches (and, of a
    causal model, decode the first token)."""
    return int(plan[0].kind == PREFILL)


def first_block_passes(plan: Sequence[PlannedPass]) -> int:
    """Number of passes, the prefill pass among them, until the first block is unmasked."""
    revealing = (
        (index, step.block_start) for index, step in enumerate(plan) if step.denoises or step.reveal
    )
    begin, first = next(revealing)
    of_first = takewhile(lambda each: each[1] == first, revealing)
    return 1 + max((index for index, _ in of_first), default=begin)


def reveals(tokens: int, tokens_per_step: int) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of each pass: T = ceil(L / p) of them over a
    sequence, t = ceil(B / p) over a block.

    As even as can be, the remainder spent first: 32 tokens at p = 7 go 7, 7, 6, 6, 6.
    """
    return remaining(evenly(tokens, -(-tokens // tokens_per_step)), tokens)


def evenly(tokens: int, passes: int) -> Iterator[int]:
    """Tokens of each of `passes` passes, as even as can be, the remainder spent first."""
    share, extra = divmod(tokens, passes)
    return (share + (i < extra) for i in range(passes))


def remaining(counts: Iterable[int], tokens: int) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of passes that unmask `counts` of `tokens`."""
    for reveal in counts:
        yield tokens, reveal
        tokens -= reveal


def behind_known(passes: Iterable[tuple[int, int]], masked: int) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of the same passes over a block of which no more than
    `masked` tokens are MASK before the first: the tokens known are those it would unmask first."""
    for before, reveal in passes:
        found = min(before, masked)
        yield found, found - min(before - reveal, masked)
