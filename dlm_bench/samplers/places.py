"""The block at which each sequence of a batch is in a pass, where sequences are apart."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from dlm_bench.samplers.schedule import PlannedPass

NAMES = ("block_start", "block_len", "advance", "noise")


@dataclass
class Places:
    """The numbers of the rows in each pass.

    numbers: (passes, len(NAMES), batch) int64 on the device: of Rows, and that of the noise.
    shorter: True if a row may be at a block of fewer tokens than the pass takes.
    """

    numbers: Tensor
    shorter: bool

    def at(self, index: Tensor) -> Tensor:
        """The numbers of the pass at `index` (1,), (len(NAMES), batch)."""
        return self.numbers.index_select(0, index)[0]

    def tell(self, index: int, **numbers: list[int]) -> None:
        """Put the numbers of all rows, by name, in the place of those of pass `index`."""
        self.numbers[index] = torch.tensor([numbers[name] for name in NAMES])


def places_of(passes: list[PlannedPass], batch: int, device: torch.device) -> Places | None:
    """Return the places of the rows in a plan's passes; None if all rows are at the same block."""
    if not any(each.rows and each.rows.advance for each in passes):
        return None
    rows = [each.of_rows(batch) for each in passes]
    by_row = zip(*(each.block_start for each in rows), strict=True)
    noise = zip(*map(noise_numbers, by_row), strict=True)
    numbers = [
        (each.block_start, each.block_len, each.advance or (False,) * batch, drawn)
        for each, drawn in zip(rows, noise, strict=True)
    ]
    shorter = any(min(each.block_len) < p.query_len for p, each in zip(passes, rows, strict=True))
    return Places(torch.tensor(numbers, dtype=torch.int64, device=device), shorter)


def width_of(passes: list[PlannedPass], total: int) -> int:
    """Return the positions that passes reach: beyond `total` behind a shorter last block."""
    apart = (each for each in passes if each.rows and each.rows.advance)
    return max([total, *(max(each.of_rows(1).block_start) + each.query_len for each in apart)])


def noise_numbers(starts: Iterable[int]) -> list[int]:
    """Return for each pass over a block its start plus the number of the pass in the block: no two
    drawing passes share one where a block has at most as many of them as tokens."""
    return [start + i for start, those in groupby(starts) for i, _ in enumerate(those)]
