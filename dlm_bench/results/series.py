"""The lines of a results frame: the ok points that differ in nothing but their length."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dlm_bench.errors import ResultsError
from dlm_bench.results.record import Point, Record

if TYPE_CHECKING:
    import pandas

SETTINGS = ("size", "batch", "prompt_len", "dtype", "device", "hardware")
BACKBONE_NAMES = {
    "diffutran": "DiffuTran",
    "diffumamba": "DiffuMamba",
    "diffumamba-h": "DiffuMamba-H",
    "ar-transformer": "AR Transformer",
    "ar-mamba": "AR Mamba-2",
}
SAMPLER_NAMES = {
    "full": "full sequence",
    "fast-dllm": "Fast-dLLM",
    "block-cache": "block cache",
    "ar": "autoregressive",
}
_MEASURED = {
    "timed_tokens",
    "mean_seconds",
    "mean_prefill_seconds",
    "mean_first_block_seconds",
    "tokens_per_second",
    "ms_per_pass",
    "tokens_per_pass",
    "nfe_per_token",
}
_NOT_OPTIONS = {*Record.model_fields, *Point.model_fields, *SETTINGS, *_MEASURED}


def identity_columns(frame: "pandas.DataFrame") -> list[str]:
    """The columns that tell lines apart: backbone, sampler, then its options and the settings."""
    options = [column for column in frame.columns if column not in _NOT_OPTIONS]
    return ["backbone", "sampler", *options, *SETTINGS]


def ok_points(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """The rows of a results frame with status ok, of each point the last one.

    Raises ResultsError, saying what there is instead, if there is none.
    """
    ok = frame[frame["status"].eq("ok") & frame["ms_per_pass"].notna()] if len(frame) else frame
    if ok.empty:
        counts = frame["status"].value_counts() if len(frame) else {}
        there = ", ".join(f"{count} {status}" for status, count in counts.items())
        raise ResultsError(f"no record with status ok ({there or 'no records'})")
    return ok.drop_duplicates([*identity_columns(frame), "length"], keep="last")


class Spread(NamedTuple):
    """The value of a point, and the ends of its bar."""

    value: float
    low: float
    high: float


def time_bounds(row: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of a decode that a row of `load_results` lies between: of its fastest and slowest
    repeat, or of sampled timing, whose rounds do not tell all, by its stated error e the mean over
    and times 1 + e (on a logarithmic axis as far to either side)."""
    error = row["error_estimate"]
    if row["mode"] == "sampled" and error is not None and error == error:
        return row["mean_seconds"] / (1 + error), row["mean_seconds"] * (1 + error)
    return min(row["seconds"]), max(row["seconds"])


def check_sampler(frame: "pandas.DataFrame", sampler: str | None) -> None:
    """Raise ResultsError if a sampler is asked for of which no record is ok, or none is at all."""
    there = dict.fromkeys(ok_points(frame)["sampler"])
    if sampler is not None and sampler not in there:
        raise ResultsError(
            f"--sampler: no ok record of {sampler!r} in these results; allowed: {', '.join(there)}"
        )


@dataclass(frozen=True)
class Line:
    """A series: the records that differ only in the axis of a figure, as a rule their length.

    `settings` holds the sampler's options, size, batch, prompt, dtype, device and hardware (of a
    line against batch the length and no batch); `rows` one record a length, ascending (the last one
    where a point was measured again). `variant` names the sampler and what sets the line apart from
    others of it, `label` the whole line.
    """

    backbone: str
    sampler: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    variant: str = ""
    label: str = ""


def lines(frame: "pandas.DataFrame", along: str = "length") -> list[Line]:
    """The lines of a results frame against a column, unlabelled, in the order of BACKBONE_NAMES,
    SAMPLER_NAMES.

    Raises ResultsError, saying what there is instead, if no record is ok.
    """
    return grouped(ok_points(frame), along)


def grouped(points: "pandas.DataFrame", along: str = "length") -> list[Line]:
    """The lines of these rows of a results frame, whatever their status, as `lines` has them."""
    identity = [name for name in (*identity_columns(points), "length") if name != along]
    found: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in points.to_dict("records"):
        settings = tuple((name, row[name]) for name in identity[2:] if not _absent(row[name]))
        found.setdefault((row["backbone"], row["sampler"], settings), {})[row[along]] = row
    rank = {name: place for place, name in enumerate([*BACKBONE_NAMES, *SAMPLER_NAMES])}
    return [
        Line(backbone, sampler, dict(settings), [rows[place] for place in sorted(rows)])
        for (backbone, sampler, settings), rows in sorted(
            found.items(), key=lambda item: [rank.get(name, 99) for name in item[0][:2]]
        )
    ]


def labelled(drawn: list[Line], hidden: Iterable[str] = ()) -> list[Line]:
    """`drawn` with labels that say what tells each line from the others, and no more.

    Settings in `hidden` are left out: the figure shows them otherwise.
    """
    return [_labelled(line, drawn, hidden) for line in drawn]


def _labelled(line: Line, among: list[Line], hidden: Iterable[str]) -> Line:
    same = [other for other in among if other.sampler == line.sampler]
    shown = set()
    for name in line.settings.keys() - set(hidden):
        others = among if name in SETTINGS else same
        # Commit costs up to half of all passes more: never silent (DESIGN.md).
        if name == "commit" or len({other.settings.get(name) for other in others}) > 1:
            shown.add(name)
    if "hardware" in shown:
        shown.discard("device")
    if line.settings.get("accept") in shown:  # threshold=0.9 says accept=threshold
        shown.discard("accept")
    texts = [setting_text(name, value) for name, value in line.settings.items() if name in shown]
    sampler = SAMPLER_NAMES.get(line.sampler, line.sampler)
    backbone = BACKBONE_NAMES.get(line.backbone, line.backbone)
    named = [sampler] if len(same) < len(among) else []
    variant, label = ", ".join([sampler, *texts]), ", ".join([backbone, *named, *texts])
    return replace(line, variant=variant, label=label)


def setting_text(name: str, value: Any) -> str:
    """A setting as a label shows it: p=8, cache=dual, 1.3b, bfloat16."""
    if name in ("size", "dtype", "device", "hardware"):
        return str(value)
    names = {"tokens_per_step": "p", "block_size": "B", "prompt_len": "prompt", "length": "L"}
    short = names.get(name, name)
    return f"{short}={value}" if isinstance(value, str) else f"{short}={value:g}"


def shared_settings(drawn: list[Line]) -> str:
    """Name the settings common to all lines, for the caption: hardware, dtype, size, p, B, batch,
    and the prompt if there is one."""
    texts = []
    names = ("hardware", "device", "dtype", "size", "tokens_per_step", "block_size")
    for name in (*names, "length", "batch", "prompt_len"):
        values = {line.settings[name] for line in drawn if name in line.settings}
        if len(values) == 1 and values != {0}:
            texts.append(setting_text(name, values.pop()))
    return ", ".join(texts)


def short_number(value: float) -> str:
    """A tick label: 0.1, 20, 4k, 131k, 2M. Powers of two read as the thousands they stand for."""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            scaled = value / unit
            whole = round(scaled)
            near = abs(scaled - whole) <= 0.05 * scaled
            return f"{whole}{suffix}" if near else f"{scaled:.1f}{suffix}"
    return f"{value:g}"


def _absent(value: Any) -> bool:
    """Say if a frame has nothing there: None, or the NaN of an option that a sampler lacks."""
    return value is None or value != value
