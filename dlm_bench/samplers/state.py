"""The static buffers of a decode: a captured pass reads and writes these and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from dlm_bench.errors import PointError
from dlm_bench.kernels.draws import uniform
from dlm_bench.kernels.lm_head import Score
from dlm_bench.plugins.api import Cache, Model, ModelInfo
from dlm_bench.samplers.acceptance.acceptance import Acceptance
from dlm_bench.samplers.pass_numbers import NUMBERS, column
from dlm_bench.samplers.places import NAMES, Places
from dlm_bench.samplers.schedule import PlannedPass
from dlm_bench.samplers.unmask import Forms, unmask


class Query(NamedTuple):
    """The tokens of a pass and where they are MASK, (batch, count); the current block's come after
    the first `before`."""

    tokens: Tensor
    masked: Tensor
    before: int


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
    padded: the same, with a place for each query token behind a shorter last block; `tokens` is a
        view of the part in front.
    stand_ins: as padded, the prompt, and random token ids in the place of decoded ones after a
        seek.
    priority: as padded, in which the order `random` takes positions.
    index: (1,) int64 on the device, the next pass; each step adds 1.
    numbers: those of each pass, (passes, columns) int64, read at `index` on the device: columns of
        `passes`, a `reveal` for each sequence where they differ; `passes_done`, those before that
        unmasked tokens of the block; `noise`, unique to each pass with noise and independent of the
        number of passes of earlier blocks; `after_seek`, true after a seek into the decode, where a
        pass unmasks the planned number even if the model decides (the tokens are none of the
        model's); `row`, that of `modulation`.
    places: the block of each row in each pass, where rows are apart; else None.
    modulation: adaLN's rows at every timestep of the passes, (timesteps, columns), t = 0 first;
        None if the passes compute them.
    full_passes: (batch, 1) passes over the current block so far that found no MASK in a row; of an
        acceptance that edits.
    shapes: (query_len, block_len) of each kind of pass, known on the host.
    offsets: the numbers from 0, by their count.
    drafts: (batch, block_size) tokens drafted and not verified yet; of `self-speculation` alone.
    end: the position behind the last token to decode.
    behind_ends: MASK tokens in front of it that stay, behind sequences that end earlier.
    chances: (passes, 2) of each pass to unmask a masked token and to mask an unmasked one; of a
        sampler that draws both (`Sampler.remasks`), whose plan has expected numbers.
    confidences: (batch, tokens to decode) those with which tokens were unmasked, where they are; of
        `remdm` with remask=conf alone.
    parts: (passes, 2, blocks) int64, of each pass the tokens to unmask in each block under way, and
        1 if the block is activated; of `pipeline` alone.
    """

    config: ModelInfo
    passes: list[PlannedPass]
    tokens: Tensor
    padded: Tensor
    stand_ins: Tensor
    priority: Tensor
    index: Tensor
    noise_start: Tensor
    generators: list[torch.Generator]
    generators_start: list[Tensor]
    caches: list[Cache]
    forms: Forms
    numbers: Tensor
    full_passes: Tensor
    places: Places | None = None
    modulation: Tensor | None = None
    prompt_len: int = 0
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    offsets: dict[int, Tensor] = field(default_factory=dict)
    drafts: Tensor | None = None
    end: int | None = None
    behind_ends: int = 0
    chances: Tensor | None = None
    confidences: Tensor | None = None
    parts: Tensor | None = None
    _row: Tensor | None = field(default=None, init=False)
    _query: Query | None = field(default=None, init=False)
    _place: Tensor | None = field(default=None, init=False)

    @property
    def decoded(self) -> Tensor:
        """The tokens to decode, (batch, tokens), without the prompt."""
        return self.tokens[:, self.prompt_len : self.end]

    @property
    def rows_differ(self) -> bool:
        """True if passes unmask other numbers of tokens in each row."""
        return self.numbers.shape[1] > len(NUMBERS)

    def put_stand_ins(self, pass_: PlannedPass) -> None:
        """Put random tokens in the place of those decoded before a pass, and MASK elsewhere."""
        rows, device = pass_.of_rows(len(self.tokens)), self.index.device
        start, length, masked = (
            torch.tensor(column, device=device)[:, None]
            for column in (rows.block_start, rows.block_len, rows.masked)
        )
        positions = torch.arange(self.padded.shape[1], device=device)
        known = (positions < start.clamp(min=self.prompt_len)) | (positions >= self.tokens.shape[1])
        self.padded.copy_(torch.where(known, self.stand_ins, self.config.mask_id))
        offsets = torch.arange(max(rows.block_len), device=device)
        block = start + offsets  # (batch, block_len)
        priority = self.priority.gather(1, block).masked_fill(offsets >= length, -1.0)
        order = block.gather(1, priority.argsort(dim=1, descending=True))
        # In that order; what is behind a shorter block comes last.
        decoded = (offsets < length - masked) | (offsets >= length)
        found = self.stand_ins.gather(1, order)
        self.padded.scatter_(1, order, torch.where(decoded, found, self.config.mask_id))

    @property
    def table(self) -> dict[str, Tensor]:
        """The columns of `numbers` by name, (passes,) each."""
        return {name: column(self.numbers, name) for name in NUMBERS}

    def begin(self) -> None:
        """Read the numbers of the next pass, all in one operation."""
        self._row, self._query = self.numbers.index_select(0, self.index), None
        self._place = None

    def now(self, name: str) -> Tensor:
        """A number of the current pass, (1,); `reveal` (batch,) where rows differ, and where they
        are apart `passes_done`, too."""
        if name == "passes_done" and self.places is not None:
            return self.place("noise") - self.place("block_start")
        if self._row is None:  # a sampler that reads few of them does not begin
            return column(self.numbers, name).index_select(0, self.index).view(-1)
        read = column(self._row, name)
        return read if read.dim() == 1 else read.flatten()

    def modulation_now(self, segments: int) -> Tensor | None:
        """adaLN's rows at the timesteps of the current pass, (1, segments, columns): its own t, and
        in front of it 0 of a clean segment. None if they are not known."""
        if self.modulation is None or self._row is None:
            return None
        last = NUMBERS.index("row") + 1
        return self.modulation.index_select(0, self._row[0, last - segments : last])[None]

    def query(self, count: int, before: int = 0) -> tuple[Tensor, Tensor]:
        """The position (1,) of `before` tokens in front of the current block, and the tokens from
        there on, (batch, count)."""
        start = self.now("block_start")
        start = start - before if before else start
        self._query = Query(*self.forms.take(self, start, count), before)
        return start, self._query.tokens

    def block(self, block_len: int) -> tuple[Tensor, Tensor]:
        """The current block's tokens, and where they are MASK, (batch, block_len)."""
        if self._query is None:
            return self.forms.take(self, self.now("block_start"), block_len)
        tokens, masked, before = self._query
        if tokens.shape[1] == block_len:
            return tokens, masked
        span = slice(before, before + block_len)
        return tokens[:, span], masked[:, span]

    def place(self, name: str) -> Tensor:
        """A number of `places` in the current pass, (batch,) int64."""
        assert self.places is not None
        if self._place is None:
            self._place = self.places.at(self.index)
        return self._place[NAMES.index(name)]

    def query_of_rows(self, count: int) -> tuple[Tensor, Query]:
        """The position (batch,) of each row's block, and the tokens from there on."""
        tokens = self.padded.gather(1, self.block_positions(count))
        self._query = Query(tokens, tokens == self.config.mask_id, 0)
        return self.place("block_start"), self._query

    def masked_in_blocks(self, starts: Sequence[int], block_len: int) -> list[int]:
        """Count the MASK tokens of each row's block. Waits for the device."""
        start = torch.tensor(starts, device=self.padded.device)[:, None]
        block = self.padded.gather(1, self.positions(start, block_len))
        return (block == self.config.mask_id).sum(dim=1).tolist()

    def positions(self, start: Tensor, count: int) -> Tensor:
        """The positions from `start` on, (1,) or (batch, 1): (count,) or (batch, count) int64."""
        if count not in self.offsets:
            self.offsets[count] = torch.arange(count, device=self.index.device)
        return start + self.offsets[count]

    def block_positions(self, block_len: int) -> Tensor:
        """Positions of the current block's tokens, (block_len,) int64, or (batch, block_len) where
        rows are apart."""
        if self.places is None:
            return self.positions(self.now("block_start"), block_len)
        return self.positions(self.place("block_start")[:, None], block_len)

    def priority_of_block(self, block_len: int) -> Tensor:
        """The current block's part of `priority`, (batch, block_len)."""
        positions = self.block_positions(block_len)
        if self.places is None:
            return self.priority.index_select(1, positions)
        return self.priority.gather(1, positions)

    def write(self, tokens: Tensor) -> None:
        """Put tokens (batch, block_len) in the place of the current block's."""
        positions = self.block_positions(tokens.shape[1])
        if self.places is None:
            self.tokens.index_copy_(1, positions, tokens)
        else:
            self.padded.scatter_(1, positions, tokens)

    def noise_seed(self) -> Tensor:
        """The seed of each sequence's noise in this pass, (batch,) int64: no two passes of a
        decode that draw share one."""
        drawn = self.now("noise") if self.places is None else self.place("noise")
        return drawn + self.noise_start

    def predict(
        self,
        model: Model,
        hidden: Tensor,
        temperature: float,
        masked: Tensor | None = None,
        score: Score = "confidence",
    ) -> tuple[Tensor, Tensor]:
        """Predict the tokens of hidden states (batch, len, d_model) where `masked`, and their
        scores, (batch, len) each, with the noise of this pass (see `kernels.lm_head`)."""
        tokens, scores = self.forms.predict(
            hidden.flatten(0, 1),
            model.head.weight,
            self.config.mask_id,
            None if masked is None else masked.flatten(),
            temperature=temperature,
            generators=self.generators,
            seed=self.noise_seed() if temperature > 0 else None,
            score=score,
        )
        return tokens.view(hidden.shape[:2]), scores.view(hidden.shape[:2])

    def draws(self, count: int) -> Tensor:
        """Uniform draws of this pass, in [0, 1) for each place, (batch, count)."""
        return uniform(self.noise_seed(), count)

    def next_pass(self) -> None:
        """Move the device's counter on."""
        self.index += 1
        self._row = self._query = self._place = None

    def unmask(
        self,
        model: Model,
        hidden: Tensor,
        *,
        order: str,
        temperature: float,
        acceptance: Acceptance | None = None,
    ) -> None:
        """Unmask tokens of the current pass' block (see `samplers.unmask.unmask`)."""
        unmask(model, self, hidden, order=order, temperature=temperature, acceptance=acceptance)

    def check_unmasked(self, last: PlannedPass | None = None) -> None:
        """Raise PointError if the block of pass `last` has more MASKs than that pass was to leave
        in it, or the whole decode any, its prompt aside. Waits for the device: not for the timed
        region."""
        tokens, expected = self.decoded, self.behind_ends
        if last is None:
            masked = int((tokens == self.config.mask_id).sum())
        else:
            rows = last.of_rows(len(tokens))
            expected = sum(rows.masked) - sum(rows.reveal)
            if self.chances is not None and expected:
                return
            masked = sum(self.masked_in_blocks(rows.block_start, last.block_len))
        if masked > expected:
            raise PointError(
                f"decode: {masked - expected} of {tokens.numel()} tokens are MASK after their last "
                "pass; their logits are not finite (check the weights, or try dtype float32), or "
                "the sampler's passes unmask too few"
            )
