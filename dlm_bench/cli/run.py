"""`run`: measure one point."""

import argparse
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_bench.cli.arguments import (
    Commands,
    add_command,
    add_cuda,
    add_device,
    add_length,
    add_prompt_len,
    add_random_weights,
    add_sampler_options,
    forced_kernels,
    sampler_options,
    warn_of_random_acceptance,
)
from dlm_bench.cli.model import find_device, load_model, print_device
from dlm_bench.errors import PointError, first_line, is_out_of_memory, seconds_of, share_of
from dlm_bench.timing.settings import DEFAULTS

if TYPE_CHECKING:
    from dlm_bench.results.record import Record

EXAMPLE = """\
dlm-bench run diffumamba block-cache --size small --length 4096 --mode sampled"""


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "run",
        "measure one point",
        "Measure the throughput of one backbone and sampler at one length.",
        EXAMPLE,
    )
    parser.add_argument(
        "backbone", help="decode with this backbone (see dlm-bench list), or hf:FOLDER"
    )
    parser.add_argument("sampler", help="decode with this sampler (see dlm-bench list)")
    add_length(parser)
    parser.add_argument(
        "--size", help="build a model of this size (default: small, or the checkpoint's)"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="load trained weights, saved by dlm_bench.save_checkpoint (default: random weights)",
    )
    add_random_weights(parser)
    add_sampler_options(parser)
    parser.add_argument(
        "--batch",
        "--batch-size",
        type=int,
        default=1,
        metavar="SEQUENCES",
        help="decode this many sequences at once (default: 1)",
    )
    add_prompt_len(parser, "; prefill is timed separately")
    add_device(parser)
    parser.add_argument(
        "--mode",
        default=DEFAULTS.mode,
        help="time whole decodes (exact, default), a few passes and integrate (sampled), or exact "
        "where that takes at most --max-seconds (auto)",
    )
    parser.add_argument(
        "-w",
        "--warmup",
        type=int,
        default=DEFAULTS.warmup,
        metavar="RUNS",
        help="run this many decodes untimed first (default: %(default)s)",
    )
    parser.add_argument(
        "-r",
        "--repeats",
        type=int,
        default=DEFAULTS.repeats,
        metavar="RUNS",
        help="time this many decodes (default: %(default)s)",
    )
    parser.add_argument(
        "--tolerance",
        type=partial(share_of, "--tolerance"),
        default=f"{DEFAULTS.tolerance:.0%}",
        metavar="SHARE",
        help="sampled mode: stop at this relative error, as 1%% or 0.01 (default: %(default)s)",
    )
    parser.add_argument(
        "--max-seconds",
        type=partial(seconds_of, "--max-seconds"),
        default=f"{DEFAULTS.max_seconds:g}s",
        metavar="TIME",
        help="sampled mode: give up on --tolerance after this long, as 30s or 2m (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--nodes",
        type=int,
        default=DEFAULTS.nodes,
        metavar="PASSES",
        help="sampled mode: time at most this many passes of a kind (default: %(default)s)",
    )
    add_cuda(parser)
    parser.add_argument(
        "--seed",
        type=int,
        default=DEFAULTS.seed,
        help="draw weights and tokens with this seed (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.jsonl", help="append the record to this results file"
    )
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Measure one point in this process and print its record. Raises PointError if memory ran
    out."""
    try:
        return _measure(args)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise PointError(f"out of memory: {first_line(error)}") from error


def _measure(args: argparse.Namespace) -> int:
    from dlm_bench.models.place import default_dtype
    from dlm_bench.results.identity import asked_of, identity
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.samplers import build_sampler
    from dlm_bench.samplers.schedule import DecodeShape
    from dlm_bench.sweep.expand import origins_of
    from dlm_bench.timing.measure import measure_point

    sampler = build_sampler(args.sampler, **sampler_options(args))
    device = find_device(args)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    # What is wrong with these is known before the weights are drawn.
    shape = DecodeShape(args.length, args.prompt_len, args.batch)
    sampler.check_shape_timed(shape)
    sampler.check_backbone(args.backbone, args.length, args.prompt_len)
    if args.output:
        check_writable(args.output)
    forced = forced_kernels(args)
    print_device(args, device, for_programs=args.json)
    model = load_model(args, dtype, forced)
    if not sampler.known and not model.checkpoint:
        warn_of_random_acceptance(str(sampler.options()["accept"]))
    names = asdict(DEFAULTS).keys()
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    settings = replace(DEFAULTS, **given)
    record = measure_point(model, sampler, shape, settings)
    # A sweep that asks for the same finds this record when it resumes.
    asked = asdict(settings) | {"kernels": forced}
    if args.checkpoint is not None:  # no sweep asks for that
        asked["checkpoint"] = model.checkpoint
    origin = origins_of(args.backbone, args.sampler, args.random_weights)
    record.identity = identity(record.point, asked, record.environment["hardware"], origin)
    record.settings = asked_of(asked)
    try:
        if args.output:
            append_record(args.output, record)
    finally:  # what was measured is shown even where it cannot be kept
        _show(record, args.json)
    return 0


def _show(record: "Record", as_json: bool) -> None:
    if as_json:
        print(record.model_dump_json())
    else:
        from dlm_bench.cli.terminal import print_record

        print_record(record)
