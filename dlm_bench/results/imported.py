"""Records from the JSON of other engines' benchmarks: vLLM's serve, latency and throughput, and
SGLang's bench_serving, bench_one_batch and bench_one_batch_server."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Point, Record

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """Facts that a file may leave open.

    backbone: empty for the model that the file names. length, prompt_len, batch: None for the
    file's. nfe: passes of a decode, None for one a token.
    """

    backbone: str = ""
    size: str = "other"
    sampler: str = "ar"
    length: int | None = None
    prompt_len: int | None = None
    batch: int | None = None
    nfe: int | None = None
    dtype: str = "bfloat16"
    device: str = "cuda"
    hardware: str = "unknown"


@dataclass(frozen=True)
class Numbers:
    """The numbers of a benchmark, None where it has none. seconds: with the prefill, unless
    `prefill` has the prefill's. tokens: generated in `seconds`."""

    seconds: list[float]
    tokens: int | None = None
    length: int | None = None
    prompt_len: int | None = None
    batch: int | None = None
    first: tuple[float, ...] = ()
    prefill: tuple[float, ...] = ()


def _serving(found: Found, asked: Asked) -> Numbers:
    done = max(1, int(found["completed"]))
    first = [float(each) for each in found.get("ttfts") or () if each and each > 0]
    mean = found.get("mean_ttft_ms")
    return Numbers(
        seconds=[float(found["duration"])] if found["completed"] else [],
        tokens=int(found["total_output_tokens"]),
        length=round(found["total_output_tokens"] / done),
        prompt_len=round(found.get("total_input_tokens", 0) / done),
        batch=found.get("max_concurrency") or done,
        first=tuple(first or ([float(mean) / 1e3] if mean else [])),
    )


def _latency(found: Found, asked: Asked) -> Numbers:
    return Numbers([float(each) for each in found["latencies"]])


def _throughput(found: Found, asked: Asked) -> Numbers:
    requests = int(found["num_requests"])
    prompt = None
    if asked.length:  # the file counts the tokens of prompts and outputs together
        prompt = max(0, round(found["total_num_tokens"] / requests) - asked.length)
    return Numbers([float(found["elapsed_time"])], batch=requests, prompt_len=prompt)


def _one_batch(found: Found, asked: Asked) -> Numbers:
    length, batch, prefill = found["output_len"], found["batch_size"], found["prefill_latency"]
    if length < 2:
        raise ValueError("output_len is 1: nothing was decoded after the prefill")
    return Numbers(
        seconds=[found["total_latency"] - prefill],
        tokens=batch * (length - 1),  # the prefill gives the first
        length=length,
        prompt_len=found["input_len"],
        batch=batch,
        first=(prefill,),
        prefill=(prefill,),
    )


def _one_batch_server(found: Found, asked: Asked) -> Numbers:
    return Numbers(
        seconds=[found["latency"]],
        length=found["output_len"],
        prompt_len=found["input_len"],
        batch=found["batch_size"],
    )


# By name: the keys that tell a format, and its reader.
FORMATS: dict[str, tuple[set[str], Callable[[Found, Asked], Numbers]]] = {
    "sglang one-batch": ({"prefill_latency", "total_latency", "batch_size"}, _one_batch),
    "sglang one-batch-server": ({"latency", "output_len", "batch_size"}, _one_batch_server),
    "sglang serving": ({"duration", "completed", "total_output_tokens_retokenized"}, _serving),
    "vllm serve": ({"duration", "completed", "total_output_tokens"}, _serving),
    "vllm latency": ({"avg_latency", "latencies"}, _latency),
    "vllm throughput": ({"elapsed_time", "num_requests", "total_num_tokens"}, _throughput),
}


def imported(path: str | os.PathLike[str], asked: Asked) -> list[Record]:
    """Return the records of a file of JSON, a list or an object a line. Raises ResultsError for a
    file of another kind, and for what it leaves open and `asked` does too."""
    found = _objects(path)
    written = datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)
    records = []
    for number, each in enumerate(found, 1):
        where = f"{os.fspath(path)!r}" + (f", result {number}" if found[1:] else "")
        try:
            records.append(_record(each, asked, written))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else _line(error)
            raise ResultsError(f"import: {where}: {reason}") from None
    return records


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _objects(path: str | os.PathLike[str]) -> list[Found]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise ResultsError(f"import: {os.fspath(path)!r}: {reason}") from None
    try:
        content = json.loads(text)
    except ValueError:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            content = []
    found = content if isinstance(content, list) else [content]
    if not found or not all(isinstance(each, dict) for each in found):
        raise ResultsError(
            f"import: {os.fspath(path)!r}: is neither JSON nor JSON lines of objects"
        )
    return found


def _record(found: Found, asked: Asked, written: datetime) -> Record:
    name = next((name for name, (keys, _) in FORMATS.items() if keys <= found.keys()), None)
    if name is None:
        raise ValueError(f"no known benchmark; known: {', '.join(FORMATS)}")
    numbers = FORMATS[name][1](found, asked)
    backbone = asked.backbone or _model(found)
    length = asked.length or numbers.length
    batch = asked.batch or numbers.batch
    for option, value in (("--backbone", backbone), ("--length", length), ("--batch", batch)):
        if not value:
            raise ValueError(f"{name} does not say it; give {option}")
    prompt = numbers.prompt_len if asked.prompt_len is None else asked.prompt_len
    point = Point(
        backbone=backbone,
        size=asked.size,
        sampler=asked.sampler,
        options={"engine": name},
        length=length,  # type: ignore[arg-type]
        batch=batch,  # type: ignore[arg-type]
        prompt_len=prompt or 0,
        dtype=asked.dtype,
        device=asked.device,
    )
    seconds = [each for each in numbers.seconds if math.isfinite(each) and each > 0]
    failed = int(found.get("failed") or 0)
    return Record(
        point=point,
        status="ok" if seconds else "error",
        message="" if seconds else "no request was completed",
        mode="exact",
        warmup=0,
        repeats=max(1, len(seconds)),
        nfe=asked.nfe or point.length - bool(numbers.prefill),
        timed_tokens=numbers.tokens or None,
        seconds=seconds,
        prefill_seconds=list(numbers.prefill),
        first_block_seconds=list(numbers.first),
        settings={"imported": name, "prefill": "apart" if numbers.prefill else "in seconds"}
        | ({"failed_requests": failed} if failed else {}),
        environment={"hardware": asked.hardware, "engine": name},
        measured_at=_when(found, written),
    )


def _model(found: Found) -> str:
    """Return the model that a file names, without the folder: names of Hugging Face, paths."""
    for key in ("model_id", "model", "model_path"):
        if isinstance(found.get(key), str) and found[key]:
            return str(found[key]).rstrip("/").rpartition("/")[2]
    return ""


def _when(found: Found, written: datetime) -> str:
    try:
        when = datetime.strptime(str(found.get("date")), "%Y%m%d-%H%M%S").astimezone(UTC)
    except ValueError:
        when = written
    return when.isoformat(timespec="seconds")
