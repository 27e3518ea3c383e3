"""The passes of a decode: what a sampler will do, known before anything runs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple


def role_of(kind: str) -> str:
    """A kind of pass without its shape."""
    return kind.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Pass:
    """`count` forward evaluations in a row of `query_len` tokens over `context_len` cached ones.

    Passes of one kind have one shape: a kind is what a CUDA graph is captured for. What follows a
    colon in a kind tells shapes of one role apart, as `denoise:17` for a last block of 17 tokens.
    """

    kind: str
    query_len: int
    context_len: int
    count: int = 1

    @property
    def role(self) -> str:
        """The kind without its shape: what the pass is for."""
        return role_of(self.kind)


@dataclass(frozen=True)
class Schedule:
    """The run-length list of the passes of one decode of `length` tokens."""

    length: int
    passes: tuple[Pass, ...]

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    @property
    def forward_passes(self) -> int:
        """The number of function evaluations (NFE)."""
        return sum(p.count for p in self.passes)

    @property
    def query_tokens(self) -> int:
        """Tokens that go through the network, over all passes."""
        return sum(p.count * p.query_len for p in self.passes)


class PlannedPass(NamedTuple):
    """One pass, with what its unmasking needs.

    Of the block of `block_len` tokens at `block_start`, `masked` are MASK when the pass starts and
    `reveal` of them are unmasked by it; `t` is the timestep the network is given.
    """

    kind: str
    query_len: int
    context_len: int
    block_start: int
    block_len: int
    masked: int
    reveal: int
    t: float


def run_lengths(length: int, plan: Iterable[PlannedPass]) -> Schedule:
    """The schedule of a plan: equal neighbours are counted."""
    runs = groupby(plan, key=lambda step: (step.kind, step.query_len, step.context_len))
    return Schedule(length, tuple(Pass(*shape, count=len(list(run))) for shape, run in runs))


def blocks(length: int, block_size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of each block; the last one may be shorter."""
    for start in range(0, length, block_size):
        yield start, min(block_size, length - start)


def reveals(tokens: int, tokens_per_step: int) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of each of the ceil(tokens / p) passes.

    As even as can be, the remainder spent first: 32 tokens at p = 7 go 7, 7, 6, 6, 6.
    """
    passes = -(-tokens // tokens_per_step)
    share, extra = divmod(tokens, passes)
    return remaining((share + (i < extra) for i in range(passes)), tokens)


def remaining(counts: Iterable[int], tokens: int) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of passes that unmask `counts` of `tokens`."""
    for reveal in counts:
        yield tokens, reveal
        tokens -= reveal
