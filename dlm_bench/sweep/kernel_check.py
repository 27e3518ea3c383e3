"""A sweep without the kernels that failed a check of each operation.

`bench/kernel_floors.py` writes a JSON line a case: `status` (ok, wrong or raised), `message`,
`size`, and `kernels`, the implementation of each operation in the case.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dlm_bench.errors import ConfigError
from dlm_bench.models.config import BACKBONES
from dlm_bench.models.own import OWN, is_denoiser
from dlm_bench.results.record import Point

# Operations whose plain form is no stand-in on a GPU: the host waits for the device in it, so that
# no pass can be captured, or it is a listing of the paper.
NEVER_PLAIN = {"cached_attention", "lm_head", "ssd", "conv"}

Faults = dict[str, dict[str, str]]  # operation to implementation to what was wrong


class Choice(NamedTuple):
    """The kernels to insist on; by operation, the reason for each stand-in; and by operation
    without an implementation, the reason for leaving points out."""

    kernels: dict[str, str]
    stand_ins: dict[str, str]
    left_out: dict[str, str]


def read_faults(path: str | Path) -> Faults:
    """Return the implementations that failed in a file of the check.

    A failed case of several kernels is blamed on those that passed in no other case; if there are
    none on that of the case's own operation, or else on all. Raises ConfigError.
    """
    # A case that was run again counts as it ended last.
    cases = {
        (str(row.get("operation")), str(row.get("size")), *row["kernels"].items()): row
        for row in _rows(Path(path))
    }
    rows = [row for row in cases.values() if not _is_of_memory(row)]
    passed = {pair for row in rows if row["status"] == "ok" for pair in row["kernels"].items()}
    faults: Faults = {}
    for row in rows:
        pairs = row["kernels"].items()
        if row["status"] == "ok" or not pairs:
            continue
        own = {pair for pair in pairs if pair[0] == row.get("operation")}
        blamed = (pairs if len(pairs) == 1 else pairs - passed) or own or pairs
        for operation, name in blamed:
            at = f" at {row['size']}" if row.get("size") else ""
            text = f"{operation} {name!r} {_VERBS[row['status']]}{at}: {row.get('message', '')}"
            faults.setdefault(operation, {}).setdefault(name, text)
    return faults


_VERBS = {"wrong": "gave wrong numbers", "raised": "raised an error"}


def _is_of_memory(row: dict[str, Any]) -> bool:
    """Recognise a case without enough memory: another size may have enough."""
    return row["status"] == "raised" and "out of memory" in str(row.get("message", "")).lower()


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise ConfigError(f"kernel check {str(path)!r}: {why}") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            names = row["kernels"].values()
            known = row["status"] in ("ok", *_VERBS) and all(isinstance(n, str) for n in names)
        except (ValueError, KeyError, TypeError, AttributeError):
            known = False
        if known:
            yield row
        elif number < len(lines):  # the last line may be torn
            raise ConfigError(
                f"kernel check {str(path)!r}: line {number} is not a case of "
                "bench/kernel_floors.py; name a file that its --output wrote"
            )


def operations_of(point: Point) -> set[str]:
    """Return the operations in the passes of a point."""
    if point.backbone not in OWN:
        return {"lm_head", "elementwise"}
    used = {"lm_head", "elementwise", "mlp"}
    paper = BACKBONES.get(point.backbone)
    every = 1 if paper is None else paper.attention_every
    uncached = point.sampler in ("full", "remdm")
    known = uncached or point.sampler in ("fast-dllm", "block-cache", "self-speculation", "ar")
    whole = not known or uncached or point.sampler == "fast-dllm" or point.prompt_len > 0
    cached = not uncached
    if every:
        used |= {"attention"} if whole else set()
        used |= {"cached_attention"} if cached else set()
    if every != 1:
        used |= {"ssd", "walking_scan", "conv"} if whole else set()
        if cached:
            used.add("block_scan" if is_denoiser(point.backbone) else "step")
    return used


def why_left_out(left_out: Mapping[str, str], point: Point) -> str | None:
    """Return the reason for leaving a point out, None without any."""
    reasons = [left_out[each] for each in sorted(operations_of(point) & left_out.keys())]
    return f"in the kernel check {'; '.join(reasons)}" if reasons else None
