"""The series of a results frame: ok points with different lengths and all else the same."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dlm_bench.errors import ResultsError
from dlm_bench.results.pooling import pooled
from dlm_bench.results.record import ORDINARY, Point, Record

if TYPE_CHECKING:
    import pandas

SETTINGS = (
    *("size", "batch", "prompt_len", "prompts", "stop_at_eos", "seed", "dtype", "device"),
    *("hardware", "torch", "driver"),
)
# Of the environment: named where the points of a series differ in it, as they may in a commit.
NOTED = ("commit", "dlm-bench", "cuda", "cudnn", "triton", "flash-attn", "flash-attn-4")
BACKBONE_NAMES = {
    "diffutran": "DiffuTran",
    "diffumamba": "DiffuMamba",
    "diffumamba-h": "DiffuMamba-H",
    "ar-transformer": "AR Transformer",
    "ar-mamba": "AR Mamba-2",
    "llada": "LLaDA",
    "dream": "Dream",
    "fast-dllm-v2": "Fast-dLLM v2",
    "sdar": "SDAR",
    "nemotron-ld": "Nemotron-LD",
    "open-dcoder": "Open-dCoder",
    "llama": "AR Llama",
    "qwen2": "AR Qwen2",
    "qwen3": "AR Qwen3",
}
SAMPLER_NAMES = {
    "full": "full sequence",
    "fast-dllm": "Fast-dLLM",
    "block-cache": "block cache",
    "pipeline": "pipeline of blocks",
    "self-speculation": "self-speculation",
    "remdm": "ReMDM",
    "ar": "autoregressive",
}
_OPTIONS_FIRST = ("tokens_per_step", "block_size")
_OF_PROMPT = ("prompt_len", "prompts", "stop_at_eos")
_MEASURED = {
    "timed_tokens",
    "mean_seconds",
    "stddev_seconds",
    "interval_95",
    "mean_prefill_seconds",
    "mean_first_block_seconds",
    "tokens_per_second",
    "ms_per_pass",
    "tokens_per_pass",
    "nfe_per_token",
}
_POOLED = {"runs", "runs_error"}  # columns of `ok_points`
_NOT_OPTIONS = {*Record.model_fields, *Point.model_fields, *SETTINGS, *_MEASURED, *_POOLED}
_NOT_OPTIONS -= {"weights"}  # of one backbone alone, as an option is of a sampler


def identity_columns(frame: "pandas.DataFrame") -> list[str]:
    """Return the columns by which series differ: backbone, sampler, options and settings."""
    options = [column for column in frame.columns if column not in _NOT_OPTIONS]
    return ["backbone", "sampler", *options, *SETTINGS]


def ok_points(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """Return a row for each point with status ok, pooled over runs (see `results.pooling`).

    Raises ResultsError with a count of the other statuses if no row is ok.
    """
    ok = frame[frame["status"].eq("ok") & frame["ms_per_pass"].notna()] if len(frame) else frame
    if ok.empty:
        counts = frame["status"].value_counts() if len(frame) else {}
        there = ", ".join(f"{count} {status}" for status, count in counts.items())
        raise ResultsError(f"no record with status ok ({there or 'no records'})")
    import pandas as pd

    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    names = [*identity_columns(frame), "length"]
    for row in ok.to_dict("records"):
        key = tuple(None if _absent(row[name]) else row[name] for name in names)
        found.setdefault(key, []).append(row)
    return pd.DataFrame([pooled(rows) for rows in found.values()])


class Spread(NamedTuple):
    """The value of a point, and the ends of the bar."""

    value: float
    low: float
    high: float


def time_bounds(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return the 95 % interval of the mean seconds of a decode, from a row of `load_results`; twice
    the mean where no interval is known, as of fewer than three repeats."""
    interval = row["interval_95"]
    if not isinstance(interval, Sequence):  # None or, in a column of numbers, NaN
        return row["mean_seconds"], row["mean_seconds"]
    return row["timed_tokens"] / interval[1], row["timed_tokens"] / interval[0]


def error_of(row: Mapping[str, Any]) -> float | None:
    """Return half the 95 % interval of a row's mean, relative to it; None where none is known."""
    interval = row["interval_95"]
    return interval[1] / row["tokens_per_second"] - 1 if isinstance(interval, Sequence) else None


def check_sampler(frame: "pandas.DataFrame", sampler: str | None) -> None:
    """Raise ResultsError if no record is ok, or none of the sampler asked for."""
    there = dict.fromkeys(ok_points(frame)["sampler"])
    if sampler is not None and sampler not in there:
        raise ResultsError(
            f"--sampler: no ok record of {sampler!r} in these results; allowed: {', '.join(there)}"
        )


@dataclass(frozen=True)
class Series:
    """Records with different values on the axis of a figure, as a rule length, and all else the
    same.

    settings: options of the sampler, size, batch, prompt, dtype, device and hardware; against batch
    the length instead of the batch. rows: a point a length, ascending, pooled over runs. variant:
    the sampler, with the settings that differ among its series. label: the name of the whole
    series.
    """

    backbone: str
    sampler: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    variant: str = ""
    label: str = ""


def series_of(frame: "pandas.DataFrame", along: str = "length") -> list[Series]:
    """Return the series against a column, unlabelled, in the order of BACKBONE_NAMES and
    SAMPLER_NAMES.

    Raises ResultsError with a count of the other statuses if no record is ok.
    """
    return grouped(ok_points(frame), along)


def grouped(points: "pandas.DataFrame", along: str = "length") -> list[Series]:
    """Return the series of these rows, whatever their status, in the order of `series_of`."""
    identity = [name for name in (*identity_columns(points), "length") if name != along]
    found: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in points.to_dict("records"):
        settings = tuple((name, row[name]) for name in identity[2:] if not _absent(row[name]))
        found.setdefault((row["backbone"], row["sampler"], settings), {})[row[along]] = row
    rank = {name: place for place, name in enumerate([*BACKBONE_NAMES, *SAMPLER_NAMES])}
    return [
        Series(backbone, sampler, dict(settings), [rows[place] for place in sorted(rows)])
        for (backbone, sampler, settings), rows in sorted(
            found.items(), key=lambda item: [rank.get(name, 99) for name in item[0][:2]]
        )
    ]


def labelled(drawn: list[Series], hidden: Iterable[str] = ()) -> list[Series]:
    """Label each series by the settings that differ among them, except those in `hidden`, which
    the figure shows otherwise."""
    names = dict.fromkeys(name for series in drawn for name in series.settings)
    # Commit costs up to half of all passes more: never silent.
    shown = {name for name in names if name == "commit" or not _is_shared(name, drawn)}
    shown -= {*hidden}
    if "hardware" in shown:
        shown.discard("device")
    traces = short_traces(series.settings.get("trace") for series in drawn)
    one_sampler = len({series.sampler for series in drawn}) == 1
    return [_labelled(series, shown, traces, named=not one_sampler) for series in drawn]


def _labelled(series: Series, shown: set[str], traces: Mapping[str, str], named: bool) -> Series:
    own = {name: value for name, value in series.settings.items() if name in shown}
    if own.get("accept") in own:  # threshold=0.9 says accept=threshold
        del own["accept"]
    texts = [setting_text(name, traces.get(value, value)) for name, value in own.items()]
    sampler = SAMPLER_NAMES.get(series.sampler, series.sampler)
    backbone = BACKBONE_NAMES.get(series.backbone, series.backbone)
    variant = ", ".join([sampler, *texts])
    label = ", ".join([backbone, *([sampler] if named else []), *texts])
    return replace(series, variant=variant, label=label)


def _is_shared(name: str, drawn: Iterable[Series]) -> bool:
    """Decide if the series have the same value, of an option those of the samplers that know it."""
    having = [series for series in drawn if name in series.settings]
    samplers = {series.sampler for series in having}
    concerned = [
        series for series in drawn if name in (*SETTINGS, "file") or series.sampler in samplers
    ]
    return len({series.settings.get(name) for series in concerned}) == 1


def short_traces(labels: Iterable[Any]) -> dict[str, str]:
    """Return each trace's label without its digest, or with a part that tells it from traces of
    the same name."""
    full = {str(label) for label in labels if not _absent(label)}
    short = {}
    for label in full:
        name, _, digest = label.partition("@")
        others = {
            other.partition("@")[2]
            for other in full
            if other != label and other.partition("@")[0] == name
        }
        length = 4
        while any(other[:length] == digest[:length] for other in others):
            length += 1
        short[label] = f"{name}@{digest[:length]}" if others else name
    return short


def setting_text(name: str, value: Any) -> str:
    """Write a setting for a label: p=8, cache=dual, 1.3b, bfloat16."""
    if name in ("size", "dtype", "device", "hardware", "file"):
        return str(value)
    if name in ("torch", "driver"):
        return f"{name} {value}"
    if name == "prompts" and not value:
        return "random prompts"
    if name == "stop_at_eos":
        return "to EOS" if value else "to the full length"
    names = {"tokens_per_step": "p", "block_size": "B", "prompt_len": "prompt", "length": "L"}
    short = names.get(name, name)
    return f"{short}={value}" if isinstance(value, str) else f"{short}={value:g}"


def shared_settings(drawn: list[Series]) -> str:
    """Name the settings common to all series, for the caption: hardware, dtype, size, the sampler,
    its options, batch, and the prompt if there is one. Options that another sampler lacks follow
    behind the name of each sampler whose series share them."""
    options = (name for series in drawn for name in series.settings if name not in SETTINGS)
    first, last = ("hardware", "device", "dtype", "size"), ("length", "batch", *_OF_PROMPT)
    names = dict.fromkeys((*first, *_OPTIONS_FIRST, *options, *last))
    found = {}
    for name in names:
        values = {series.settings[name] for series in drawn if name in series.settings}
        if len(values) == 1 and all(values) and name != "commit" and _is_shared(name, drawn):
            found[name] = values.pop()
    if found.get("accept") in found:
        del found["accept"]
    texts = {
        name: setting_text(name, value)
        for name, value in found.items()
        if (name, value) not in ORDINARY
    }
    of_all = {name for name in texts if all(name in series.settings for series in drawn)}
    settings_of = {series.sampler: series.settings for series in drawn}
    names_of = {sampler: SAMPLER_NAMES.get(sampler, sampler) for sampler in settings_of}
    parts = [text for name, text in texts.items() if name in of_all and name in first]
    parts += names_of.values() if len(names_of) == 1 else []
    parts += [text for name, text in texts.items() if name in of_all and name not in first]
    clauses = [", ".join(parts)]
    for sampler, settings in settings_of.items():
        own = [text for name, text in texts.items() if name in settings and name not in of_all]
        clauses += [f"{names_of[sampler]}: {', '.join(own)}"] if own else []
    return "; ".join(filter(None, clauses))


def short_number(value: float) -> str:
    """Write a tick label: 0.1, 20, 4k, 131k, 2M, with powers of two as thousands."""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            scaled = value / unit
            whole = round(scaled)
            near = abs(scaled - whole) <= 0.05 * scaled
            return f"{whole}{suffix}" if near else f"{scaled:.1f}{suffix}"
    return f"{value:g}"


def _absent(value: Any) -> bool:
    """Recognise a missing value: None, or NaN for an option of other samplers."""
    return value is None or value != value


def mixed(drawn: Iterable[Series]) -> str:
    """Name what differs in the environment of the points of a series, for the caption; an empty
    text if nothing does."""
    names: dict[str, None] = {}
    for series in drawn:
        for name in NOTED:
            values = {str(row["environment"].get(name)) for row in series.rows}
            if len(values) > 1:
                names[name] = None
    return f"Not the same for all points of a series: {', '.join(names)}." if names else ""
