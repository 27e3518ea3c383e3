"""The passes over clean tokens, at t = 0: a prefill of the prompt, a commit of a finished block.

They fill the cache. In a model with a token shift the last place of the clean tokens predicts the
first token behind them, which such a pass may take: Fast-dLLM v2 (arXiv 2509.26328, its code) does,
whatever the confidence and the temperature.
"""

from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError, unknown
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.schedule import COMMIT, PREFILL, PlannedPass, role_of

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.samplers.block_cache import BlockCache
    from dlm_bench.samplers.state import DecodeState

FIRST_TOKENS = ("rule", "commit")


def is_clean(kind: str) -> bool:
    """True for a prefill or a commit."""
    return role_of(kind) in (PREFILL, COMMIT)


def clean_pass(kind: str, start: int, tokens: int) -> PlannedPass:
    """Return a pass over clean tokens that fills the cache and unmasks nothing."""
    return PlannedPass(
        kind=kind,
        query_len=tokens,
        context_len=start,
        block_start=start,
        block_len=tokens,
        masked=0,
        reveal=0,
        t=0.0,
    )


def clean_pass_before(
    sampler: "BlockCache", kind: str, start: int, tokens: int, left: int
) -> PlannedPass:
    """Return a sampler's pass over clean tokens with `left` tokens to decode behind them."""
    found = clean_pass(kind, start, tokens)
    if takes_first(sampler, left):
        return found._replace(block_start=start + tokens, block_len=1, masked=1, reveal=1)
    if sampler.first_token == "commit" and kind == COMMIT:
        return found._replace(kind=f"{kind}:{tokens}")  # beside commits of another shape
    return found


def takes_first(sampler: "BlockCache", tokens: int) -> bool:
    """True if the pass in front of `tokens` tokens takes the first of them. A block or sub-block of
    one token has a pass by the rule."""
    return sampler.first_token == "commit" and min(tokens, sampler.trace_block) > 1


def is_ahead(state: "DecodeState", kind: str) -> bool:
    """True for a pass over clean tokens that takes the token behind them."""
    if kind == PREFILL:
        return state.passes[0].reveal > 0
    query_len, block_len = state.shapes[kind]
    return role_of(kind) == COMMIT and block_len < query_len


def take_first(model: Model, state: "DecodeState", hidden: "Tensor") -> None:
    """Unmask the token behind clean ones, given their hidden states (batch, len, d_model) by a
    window that is `ahead`."""
    found, _ = state.predict(model, hidden[:, -1:], temperature=0.0)
    state.write(found)


def check_first_token(sampler: "BlockCache") -> None:
    """Raise ConfigError for an unknown option, or one beside others that leave no such pass."""
    if sampler.first_token not in FIRST_TOKENS:
        raise unknown("first_token", sampler.first_token, FIRST_TOKENS)
    if sampler.first_token == "rule":
        return
    why = "with first_token 'commit', which takes a token of each commit pass"
    if sampler.commit != "separate":
        raise ConfigError(f"commit: {sampler.commit!r} is not allowed {why}; allowed: separate")
    if sampler.batching == "fdfo":
        raise ConfigError(f"batching: 'fdfo' is not allowed {why}; allowed: lockstep")
    if sampler.acceptance.edits:
        raise ConfigError(
            "first_token: 'commit' is not allowed with accept 'joint', or a trace of it, which "
            "would replace that token; allowed: rule"
        )


def check_supports(first_token: str, backbone: str, supports: tuple[str, ...]) -> None:
    """Raise ConfigError for a backbone that does not predict the token after a clean block."""
    if first_token == "commit" and "next-token" not in supports:
        raise ConfigError(
            f"first_token: 'commit' is not allowed with backbone {backbone!r}, which predicts no "
            "token after a clean block (as those with a token shift do); allowed: rule"
        )
