"""Measure one point: warm up, time the repeats, and write down all that the number depends on."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from statistics import fmean
from typing import NamedTuple, get_args

import numpy as np
import torch

from dlm_bench.errors import (
    LONGEST_WAIT,
    MOST_RUNS,
    check_int,
    check_number,
    unknown,
)
from dlm_bench.models.factory import count_parameters
from dlm_bench.models.place import check_graphs
from dlm_bench.plugins.api import Model
from dlm_bench.results.record import Flag, Graphs, Mode, Point, Record
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, first_block_passes, prefill_passes
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.clocks import Work, laps_of
from dlm_bench.timing.environment import environment, origins
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.host import HostSource
from dlm_bench.timing.memory import peak_memory, reset_peak_memory
from dlm_bench.timing.nvml import nvml_source
from dlm_bench.timing.sampled import ANY_ERROR, Estimate, estimate
from dlm_bench.timing.steady import drifting, outliers, warm_up
from dlm_bench.timing.telemetry import Telemetry, Watch

MOST_NODES = 9
MOST_JUDGED = 50  # repeats, or means of as many rounds in a row, that flags are judged by
TOLERANCE = 0.01
MOST_SECONDS = 30.0


def point_of(model: Model, sampler: Sampler, shape: DecodeShape) -> Point:
    """The point that a model, a sampler and the shape of a decode make."""
    weight = model.head.weight
    return Point(
        backbone=model.config.backbone,
        size=model.config.size,
        sampler=sampler.name,
        options=sampler.options(),
        length=shape.length,
        batch=shape.batch,
        prompt_len=shape.prompt_len,
        dtype=str(weight.dtype).removeprefix("torch."),
        device=str(weight.device),
    )


@torch.inference_mode()
def measure(
    model: Model,
    sampler: Sampler,
    length: int,
    mode: Mode = "exact",
    warmup: int = 3,
    repeats: int = 5,
    batch: int = 1,
    seed: int = 0,
    nodes: int = MOST_NODES,
    tolerance: float = TOLERANCE,
    max_seconds: float = MOST_SECONDS,
    graphs: Graphs = "auto",
    prompt_len: int = 0,
) -> Record:
    """Time the decoding of `length` tokens of each of `batch` sequences, after a random prompt of
    `prompt_len` tokens each.

    A pass that only puts the prompt into the caches is timed apart, as is the time until the first
    block is there; neither it nor the prompt's tokens count in the decode's seconds, passes and
    tokens.

    mode "exact" runs whole decodes, `warmup` untimed and `repeats` timed ones (the paper's
    protocol: 3 and 5); the warm-up goes on while the runs get faster, for at most as many again.
    "sampled" times units of passes at up to `nodes` places along the schedule and integrates over
    it: `repeats` rounds, and more until the relative error is within `tolerance` or they have taken
    `max_seconds`. "auto" is exact if the decodes will take no longer than `max_seconds` together,
    by a first look, else sampled; the record says which.
    On a GPU, `graphs` "auto" replays one CUDA graph per kind of pass where it can be captured,
    "require" raises where it cannot, "off" launches every kernel from Python. Allocation, capture,
    seeking and the drawing of tokens are never timed. Where the model decides how many passes a
    decode takes, one runs first, untimed, and this one's passes are timed: what each accepts is
    decided on the device, and nothing is read between them. Raises ConfigError for a value that is
    not allowed.
    """
    if mode not in get_args(Mode):
        raise unknown("mode", mode, get_args(Mode))
    check_int("warmup", warmup, minimum=0, maximum=MOST_RUNS)
    check_int("repeats", repeats, maximum=MOST_RUNS)
    check_int("nodes", nodes, minimum=2, maximum=MOST_RUNS)
    check_number("tolerance", tolerance, maximum=ANY_ERROR, above=True)
    check_number("max_seconds", max_seconds, maximum=LONGEST_WAIT, above=True)
    device = model.head.weight.device
    check_graphs(graphs, device.type)
    reset_peak_memory(device)
    shape = DecodeShape(length, prompt_len, batch)
    sampler.check_shape_timed(shape)
    sampler = sampler.scheduled_for(model, shape, seed)
    state = sampler.prepare_shape(model, shape, seed)
    steps = Steps(model, sampler, state, graphs)
    timed = state.plan[prefill_passes(state.plan) :]
    record = Record(
        point=point_of(model, sampler, shape),
        status="ok",
        mode=mode,
        warmup=warmup,
        repeats=repeats,
        seed=seed,
        nfe=len(timed),
        decoding_passes=sum(step.masked > 0 for step in timed),
        query_tokens=sum(p.query_len for p in timed),
        timed_tokens=batch * sum(p.reveal for p in timed),
        parameters=count_parameters(model),
        model=asdict(model.config),
        checkpoint=model.checkpoint,
        kernels=model.kernels.named(),
        environment=environment(device.type, device.index or 0)
        | origins(model.config.backbone, sampler.name),
    )
    watch = watch_of(device)

    def sample(warmup: int, repeats: int, tolerance: float, watch: Watch | None) -> Estimate:
        return estimate(
            sampler,
            state,
            steps,
            warmup=warmup,
            repeats=repeats,
            most_nodes=nodes,
            tolerance=tolerance,
            most_seconds=max_seconds,
            watch=watch,
        )

    warmed: list[float] = []
    if mode == "auto":
        look = sample(warmup, 1, ANY_ERROR, None)
        warmed = look.warmup_seconds
        whole = (warmup + repeats) * (look.seconds[0] + sum(look.prefill_seconds))
        record.mode = "exact" if whole <= max_seconds else "sampled"
    if record.mode == "exact":
        times: Decodes | Estimate = time_decodes(sampler, state, steps, warmup, repeats, watch)
        record.warmup_seconds = times.warmup_seconds
        state.check_unmasked()
    else:
        times = sample(0 if warmed else warmup, repeats, tolerance, watch)
        record.passes, record.error_estimate = times.passes, times.relative_error
        record.warmup_seconds = [*warmed, *times.warmup_seconds]
    record.seconds, record.prefill_seconds = times.seconds, times.prefill_seconds
    record.first_block_seconds = times.first_block_seconds
    record.graphs = steps.report()
    record.peak_memory_bytes = peak_memory(device)
    telemetry = watch.telemetry(record.seconds, record.tokens)
    if record.prefill_seconds:
        # The prefill ran among what was watched, at a power of its own.
        told = "no energy: the prefill's cannot be told apart"
        note = "; ".join(filter(None, [telemetry.note, told]))
        nothing = {"energy_joules": None, "tokens_per_joule": None, "note": note}
        telemetry = telemetry.model_copy(update=nothing)
    record.telemetry = telemetry.model_dump()
    record.flags = flags_of(record.seconds, telemetry)
    return record


class Decodes(NamedTuple):
    """Seconds of each timed whole decode without its prefill pass, and of each warm-up one with it;
    of each prefill pass, if there is one; and until the first block was there."""

    seconds: list[float]
    warmup_seconds: list[float]
    prefill_seconds: list[float]
    first_block_seconds: list[float]


def time_decodes(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    warmup: int,
    repeats: int,
    watch: AbstractContextManager[object] | None = None,
) -> Decodes:
    """Time whole decodes; `watch` is entered around the timed ones, not around the warm-up."""
    kinds = [planned.kind for planned in state.plan]
    steps.prepare(kinds)
    prefill, first_block = prefill_passes(state.plan), first_block_passes(state.plan)

    def run(kinds: list[str]) -> Work:
        def work() -> None:
            for kind in kinds:
                steps(kind)

        return work

    works = [run(kinds[:prefill]), run(kinds[prefill:first_block]), run(kinds[first_block:])]

    def decode() -> list[float]:
        sampler.seek(state, 0)
        return laps_of(works, state.tokens.device)

    warm = warm_up(lambda: sum(decode()), warmup)
    with watch or nullcontext():
        laps = [decode() for _ in range(repeats)]
    return Decodes(
        seconds=[begin + rest for _, begin, rest in laps],
        warmup_seconds=warm,
        prefill_seconds=[first for first, *_ in laps] if prefill else [],
        first_block_seconds=[first + begin if prefill else begin for first, begin, _ in laps],
    )


def watch_of(device: torch.device) -> Watch:
    """What watches the hardware beside a run on this device."""
    if device.type == "cuda":
        source = nvml_source(torch.cuda.get_device_properties(device))
        return Watch(None, source) if isinstance(source, str) else Watch(source)
    if device.type == "cpu":
        return Watch(HostSource())
    return Watch(None, f"nothing is known of a {device.type}")


def flags_of(seconds: list[float], telemetry: Telemetry) -> list[Flag]:
    """What makes these repeats less sure (see Record)."""
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
