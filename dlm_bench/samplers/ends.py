"""Sequences that end at their end of text (EOS): the passes until all have ended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError
from dlm_bench.models.backbones import BackboneInfo, known_config
from dlm_bench.plugins.api import Model, ModelInfo
from dlm_bench.samplers.schedule import PREFILL, PlannedPass, role_of

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.sampler import Sampler
    from dlm_bench.samplers.state import DecodeState


@dataclass(frozen=True)
class Ends:
    """The end of a decode in which each sequence ends at its EOS.

    passes: of each sequence, until the end of the block in which the last one ends or, where they
        are at blocks of their own, in which it ends itself.
    generated: tokens of each sequence by then.
    to_eos: tokens of each sequence up to its EOS, that one included; all where it has none.
    """

    passes: tuple[int, ...]
    generated: tuple[int, ...]
    to_eos: tuple[int, ...]


def eos_of(config: ModelInfo) -> int:
    """Return the id of a model's EOS. Raises ConfigError for a model that states none."""
    found = getattr(config, "eos_id", None)
    if found is None:
        raise ConfigError(
            f"stop_at_eos: is not allowed with backbone {config.backbone!r}, which states no end "
            "of text (eos_token_id in config.json, or eos_id of a plug-in's config); leave it out"
        )
    return int(found)


def check_ends(backbone: BackboneInfo, size: str) -> None:
    """Raise ConfigError, before a model is built, if it is known to state no EOS."""
    config = known_config(backbone.name, size, backbone.folder)
    if config is not None:
        eos_of(config)


def find_ends(sampler: "Sampler", model: Model, state: "DecodeState") -> Ends:
    """Run a decode of known passes up to the end of the block in which the last sequence ends.

    The host reads the tokens after each block. Raises ConfigError as `eos_of`, and PointError where
    logits are not finite.
    """
    eos = eos_of(state.config)
    sampler.seek(state, 0)
    find = _find_together if state.places is None else _find_apart
    return find(sampler, model, state, eos)


def _find_together(sampler: "Sampler", model: Model, state: "DecodeState", eos: int) -> Ends:
    """As `find_ends`, of sequences that are at the same block."""
    done, batch = 0, len(state.tokens)
    for index in block_ends(state.passes):
        for each in state.passes[done : index + 1]:
            sampler.step(model, state, each.kind)
        done = index + 1
        # Later blocks may be under way: up to the first MASK of any sequence.
        masked = (state.decoded == state.config.mask_id).any(dim=0).nonzero()
        generated = int(masked[0]) if len(masked) else state.decoded.shape[1]
        found = state.decoded[:, :generated] == eos
        if bool(found.any(dim=1).all()):
            break
    else:
        state.check_unmasked()
    return Ends((done,) * batch, (generated,) * batch, tuple(map(tokens_to, found)))


def _find_apart(sampler: "Sampler", model: Model, state: "DecodeState", eos: int) -> Ends:
    """As `find_ends`, of sequences that are at blocks of their own and do not wait for the last."""
    batch = len(state.tokens)
    passes, generated, ended = [0] * batch, [0] * batch, [False] * batch

    def found(row: int) -> "Tensor":
        return state.decoded[row, : generated[row]] == eos

    for index, each in enumerate(state.passes):
        sampler.step(model, state, each.kind)
        rows = each.of_rows(batch)
        for row, (masked, reveal) in enumerate(zip(rows.masked, rows.reveal, strict=True)):
            if masked and reveal == masked and not ended[row]:  # the row's block is decoded
                passes[row] = index + 1
                generated[row] = rows.block_start[row] + rows.block_len[row] - state.prompt_len
                ended[row] = bool(found(row).any())
        if all(ended):
            break
    else:
        state.check_unmasked()
    to_eos = tuple(tokens_to(found(row)) for row in range(batch))
    return Ends(tuple(passes), tuple(generated), to_eos)


def block_ends(passes: Sequence[PlannedPass]) -> Iterator[int]:
    """Yield the index of the last pass over each block, its commit aside."""
    for index, (one, other) in enumerate(pairwise(passes)):
        over = other.block_start != one.block_start or role_of(other.kind) == "commit"
        clean = not one.masked and role_of(one.kind) in (PREFILL, "commit")
        if over and not clean:
            yield index
    yield len(passes) - 1


def tokens_to(found: "Tensor") -> int:
    """Return the number of tokens up to the first one that is found, all of them if none is."""
    places = found.nonzero()
    return int(places[0]) + 1 if len(places) else len(found)
