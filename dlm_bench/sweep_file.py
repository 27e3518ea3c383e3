"""What a sweep file may hold, and its errors for people."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from dlm_bench.errors import (
    LARGEST_BATCH,
    LARGEST_SEED,
    LONGEST,
    LONGEST_WAIT,
    MOST_RUNS,
    ConfigError,
)
from dlm_bench.results.record import Graphs, Mode


def as_list(value: object) -> Any:
    """A value that may be given alone, as a list."""
    return value if isinstance(value, list) else [value]


_UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _bytes(value: object) -> int:
    size = r"(\d{1,9}(?:\.\d{1,3})?) ?([MGT]iB)"
    found = re.fullmatch(size, value, re.ASCII) if isinstance(value, str) else None
    if found is None or float(found[1]) == 0:
        raise ValueError("must be a size above 0 such as 512MiB or 8GiB")
    return int(float(found[1]) * _UNITS[found[2]])


Names = Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)]
Lengths = Annotated[list[Annotated[PositiveInt, Field(le=LONGEST)]], Field(min_length=1)]
Batches = Annotated[
    list[Annotated[PositiveInt, Field(le=LARGEST_BATCH)]],
    BeforeValidator(as_list),
    Field(min_length=1),
]
Prompts = Annotated[
    list[Annotated[int, Field(ge=0, le=LONGEST)]], BeforeValidator(as_list), Field(min_length=1)
]


class Line(BaseModel):
    """One [[lines]] table. Keys that are not fields are options of the sampler; lists multiply."""

    model_config = ConfigDict(extra="allow", strict=True)

    backbone: Names
    sampler: Names
    size: Names | None = None
    lengths: Lengths | None = None
    batch: Batches | None = None
    prompt_len: Prompts | None = None


class File(BaseModel):
    """The keys of a file; what is not given has its default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]  # also the default results file's
    size: Names
    lengths: Lengths
    device: str = "cpu"
    dtype: str | None = None
    mode: Mode = "exact"
    warmup: Annotated[int, Field(ge=0, le=MOST_RUNS)] = 3
    repeats: Annotated[PositiveInt, Field(le=MOST_RUNS)] = 5
    nodes: Annotated[int, Field(ge=2, le=MOST_RUNS)] = 9
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.01
    max_seconds: Annotated[float, Field(gt=0, le=LONGEST_WAIT)] = 30.0
    batch: Batches = [1]
    prompt_len: Prompts = [0]
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    graphs: Graphs = "auto"
    kernels: dict[str, str] = {}
    random_weights: bool = False
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    memory_limit: Annotated[int, BeforeValidator(_bytes)] | None = None
    lines: Annotated[list[Line], Field(min_length=1)]


def read_file(path: str | Path, instead: Mapping[str, Any]) -> File:
    """Read a file, with some values in the place of its own. Raises ConfigError naming the field,
    the value and what is allowed."""
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"sweep file {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"sweep file {str(path)!r}: not valid TOML: {error}") from None
    try:
        return File.model_validate(content | dict(instead))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """The first thing wrong with a file, as one line."""
    first: Any = error.errors()[0]
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])[1:]
    if first["type"] == "extra_forbidden":
        allowed = list(File.model_fields)
        close = difflib.get_close_matches(place, allowed, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{place}: no such key{hint}; allowed: {', '.join(allowed)}"
    if first["type"] == "missing":
        return f"{place}: missing; every sweep needs it"
    own = first.get("ctx", {}).get("error")
    return f"{place}: {first['input']!r} is not allowed; {own or first['msg'].lower()}"
