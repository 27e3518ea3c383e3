"""The static buffers of a decode: a captured pass reads and writes these and nothing else."""

from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from dlm_bench.models.cache import Cache
from dlm_bench.models.config import ModelConfig
from dlm_bench.samplers.schedule import PlannedPass

LARGEST_INDEX = 1 << 62  # so that the sum with a pass' index stays an int64


@dataclass
class DecodeState:
    """A decode under way.

    seed: of the noise of a temperature above 0. On a GPU the kernel that needs it draws it from
        the seed and the pass; elsewhere `generator` does, which a seek puts back to
        generator_start.
    tokens: (batch, length) int64, MASK where nothing is decoded yet.
    filler: (batch, length) random token ids that stand for decoded ones after a seek.
    priority: (batch, length) random order in which `random` unmasking takes positions.
    index: (1,) int64 on the device, the next pass; each step adds one to it.
    table: what the passes need, (passes,) each, read at `index` on the device. Beside what was
        planned: `noise`, a number that no other pass with noise has, and that does not depend on
        how many passes the blocks before took; `as_planned`, whether the pass unmasks what was
        planned even if the model decides (after a seek the tokens are none of the model's).
    shapes: (query_len, block_len) of each kind of pass, known on the host.
    """

    config: ModelConfig
    plan: list[PlannedPass]
    tokens: Tensor
    filler: Tensor
    priority: Tensor
    index: Tensor
    seed: int
    generator: torch.Generator
    generator_start: Tensor
    caches: list[Cache]
    table: dict[str, Tensor] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def now(self, name: str) -> Tensor:
        """A column of the table at the current pass, (1,)."""
        return self.table[name].index_select(0, self.index)

    def noise_seed(self) -> Tensor:
        """The seed of this pass' noise, (1,) int64: no two passes of a decode share one."""
        return self.now("noise") + self.seed * self.tokens.shape[1] % LARGEST_INDEX

    def next_pass(self) -> None:
        """Move the device's counter on."""
        self.index += 1


def new_state(
    config: ModelConfig,
    plan: list[PlannedPass],
    length: int,
    batch: int,
    seed: int,
    device: torch.device,
    caches: list[Cache],
) -> DecodeState:
    """All buffers of a decode, with every token MASK and the counter at the first pass."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (batch, length)
    # Real, distinct ids: neither end of text nor MASK.
    filler = torch.randint(config.bos_id, shape, generator=generator, device=device)
    priority = torch.rand(shape, generator=generator, device=device)
    columns = ("block_start", "reveal", "t")
    table = {c: torch.tensor([getattr(p, c) for p in plan], device=device) for c in columns}
    table["noise"] = torch.tensor(_noise_numbers(plan), device=device)
    table["as_planned"] = torch.zeros(len(plan), dtype=torch.bool, device=device)
    return DecodeState(
        config=config,
        plan=plan,
        tokens=torch.full(shape, config.mask_id, device=device),
        filler=filler,
        priority=priority,
        index=torch.zeros(1, dtype=torch.int64, device=device),
        seed=seed,
        generator=generator,
        generator_start=generator.get_state(),
        caches=caches,
        table=table,
        shapes={p.kind: (p.query_len, p.block_len) for p in plan},
    )


def _noise_numbers(plan: list[PlannedPass]) -> list[int]:
    """The block's start plus the pass's number in the block: a block has no more passes that draw
    than it has tokens."""
    of_block = groupby(plan, key=lambda place: place.block_start)
    return [start + i for start, places in of_block for i, _ in enumerate(places)]
