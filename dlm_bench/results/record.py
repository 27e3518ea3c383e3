"""The record of a measured point: the settings, the schedule, and the time of every repeat."""

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean, stdev
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    computed_field,
    field_validator,
    model_serializer,
    model_validator,
)

from dlm_bench.results.interval import interval_of, relative_error
from dlm_bench.results.labels import label_of_now, value_text

SCHEMA_VERSION = 1
UNSET: dict[str, Any] = {"weights": "", "seed": None}  # of a point; older records have neither
ORDINARY = {("temperature", 0.0), ("order", "confidence")}  # options that go without saying
# Options by the name of records before, of the samplers that were renamed.
FORMER_OPTIONS = {"unmask": "order"}
_RENAMED_IN = ("full", "fast-dllm", "block-cache")

# As asked for; a measured record has a mode in the place of "auto".
Mode = Literal["exact", "sampled", "auto"]
Graphs = Literal["auto", "require", "off"]
Seconds = Annotated[float, Field(gt=1e-12, allow_inf_nan=False)]
Flag = Literal["throttled", "drifting", "outliers", "contended"]
Status = Literal["ok", "oom", "error", "timeout", "skipped"]


def mean_of(seconds: list[float]) -> float | None:
    """Return the mean over the repeats; None without repeats."""
    return fmean(seconds) if seconds else None


def usual_dtype(device: str) -> str:
    """Return float32 for a CPU, as few have a fast bfloat16; else bfloat16."""
    return "float32" if device.startswith("cpu") else "bfloat16"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Point(BaseModel):
    """A thing to measure.

    options: those of the sampler, defaults included. length: tokens to generate of each sequence,
    after a prompt of `prompt_len`. prompts: name and digest of the file of prompts, empty for
    random ones. stop_at_eos: the decode ended with the block in which the last sequence had its end
    of text. weights: label of the checkpoint that was asked for. seed: where a sweep has several.
    These two are written only where they are given. Fields of a newer version are kept, and
    separate points as options do.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    backbone: str
    size: str
    sampler: str
    options: dict[str, int | float | str] = {}
    length: PositiveInt
    batch: PositiveInt = 1
    prompt_len: NonNegativeInt = 0
    prompts: str = ""
    stop_at_eos: bool = False
    dtype: str = "bfloat16"
    device: str = "cpu"
    weights: str = ""
    seed: NonNegativeInt | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        for name, unset in UNSET.items():
            if name in found and found[name] == unset:
                del found[name]
        return found

    @field_validator("options")
    @classmethod
    def _by_names_of_now(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if isinstance(trace := options.get("trace"), str):
            options = options | {"trace": label_of_now(trace)}
        if info.data.get("sampler") not in _RENAMED_IN:
            return options
        return {FORMER_OPTIONS.get(name, name): value for name, value in options.items()}

    def asked(self) -> dict[str, Any]:
        """Return the fields by name, as sent to a worker; those that came later only where they
        say something, so all other points are the same to versions without."""
        later = ("prompt_len", "prompts", "stop_at_eos")
        absent = {name for name in later if not getattr(self, name)}
        return self.model_dump(exclude=absent)

    def facts(self) -> dict[str, Any]:
        """Return the fields and options by name, for conditions on points."""
        return self.model_dump(exclude={"options"}) | self.options

    def describe(self) -> str:
        """Return a short name for progress lines, e.g. `diffumamba small block-cache p=8 L=4096`,
        without ordinary options.
        """
        parts = [self.backbone, self.size, self.sampler]
        short = {"tokens_per_step": "p", "block_size": "B"}
        shown = (item for item in self.options.items() if item not in ORDINARY)
        parts += [f"{short.get(name, name)}={value_text(value)}" for name, value in shown]
        parts += [f"{name}={value}" for name, value in (self.model_extra or {}).items()]
        parts.append(f"L={self.length}")
        if self.prompt_len:
            parts.append(f"prompt={self.prompt_len}")
        if self.prompts:
            parts.append(f"prompts={self.prompts}")
        if self.stop_at_eos:
            parts.append("stop_at_eos")
        if self.batch > 1:
            parts.append(f"batch={self.batch}")
        parts += [
            f"{name}={value}" for name in UNSET if (value := self.facts().get(name)) is not None
        ]
        if self.dtype != usual_dtype(self.device):
            parts.append(self.dtype)
        return " ".join(parts)


class PassTiming(BaseModel):
    """Times of a pass of the schedule (sampled mode): seconds[i] belongs to repeat i."""

    model_config = ConfigDict(extra="allow")

    kind: str
    query_len: PositiveInt
    context_len: NonNegativeInt
    pass_index: NonNegativeInt
    seconds: list[Seconds]


class Record(BaseModel):
    """A measured point. Every field, with unit and default, is in docs/records.md.

    run: number of the whole measurement, in a fresh process, that this one belongs to.
    seconds: each repeat's time of a whole decode without prefill; in sampled mode an integral over
        the schedule. prefill_seconds: the prefill of each repeat, empty without a prefill.
        first_block_seconds: time to the first block, prefill included.
    timed_tokens: tokens of all sequences generated in `seconds`, never those of the prompt; without
        the first of each where the prefill gave that token. None (all) in older records.
    generated, tokens_to_eos: of a point with stop_at_eos, tokens of all sequences that the passes
        generated, and those of them up to the end of each text, of which timed_tokens are.
    nfe: passes in `seconds`, commits included. decoding_passes: `nfe` without commits.
    blocks: `passes` over a block of a sequence, their mean and `passes_p10`, `_p50` and `_p90`;
        `tokens_per_forward`, of all sequences; `waited`, the share of the sequences with nothing to
        do in a pass. Empty in older records.
    error_estimate: half the 95 % interval of the mean, relative to it.
    checkpoint: digest of the weights' file, empty for random weights.
    kernels: implementation of each operation. graphs: for each role of pass `captured`, or the
        reason against a CUDA graph. telemetry: hardware sensors (see timing.telemetry).
    output: the decoded tokens: `digest` of their ids, of `batch` sequences of `length` tokens after
        `prompt_len`; `masked_left`; `finite` logits. Of the last timed decode, or in sampled mode
        of a short decode beside. Empty in older records.
    prompt_file: `prompts`, their number in the file, and `drawn`, the name of each sequence's;
        empty for random prompts.
    warmup_seconds: the warmup runs, more than `warmup` where they still got faster.
    soak: decodes before the timed ones until all was flat, with the sustained speed over the first.
    settings: those asked for, where "auto" may be a mode; empty in older records.
    flags: reasons to trust the numbers less; nothing is dropped for a flag.
        throttled: the clock was held down during the repeats, against the highest of a GPU.
        drifting: repeats get slower, or faster, by more than they scatter.
        outliers: some repeats lie far from the others.
        contended: the threads of a CPU run had to wait for a CPU, or others used the GPU.

    Fields and flags of a newer version are kept.
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = SCHEMA_VERSION
    identity: str = ""
    point: Point
    status: Status
    message: str = ""
    mode: Mode
    warmup: NonNegativeInt
    repeats: PositiveInt
    seed: int = 0
    run: PositiveInt = 1
    nfe: NonNegativeInt | None = None
    decoding_passes: NonNegativeInt | None = None
    query_tokens: NonNegativeInt | None = None
    timed_tokens: PositiveInt | None = None
    blocks: dict[str, float] = {}
    generated: PositiveInt | None = None
    tokens_to_eos: PositiveInt | None = None
    seconds: list[Seconds] = []
    prefill_seconds: list[Seconds] = []
    first_block_seconds: list[Seconds] = []
    passes: list[PassTiming] = []
    error_estimate: float | None = None
    peak_memory_bytes: NonNegativeInt | None = None
    parameters: NonNegativeInt | None = None
    model: dict[str, Any] = {}
    checkpoint: str = ""
    kernels: dict[str, str] = {}
    graphs: dict[str, str] = {}
    telemetry: dict[str, Any] = {}
    output: dict[str, Any] = {}
    prompt_file: dict[str, Any] = {}
    warmup_seconds: list[Seconds] = []
    soak: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    flags: Sequence[Flag | str] = []
    environment: dict[str, Any] = {}
    measured_at: str = Field(default_factory=_now)

    @model_validator(mode="after")
    def _forget_computed(self) -> Self:
        """Drop what a writer computed from the other fields: it is computed anew."""
        for name in type(self).model_computed_fields:
            (self.model_extra or {}).pop(name, None)
        return self

    @property
    def tokens(self) -> int:
        """Tokens of all sequences generated in `seconds`."""
        return self.timed_tokens or self.point.batch * self.point.length

    @property
    def relative_error(self) -> float | None:
        """Half the 95 % interval of the mean seconds, relative: the stated error, or in exact mode
        by the scatter of the repeats. None where neither says any."""
        if self.error_estimate is not None or self.mode == "sampled":
            return self.error_estimate
        return relative_error(self.seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean_seconds(self) -> float | None:
        """Mean seconds of a decode over the repeats; None if nothing was timed."""
        return mean_of(self.seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def stddev_seconds(self) -> float | None:
        """Standard deviation of the repeats' seconds; None of fewer than two."""
        return stdev(self.seconds) if len(self.seconds) > 1 else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of a decode (see `tokens`) over the mean seconds."""
        mean = self.mean_seconds
        return self.tokens / mean if mean else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval_95(self) -> tuple[float, float] | None:
        """The 95 % interval of `tokens_per_second`; None where no error is known."""
        return interval_of(self.tokens_per_second, self.relative_error)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ms_per_pass(self) -> float | None:
        """Milliseconds of the mean decode per forward pass (time / NFE)."""
        mean = self.mean_seconds
        return 1e3 * mean / self.nfe if mean and self.nfe else None

    @property
    def tokens_per_pass(self) -> float | None:
        """Mean tokens of a sequence unmasked in a pass, commits aside; None in older records."""
        passes = self.decoding_passes
        return self.tokens / self.point.batch / passes if passes else None

    @property
    def nfe_per_token(self) -> float | None:
        """Passes per token of a sequence, commits included."""
        return self.nfe * self.point.batch / self.tokens if self.nfe else None
