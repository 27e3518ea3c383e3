"""Measure one point: warm up, time the repeats, and write down all that the number depends on."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from statistics import fmean
from typing import get_args

import numpy as np
import torch

from dlm_bench.errors import LONGEST_WAIT, MOST_RUNS, check_int, check_number, unknown
from dlm_bench.models.factory import count_parameters
from dlm_bench.protocols import Model
from dlm_bench.results.record import Flag, Graphs, Mode, Point, Record
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.clocks import seconds_of
from dlm_bench.timing.environment import environment, origins
from dlm_bench.timing.estimate import ANY_ERROR, Estimate, estimate
from dlm_bench.timing.graphs import Steps, check_graphs
from dlm_bench.timing.host import HostSource
from dlm_bench.timing.memory import peak_memory, reset_peak_memory
from dlm_bench.timing.nvml import nvml_source
from dlm_bench.timing.steady import drifting, outliers, warm_up
from dlm_bench.timing.telemetry import Telemetry, Watch

MOST_NODES = 9
MOST_JUDGED = 50  # repeats, or means of as many rounds in a row, that flags are judged by
TOLERANCE = 0.01
MOST_SECONDS = 30.0


def point_of(model: Model, sampler: Sampler, length: int, batch: int) -> Point:
    """The point that a model, a sampler and a length make."""
    weight = model.head.weight
    return Point(
        backbone=model.config.backbone,
        size=model.config.size,
        sampler=sampler.name,
        options=sampler.options(),
        length=length,
        batch=batch,
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
) -> Record:
    """Time the decoding of `length` tokens.

    mode "exact" runs whole decodes, `warmup` untimed and `repeats` timed ones (the paper's
    protocol: 3 and 5); the warm-up goes on while the runs get faster, for at most as many again.
    "sampled" times units of passes at up to `nodes` places along the schedule and integrates over
    it: `repeats` rounds, and more until the relative error is within `tolerance` or they have taken
    `max_seconds`. "auto" is exact if the decodes will take no longer than `max_seconds` together,
    by a first look, else sampled; the record says which.
    On a GPU, `graphs` "auto" replays one CUDA graph per kind of pass where it can be captured,
    "require" raises where it cannot, "off" launches every kernel from Python. Allocation, capture,
    seeking and the drawing of tokens are never timed. Raises ConfigError for a value that is not
    allowed.
    """
    if mode not in get_args(Mode):
        raise unknown("mode", mode, get_args(Mode))
    check_int("warmup", warmup, minimum=0, maximum=MOST_RUNS)
    check_int("repeats", repeats, maximum=MOST_RUNS)
    check_int("nodes", nodes, minimum=2, maximum=MOST_RUNS)
    check_number("tolerance", tolerance, maximum=ANY_ERROR, above=True)
    check_number("max_seconds", max_seconds, maximum=LONGEST_WAIT, above=True)
    device = model.head.weight.device
    check_graphs(graphs, device)
    reset_peak_memory(device)
    state = sampler.prepare(model, length, batch, seed)
    steps = Steps(model, sampler, state, graphs)
    record = Record(
        point=point_of(model, sampler, length, batch),
        status="ok",
        mode=mode,
        warmup=warmup,
        repeats=repeats,
        seed=seed,
        nfe=len(state.plan),
        query_tokens=sum(p.query_len for p in state.plan),
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
        whole = (warmup + repeats) * look.seconds[0]
        record.mode = "exact" if whole <= max_seconds else "sampled"
    if record.mode == "exact":
        record.seconds, record.warmup_seconds = time_decodes(
            sampler, state, steps, warmup, repeats, watch
        )
    else:
        found = sample(0 if warmed else warmup, repeats, tolerance, watch)
        record.seconds, record.passes = found.seconds, found.passes
        record.error_estimate = found.relative_error
        record.warmup_seconds = [*warmed, *found.warmup_seconds]
    record.graphs = steps.report()
    record.peak_memory_bytes = peak_memory(device)
    telemetry = watch.telemetry(record.seconds, batch * length)
    record.telemetry = telemetry.model_dump()
    record.flags = flags_of(record.seconds, telemetry)
    return record


def time_decodes(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    warmup: int,
    repeats: int,
    watch: AbstractContextManager[object] | None = None,
) -> tuple[list[float], list[float]]:
    """Seconds of each timed whole decode, and of each warm-up one; `watch` is entered around the
    timed ones."""
    kinds = [planned.kind for planned in state.plan]
    steps.prepare(kinds)

    def run() -> None:
        for kind in kinds:
            steps(kind)

    def decode() -> float:
        sampler.seek(state, 0)
        return seconds_of(run, state.tokens.device)

    warm = warm_up(decode, warmup)
    with watch or nullcontext():
        return [decode() for _ in range(repeats)], warm


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
