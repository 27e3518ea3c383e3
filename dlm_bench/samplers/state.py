"""The static buffers of a decode: a captured pass reads and writes these and nothing else."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlm_bench.protocols import Cache, Facts
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
    table: what the passes need, (passes,) each, read at `index` on the device.
    shapes: (query_len, block_len) of each kind of pass, known on the host.
    """

    config: Facts
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
        return self.index + self.seed * len(self.plan) % LARGEST_INDEX

    def next_pass(self) -> None:
        """Move the device's counter on."""
        self.index += 1


def new_state(
    config: Facts,
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
    filler = _real_ids(config, shape, generator, device)
    priority = torch.rand(shape, generator=generator, device=device)
    columns = ("block_start", "reveal", "t")
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
        table={c: torch.tensor([getattr(p, c) for p in plan], device=device) for c in columns},
        shapes={p.kind: (p.query_len, p.block_len) for p in plan},
    )


def _real_ids(
    config: Facts, shape: tuple[int, int], generator: torch.Generator, device: torch.device
) -> Tensor:
    """Random ids, real and distinct: neither where a decode starts from nor MASK."""
    special = sorted(i for i in {config.bos_id, config.mask_id} if i < config.vocab_size)
    ids = torch.randint(config.vocab_size - len(special), shape, generator=generator, device=device)
    for each in special:
        ids += ids >= each
    return ids
