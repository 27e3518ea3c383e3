"""The tokens that T passes unmask, where their number is asked for, by the rules of the field."""

from collections import Counter
from collections.abc import Iterator
from random import Random

from dlm_bench.errors import ConfigError
from dlm_bench.samplers.schedule import evenly, remaining

LAST_TIME = 1000  # 1 / the time at which Dream's steps end


def even(tokens: int, T: int) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of T passes, or of a pass a token if those are fewer:
    as even as can be, the remainder first (LLaDA's `generate`)."""
    return remaining(evenly(tokens, min(T, tokens)), tokens)


def dream(tokens: int, T: int) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of T passes by Dream's `diffusion_generate`.

    The time goes linearly from 1 to 1/1000. Of M masked tokens a pass from t to s takes
    floor(M (1 - s/t)), the last one all. The first passes take none where T is near the tokens.
    """
    masked = tokens
    for i in range(T):
        # 1 - s/t in whole numbers: rounding would decide a quotient that is whole.
        share = (LAST_TIME - 1) * masked // (LAST_TIME * T - (LAST_TIME - 1) * i)
        reveal = masked if i == T - 1 else share
        yield masked, reveal
        masked -= reveal


def drawn(tokens: int, T: int, rest: float, draw: Random) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of T passes from time 1 to `rest`, each token being
    unmasked by itself: with the chance 1 - s/t in a pass from t to s, in the last one surely."""
    # So each pass has the same chance of a token, and the last one that of the rest, too.
    found = Counter(min(T - 1, int(draw.random() * T / (1 - rest))) for _ in range(tokens))
    return remaining((found[i] for i in range(T)), tokens)


DRAWN = {"origin": 1 / LAST_TIME, "mdlm": 0.0}  # with the time at which the steps end
SPREADS = ("even", "dream", *DRAWN)


def spread(kind: str, tokens: int, T: int, draw: Random) -> Iterator[tuple[int, int]]:
    """(tokens still masked, tokens to unmask) of T passes over a block, of a kind of SPREADS."""
    if kind in DRAWN:
        return drawn(tokens, T, DRAWN[kind], draw)
    return even(tokens, T) if kind == "even" else dream(tokens, T)


def passes_with_change(tokens: int, T: int) -> float:
    """Return how many of T passes are expected to unmask one of `tokens` that are `drawn`:
    T (1 - (1 - 1/T)^tokens) (MDLM, arXiv 2406.07524)."""
    return T * (1 - (1 - 1 / T) ** tokens)


def block_steps(steps: int, blocks: int) -> list[int]:
    """Divide the passes of a decode among its blocks, the remainder first. Raises ConfigError for a
    block without a pass."""
    if steps < blocks:
        raise ConfigError(
            f"steps: {steps} is not allowed; must be at least the number of blocks ({blocks})"
        )
    return list(evenly(steps, blocks))
