"""Decoding where the model decides the number of passes of each block, and its record."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlm_bench.errors import ConfigError
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.acceptance.acceptance import Edits
from dlm_bench.samplers.acceptance.trace import SCHEMA_VERSION, Trace
from dlm_bench.samplers.prompt import Prompts
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass

if TYPE_CHECKING:
    from dlm_bench.samplers.sampler import Sampler
    from dlm_bench.samplers.state import DecodeState


def decode_until_done(
    sampler: "Sampler", model: Model, state: "DecodeState", edits: Edits | None = None
) -> list[tuple[tuple[int, ...], ...]]:
    """Run a decode from its first pass, each block until every row is done with it: none of the
    row's tokens is masked and, with `edits`, the last pass changed none.

    `state.passes` are the most possible; those of a finished block are skipped. The host reads once
    a pass. Returns for each row and block the tokens accepted by each pass until the row's block
    was done. Raises PointError for tokens left MASK by the most passes.
    """
    passes = state.passes
    rows: list[list[list[int]]] = [[] for _ in state.tokens]
    index, done, start = 0, [False] * len(rows), -1
    while index < len(passes):
        pass_ = passes[index]
        block = state.tokens[:, pass_.block_start : pass_.block_start + pass_.block_len]
        before = block.clone()
        sampler.step(model, state, pass_.kind)
        index += 1
        if not pass_.denoises:
            continue
        if pass_.block_start != start:
            start = pass_.block_start
            done = [False] * len(rows)
            for blocks in rows:
                blocks.append([])
        masked = (block == state.config.mask_id).sum(dim=1).tolist()
        changed = (block != before).any(dim=1).tolist() if edits else [False] * len(rows)
        for row, left in enumerate(masked):
            if done[row]:
                continue
            counts = rows[row][-1]
            counts.append(pass_.block_len - sum(counts) - left)
            done[row] = not left and (
                edits is None or not changed[row] or _full_passes(counts) == edits.max_passes
            )
        if all(done):
            while index < len(passes) and _go_on(pass_, passes[index]):
                index += 1
            state.index.fill_(index)
    state.check_unmasked()
    return [tuple(map(tuple, blocks)) for blocks in rows]


def _full_passes(counts: list[int]) -> int:
    """Return the passes at the end of `counts`, tokens accepted by each, that accepted none."""
    return len(counts) - 1 - max(index for index, count in enumerate(counts) if count)


def _go_on(pass_: PlannedPass, later: PlannedPass) -> bool:
    """Return True if a later pass would go on with the same block."""
    return later.block_start == pass_.block_start and later.denoises


def record_trace(
    model: Model,
    sampler: "Sampler",
    length: int,
    batch: int = 1,
    seed: int = 0,
    prompt_len: int = 0,
    prompts: Prompts | None = None,
) -> Trace:
    """Decode `length` tokens after a random prompt and record the tokens accepted by each pass, in
    each of `batch` sequences; or after every one of `prompts`, each in a decode by itself.

    Raises ConfigError as `Sampler.prepare` does, and for a batch of `prompts` above 1.
    """
    shape = DecodeShape(length, prompt_len, batch)
    if prompts is None:
        return trace_decode(model, sampler, shape, seed)
    if batch > 1:
        raise ConfigError(
            f"batch: {batch} is not allowed with prompts, each of which is decoded by itself; must "
            "be 1"
        )
    seeds = range(seed, seed + len(prompts.ids))
    found = [trace_decode(model, sampler, shape.after(prompts, each), each) for each in seeds]
    sequences = tuple(each for trace in found for each in trace.sequences)
    whole = found[0].model_dump() | {"prompt_len": prompt_len, "sequences": sequences}
    return Trace.model_validate(whole)


def trace_decode(model: Model, sampler: "Sampler", shape: DecodeShape, seed: int = 0) -> Trace:
    """As `record_trace`, of a shape."""
    check_has_trace(type(sampler))
    import torch

    # Each sequence takes the passes that it takes alone, whatever the batching.
    changes: dict[str, Any] = {"batching": "lockstep"} if hasattr(sampler, "batching") else {}
    traced = replace(sampler, **changes)
    with torch.inference_mode():
        state = traced.prepare_shape(model, shape, seed)
        sequences = tuple(traced.run_counting(model, state))
    followed = getattr(sampler, "trace", None)
    return Trace(
        schema_version=SCHEMA_VERSION,
        backbone=model.config.backbone,
        size=model.config.size,
        sampler=sampler.name,
        options=(followed.options if isinstance(followed, Trace) else {}) | traced.options(),
        block_size=sampler.trace_block,
        length=shape.length,
        prompt_len=shape.prompt_len,
        prompts=shape.prompts.label if shape.prompts else "",
        checkpoint=model.checkpoint,
        seed=seed,
        batch=shape.batch,
        sequences=sequences,
    )


def has_trace(kind: "type[Sampler]") -> bool:
    """True of samplers whose passes may accept any number of tokens."""
    return kind.requires != "ar" and not kind.remasks


def check_has_trace(kind: "type[Sampler]") -> None:
    """Raise ConfigError for samplers whose decodes have no trace."""
    if kind.requires == "ar":
        raise ConfigError(f"sampler: {kind.name!r} has no trace; each of its passes is a token's")
    if kind.remasks:
        raise ConfigError(
            f"sampler: {kind.name!r} has no trace; its passes mask tokens again, and their number "
            "is fixed"
        )
