"""The checks that this project makes of its own backbones and samplers, for authors of plug-ins.

    from dlm_bench import build_model, build_sampler
    from dlm_bench.testing import check_decode, check_model

    check_model(build_model("mine", "tiny"))                       # with every sampler it supports
    check_decode(build_model("mine", "tiny"), build_sampler("my-sampler"))

Both raise AssertionError with every fault found. `outcomes` yields the checks one by one, as the
command `dlm-bench check` prints them. Use float32: rounding of lower precisions may move tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dlm_bench.errors import DlmBenchError, first_line
from dlm_bench.models.window import Window
from dlm_bench.plugins.api import Model
from dlm_bench.samplers import SAMPLERS, build_sampler
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.decode_check import check_passes, check_plan
from dlm_bench.timing.graphs import Steps

LENGTH = 40  # tokens of a decode: a whole block of 32 and a shorter one
PROMPT = 5
MOST_SEEKS = 24  # passes of a plan that are sought
SEED = 3
CLOSE = 1e-4  # of hidden states of some size in float32, summed in another order


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check.

    name: the statement that was checked.
    fault: what is wrong, empty if nothing is.
    skipped: the reason why the check does not apply, empty if it does.
    """

    name: str
    fault: str = ""
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """True unless a fault was found."""
        return not self.fault


class NotApplicableError(Exception):
    """A check that a model, a sampler or this machine does not allow."""


def check_decode(model: Model, sampler: Sampler, length: int = LENGTH) -> None:
    """Raise AssertionError with the faults of this model and sampler together."""
    _refuse(outcomes(model, sampler, length))


def check_model(model: Model, length: int = LENGTH) -> None:
    """Raise AssertionError with the faults of a model under every sampler that it supports."""
    for sampler in samplers_of(model):
        _refuse(outcomes(model, sampler, length))


def samplers_of(model: Model) -> list[Sampler]:
    """Return the samplers of this project that a model supports."""
    return [
        build_sampler(name) for name, kind in SAMPLERS.items() if kind.requires in model.supports
    ]


def _refuse(found: Iterator[Outcome]) -> None:
    faults = [f"{each.name}: {each.fault}" for each in found if not each.ok]
    assert not faults, "\n".join(faults)


def outcomes(model: Model, sampler: Sampler, length: int = LENGTH) -> Iterator[Outcome]:
    """Yield the outcome of each check. A decode of `length` tokens should have several blocks."""
    checks: dict[str, Callable[[Model, Sampler, int], None]] = {
        "the schedule adds up": _schedule,
        "passes have finite hidden states of the right shape, and use the cache": _passes,
        "a decode leaves no MASK, and gives the same tokens again": _deterministic,
        "a seek and a step unmask what was planned": _seeks,
        "a decode after a seek has the tokens of a fresh one": _after_seek,
        "rows of a batch are the decodes of single sequences": _batch,
        "a single cached block decodes the tokens of a pass over the whole sequence": _one_block,
        "a fused commit decodes the tokens of a separate one": _fused,
        "a pass after a prefill has the hidden states of a pass with the prompt": _prefill,
        "replayed CUDA graphs decode the tokens of single launches": _captured,
    }
    for name, check in checks.items():
        try:
            with torch.inference_mode():
                check(model, sampler, length)
        except NotApplicableError as reason:
            yield Outcome(name, skipped=str(reason))
        except AssertionError as fault:
            yield Outcome(name, fault=first_line(fault))
        except DlmBenchError as fault:
            yield Outcome(name, fault=str(fault))
        except Exception as error:  # a fault of a plug-in is whatever its code raises
            yield Outcome(name, fault=f"{type(error).__name__}: {first_line(error)}")
        else:
            yield Outcome(name)


def _prompts(model: Model, sampler: Sampler) -> list[int]:
    """Return the lengths of prompts that these take, 0 among them."""
    try:
        sampler.check_supports(model.config.backbone, model.supports, LENGTH, PROMPT)
    except DlmBenchError:
        return [0]
    return [0, PROMPT]


def _schedule(model: Model, sampler: Sampler, length: int) -> None:
    for prompt_len in _prompts(model, sampler):
        for each in (1, length - 1, length):
            shape = DecodeShape(each, prompt_len)
            plan = list(sampler.planned(shape))
            check_plan(plan, shape)
            if sampler.is_fixed:
                schedule = sampler.schedule(each, prompt_len)
                assert schedule.forward_passes == len(plan) - (plan[0].kind == "prefill"), (
                    f"{schedule.forward_passes} passes of {len(plan)} are in the schedule"
                )
            for a, b in pairwise(plan):
                of_kind = (a.query_len, a.block_len) == (b.query_len, b.block_len)
                assert a.kind != b.kind or of_kind, f"passes of kind {a.kind!r} differ in shape"


def _rows(sampler: Sampler) -> int:
    """Return the sequences of a batch."""
    return 2 if sampler.takes_batches else 1


def _passes(model: Model, sampler: Sampler, length: int) -> None:
    for prompt_len in _prompts(model, sampler):
        shape = DecodeShape(length, prompt_len, _rows(sampler))
        fixed = sampler.scheduled_for(model, shape, SEED)
        check_passes(model, fixed, fixed.prepare_shape(model, shape, SEED))


def _deterministic(model: Model, sampler: Sampler, length: int) -> None:
    for prompt_len in _prompts(model, sampler):
        one, other = (
            sampler.decode(model, length, seed=SEED, prompt_len=prompt_len) for _ in range(2)
        )
        assert one.shape == (1, length), f"the tokens are {tuple(one.shape)}, not (1, {length})"
        _same(one, other, "decodes with one seed")


def _seeks(model: Model, sampler: Sampler, length: int) -> None:
    shape = DecodeShape(length, 0, _rows(sampler))
    sampler = sampler.scheduled_for(model, shape, SEED)
    state = sampler.prepare_shape(model, shape, SEED)
    stride = -(-len(state.passes) // MOST_SEEKS)
    for index, step in list(enumerate(state.passes))[::stride]:
        sampler.seek(state, index)
        sampler.step(model, state, step.kind)
        if sampler.remasks:  # by chance, but for the last pass
            state.check_unmasked(step)
            continue
        rows = step.of_rows(shape.batch)
        masked = [
            int((tokens[start : start + length] == state.config.mask_id).sum())
            for tokens, start, length in zip(
                state.tokens, rows.block_start, rows.block_len, strict=True
            )
        ]
        left = [before - now for before, now in zip(rows.masked, rows.reveal, strict=True)]
        assert masked == left, (
            f"pass {index} ({step.kind}) leaves {masked} MASK in the rows' blocks, not {left}"
        )


def _after_seek(model: Model, sampler: Sampler, length: int) -> None:
    shape = DecodeShape(length)
    fixed = sampler.scheduled_for(model, shape, SEED)
    state = fixed.prepare_shape(model, shape, SEED)
    fixed.run(model, state)
    fresh = state.tokens.clone()
    fixed.seek(state, len(state.passes) - 1)  # which fills the caches with random numbers
    fixed.seek(state, 0)
    fixed.run(model, state)
    _same(fresh, state.tokens, "a fresh decode and one after Cache.fill and Cache.reset")


def _batch(model: Model, sampler: Sampler, length: int) -> None:
    if not sampler.takes_batches:
        raise NotApplicableError("the sampler decodes a single sequence")
    prompt_len = max(_prompts(model, sampler))  # without one all rows may be the same
    together = sampler.decode(model, length, batch=3, seed=SEED, prompt_len=prompt_len)
    for row, tokens in enumerate(together):
        alone = sampler.decode(model, length, seed=SEED + row, prompt_len=prompt_len)
        _same(tokens[None], alone, f"row {row} and a single decode with its seed")


def _one_block(model: Model, sampler: Sampler, length: int) -> None:
    if sampler.requires not in ("block-cache", "fast-dllm") or "full" not in model.supports:
        raise NotApplicableError("the sampler has no cache of blocks, or the model no full passes")
    block = min(length, 16)
    cached = _rebuilt(sampler, block_size=block, tokens_per_step=4)
    whole = build_sampler("full", tokens_per_step=4)
    _same(
        cached.decode(model, block, seed=SEED),
        whole.decode(model, block, seed=SEED),
        "a block and a whole sequence",
    )


def _fused(model: Model, sampler: Sampler, length: int) -> None:
    if sampler.name != "block-cache":
        raise NotApplicableError("commits are those of block-cache")
    fused, separate = (
        _rebuilt(sampler, block_size=8, tokens_per_step=4, commit=commit).decode(
            model, length, seed=SEED, prompt_len=max(_prompts(model, sampler))
        )
        for commit in ("fused", "separate")
    )
    _same(fused, separate, "decodes with fused and with separate commits")


def _prefill(model: Model, sampler: Sampler, length: int) -> None:
    if sampler.name != "block-cache" or "prefill" not in model.supports:
        raise NotApplicableError("the model has no prefill passes for block-cache")
    block = 16
    state = _rebuilt(sampler, block_size=block, tokens_per_step=4).prepare(
        model, block, batch=2, seed=SEED, prompt_len=PROMPT
    )
    device = state.tokens.device
    sampler.step(model, state, "prefill")
    start, half = torch.tensor([PROMPT], device=device), torch.tensor([[0.5]], device=device)
    tokens = state.tokens[:, PROMPT:]
    after = model(tokens, half, Window(start, (block,)), state.caches)
    times = torch.tensor([[0.0, 0.5]], device=device)
    both = model(
        state.tokens,
        times,
        Window(torch.zeros_like(start), (PROMPT, block)),
        model.new_caches(2, PROMPT + block),
    )[:, PROMPT:]
    scale = float(both.float().abs().mean())
    off = float((after.float() - both.float()).abs().max()) / max(scale, 1e-30)
    most = CLOSE if after.dtype == torch.float32 else 0.1  # steps of a bfloat16 add up
    assert off <= most, f"hidden states differ by {off:.2g} of their mean size, {most:g} is allowed"


def _captured(model: Model, sampler: Sampler, length: int) -> None:
    if model.head.weight.device.type != "cuda":
        raise NotApplicableError("the model is not on a GPU")
    shape = DecodeShape(length)
    fixed = sampler.scheduled_for(model, shape, SEED)
    state = fixed.prepare_shape(model, shape, SEED)
    fixed.run(model, state)
    launched = state.tokens.clone()
    steps = Steps(model, fixed, state, "require")
    kinds = [step.kind for step in state.passes]
    steps.prepare(kinds)
    fixed.seek(state, 0)
    for kind in kinds:
        steps(kind)
    _same(launched, state.tokens, "launched and replayed passes")


def _rebuilt(sampler: Sampler, **options: Any) -> Sampler:
    """Return a sampler of the same name with these options, and the others as by default."""
    return build_sampler(sampler.name, **options)


def _same(one: Tensor, other: Tensor, what: str) -> None:
    different = int((one != other).sum())
    assert different == 0, f"{what} differ in {different} of {one.numel()} tokens"
