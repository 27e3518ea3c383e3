"""First done, first out: a sequence of a batch that has finished its block begins its next one.

As LLaDA2 is served by SGLang: a forward pass commits the block of one sequence and denoises that of
another, so no sequence waits for the slowest one of each block. Sequences that are done altogether
idle until the last one is. What a sequence decodes is what it decodes alone.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from dlm_bench.models.window import RowsWindow
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.schedule import COMMIT, MIXED, PREFILL, PlannedPass, Rows, blocks

if TYPE_CHECKING:
    from dlm_bench.samplers.block_cache import BlockCache
    from dlm_bench.samplers.state import DecodeState


class _Row(NamedTuple):
    """The fields of `Rows`, of one row."""

    block_start: int
    block_len: int
    masked: int
    reveal: int
    advance: bool

    def idle(self) -> "_Row":
        """The row when it is done: it repeats its block and unmasks nothing."""
        return self._replace(masked=0, reveal=0, advance=False)


def first_done(plans: Sequence[Sequence[PlannedPass]], block_size: int) -> Iterator[PlannedPass]:
    """Interleave the plan of each row, a decode of it alone by a block cache whose passes take a
    block at a time, into passes over all rows."""
    idle = [_row_of(plan[-1]).idle() for plan in plans]
    for steps in zip_longest(*plans):
        first = next(step for step in steps if step is not None)
        if first.kind == PREFILL:
            yield first
            continue
        rows = [_row_of(step) if step else done for step, done in zip(steps, idle, strict=True)]
        yield _mixed(rows, block_size)


def idle_after(passes: Sequence[PlannedPass], done: Sequence[int]) -> list[PlannedPass]:
    """Return passes over all rows in which row i idles after its first `done[i]` passes."""
    found = list(passes)
    idle = [_rows_of(passes[count - 1])[row].idle() for row, count in enumerate(done)]
    for index in range(min(done), len(found)):
        places = zip(_rows_of(found[index]), idle, done, strict=True)
        rows = [row if index < count else last for row, last, count in places]
        found[index] = _mixed(rows, found[index].query_len)
    return found


def _row_of(step: PlannedPass) -> _Row:
    commits = step.kind == COMMIT
    return _Row(step.block_start, step.block_len, step.masked, step.reveal, commits)


def _rows_of(pass_: PlannedPass) -> list[_Row]:
    assert pass_.rows is not None
    return [_Row(*row) for row in zip(*pass_.rows[:5], strict=True)]


def _mixed(steps: list[_Row], block_size: int) -> PlannedPass:
    rows = Rows(*zip(*steps, strict=True))
    revealing = [step.block_start for step in steps if step.reveal]
    return PlannedPass(
        kind=MIXED,
        query_len=block_size,
        context_len=round(sum(rows.block_start) / len(steps)),
        block_start=min(revealing or rows.block_start),
        block_len=block_size,
        masked=max(rows.masked),
        reveal=max(rows.reveal),
        t=0.0,
        rows=rows,
    )


def step_mixed(sampler: "BlockCache", model: Model, state: "DecodeState") -> None:
    """Run a pass in which each row denoises or commits the block that the table says."""
    state.begin()
    assert state.places is not None
    query_len = sampler.block_size
    start, query = state.query_of_rows(query_len)
    lengths = state.place("block_len") if state.places.shorter else None
    moves = state.place("advance") > 0
    window = RowsWindow(start, (query_len,), advance=True, advances=moves, lengths=lengths)
    of = query_len if lengths is None else lengths[:, None]
    t = query.masked.sum(dim=1, keepdim=True) / of
    hidden = model(query.tokens, t, window, state.caches)
    sampler.reveal(model, state, hidden)
    state.next_pass()


class _Place:
    """The place of a row in its decode.

    number: the block at hand. passes: those over the block so far.
    committing: the next pass commits the block. done: nothing is left to do.
    """

    def __init__(self, every: list[tuple[int, int]]) -> None:
        self._blocks = every
        self.number = self.passes = 0
        self.committing = self.done = False

    @property
    def start(self) -> int:
        return self._blocks[self.number][0]

    @property
    def length(self) -> int:
        return self._blocks[self.number][1]

    def move_on(self, left: int) -> None:
        """Take note of a pass after which `left` tokens of the block are MASK."""
        if self.committing:
            self.number, self.passes, self.committing = self.number + 1, 0, False
        elif not self.done:
            self.passes += 1
            last = self.number == len(self._blocks) - 1
            self.done, self.committing = last and not left, not last and not left


def decode_first_done(sampler: "BlockCache", model: Model, state: "DecodeState") -> None:
    """Run a decode whose passes the model decides, each row until it is done. The host reads once a
    pass, the masked tokens left in each row's block, and tells the next pass where each row is.
    Raises PointError for tokens left MASK by the most passes."""
    length = state.tokens.shape[1] - state.prompt_len
    every = list(blocks(length, sampler.block_size, state.prompt_len))
    places = [_Place(every) for _ in state.tokens]
    assert state.places is not None
    for index, planned in enumerate(state.passes):
        if planned.kind != PREFILL:
            if all(place.done for place in places):
                break
            starts = [place.start for place in places]
            state.places.tell(
                index,
                block_start=starts,
                block_len=[place.length for place in places],
                advance=[place.committing for place in places],
                noise=[place.start + place.passes for place in places],
            )
        sampler.step(model, state, planned.kind)
        if planned.kind != PREFILL:
            masked = state.masked_in_blocks(starts, sampler.block_size)
            for place, left in zip(places, masked, strict=True):
                place.move_on(left)
    state.check_unmasked()
