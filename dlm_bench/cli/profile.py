"""`profile`: show where the time of a pass goes."""

import argparse

import numpy as np
import torch

from dlm_bench.cli.arguments import forced_kernels, sampler_options
from dlm_bench.cli.model import find_device, load_model, print_device
from dlm_bench.cli.terminal import print_grid
from dlm_bench.cost.flops import pass_costs
from dlm_bench.cost.hardware import Hardware, sheet_of
from dlm_bench.cost.roofline import find_hardware, floor_seconds, same_precision
from dlm_bench.errors import ConfigError, check_int, counted, unknown
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.device import check_graphs, default_dtype
from dlm_bench.models.own import stated_config
from dlm_bench.plugins.api import Model
from dlm_bench.results.record import Graphs
from dlm_bench.samplers import build_sampler, with_models_defaults
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass
from dlm_bench.timing.environment import environment
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.profile import (
    PassProfile,
    chosen_passes,
    cuda_profiler,
    nvtx_range,
    profile_pass,
    range_name,
    run_in_ranges,
    write_trace,
)


@torch.inference_mode()
def profile(args: argparse.Namespace) -> int:
    """Print a table of operations for each role of pass; write the trace."""
    info = backbone_info(args.backbone)
    options = with_models_defaults(args.sampler, sampler_options(args), info)
    sampler = build_sampler(args.sampler, **options)
    check_int("replays", args.replays)
    check_int("top", args.top)
    shape = DecodeShape(args.length, args.prompt_len, args.batch)
    sampler.check_backbone(args.backbone, args.length, args.prompt_len)
    device = find_device(args)
    graphs: Graphs = args.graphs or "auto"
    check_graphs(graphs, device.type)
    if args.nvtx and device.type != "cuda":
        raise ConfigError("--nvtx is not allowed on a CPU: NVTX ranges are for nsys, of a GPU")
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    hardware = _hardware(args.hardware, device.type, device.index or 0)
    print_device(args, device)
    model = load_model(args, dtype, forced_kernels(args), (sampler, shape))
    sampler = sampler.scheduled_for(model, shape, args.seed)
    state = sampler.prepare_shape(model, shape, args.seed)
    chosen = chosen_passes(state.passes, args.role)
    if not chosen:
        raise unknown("role", args.role, chosen_passes(state.passes))
    steps = Steps(model, sampler, state, graphs)
    steps.prepare(state.passes[index].kind for index in chosen.values())
    if args.nvtx:
        with cuda_profiler():
            run_in_ranges(sampler, state, steps, [*chosen.values()], nvtx_range, args.replays)
        return 0
    for role, index in chosen.items():
        found = profile_pass(sampler, state, steps, index, args.replays)
        step = state.passes[index]
        floor = _floor(model, sampler, step, shape, str(dtype), hardware)
        print(
            f"\n{range_name(state.passes, index)}: {step.query_len} query tokens, "
            f"{step.context_len} cached; {steps.report()[role]}"
        )
        _print(found, floor, hardware, args.top)
    if args.trace_file:
        write_trace(sampler, state, steps, [*chosen.values()], args.trace_file, args.replays)
        print(f"\ntrace written to {args.trace_file} (chrome://tracing, ui.perfetto.dev)")
    return 0


def _hardware(name: str | None, device_type: str, index: int) -> Hardware | None:
    if name is not None:
        return find_hardware(name)
    return sheet_of(environment(device_type, index)["hardware"])


def _floor(
    model: Model,
    sampler: Sampler,
    step: PlannedPass,
    shape: DecodeShape,
    dtype: str,
    hardware: Hardware | None,
) -> float | None:
    """Return the least microseconds of a pass; None where the cost model or the hardware does not
    know it."""
    dtype = dtype.removeprefix("torch.")
    if hardware is None or not same_precision(dtype, hardware):
        return None
    try:
        config = stated_config(vars(model.config))
        costs = pass_costs(config, sampler, [step], batch=shape.batch, dtype=dtype)
    except ConfigError:
        return None
    return 1e6 * float(np.sum(floor_seconds(costs, hardware)))


def _print(found: PassProfile, floor: float | None, hardware: Hardware | None, top: int) -> None:
    gaps = f"{found.gaps_us:,.1f} us between {counted(round(found.count), 'operation')}"
    print(f"{found.us:,.1f} us, of which {gaps}")
    if floor is not None and hardware is not None:
        share = f", {floor / found.us:.0%} of the time" if found.us else ""
        print(f"floor {floor:,.1f} us on {hardware.name}{share}")
    shown = found.operations[:top]
    rows = [
        [each.name[:60], f"{each.us:,.1f}", f"{each.count:g}", f"{each.us / found.us:.1%}"]
        for each in shown
    ]
    others = found.operations[top:]
    if others:
        time = sum(each.us for each in others)
        count = sum(each.count for each in others)
        rows.append(["others", f"{time:,.1f}", f"{count:g}", f"{time / found.us:.1%}"])
    print_grid(["operation", "us", "calls", "share"], rows)
