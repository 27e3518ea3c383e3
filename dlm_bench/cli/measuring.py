"""Measure one point (`run`)."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_bench.cli.arguments import (
    Commands,
    add_cuda,
    add_prompt_len,
    add_random_weights,
    add_sampler_options,
    forced_kernels,
    sampler_options,
    warn_of_random_acceptance,
)
from dlm_bench.errors import ConfigError, first_line, is_out_of_memory, seconds_of, share_of

if TYPE_CHECKING:
    from dlm_bench.plugins.api import Model
    from dlm_bench.results.record import Record


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "run", help="measure one point", description="Measure one point."
    )
    parser.add_argument(
        "backbone", help="a backbone (see dlm-bench list), or hf:FOLDER (docs/plugins.md)"
    )
    parser.add_argument("sampler", help="a sampler (see dlm-bench list)")
    parser.add_argument("-L", "--length", type=int, required=True, help="tokens to generate")
    parser.add_argument("--size", help="model size (default: small, or the checkpoint's)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="trained weights (dlm_bench.save_checkpoint), instead of random ones",
    )
    add_random_weights(parser)
    add_sampler_options(parser)
    parser.add_argument("--batch", type=int, default=1, help="sequences at once (default: 1)")
    add_prompt_len(parser, "timed apart")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", help="default: float32 on a CPU, else bfloat16")
    parser.add_argument(
        "--mode",
        default="exact",
        help="exact: whole decodes; sampled: a few passes, integrated; auto: exact where "
        "that takes at most --max-seconds",
    )
    parser.add_argument("--warmup", type=int, default=3, help="untimed runs (default: 3)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs (default: 5)")
    parser.add_argument(
        "--tolerance",
        type=partial(share_of, "--tolerance"),
        default="1%",
        metavar="SHARE",
        help="sampled: relative error to reach, as 1%% or 0.01 (default: 1%%)",
    )
    parser.add_argument(
        "--max-seconds",
        type=partial(seconds_of, "--max-seconds"),
        default="30s",
        metavar="TIME",
        help="sampled: give up on --tolerance after this long, as 30s or 2m (default: 30s)",
    )
    parser.add_argument(
        "--nodes", type=int, default=9, help="sampled: most places timed along a schedule (9)"
    )
    add_cuda(parser)
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: 0)")
    parser.add_argument("--output", type=Path, metavar="FILE.jsonl", help="append the record here")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Measure one point in this process and print its record; 3 if memory ran out."""
    try:
        return _measure(args)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"dlm-bench: out of memory: {first_line(error)}", file=sys.stderr)
        return 3


def _measure(args: argparse.Namespace) -> int:
    from dlm_bench.models.place import default_dtype, find_place
    from dlm_bench.results.identity import asked_of, identity
    from dlm_bench.results.store import append_record, check_writable
    from dlm_bench.samplers import build_sampler
    from dlm_bench.sweep.expand import origins_of
    from dlm_bench.timing.measure import measure

    sampler = build_sampler(args.sampler, **sampler_options(args))
    device = find_place(args.device)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    # What is wrong with these is known before the weights are drawn.
    sampler.check_timed(args.length, args.prompt_len)
    sampler.check_backbone(args.backbone, args.length, args.prompt_len)
    if args.output:
        check_writable(args.output)
    forced = forced_kernels(args)
    model = model_of(args, dtype, forced)
    if not sampler.known and not model.checkpoint:
        warn_of_random_acceptance(str(sampler.options()["accept"]))
    settings = {
        name: getattr(args, name)
        for name in ("mode", "warmup", "repeats", "nodes", "tolerance", "max_seconds", "seed")
    }
    settings["graphs"] = "auto" if args.graphs is None else args.graphs
    place = {"batch": args.batch, "prompt_len": args.prompt_len}
    record = measure(model, sampler, args.length, **place, **settings)
    # A sweep that asks for the same finds this record when it resumes.
    asked = settings | {"kernels": forced}
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


def model_of(args: argparse.Namespace, dtype: str, forced: dict[str, str]) -> "Model":
    """The model with random weights, or those of --checkpoint if it is what was asked for."""
    from dlm_bench.models.factory import build_model
    from dlm_bench.training.checkpoint import checkpoint_config, load_checkpoint

    if args.checkpoint is None:
        return build_model(
            args.backbone,
            args.size,
            args.device,
            dtype,
            args.seed,
            kernels=forced,
            random_weights=args.random_weights,
        )
    config = checkpoint_config(args.checkpoint)
    for name, asked in (("backbone", args.backbone), ("size", args.size)):
        found = getattr(config, name)
        if asked not in (None, found):
            raise ConfigError(
                f"{name}: {asked!r} is not allowed; checkpoint {str(args.checkpoint)!r} holds "
                f"{found!r}"
            )
    return load_checkpoint(args.checkpoint, args.device, dtype, kernels=forced)
