"""The keys of a sweep file, and the wording of mistakes in them."""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
)

from dlm_bench.errors import (
    MAX_BATCH,
    MAX_LENGTH,
    MAX_RUNS,
    MAX_SEED,
    MAX_WAIT_SECONDS,
    ConfigError,
    did_you_mean,
    nearest,
    seconds_of,
    share_of,
    unknown_option,
)
from dlm_bench.results.record import Graphs, Mode
from dlm_bench.samplers import SAMPLERS, owners_of
from dlm_bench.sweep.mistakes import Mistakes, line_numbers
from dlm_bench.timing.settings import DEFAULTS

SHIPPED = Path(__file__).parents[1] / "sweeps"


def as_list(value: object) -> Any:
    """Return a list as it is, and any other value as a list of itself."""
    return value if isinstance(value, list) else [value]


_UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _bytes(value: object) -> int:
    size = r"(\d{1,9}(?:\.\d{1,3})?) ?([MGT]iB)"
    found = re.fullmatch(size, value, re.ASCII) if isinstance(value, str) else None
    if found is None or float(found[1]) == 0:
        raise ValueError("must be a size above 0 such as 512MiB or 8GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def _read(parse: Callable[[str, object], float]) -> BeforeValidator:
    """Read a text such as "10m" or "5%" as a number, as the command line does."""

    def number(value: object, info: ValidationInfo) -> object:
        try:
            return parse(info.field_name or "", value) if isinstance(value, str) else value
        except ConfigError as error:
            raise ValueError(str(error).partition("not allowed; ")[2]) from None

    return BeforeValidator(number)


OneOrMany = BeforeValidator(as_list)
NonEmpty = Field(min_length=1)
Names = Annotated[list[str], OneOrMany, NonEmpty]
Lengths = Annotated[list[Annotated[PositiveInt, Field(le=MAX_LENGTH)]], OneOrMany, NonEmpty]
Batches = Annotated[list[Annotated[PositiveInt, Field(le=MAX_BATCH)]], OneOrMany, NonEmpty]
Prompts = Annotated[list[Annotated[int, Field(ge=0, le=MAX_LENGTH)]], OneOrMany, NonEmpty]
Seeds = Annotated[list[Annotated[int, Field(ge=0, le=MAX_SEED)]], OneOrMany, NonEmpty]


class Group(BaseModel):
    """A [[lines]] table. Keys that are not fields are options of the sampler; lists multiply."""

    model_config = ConfigDict(extra="allow", strict=True)

    backbone: Names
    sampler: Names
    size: Names | None = None
    lengths: Lengths | None = None
    batch: Batches | None = None
    prompt_len: Prompts | None = None
    prompts: str | None = None
    stop_at_eos: bool | None = None
    dtype: Names | None = None
    seed: Seeds | None = None
    checkpoint: Names = [""]


class File(BaseModel):
    """The keys of a file; absent keys have their defaults."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]  # also the default results file's
    size: Names
    lengths: Lengths
    device: str = "cpu"
    dtype: Names | None = None
    mode: Mode = DEFAULTS.mode
    warmup: Annotated[int, Field(ge=0, le=MAX_RUNS)] = DEFAULTS.warmup
    repeats: Annotated[PositiveInt, Field(le=MAX_RUNS)] = DEFAULTS.repeats
    nodes: Annotated[int, Field(ge=2, le=MAX_RUNS)] = DEFAULTS.nodes
    tolerance: Annotated[float, _read(share_of), Field(gt=0, le=1)] | None = DEFAULTS.tolerance
    max_seconds: Annotated[float, _read(seconds_of), Field(gt=0, le=MAX_WAIT_SECONDS)] = (
        DEFAULTS.max_seconds
    )
    min_warmup: Annotated[float, _read(seconds_of), Field(ge=0, le=MAX_WAIT_SECONDS)] = (
        DEFAULTS.min_warmup
    )
    min_time: Annotated[float, _read(seconds_of), Field(ge=0, le=MAX_WAIT_SECONDS)] = (
        DEFAULTS.min_time
    )
    soak: Annotated[float, _read(seconds_of), Field(ge=0, le=MAX_WAIT_SECONDS)] = DEFAULTS.soak
    batch: Batches = [1]
    prompt_len: Prompts = [0]
    prompts: str = ""
    stop_at_eos: bool = False
    seed: Seeds = [DEFAULTS.seed]
    graphs: Graphs = DEFAULTS.graphs
    kernels: dict[str, str] = {}
    random_weights: bool = False
    timeout: Annotated[float, _read(seconds_of), Field(gt=0, allow_inf_nan=False)] | None = None
    memory_limit: Annotated[int, BeforeValidator(_bytes)] | None = None
    skip_impossible: bool = False
    exclude: list[dict[str, Any]] = []
    lines: Annotated[list[Group], NonEmpty]


OF_GROUPS = Group.model_fields.keys() - File.model_fields  # backbone, sampler, checkpoint

# Stands in for a missing or wrong value, so the rest can be checked.
_STAND_IN = {"name": "x", "size": "tiny", "lengths": 8}
_MINIMAL_GROUP = {"backbone": "diffutran", "sampler": "full"}
_CHOICES: dict[str, tuple[str, ...]] = {"mode": get_args(Mode), "graphs": get_args(Graphs)}


def shipped() -> dict[str, Path]:
    """Return the sweep files of this package, by name."""
    return {each.stem: each for each in sorted(SHIPPED.glob("*.toml"))}


def find_sweep(path: str | Path) -> Path:
    """Find a sweep file by path, or a shipped file by name. Raises ConfigError if there is
    neither."""
    given, named = Path(path), shipped()
    if given.exists() and not given.is_dir():
        return given
    if str(path) in named:
        return named[str(path)]
    reason = "Is a directory" if given.is_dir() else "No such file or directory"
    raise ConfigError(
        f"sweep file {str(path)!r}: {reason}{did_you_mean(str(path), named)}; shipped: "
        f"{', '.join(named)}"
    )


def read_file(path: str | Path, overrides: Mapping[str, Any]) -> tuple[File, Mistakes]:
    """Read a file, with `overrides` instead of the file's own values, and note the mistakes.

    Raises ConfigError if no groups can be read.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        content = tomllib.loads(text)
        _override_groups(content, overrides)
        content |= {key: overrides[key] for key in overrides.keys() - OF_GROUPS}
    except OSError as error:
        raise ConfigError(f"sweep file {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"sweep file {str(path)!r}: not valid TOML: {error}") from None
    lines = {key: n for key, n in line_numbers(text).items() if key[0] not in overrides}
    mistakes = Mistakes(path, lines)
    while True:
        try:
            return File.model_validate(content), mistakes
        except ValidationError as error:
            found: list[Any] = error.errors()
        unknown = [each for each in found if each["type"] == "extra_forbidden"]
        for each in unknown or found:
            _note(each, content, mistakes)
        absent = [str(each["loc"][0]) for each in found if _is_absent(each)]
        if absent and not unknown:
            need = "them" if absent[1:] else "it"
            mistakes.add(f"{', '.join(absent)}: missing; every sweep needs {need}")
        if not isinstance(content.get("lines"), list) or not content["lines"]:
            mistakes.end()


def _override_groups(content: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Take the values that are overridden out of all groups, too; those of groups alone go in."""
    lines = content.get("lines")
    for table in lines if isinstance(lines, list) else ():
        for key in overrides.keys() & Group.model_fields.keys():
            if not isinstance(table, dict):
                continue
            table.pop(key, None)
            if key in OF_GROUPS:
                table[key] = overrides[key]


def _note(error: Any, content: dict[str, Any], mistakes: Mistakes) -> None:
    """Note an error. Take the wrong value out of the content, or put right a misspelt key."""
    where, key = error["loc"], error["loc"][0]
    if error["type"] == "extra_forbidden":
        _note_unknown(key, content, mistakes)
        return
    key_path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in where)[1:]
    in_line = key == "lines" and len(where) > 2
    table, name = (content["lines"][where[1]], where[2]) if in_line else (content, key)
    if error["type"] == "missing":
        # A line's unknown keys are taken for options.
        close = [each for each in table if nearest(each, [name])] if in_line else []
        if close:
            table[name] = table.pop(close[0])
            text = f"lines[{where[1]}]: {close[0]}: no such key{did_you_mean(close[0], [name])}"
            mistakes.add(text, "lines", where[1], close[0])
            return
        if in_line:
            mistakes.add(f"{key_path}: missing; every line needs it", *where)
    else:
        mistakes.add(f"{key_path}: {_why(error, str(where[-1]))}", *where)
    if (in_line and name in _MINIMAL_GROUP) or (key == "lines" and len(where) == 2):
        mistakes.broken.add(where[1])
        content["lines"][where[1]] = dict(_MINIMAL_GROUP)
        return
    table.pop(name, None)
    if not in_line and name in _STAND_IN:
        table[name] = _STAND_IN[name]


def _is_absent(error: Any) -> bool:
    return error["type"] == "missing" and len(error["loc"]) == 1


def _note_unknown(key: str, content: dict[str, Any], mistakes: Mistakes) -> None:
    value = content.pop(key)
    meant = nearest(key, [name for name in File.model_fields if name not in content])[:1]
    if meant:
        content[meant[0]] = value
        mistakes.rename(key, meant[0])
        hint = did_you_mean(key, meant)
    elif _is_option(key):
        hint = "; an option of a sampler stands in a line, below [[lines]]"
    else:
        hint = f"{did_you_mean(key, File.model_fields)}; allowed: {', '.join(File.model_fields)}"
    mistakes.add(f"{key}: no such key{hint}", key)


def _why(error: Any, name: str) -> str:
    own = error.get("ctx", {}).get("error")
    if name in _CHOICES:
        allowed = _CHOICES[name]
        why = f"allowed: {', '.join(allowed)}"
        return (
            f"{error['input']!r} is not allowed{did_you_mean(str(error['input']), allowed)}; {why}"
        )
    if error["type"] == "too_short":
        return f"{error['input']!r} is not allowed; must have at least one value"
    if name == "lines":
        return f"{error['input']!r} is not allowed; must be tables, each below a [[lines]]"
    return f"{error['input']!r} is not allowed; {own or error['msg'].lower()}"


def no_option(option: str, sampler: str, allowed: Sequence[str]) -> ConfigError:
    """Return the error for an option that a sampler lacks, with the likely key of a sweep file."""
    if option in File.model_fields and option not in Group.model_fields:
        return ConfigError(
            f"{option}: sampler {sampler!r} has no such option; all points of a sweep have the "
            "same: it stands above the first [[lines]]",
            field=option,
        )
    return unknown_option(option, sampler, allowed, owners_of(option), also=Group.model_fields)


def _is_option(key: str) -> bool:
    return any(key in [f.name for f in dataclasses.fields(kind)] for kind in SAMPLERS.values())
