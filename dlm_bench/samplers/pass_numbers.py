"""The numbers of each pass in one table, which a captured pass reads at its index on the device."""

from collections import Counter
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from dlm_bench.samplers.places import noise_numbers
from dlm_bench.samplers.schedule import PlannedPass

# The columns of `numbers`. `never` is 0, and the row of t = 0 in `modulation` in front of `row`.
NUMBERS = (
    "block_start",
    "block_stop",
    "noise",
    "passes_done",
    "after_seek",
    "t",
    "never",
    "row",
    "reveal",
)


def column(numbers: Tensor, name: str) -> Tensor:
    """A column of `numbers` (rows, columns), (rows,): a view in its own dtype; `reveal` (rows,
    batch) where the sequences of a batch differ."""
    at = NUMBERS.index(name)
    if name == "reveal" and numbers.shape[1] > len(NUMBERS):
        return numbers[:, at:]
    if name == "t":
        return numbers.view(torch.float32)[:, 2 * at]
    return numbers.view(torch.bool)[:, 8 * at] if name == "after_seek" else numbers[:, at]


def timesteps_of(passes: list[PlannedPass]) -> list[float]:
    """Return the timesteps of the passes, that of a clean block first."""
    return sorted({0.0, *(each.t for each in passes)})


def numbers_of(passes: list[PlannedPass], timesteps: list[float], batch: int) -> Tensor:
    """The numbers of each pass, (passes, columns) int64."""
    rows_differ = any(each.rows for each in passes)
    reveals = batch if rows_differ else 1
    numbers = torch.zeros(len(passes), len(NUMBERS) - 1 + reveals, dtype=torch.int64)
    row_of = {t: row for row, t in enumerate(timesteps)}
    columns: dict[str, list[Any]] = {
        "block_start": [each.block_start for each in passes],
        "block_stop": [each.block_start + each.block_len for each in passes],
        "reveal": [each.of_rows(reveals).reveal for each in passes],
        "noise": noise_of(passes),
        "passes_done": _passes_done(passes),
        "t": [each.t for each in passes],
        "row": [row_of[each.t] for each in passes],
    }
    for name, values in columns.items():
        target = column(numbers, name)
        target.copy_(torch.tensor(values, dtype=target.dtype).view(target.shape))
    return numbers


def noise_of(passes: list[PlannedPass]) -> list[int]:
    """Return the number of each pass' noise: that of `noise_numbers`, or that of the pass in the
    decode where a block with others behind it takes more passes than it has tokens."""
    drawing = (each for each in passes if each.denoises)
    by_block = [list(those) for _, those in groupby(drawing, key=lambda each: each.block_start)]
    if any(len(those) > max(each.block_len for each in those) for those in by_block[:-1]):
        return list(range(len(passes)))
    return noise_numbers(each.block_start for each in passes)


def _passes_done(passes: list[PlannedPass]) -> list[int]:
    """Return for each pass the passes of its block before that unmasked tokens."""
    done: Counter[int] = Counter()
    found = []
    for each in passes:
        found.append(done[each.block_start])
        done[each.block_start] += each.denoises and each.masked > 0
    return found
