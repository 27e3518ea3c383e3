"""The decode computes what was planned: checks of a point, none of them in the timed region.

A pass of each role runs untimed, before anything is captured: hidden states must have the right
shape and be finite, the planned number of tokens must be unmasked, and cached context must matter.
A digest of decoded tokens lets two records be compared for the tokens, too.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dlm_bench.errors import ConfigError, PointError
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass, role_of
from dlm_bench.samplers.state import DecodeState

DIGITS = 16  # hexadecimal, of a digest of tokens
MOST_PASSES = 16  # of the short decode whose tokens stand for those of a sampled decode
MOST_PROMPT = 32  # tokens of a prompt in front of the short decode

_known: WeakKeyDictionary[Any, dict[str, dict[str, Any]]] = WeakKeyDictionary()


def check_plan(plan: Iterable[PlannedPass], shape: DecodeShape) -> None:
    """Raise PointError unless a plan has passes, each within the sequence, whose reveals add up to
    the tokens of the decode."""
    passes, of_all, sums = 0, 0, [0] * shape.batch
    for step in plan:
        passes += 1
        rows = step.of_rows(1)
        if step.rows is None:  # a loop over the rows of each pass would take long for many
            of_all += step.reveal
        else:
            sums = [revealed + reveal for revealed, reveal in zip(sums, rows.reveal, strict=True)]
        for start, block_len, masked, reveal in {*zip(*rows[:4], strict=True)}:
            if not (0 <= reveal <= masked <= block_len and start >= 0):
                raise PointError(
                    f"sampler: pass {passes - 1} ({step.kind}) plans to unmask {reveal} of "
                    f"{masked} masked tokens in a block of {block_len}"
                )
            if start + block_len > shape.total or step.query_len < 1:
                raise PointError(
                    f"sampler: pass {passes - 1} ({step.kind}) of {step.query_len} query tokens "
                    f"has a block to {start + block_len}, in a sequence of {shape.total}"
                )
    if not passes:
        raise PointError("sampler: the plan of the decode has no pass")
    for revealed in sums:
        if of_all + revealed != shape.length:
            raise PointError(
                f"sampler: the reveals of its plan add up to {of_all + revealed} tokens; the "
                f"decode has {shape.length}"
            )


class Observed:
    """A model that keeps the hidden states of its last call; all else is the model's."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.query: Tensor | None = None
        self.hidden: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, tokens: Tensor, *rest: Any, **named: Any) -> Any:
        self.query = tokens
        hidden = self._model(tokens, *rest, **named)
        if not isinstance(hidden, Tensor):
            raise PointError(
                f"model: a pass returns a {type(hidden).__name__}; must be a tensor of "
                "hidden states"
            )
        self.hidden = hidden
        return hidden


def checked_indices(plan: list[PlannedPass]) -> list[int]:
    """Return the pass of each role that checks run: the smallest with a context, where any has."""
    chosen: dict[str, int] = {}
    for index, step in enumerate(plan):
        role = role_of(step.kind)
        best = plan[chosen[role]] if role in chosen else None
        if best is None or _cost(step) < _cost(best):
            chosen[role] = index
    return list(chosen.values())


def _cost(step: PlannedPass) -> tuple[bool, int, int]:
    return step.context_len == 0, step.query_len, step.context_len


@torch.inference_mode()
def check_passes(model: Model, sampler: Sampler, state: DecodeState) -> None:
    """Run a pass of each role and raise PointError with the first fault. `state` is fresh: its
    caches have not been filled yet. Leaves it anywhere: seek next."""
    seen, empty = Observed(model), dict[int, Tensor]()
    indices = checked_indices(state.passes)
    for index in indices:
        step = state.passes[index]
        if step.context_len and state.caches:
            for cache in state.caches:
                cache.reset()
            sampler.seek(replace(state, caches=[]), index)  # without a fill
            sampler.step(cast(Model, seen), state, step.kind)
            if seen.hidden is not None:
                empty[index] = _last_row(seen.hidden)
    for index in indices:
        check_pass(model, sampler, state, index, empty.get(index))


def check_pass(
    model: Model, sampler: Sampler, state: DecodeState, index: int, empty: Tensor | None = None
) -> None:
    """Run pass `index` from a seek and raise PointError unless the hidden states have the right
    shape and are finite, the planned tokens and no others are unmasked, and the counter moves on.
    `empty` are the last hidden states over empty caches; filled ones must give others."""
    step = state.passes[index]
    name = f"{role_of(step.kind)!r} passes"
    seen = Observed(model)
    sampler.seek(state, index)
    before = state.tokens.clone()
    sampler.step(cast(Model, seen), state, step.kind)
    _check_hidden(seen, state, step, name)
    _check_revealed(before, state, step, name)
    if int(state.index) != index + 1:
        raise PointError(f"sampler: {name} do not move the counter on (state.next_pass())")
    assert seen.hidden is not None
    if empty is not None and torch.equal(empty, _last_row(seen.hidden)):
        raise PointError(
            f"model: {name} ignore the cache of {step.context_len} tokens: the hidden states are "
            "the same after Cache.reset and after Cache.fill"
        )


def _last_row(hidden: Tensor) -> Tensor:
    return hidden[..., -1, :].clone()


def _check_hidden(seen: Observed, state: DecodeState, step: PlannedPass, name: str) -> None:
    hidden, query, weight = seen.hidden, seen.query, seen.head.weight
    if hidden is None or query is None:
        raise PointError(f"sampler: {name} do not call the model")
    if query.shape[1] != step.query_len:
        raise PointError(
            f"sampler: {name} have {query.shape[1]} query tokens; {step.query_len} are planned"
        )
    expected = (len(state.tokens), step.query_len, weight.shape[1])
    if tuple(hidden.shape) != expected:
        raise PointError(
            f"model: the hidden states of {name} are {tuple(hidden.shape)}; must be {expected}"
        )
    if hidden.dtype != weight.dtype:
        raise PointError(
            f"model: the hidden states of {name} are {hidden.dtype}; must be {weight.dtype}, as "
            "the head's weight is"
        )
    if not is_finite(hidden):
        raise PointError(
            f"model: the hidden states of {name}, and so the logits, are not finite (check the "
            "weights, or try dtype float32)"
        )


def _check_revealed(before: Tensor, state: DecodeState, step: PlannedPass, name: str) -> None:
    mask = state.config.mask_id
    masked = before == mask
    changed = before != state.tokens
    rows = step.of_rows(len(changed))
    places, device = torch.arange(changed.shape[1]), changed.device
    begin, length = (torch.tensor(each)[:, None] for each in (rows.block_start, rows.block_len))
    inside = ((places >= begin) & (places < begin + length)).to(device)
    if state.chances is not None:
        _check_remasked(changed & ~inside, state, step, name)
        return
    if bool((changed & ~(inside & masked)).any()):
        raise PointError(f"sampler: {name} change tokens other than the masked ones of their block")
    revealed = changed.sum(dim=1)
    if revealed.tolist() != [*rows.reveal]:
        planned = " or ".join(map(str, sorted({*rows.reveal})))
        raise PointError(
            f"sampler: {name} unmask {int(revealed.min())} to {int(revealed.max())} tokens a "
            f"sequence; {planned} are planned; their logits are not finite (check the weights, "
            "or try dtype float32), or the sampler unmasks too few or too many"
        )


def _check_remasked(outside: Tensor, state: DecodeState, step: PlannedPass, name: str) -> None:
    """Check a pass that draws the tokens to unmask and those to mask again."""
    if bool(outside.any()):
        raise PointError(f"sampler: {name} change tokens outside of their block")
    state.check_unmasked(step)


def is_finite(values: Tensor) -> bool:
    """Return True if every value is finite; without a copy of them."""
    low, high = values.aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))


def digest(tokens: Tensor) -> str:
    """Return a digest of token ids (batch, length), equal on every machine."""
    plain = tokens.to("cpu", torch.int64).contiguous()
    text = f"{tuple(plain.shape)}:".encode() + plain.numpy().astype("<i8").tobytes()
    return hashlib.sha256(text).hexdigest()[:DIGITS]


def whole_output(state: DecodeState) -> dict[str, Any]:
    """Return the record's `output` of a whole decode that just ended. Waits for the device."""
    tokens = state.decoded
    masked = int((tokens == state.config.mask_id).sum()) - state.behind_ends
    return _output(tokens, state.prompt_len, masked)


def _output(tokens: Tensor, prompt_len: int, masked: int) -> dict[str, Any]:
    return {
        "digest": digest(tokens),
        "batch": tokens.shape[0],
        "length": tokens.shape[1],
        "prompt_len": prompt_len,
        "masked_left": masked,
        "finite": True,  # check_passes raised if not
    }


def short_shape(sampler: Sampler, shape: DecodeShape) -> DecodeShape | None:
    """Return the decode that stands for a sampled one: two blocks, or less if those would take
    more than MOST_PASSES passes; None where no decode is that short."""
    block = int(getattr(sampler, "block_size", 0) or 32)
    prompt = min(shape.prompt_len, MOST_PROMPT)
    for length in (2 * block, block, 16, 8, 2):
        if length <= shape.length:
            try:
                plan = list(sampler.passes(length, prompt))
            except ConfigError:
                continue
            if len(plan) <= MOST_PASSES:
                return replace(shape, length=length, prompt_len=prompt, stop_at_eos=False)
    return None


@torch.inference_mode()
def short_output(model: Model, sampler: Sampler, shape: DecodeShape, seed: int) -> dict[str, Any]:
    """Return the record's `output` of a short decode of the same kinds of pass, run here; empty
    where there is none. A process runs the same decode of a model once."""
    short = short_shape(sampler, shape)
    if short is None:
        return {}
    known = _known.setdefault(model, {})
    key = repr((sampler, short, seed))
    if key not in known:
        state = sampler.prepare_shape(model, short, seed)
        sampler.run(model, state)
        state.check_unmasked()
        known[key] = whole_output(state)
    return dict(known[key])
