"""Run the points of a sweep one after the other; a point that fails is a record like any other."""

import gc
from collections.abc import Iterator

import torch

from dlm_bench.models.denoiser import Denoiser
from dlm_bench.models.factory import build_model
from dlm_bench.results.record import Point, Record
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.sweep import Sweep
from dlm_bench.timing.environment import environment
from dlm_bench.timing.runner import measure


def sampler_of(point: Point) -> Sampler:
    """The sampler with the point's options."""
    return build_sampler(point.sampler, **point.options)


def run_sweep(sweep: Sweep) -> Iterator[Record]:
    """Measure every point in turn and yield its record.

    Whatever a point raises becomes a record of status `oom` or `error`, and the next one runs.
    A model is kept for as long as the points ask for the same one.
    """
    model: Denoiser | None = None
    built: tuple[str, ...] = ()
    for point in sweep.points:
        wanted = (point.backbone, point.size, point.device, point.dtype)
        try:
            if model is None or wanted != built:
                model = None  # free the old one before the new one is there
                gc.unfreeze()
                gc.collect()
                model = build_model(*wanted, seed=sweep.seed, kernels=sweep.kernels)
                built = wanted
                gc.freeze()  # what lives this long need not be looked through after every point
            record = measure(
                model,
                sampler_of(point),
                point.length,
                mode=sweep.mode,
                warmup=sweep.warmup,
                repeats=sweep.repeats,
                batch=point.batch,
                seed=sweep.seed,
                nodes=sweep.nodes,
                graphs=sweep.graphs,
            )
        except Exception as error:  # the boundary: one point's failure is its own record
            record = _failed(point, sweep, error)
            model = None
        yield record
        _release(point.device)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; a CPU allocation's is a plain RuntimeError."""
    named = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return named or "can't allocate memory" in str(error)


def _failed(point: Point, sweep: Sweep, error: Exception) -> Record:
    device = torch.device(point.device)
    lines = str(error).splitlines()
    return Record(
        point=point,
        status="oom" if is_out_of_memory(error) else "error",
        message=f"{type(error).__name__}: {lines[0] if lines else ''}",
        mode=sweep.mode,
        warmup=sweep.warmup,
        repeats=sweep.repeats,
        seed=sweep.seed,
        environment=environment(device.type, device.index or 0),
    )


def _release(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def expected_work(point: Point, mode: str) -> float:
    """A point's share of a sweep's time, in token passes: what the progress bar counts.

    An exact point costs all its passes; a sampled one some passes of each role.
    """
    schedule = sampler_of(point).schedule(point.length)
    if mode == "exact":
        return schedule.query_tokens
    longest = {p.role: max(p.query_len, 1) for p in schedule}
    # A pass over a long sequence costs more per token where there is attention; a pass over few
    # tokens costs its launches.
    return sum(max(q, 64) * (1 + q / 8192) for q in longest.values())
