"""The passes over the sub-blocks of a block (Fast-dLLM v2, arXiv 2509.26328, by its code).

Sub-blocks are unmasked from left to right. The first pass of a sub-block is over the whole block,
whose keys and values stay; the others are over the sub-block alone, and read the rest of the block
from the cache. Fast-dLLM v2 repeats the first pass until the sub-block's first token is unmasked,
as its token shift predicts that from the token before, whose hidden state is kept here instead.
"""

from functools import partial
from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError, check_int
from dlm_bench.models.window import Window
from dlm_bench.samplers.schedule import role_of

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.state import DecodeState


def check_size(sub_block_size: int, block_size: int) -> None:
    """Raise ConfigError unless a block is of two or more whole sub-blocks, or without any (0)."""
    check_int("sub_block_size", sub_block_size, minimum=0)
    if sub_block_size and (sub_block_size >= block_size or block_size % sub_block_size):
        raise ConfigError(
            f"sub_block_size: {sub_block_size} is not allowed; must divide block_size "
            f"({block_size}) and be less, or 0"
        )


def check_supports(sub_block_size: int, backbone: str, supports: tuple[str, ...]) -> None:
    """Raise ConfigError for a backbone without passes over a part of a block."""
    if sub_block_size and "sub-blocks" not in supports:
        raise ConfigError(
            f"sub_block_size: {sub_block_size} is not allowed with backbone {backbone!r}, which "
            "has no passes over a part of a block (as attention alone has); allowed: 0"
        )


def window_of(state: "DecodeState", kind: str, block_size: int, plans_time: bool) -> Window:
    """The query tokens of a pass that unmasks, and their sight."""
    query_len, part_len = state.shapes[kind]
    role, part, B = role_of(kind), state.now("block_start"), block_size
    block = _block_of(state, part, B)
    segments = (B, query_len - B) if role == "fused" else (query_len,)
    new = partial(
        Window,
        segments=segments,
        advance=role in ("fused", "keep"),
        modulation=state.modulation_now(len(segments)) if plans_time else None,
    )
    if role == "fused":
        return new(block - B, inner=part)
    if role == "refresh" or query_len > part_len:
        return new(block, inner=part)
    return new(part, sight=(block + B).clamp(max=state.tokens.shape[1]))


def hidden_of(state: "DecodeState", kind: str, hidden: "Tensor", window: Window) -> "Tensor":
    """The hidden states of the sub-block, (batch, its tokens, d_model)."""
    if window.inner is None:
        return hidden
    _, part_len = state.shapes[kind]
    return hidden.index_select(1, state.block_positions(part_len) - window.start)


def masked_fraction(state: "DecodeState", tokens: "Tensor", window: Window, B: int) -> "Tensor":
    """The masked fraction of the block in each row, (batch, 1). In a pass over a sub-block `tokens`
    are the sub-block's: those behind it are masked, those in front are not."""
    masked = (tokens == state.config.mask_id).sum(dim=1, keepdim=True)
    if window.sight is None:
        return masked / tokens.shape[1]
    behind = window.sight - window.start - tokens.shape[1]
    return (masked + behind) / (window.sight - _block_of(state, window.start, B))


def _block_of(state: "DecodeState", position: "Tensor", block_size: int) -> "Tensor":
    """The first position of the block around a position, (1,) int64."""
    first = state.prompt_len
    return (position - first) // block_size * block_size + first
