"""The worker's jobs: check a sweep, or measure a point."""

import atexit
import contextlib
import errno
import gc
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from dlm_bench.cost.too_fast import check_not_too_fast
from dlm_bench.errors import ConfigError, PointError, first_line, is_out_of_memory
from dlm_bench.models.backbones import FOLDER
from dlm_bench.models.factory import build_model
from dlm_bench.plugins.api import Model
from dlm_bench.results.record import UNSET, Point, Status
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.prompt_file import load_prompts
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.sweep.load import Measuring, with_trace_file
from dlm_bench.sweep.planning import make_plan
from dlm_bench.sweep.worker.messages import (
    Failed,
    Failure,
    Measured,
    MeasureJob,
    Outcome,
    PlanJob,
    Planned,
    Refused,
    read_job,
)
from dlm_bench.timing.conditions import conditions_here
from dlm_bench.timing.measure import measure, measure_point
from dlm_bench.training.checkpoint import load_checkpoint

MIB = 1 << 20
# Texts of the dynamic loader and of threads where a limit leaves no memory.
_LIMIT_ERRORS = (
    "failed to map segment",
    "cannot allocate memory",
    "cannot create thread",
    "can't start new thread",
)
SMALL_MODEL_BYTES = 1 << 26  # of weights: smaller models are kept beside others


class JobServer:
    """The state of a worker between jobs: the last model, and small models, so jobs may take
    turns."""

    def __init__(self) -> None:
        self._models: dict[tuple[Any, ...], Model] = {}
        self._kernels: dict[str, str] = {}  # of the model last asked for
        atexit.register(gc.unfreeze)  # or Triton's bindings complain of leaks at the end

    def answer(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a job, both as JSON objects (see `messages`)."""
        job = read_job(line)
        answer = _plan(job) if isinstance(job, PlanJob) else self._measure(job)
        return answer.json_object()

    def _measure(self, job: MeasureJob) -> Outcome:
        """Measure a point. An exception there is the outcome of the point."""
        point, measuring = Point(**job.measure), Measuring(**job.measuring)
        limit_memory(job.memory_limit)
        begin = time.perf_counter()
        try:
            model = self._load_model(point, measuring)
            begin = time.perf_counter()  # the model is not part of what the next point will take
            options = with_trace_file(point.options, job.traces)
            sampler = build_sampler(point.sampler, **options)
            check_trace(sampler, point)
            shape = shape_of(point, job)
            settings = measuring.settings_of(point)
            record = conditions_here().measured(
                lambda: measure_point(model, sampler, shape, settings), model.head.weight.device
            )
            asked_for = {name: getattr(point, name) for name in UNSET}
            record.point = record.point.model_copy(update=asked_for)
            check_not_too_fast(record, sampler)
        except Exception as error:  # the boundary: one point's failure is its own record
            limited = job.memory_limit is not None
            return Failed(failure=failure_of(error, limited, self._kernels))
        finally:
            release(point.device)
        taken = time.perf_counter() - begin
        return Measured(record=record, seconds=taken)

    def _load_model(self, point: Point, measuring: Measuring) -> Model:
        folder = measuring.folders.get(point.backbone)
        name = point.backbone if folder is None else f"{FOLDER}{folder}"
        target = (name, point.size, point.device, point.dtype)
        kernels = tuple(sorted(measuring.kernels.items()))
        seed = measuring.seed_of(point)
        key = (*target, point.weights, seed, kernels, measuring.random_weights)
        self._kernels = {}
        if key not in self._models:
            # Free a large one before the new one is there.
            self._models = {
                key: m for key, m in self._models.items() if weight_bytes(m) <= SMALL_MODEL_BYTES
            }
            gc.unfreeze()
            gc.collect()
            self._models[key] = (
                load_checkpoint(
                    measuring.checkpoints[point.weights],
                    point.device,
                    point.dtype,
                    kernels=measuring.kernels,
                )
                if point.weights
                else build_model(
                    *target,
                    seed=seed,
                    kernels=measuring.kernels,
                    random_weights=measuring.random_weights,
                )
            )
            gc.freeze()  # a long-lived model need not be scanned after every point
        self._kernels = self._models[key].kernels.named()
        check_weights(self._models[key], point)
        return self._models[key]


def _plan(job: PlanJob) -> Planned | Refused:
    try:
        plan = make_plan(**job.plan)
        if job.plan.get("on_this_machine", True):
            check_limit(plan.sweep.memory_limit)
        return Planned(plan=plan)
    except ConfigError as error:
        return Refused(mistake=str(error))


def weight_bytes(model: Model) -> int:
    """Return the bytes of a model's parameters."""
    return sum(each.numel() * each.element_size() for each in model.parameters())


def check_trace(sampler: Sampler, point: Point) -> None:
    """Raise ConfigError if a trace's file has changed since the sweep was read."""
    asked, found = (options.get("trace") for options in (point.options, sampler.options()))
    if asked != found:
        raise ConfigError(f"trace: {asked!r} was asked for, and its file is {found!r} by now")


def shape_of(point: Point, job: MeasureJob) -> DecodeShape:
    """Return the shape of a point's decode, with its prompts. Raises ConfigError if their file has
    changed since the sweep was read."""
    shape = DecodeShape(point.length, point.prompt_len, point.batch, stop_at_eos=point.stop_at_eos)
    if not point.prompts:
        return shape
    measuring = Measuring(**job.measuring)
    folder = measuring.folders.get(point.backbone, "")
    found = load_prompts(job.prompts[point.prompts], folder)
    if found.label != point.prompts:
        raise ConfigError(
            f"prompts: {point.prompts!r} was asked for, and its file is {found.label!r} by now"
        )
    return shape.after(found, measuring.seed_of(point))


def check_weights(model: Model, point: Point) -> None:
    """Raise ConfigError if a checkpoint's file has changed since the sweep was read."""
    asked = point.weights.rpartition("@")[2]
    if not model.checkpoint.startswith(asked):
        raise ConfigError(
            f"checkpoint: {point.weights!r} was asked for, and its file is {model.checkpoint!r} by "
            "now"
        )


def release(device: str) -> None:
    """Free the memory of a point, so the next point finds as much as alone."""
    gc.collect()
    if device.startswith("cuda"):
        # After a fault of the GPU nothing works any more; the parent starts a new worker.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def limit_memory(limit: int | None) -> None:
    """Refuse this process more than `limit` bytes of private memory (Linux: heap and anonymous
    mappings, not the code of libraries); None stands for no limit."""
    if limit is not None:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


def check_limit(limit: int | None) -> None:
    """Raise ConfigError for a limit below the need of this process with the smallest model."""
    need = None if limit is None else base_memory()
    if limit is not None and need is not None and limit < need:
        raise ConfigError(
            f"memory_limit: {limit / MIB:,.0f} MiB is less than a worker needs by itself, "
            f"{math.ceil(need / MIB):,} MiB; allow that and what a point needs"
        )


def base_memory() -> int | None:
    """Return the bytes of private memory of this process with all common libraries and threads
    loaded; None if the system does not tell."""
    model = build_model("diffutran", "tiny")
    measure(model, build_sampler("full"), 8, warmup=0, repeats=1)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")), None)


def failure_of(
    error: Exception, limited: bool = False, kernels: Mapping[str, str] = MappingProxyType({})
) -> Failure:
    """Return the failure of a point that raised; `limited` if the memory was."""
    kind = "" if isinstance(error, PointError) else f"{type(error).__name__}: "
    message = f"{kind}{first_line(error)}"
    if limited and _is_of_a_limit(error) and not is_out_of_memory(error):
        message = f"no memory left under the limit ({first_line(error)})"
        return Failure(status="oom", message=message, kernels=dict(kernels))
    status: Status = "oom" if is_out_of_memory(error) else "error"
    return Failure(status=status, message=message, kernels=dict(kernels))


def _is_of_a_limit(error: Exception) -> bool:
    """Recognise the effects of a memory limit: a library or a thread that cannot be loaded."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN)
    return any(text in str(error) for text in _LIMIT_ERRORS)
