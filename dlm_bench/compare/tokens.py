"""Different tokens: a head that is fast because it decodes something else."""

from collections import defaultdict
from collections.abc import Iterable

from dlm_bench.results.record import Record

Decode = tuple[object, ...]


def other_tokens(base: Iterable[Record], head: Iterable[Record]) -> str:
    """Return a note if no decode of head gave the tokens of the same decode of base; else an empty
    text, as for records without a digest in common."""
    before, after = _digests(base), _digests(head)
    differ = any(not before[key] & after[key] for key in before.keys() & after.keys())
    return "head decodes other tokens" if differ else ""


def _digests(records: Iterable[Record]) -> dict[Decode, set[str]]:
    """Digests of the tokens of each decode: of so many sequences, tokens, tokens of a prompt."""
    found: dict[Decode, set[str]] = defaultdict(set)
    for record in records:
        told = record.output
        if record.status == "ok" and told.get("digest"):
            key = (record.seed, *(told.get(name) for name in ("batch", "length", "prompt_len")))
            found[key].add(told["digest"])
    return found
