"""The time of a pass by operation: sums, counts, and the gaps between.

A pass is replayed as in a measurement, by its captured graph where there is one. On a GPU the
operations are kernels; on a CPU those of torch that no other one holds.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import PlannedPass, role_of
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.graphs import Steps

REPLAYS = 5

Ranges = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Span:
    """An operation's run, in microseconds."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Operation:
    """An operation of a pass: microseconds and calls, means over the replays."""

    name: str
    us: float
    count: float


@dataclass(frozen=True)
class PassProfile:
    """The profile of a pass.

    us: from the first operation's begin to the last one's end. gaps_us: of that, outside of all
    operations. count: of operations. Means over the replays.
    """

    us: float
    gaps_us: float
    count: float
    operations: list[Operation]


def chosen_passes(plan: Sequence[PlannedPass], role: str | None = None) -> dict[str, int]:
    """Return the pass of each role, or of one, that is profiled: the middle one of the decode."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, step in enumerate(plan):
        places[role_of(step.kind)].append(index)
    return {name: found[len(found) // 2] for name, found in places.items() if role in (None, name)}


def range_name(plan: Sequence[PlannedPass], index: int) -> str:
    """Return the name of a pass in traces, as `block 12/denoise`."""
    starts = dict.fromkeys(step.block_start for step in plan[: index + 1] if step.reveal)
    return f"block {max(len(starts) - 1, 0)}/{role_of(plan[index].kind)}"


def profile_pass(
    sampler: Sampler, state: DecodeState, steps: Steps, index: int, replays: int = REPLAYS
) -> PassProfile:
    """Profile pass `index`, after a replay that is not looked at."""
    return summed(list(replayed_spans(sampler, state, steps, index, replays)), replays)


def replayed_spans(
    sampler: Sampler, state: DecodeState, steps: Steps, index: int, replays: int
) -> Iterator[list[Span]]:
    """Yield the operations of each replay of a pass, after one that is not looked at."""
    device = state.tokens.device
    cuda = device.type == "cuda"
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    for run in range(replays + 1):
        sampler.seek(state, index)
        _synchronize(device)
        with profiler([activity]) as seen:
            steps(state.passes[index].kind)
            _synchronize(device)
        if run:
            yield spans_of(seen.events(), cuda)


def spans_of(events: Any, cuda: bool) -> list[Span]:
    """Return the kernels among a profiler's events; on a CPU the operations no other one holds."""
    wanted = torch.autograd.DeviceType.CUDA if cuda else torch.autograd.DeviceType.CPU
    return [
        Span(each.name, each.time_range.start, each.time_range.end)
        for each in events
        if each.device_type == wanted and (cuda or each.cpu_parent is None)
    ]


def summed(replays: Sequence[Sequence[Span]], count: int) -> PassProfile:
    """Sum the operations of replays up. Of operations side by side only the time beyond the others
    is no gap."""
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    whole = busy = 0.0
    for spans in replays:
        reached = None
        for span in sorted(spans, key=lambda span: span.begin):
            seconds[span.name] += span.end - span.begin
            counts[span.name] += 1
            begin = span.begin if reached is None else max(span.begin, reached)
            busy += max(0.0, span.end - begin)
            reached = max(span.end, begin)
        if spans:
            whole += max(span.end for span in spans) - min(span.begin for span in spans)
    names = sorted(seconds, key=lambda name: -seconds[name])
    return PassProfile(
        us=whole / count,
        gaps_us=(whole - busy) / count,
        count=sum(counts.values()) / count,
        operations=[Operation(name, seconds[name] / count, counts[name] / count) for name in names],
    )


def write_trace(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    indices: Sequence[int],
    path: Path,
    replays: int = REPLAYS,
) -> None:
    """Write a trace of replays of these passes for Chrome or Perfetto, with a range a pass."""
    device = state.tokens.device
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profiler(activities) as seen:
        run_in_ranges(sampler, state, steps, indices, record_function, replays)
    seen.export_chrome_trace(str(path))


def run_in_ranges(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    indices: Sequence[int],
    ranges: Ranges,
    replays: int = REPLAYS,
) -> None:
    """Replay these passes, each inside a range with its name."""
    for index in indices:
        for _ in range(replays):
            sampler.seek(state, index)
            _synchronize(state.tokens.device)
            with ranges(range_name(state.passes, index)):
                steps(state.passes[index].kind)
                _synchronize(state.tokens.device)


@contextmanager
def nvtx_range(name: str) -> Iterator[None]:
    """A range that nsys shows."""
    torch.cuda.nvtx.range_push(name)
    try:
        yield
    finally:
        torch.cuda.nvtx.range_pop()


@contextmanager
def cuda_profiler() -> Iterator[None]:
    """The part of a run that `nsys profile -c cudaProfilerApi` records."""
    torch.cuda.profiler.start()
    try:
        yield
    finally:
        torch.cuda.profiler.stop()


def profiler(activities: list[ProfilerActivity]) -> profile:
    """Return a profiler that prints nothing."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it prints a line at each begin and end
    return profile(activities=activities)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
