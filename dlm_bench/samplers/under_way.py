"""The blocks of a pipeline that are under way, from pass to pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dlm_bench.samplers.schedule import Part, PlannedPass, blocks


class Rules(Protocol):
    """The options of `pipeline` that decide when blocks begin."""

    @property
    def block_size(self) -> int: ...
    @property
    def max_blocks(self) -> int: ...
    @property
    def add_at(self) -> float: ...
    @property
    def activate_at(self) -> float: ...


@dataclass
class Block:
    """A block under way: its number and place, the tokens masked, and if it is activated."""

    number: int
    start: int
    length: int
    masked: int
    activated: bool = False

    @property
    def decoded_share(self) -> float:
        """The share of the tokens that are decoded."""
        return (self.length - self.masked) / self.length


class UnderWay:
    """The blocks under way of a decode: `next_pass` says which the next pass takes, `accept` what
    that pass decoded of them.

    blocks: from left to right; a finished one stays until those before it are finished, too.
    clean: finished blocks in front of them that the next pass puts into the cache.
    """

    def __init__(self, rules: Rules, length: int, prompt_len: int) -> None:
        self.blocks: list[Block] = []
        self.clean: list[Block] = []
        self._rules = rules
        spans = enumerate(blocks(length, rules.block_size, prompt_len))
        self._waiting = [Block(number, start, size, size) for number, (start, size) in spans]
        self._waiting.reverse()

    def next_pass(self) -> bool:
        """Move finished blocks out, add one, and activate; return False if nothing is masked."""
        self.clean = []
        while self.blocks and not self.blocks[0].masked:
            self.clean.append(self.blocks.pop(0))
        known = [*self.clean, *self.blocks]
        ready = not known or known[-1].decoded_share >= self._rules.add_at
        if self._waiting and ready and len(self.blocks) < self._rules.max_blocks:
            self.blocks.append(self._waiting.pop())
        before = 1.0
        for block in self.blocks:
            block.activated = before >= self._rules.activate_at
            before = block.decoded_share
        return bool(self.blocks)

    def planned(self, counts: Sequence[int]) -> PlannedPass:
        """The next pass, which unmasks `counts` tokens of the blocks under way."""
        clean = sum(block.length for block in self.clean)
        start, span = self.blocks[0].start, sum(block.length for block in self.blocks)
        masked = sum(block.masked for block in self.blocks)
        return PlannedPass(
            kind=f"fused:{clean}+{span}" if clean else f"denoise:{span}",
            query_len=clean + span,
            context_len=start - clean,
            block_start=start,
            block_len=span,
            masked=masked,
            reveal=sum(counts),
            t=0.0,
            parts=tuple(
                Part(block.length, block.masked, count, block.activated)
                for block, count in zip(self.blocks, counts, strict=True)
            ),
        )

    def accept(self, counts: Sequence[int]) -> None:
        """Count the tokens that a pass decoded of each block."""
        for block, count in zip(self.blocks, counts, strict=True):
            block.masked -= count
