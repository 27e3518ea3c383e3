"""`run`: measure a point."""

import argparse
from dataclasses import asdict, replace

from dlm_bench.cli.arguments import (
    forced_kernels,
    sampler_options,
    warn_of_random_acceptance,
)
from dlm_bench.cli.conditions import clocks_locked, conditions_of
from dlm_bench.cli.model import find_device, load_model, print_device
from dlm_bench.cost.too_fast import check_not_too_fast
from dlm_bench.errors import PointError, counted, first_line, is_out_of_memory
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.device import default_dtype
from dlm_bench.results.identity import asked_of, identity
from dlm_bench.results.record import Record, mean_of
from dlm_bench.results.series import short_number
from dlm_bench.results.store import append_record, check_writable
from dlm_bench.samplers import build_sampler, with_models_defaults
from dlm_bench.samplers.ends import check_ends
from dlm_bench.samplers.prompt_file import prompts_of
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.streams import folded
from dlm_bench.sweep.expand import provenance
from dlm_bench.timing.measure import check_settings, measure_point
from dlm_bench.timing.settings import DEFAULTS
from dlm_bench.training.stated import checkpoint_label


def run(args: argparse.Namespace) -> int:
    """Measure a point in this process and print the record. Raises PointError if memory ran out."""
    try:
        return _measure(args)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise PointError(f"out of memory: {first_line(error)}") from error


def _measure(args: argparse.Namespace) -> int:
    info = backbone_info(args.backbone)
    options = with_models_defaults(args.sampler, sampler_options(args), info)
    sampler = build_sampler(args.sampler, **options)
    conditions = conditions_of(args)
    device = find_device(args)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    # What is wrong with these is known before the weights are drawn.
    shape = DecodeShape(args.length, args.prompt_len, args.batch, stop_at_eos=args.stop_at_eos)
    if shape.stop_at_eos:
        check_ends(info, args.size or info.default_size)
    if args.prompts is not None:
        prompts = prompts_of(args.prompts, info, args.size or info.default_size)
        shape = shape.after(prompts, args.seed)
    sampler.check_batch(shape.batch)
    sampler.check_shape_timed(shape)
    sampler.check_backbone(args.backbone, shape.length, shape.prompt_len)
    if args.output:
        check_writable(args.output)
    names = asdict(DEFAULTS).keys()
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    settings = replace(DEFAULTS, **given)
    check_settings(settings)
    forced = forced_kernels(args)
    print_device(args, device, for_programs=args.json)
    model = load_model(args, dtype, forced, (sampler, shape))
    if not sampler.is_fixed and not model.checkpoint:
        warn_of_random_acceptance(str(sampler.options()["accept"]))
    with clocks_locked(args, args.device):
        record = conditions.measured(
            lambda: measure_point(model, sampler, shape, settings), model.head.weight.device
        )
    check_not_too_fast(record, sampler)
    # A sweep that asks for the same finds this record when it resumes.
    asked = asdict(settings) | {"kernels": forced}
    if args.checkpoint is not None:
        label = checkpoint_label(args.checkpoint)
        record.point = record.point.model_copy(update={"weights": label})
    origin = provenance(args.backbone, args.sampler, args.random_weights)
    record.identity = identity(record.point, asked, record.environment["hardware"], origin)
    record.settings = asked_of(asked)
    try:
        if args.output:
            append_record(args.output, record)
    finally:  # what was measured is shown even where it cannot be kept
        if args.json:
            print(record.model_dump_json())
        else:
            _print_record(record)
    return 0


def _print_record(record: Record) -> None:
    """Print a measured point, a line for each quantity."""
    point, mean = record.point, record.mean_seconds
    assert mean is not None  # run raises where nothing was timed
    repeats = counted(len(record.seconds), "repeat" if record.mode == "exact" else "round")
    how = f"{record.mode}, {record.warmup} warm-up, {repeats}"
    # Two counts where texts end: those up to the ends, and all that the passes generated.
    ended = record.tokens_to_eos is not None
    to_eos, generated = (" to end of text", " generated") if ended else ("", "")
    rate = f"{record.tokens_per_second:,.1f} tokens/s{to_eos}"
    if record.interval_95 is not None:
        low, high = record.interval_95
        rate += f" (95 % interval {low:,.1f} to {high:,.1f})"
    decode = f"{mean:.4g} s"
    if record.stddev_seconds is not None:
        decode += f" (standard deviation {record.stddev_seconds / mean:.1%})"
    rows = {
        "point": point.describe(),
        "measured": f"{how}; {point.dtype} on {record.environment['hardware']}",
        "parameters": short_number(record.parameters or 0),
        "throughput": rate,
        "decode": decode,
        "passes": f"{record.nfe} of {record.ms_per_pass:.4g} ms on average",
    }
    if record.tokens_to_eos:
        rows["end of text"] = f"{record.tokens_to_eos:,} of {record.generated:,} tokens generated"
    prefill, first_block = map(mean_of, (record.prefill_seconds, record.first_block_seconds))
    if prefill is not None:
        rows["prefill"] = f"{prefill:.4g} s, before the decode and not in it"
    if first_block is not None:
        rows["first block"] = f"after {first_block:.4g} s"
    if record.tokens_per_pass:
        each = f"{counted(record.tokens_per_pass, 'token')}{to_eos} per pass"
        rows["acceptance"] = f"{each}, {record.nfe_per_token:.4g} NFE per token"
    if record.point.batch > 1 and record.blocks:
        rows["batch"] = _waiting(record.blocks, generated)
    if record.peak_memory_bytes:
        rows["peak memory"] = f"{record.peak_memory_bytes / 2**30:.2f} GiB"
    telemetry = record.telemetry
    if telemetry.get("energy_joules") and telemetry.get("tokens_per_joule"):
        energy = f"{telemetry['energy_joules']:.4g} J for all repeats"
        rows["energy"] = f"{energy}, {telemetry['tokens_per_joule']:.4g} tokens/J"
    if not point.device.startswith("cpu"):  # which has no choice of either
        rows["kernels"] = ", ".join(f"{op} {name}" for op, name in record.kernels.items())
        rows["graphs"] = "; ".join(f"{role} {what}" for role, what in record.graphs.items())
    if record.soak:
        flat = "flat" if record.soak["flat"] else "not flat yet"
        ratio = f"{record.soak['sustained_ratio']:.1%} of the first speed"
        rows["soak"] = f"{record.soak['seconds']:.0f} s, {flat}; sustained {ratio}"
    if record.flags:
        rows["flags"] = ", ".join(record.flags)
    for name, text in rows.items():
        print(folded(f"{name:12} {text}", indent=13))


def _waiting(blocks: dict[str, float], generated: str) -> str:
    """Say how many passes the blocks of a batch take, how many tokens a forward pass gives, and how
    many sequences wait meanwhile."""
    percentiles = ", ".join(f"p{p} {blocks[f'passes_p{p}']:g}" for p in (10, 50, 90))
    return (
        f"{blocks['passes']:.4g} passes a block ({percentiles}), "
        f"{counted(blocks['tokens_per_forward'], 'token')}{generated} per forward, "
        f"{blocks['waited']:.1%} waited"
    )
