"""Measure one point: warm up, time the repeats, and record the whole context of the number."""

from dataclasses import asdict
from functools import partial
from statistics import fmean
from typing import Any, get_args

import numpy as np
import torch

from dlm_bench.errors import (
    MAX_RUNS,
    MAX_WAIT_SECONDS,
    check_int,
    check_number,
    unknown,
)
from dlm_bench.models.device import check_graphs
from dlm_bench.models.factory import count_parameters
from dlm_bench.plugins.api import Model
from dlm_bench.results.identity import SAMPLED_TOLERANCE
from dlm_bench.results.record import Flag, Graphs, Mode, Point, Record
from dlm_bench.samplers.prompt import Prompts
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass, prefill_passes
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.blocks import blocks_of
from dlm_bench.timing.conditions import source_of
from dlm_bench.timing.decode_check import (
    check_passes,
    check_plan,
    short_output,
    whole_output,
)
from dlm_bench.timing.environment import environment, origins
from dlm_bench.timing.exact import Decodes, Until, time_decodes
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.memory import peak_memory, reset_peak_memory
from dlm_bench.timing.precision import ANY_ERROR
from dlm_bench.timing.sampled import Estimate, estimate
from dlm_bench.timing.settings import (
    DEFAULTS,
    OF_WHOLE_DECODES,
    MeasureSettings,
    check_whole_decodes,
)
from dlm_bench.timing.soak import Soak
from dlm_bench.timing.steady import drifting, outliers
from dlm_bench.timing.telemetry import Telemetry, Watch
from dlm_bench.timing.texts import end_of, prompt_fields

MOST_JUDGED = 50  # repeats, or means of as many rounds in a row, that flags are judged by


def point_of(model: Model, sampler: Sampler, shape: DecodeShape) -> Point:
    """Return the point of a model, a sampler and the shape of a decode."""
    weight = model.head.weight
    return Point(
        backbone=model.config.backbone,
        size=model.config.size,
        sampler=sampler.name,
        options=sampler.options(),
        length=shape.length,
        batch=shape.batch,
        prompt_len=shape.prompt_len,
        prompts=shape.prompts.label if shape.prompts else "",
        stop_at_eos=shape.stop_at_eos,
        dtype=str(weight.dtype).removeprefix("torch."),
        device=str(weight.device),
    )


def measure(
    model: Model,
    sampler: Sampler,
    length: int,
    mode: Mode = DEFAULTS.mode,
    warmup: int = DEFAULTS.warmup,
    repeats: int = DEFAULTS.repeats,
    batch: int = 1,
    seed: int = DEFAULTS.seed,
    nodes: int = DEFAULTS.nodes,
    tolerance: float | None = DEFAULTS.tolerance,
    max_seconds: float = DEFAULTS.max_seconds,
    graphs: Graphs = DEFAULTS.graphs,
    prompt_len: int = 0,
    min_warmup: float = DEFAULTS.min_warmup,
    min_time: float = DEFAULTS.min_time,
    soak: float = DEFAULTS.soak,
    prompts: Prompts | None = None,
    stop_at_eos: bool = False,
) -> Record:
    """Time the decoding of `length` tokens of each of `batch` sequences after a prompt.

    mode: "exact" runs whole decodes, `warmup` untimed and `repeats` timed (the paper's protocol: 3
        and 5). "sampled" times units of passes at up to `nodes` places of the schedule and
        integrates, in `repeats` rounds, and more until the relative error is within `tolerance`
        (1 %) or `max_seconds` are over. "auto" is exact if all decodes fit into `max_seconds` by a
        pilot run, else sampled.
    warmup: goes on while the decodes get faster or slower, for at most as many again.
    tolerance: in mode "exact", if given, there are more repeats until the relative error is within
        it or `max_seconds` are over.
    min_warmup, min_time: least seconds of the untimed and of the timed whole decodes.
    soak: decodes run for at most so many seconds before the timed ones, until speed, clocks and
        temperature are flat; the record tells the sustained speed over the first.
    batch, prompt_len: sequences at once; tokens of the prompt of each.
    prompts: those of a file by `load_prompts`, of which sequence i takes prompt number seed + i,
        counted round; None for random prompts.
    stop_at_eos: a sequence ends at its end of text, and the decode with the block in which the last
        one ends. A first decode runs untimed to find it. Throughput is of the tokens up to there.
    seed: of prompts, orders and noise; sequence i uses seed + i.
    graphs: on a GPU "auto" replays a CUDA graph for each kind of pass, where a capture works;
        "require" raises where not; "off" launches every kernel from Python.

    Prefill and time to the first block are timed separately; prompt tokens do not count.
    Allocation, capture, seeking and token drawing are never timed. Where the model decides the
    number of passes, a first decode runs untimed, and the passes of that decode are timed, with no
    host read between. Raises ConfigError for a value out of range, PointError for a decode that
    does not compute what was planned or, by `dlm_bench.measure`, is faster than the GPU can be.
    """
    settings = MeasureSettings(
        mode=mode,
        warmup=warmup,
        repeats=repeats,
        nodes=nodes,
        tolerance=tolerance,
        max_seconds=max_seconds,
        min_warmup=min_warmup,
        min_time=min_time,
        soak=soak,
        seed=seed,
        graphs=graphs,
    )
    shape = DecodeShape(length, prompt_len, batch, stop_at_eos=stop_at_eos)
    if prompts is not None:
        shape = shape.after(prompts, seed)
    return measure_point(model, sampler, shape, settings)


def check_settings(settings: MeasureSettings) -> None:
    """Raise ConfigError for a setting out of range."""
    if settings.mode not in get_args(Mode):
        raise unknown("mode", settings.mode, get_args(Mode))
    check_int("warmup", settings.warmup, minimum=0, maximum=MAX_RUNS)
    check_int("repeats", settings.repeats, maximum=MAX_RUNS)
    check_int("nodes", settings.nodes, minimum=2, maximum=MAX_RUNS)
    if settings.tolerance is not None:
        check_number("tolerance", settings.tolerance, maximum=ANY_ERROR, above=True)
    for name in OF_WHOLE_DECODES:
        check_number(name, getattr(settings, name), maximum=MAX_WAIT_SECONDS)
        check_whole_decodes(name, getattr(settings, name), settings.mode)
    check_number("max_seconds", settings.max_seconds, maximum=MAX_WAIT_SECONDS, above=True)


@torch.inference_mode()
def measure_point(
    model: Model, sampler: Sampler, shape: DecodeShape, settings: MeasureSettings
) -> Record:
    """Time a decode of this shape, as `measure` does: prepare, time, fill the record. Raises
    ConfigError."""
    check_settings(settings)
    device = model.head.weight.device
    check_graphs(settings.graphs, device.type)
    sampler.check_shape_timed(shape)
    check_plan(sampler.planned(shape, settings.seed), shape)
    reset_peak_memory(device)
    asked, sampler = sampler, sampler.scheduled_for(model, shape, settings.seed)
    state = sampler.prepare_shape(model, shape, settings.seed)
    check_passes(model, sampler, state)
    ends = end_of(model, sampler, state) if shape.stop_at_eos else {}
    steps = Steps(model, sampler, state, settings.graphs)
    record = Record(
        **(decode_fields(model, sampler, shape, state.passes) | ends),
        mode=settings.mode,
        warmup=settings.warmup,
        repeats=settings.repeats,
        seed=settings.seed,
        prompt_file=prompt_fields(shape, settings.seed),
        environment=environment(device.type, device.index or 0)
        | origins(model.config.backbone, sampler.name),
    )
    watch = watch_of(device)
    busy = time_repeats(record, sampler, state, steps, settings, watch)
    record.graphs = steps.report()
    record.peak_memory_bytes = peak_memory(device)
    record.output = (
        whole_output(state)
        if record.mode == "exact"
        else short_output(model, asked, shape, settings.seed)
    )
    telemetry = telemetry_of(watch, record, busy if device.type == "cuda" else None)
    record.telemetry = telemetry.model_dump()
    record.flags = flags_of(record.seconds, telemetry)
    return record


def time_repeats(
    record: Record,
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    settings: MeasureSettings,
    watch: Watch,
) -> float:
    """Time the decode in the mode of `settings`, by a pilot run for "auto", and put mode,
    seconds and error into the record. Return the busy seconds of the device in the region."""
    warmup, repeats = settings.warmup, settings.repeats
    sample = partial(
        estimate,
        sampler,
        state,
        steps,
        most_nodes=settings.nodes,
        most_seconds=settings.max_seconds,
    )
    warmed: list[float] = []
    if settings.mode == "auto":
        pilot = sample(warmup=warmup, repeats=1, tolerance=ANY_ERROR)
        warmed = pilot.warmup_seconds
        whole = (warmup + repeats) * (pilot.seconds[0] + sum(pilot.prefill_seconds))
        record.mode = "exact" if whole <= settings.max_seconds else "sampled"
    times: Decodes | Estimate
    if record.mode == "exact":
        until = Until(
            repeats,
            settings.min_time,
            settings.tolerance if settings.mode == "exact" else None,
            settings.max_seconds,
        )
        soak = Soak(settings.soak, watch.source) if settings.soak else None
        least = settings.min_warmup
        times = time_decodes(
            sampler, state, steps, warmup, until, watch, min_warmup=least, soak=soak
        )
        if soak is not None:
            record.soak = soak.summary(record.tokens)
        record.error_estimate = until.error
        record.warmup_seconds = times.warmup_seconds
        state.check_unmasked()
    else:
        warmup = 0 if warmed else warmup
        tolerance = SAMPLED_TOLERANCE if settings.tolerance is None else settings.tolerance
        times = sample(warmup=warmup, repeats=repeats, tolerance=tolerance, watch=watch)
        record.passes, record.error_estimate = times.passes, times.relative_error
        record.warmup_seconds = [*warmed, *times.warmup_seconds]
    record.seconds, record.prefill_seconds = times.seconds, times.prefill_seconds
    record.first_block_seconds = times.first_block_seconds
    return times.busy_seconds


def decode_fields(
    model: Model, sampler: Sampler, shape: DecodeShape, plan: list[PlannedPass]
) -> dict[str, Any]:
    """Return the fields of a record about the decode: the point, the passes, the model."""
    timed = plan[prefill_passes(plan) :]
    return {
        "point": point_of(model, sampler, shape),
        "status": "ok",
        "nfe": len(timed),
        "decoding_passes": sum(step.denoises for step in timed),
        "query_tokens": sum(step.query_len for step in timed),
        "timed_tokens": sum(sum(step.of_rows(shape.batch).reveal) for step in timed),
        "blocks": blocks_of(timed, shape.batch),
        "parameters": count_parameters(model),
        "model": asdict(model.config),
        "checkpoint": model.checkpoint,
        "kernels": model.kernels.named(),
    }


def telemetry_of(watch: Watch, record: Record, busy: float | None = None) -> Telemetry:
    """Return the telemetry of timed repeats, without energy where a prefill pass, at another
    power, ran among them. `busy`: seconds of work of a GPU in the region."""
    telemetry = watch.telemetry(record.seconds, record.tokens, busy)
    if not record.prefill_seconds:
        return telemetry
    reason = "no energy: the prefill's cannot be told apart"
    note = "; ".join(filter(None, [telemetry.note, reason]))
    nothing = {"energy_joules": None, "tokens_per_joule": None, "note": note}
    return telemetry.model_copy(update=nothing)


def watch_of(device: torch.device) -> Watch:
    """Return the watch of the hardware beside a run on this device."""
    source = source_of(device)
    return Watch(None, source) if isinstance(source, str) else Watch(source)


def flags_of(seconds: list[float], telemetry: Telemetry) -> list[Flag]:
    """Return the flags of these repeats: reasons to trust them less (see Record)."""
    if len(seconds) > MOST_JUDGED:
        # The rules are for so many; of hundreds of rounds some are always far off.
        seconds = [fmean(part) for part in np.array_split(seconds, MOST_JUDGED)]
    signs: dict[Flag, bool] = {
        "throttled": telemetry.throttled,
        "drifting": drifting(seconds) is not None,
        "outliers": bool(outliers(seconds)),
        "contended": telemetry.contended,
    }
    return [flag for flag, seen in signs.items() if seen]
