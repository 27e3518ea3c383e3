"""The planned passes of self-speculation: a pair drafts tokens and verifies them."""

from collections.abc import Iterator

from dlm_bench.samplers.schedule import PlannedPass


def pair_passes(
    begin: int, tokens: int, block_size: int, context: int, kept: int
) -> Iterator[PlannedPass]:
    """List the passes that decode up to `tokens` tokens from position `begin` on, behind a context,
    and keep some of them: a draft of all but one, if there is any, and its verification."""
    tail = "" if tokens == block_size else f":{tokens}"
    if tokens > 1:
        yield PlannedPass(
            kind=f"draft{tail}",
            query_len=tokens,
            context_len=context,
            block_start=begin,
            block_len=tokens - 1,
            masked=tokens - 1,
            reveal=0,
            t=(tokens - 1) / tokens,
        )
    yield PlannedPass(
        kind=f"verify{tail}",
        query_len=tokens,
        context_len=context,
        block_start=begin,
        block_len=tokens,
        masked=tokens,
        reveal=kept,
        t=0.0,
    )
