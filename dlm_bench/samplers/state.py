"""The static buffers of a decode: a captured pass reads and writes these and nothing else."""

from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from dlm_bench.errors import PointError
from dlm_bench.plugins.api import Cache, Model, ModelInfo
from dlm_bench.samplers.acceptance.acceptance import Acceptance
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass
from dlm_bench.samplers.unmask import Forms, choose_forms, unmask

LARGEST_INDEX = 1 << 62  # so that the sum with a pass' index stays an int64


@dataclass
class DecodeState:
    """A decode under way. Its sequences are `length` tokens long, `prompt_len` of them the prompt.

    Sequence i of a decode with seed s makes the same draws as a decode of a single sequence with
    seed s + i.

    forms: the plain or fused forms of unmasking, by the model's kernels.
    generators: of each sequence, for the noise of a temperature above 0; a seek puts them back to
        generators_start.
    noise_start: (batch,) int64 on the device, the seed of each sequence's noise in pass 0, from
        which the kernel on a GPU draws instead.
    tokens: (batch, length) int64, MASK where nothing is decoded yet.
    stand_ins: (batch, length) the prompt, and random token ids in the place of decoded ones after a
        seek.
    priority: (batch, length) random order in which `random` unmasking takes positions.
    index: (1,) int64 on the device, the next pass; each step adds 1.
    table: the numbers of each pass, (passes,), or (passes, batch) where rows differ, read at
        `index` on the device: columns of `passes`;
        `noise`, unique to each pass with noise and independent of the number of passes of earlier
        blocks; `after_seek`, true after a seek into the decode, where a pass unmasks the planned
        number even if the model decides (the tokens are none of the model's).
    shapes: (query_len, block_len) of each kind of pass, known on the host.
    offsets: the numbers from 0, by their count.
    drafts: (batch, block_size) tokens drafted and not verified yet; of `self-speculation` alone.
    """

    config: ModelInfo
    passes: list[PlannedPass]
    tokens: Tensor
    stand_ins: Tensor
    priority: Tensor
    index: Tensor
    noise_start: Tensor
    generators: list[torch.Generator]
    generators_start: list[Tensor]
    caches: list[Cache]
    forms: Forms
    prompt_len: int = 0
    table: dict[str, Tensor] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    offsets: dict[int, Tensor] = field(default_factory=dict)
    drafts: Tensor | None = None

    @property
    def rows_differ(self) -> bool:
        """True if passes unmask other numbers of tokens in each row."""
        return self.table["reveal"].dim() > 1

    def now(self, name: str) -> Tensor:
        """A column of the table at the current pass, (1,), or (batch,) where rows differ."""
        return self.table[name].index_select(0, self.index).view(-1)

    def put_stand_ins(self, pass_: PlannedPass) -> None:
        """Put random tokens in the place of those decoded before a pass, and MASK elsewhere."""
        rows, device = pass_.of_rows(len(self.tokens)), self.index.device
        start, length, masked = (
            torch.tensor(column, device=device)[:, None]
            for column in (rows.block_start, rows.block_len, rows.masked)
        )
        places = torch.arange(self.tokens.shape[1], device=device)
        left = places < start.clamp(min=self.prompt_len)
        self.tokens.copy_(torch.where(left, self.stand_ins, self.config.mask_id))
        offsets = torch.arange(max(rows.block_len), device=device)
        block = start + offsets  # (batch, block_len)
        priority = self.priority.gather(1, block).masked_fill(offsets >= length, -1.0)
        order = block.gather(1, priority.argsort(dim=1, descending=True))
        decoded = offsets < length - masked  # of the places in that order
        found = self.stand_ins.gather(1, order)
        self.tokens.scatter_(1, order, torch.where(decoded, found, self.config.mask_id))

    def block_positions(self, block_len: int) -> Tensor:
        """Positions of the current block's tokens, (block_len,) int64."""
        if block_len not in self.offsets:
            self.offsets[block_len] = torch.arange(block_len, device=self.index.device)
        return self.now("block_start") + self.offsets[block_len]

    def noise_seed(self) -> Tensor:
        """The seed of each sequence's noise in this pass, (batch,) int64: no two passes of a
        decode share one."""
        return self.now("noise") + self.noise_start

    def next_pass(self) -> None:
        """Move the device's counter on."""
        self.index += 1

    def unmask(
        self,
        model: Model,
        hidden: Tensor,
        *,
        rule: str,
        temperature: float,
        acceptance: Acceptance | None = None,
    ) -> None:
        """Unmask tokens of the current pass' block (see `samplers.unmask.unmask`)."""
        unmask(model, self, hidden, rule=rule, temperature=temperature, acceptance=acceptance)

    def check_unmasked(self, last: PlannedPass | None = None) -> None:
        """Raise PointError if the block of pass `last` has more MASKs than that pass was to leave
        in it, or the whole decode any, its prompt aside. Waits for the device: not for the timed
        region."""
        tokens, expected = self.tokens[:, self.prompt_len :], 0
        if last is not None:
            tokens = self.tokens[:, last.block_start : last.block_start + last.block_len]
            rows = last.of_rows(len(tokens))
            expected = sum(rows.masked) - sum(rows.reveal)
        masked = int((tokens == self.config.mask_id).sum())
        if masked > expected:
            raise PointError(
                f"decode: {masked - expected} of {tokens.numel()} tokens are MASK after their last "
                "pass; their logits are not finite (check the weights, or try dtype float32), or "
                "the sampler's passes unmask too few"
            )


def new_state(
    model: Model,
    passes: list[PlannedPass],
    shape: DecodeShape,
    seed: int,
    device: torch.device,
    caches: list[Cache],
    prompt: Tensor | None = None,
) -> DecodeState:
    """All buffers of a decode after a prompt (batch, prompt_len), a random one if there is none;
    every other token is MASK and the counter at the first pass."""
    config = model.config
    prompt_len, total = shape.prompt_len, shape.total
    seeds = range(seed, seed + shape.batch)
    generators = [torch.Generator(device).manual_seed(each) for each in seeds]
    stand_ins = torch.empty((shape.batch, total), dtype=torch.int64, device=device)
    priority = torch.empty((shape.batch, total), device=device)
    # Real, distinct ids: neither what a decode starts from nor MASK.
    special = sorted(i for i in {config.bos_id, config.mask_id} if i < config.vocab_size)
    for row, generator in enumerate(generators):
        # The prompt's do not depend on `length`.
        for part in (stand_ins[row, :prompt_len], stand_ins[row, prompt_len:]):
            part.random_(config.vocab_size - len(special), generator=generator)
        priority[row].uniform_(generator=generator)
    for each in special:
        stand_ins += stand_ins >= each
    if prompt is not None:
        stand_ins[:, :prompt_len] = prompt
    tokens = torch.full_like(stand_ins, config.mask_id)
    tokens[:, :prompt_len] = stand_ins[:, :prompt_len]
    noise_start = [each * total % LARGEST_INDEX for each in seeds]
    table = _columns(passes, shape.batch, device)
    table["noise"] = torch.tensor(_noise_numbers(passes), device=device)
    table["after_seek"] = torch.zeros(len(passes), dtype=torch.bool, device=device)
    return DecodeState(
        config=config,
        passes=passes,
        tokens=tokens,
        stand_ins=stand_ins,
        priority=priority,
        index=torch.zeros(1, dtype=torch.int64, device=device),
        noise_start=torch.tensor(noise_start, device=device),
        generators=generators,
        generators_start=[generator.get_state() for generator in generators],
        caches=caches,
        forms=choose_forms(model.kernels),
        prompt_len=prompt_len,
        table=table,
        shapes={p.kind: (p.query_len, p.block_len) for p in passes},
    )


def _columns(passes: list[PlannedPass], batch: int, device: torch.device) -> dict[str, Tensor]:
    """Return the table's columns of `passes`: the block's start, the tokens to unmask, and t."""
    names = ("block_start", "reveal", "t")
    table = {c: torch.tensor([getattr(p, c) for p in passes], device=device) for c in names}
    if any(p.rows for p in passes):
        reveals = [p.of_rows(batch).reveal for p in passes]
        table["reveal"] = torch.tensor(reveals, device=device)
    return table


def _noise_numbers(passes: list[PlannedPass]) -> list[int]:
    """Return for each pass the block's start plus the number of the pass in the block: a block has
    at most as many drawing passes as tokens."""
    of_block = groupby(passes, key=lambda each: each.block_start)
    return [start + i for start, those in of_block for i, _ in enumerate(those)]
