"""`trace`: record what a model accepts, to time the same acceptance with any weights."""

import argparse
from pathlib import Path
from typing import Any

from dlm_bench.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_kernels,
    add_length,
    add_prompt_len,
    add_random_weights,
    add_sampler_options,
    forced_kernels,
    sampler_options,
    warn_of_random_acceptance,
)
from dlm_bench.cli.model import find_device, load_model, print_device
from dlm_bench.errors import ConfigError, check_lengths
from dlm_bench.models.backbones import DEFAULT_SIZE
from dlm_bench.samplers.denoising import RULE_OPTIONS

EXAMPLE = """\
dlm-bench trace diffumamba block-cache -L 256 --threshold 0.9 \\
    --checkpoint w.safetensors --output trace.json
  dlm-bench run diffumamba block-cache -L 4096 --size 1.3b -o trace=trace.json"""


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "trace",
        "record how many tokens each pass accepts",
        "Decode once by confidence and record how many tokens each pass accepts, block\n"
        "by block. The sampler option trace=FILE, in a sweep too, replays the counts with\n"
        "any weights; a longer decode starts again from the trace's first block.",
        EXAMPLE,
    )
    parser.add_argument("backbone", help="decode with this denoiser (see dlm-bench list)")
    parser.add_argument("sampler", help="decode with full, fast-dllm or block-cache")
    add_length(parser)
    parser.add_argument(
        "--size",
        help=f"build a model of this size (default: {DEFAULT_SIZE}, or the checkpoint's)",
    )
    add_random_weights(parser)
    parser.add_argument(
        "--accept",
        choices=tuple(RULE_OPTIONS),
        help="accept by this rule (default: threshold, or the rule whose value is given)",
    )
    parser.add_argument(
        "--threshold", type=float, help="accept tokens at least this confident (default: 0.9)"
    )
    parser.add_argument(
        "--factor",
        type=float,
        help="accept the n surest tokens with (n + 1)(1 - c_n) below this (default: 1.0)",
    )
    add_sampler_options(parser)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="load trained weights (default: random weights)",
    )
    add_prompt_len(parser, ", drawn with --seed")
    add_device(parser)
    add_kernels(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="draw weights and noise with this seed (default: 0)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.json", help="write the trace here"
    )
    parser.set_defaults(command=trace)


def trace(args: argparse.Namespace) -> int:
    """Record a trace and print what a pass accepted."""
    from dlm_bench.models.place import default_dtype
    from dlm_bench.samplers import build_sampler
    from dlm_bench.samplers.acceptance.adaptive import record_trace
    from dlm_bench.samplers.acceptance.trace import save_trace

    options: dict[str, Any] = sampler_options(args)
    given = {name: getattr(args, name) for name in ("threshold", "factor")}
    given = {name: value for name, value in given.items() if value is not None}
    rule = args.accept or next(iter(given), "threshold")
    for name, value in (("accept", rule), *given.items()):
        if name in options:
            raise ConfigError(f"--option: {name}={options[name]} is not allowed; --{name} says it")
        options[name] = value
    sampler = build_sampler(args.sampler, **options)
    check_lengths(args.length, args.prompt_len)
    sampler.check_backbone(args.backbone, args.length, args.prompt_len)
    device = find_device(args)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    print_device(args, device)
    model = load_model(args, dtype, forced_kernels(args))
    if not model.checkpoint:
        warn_of_random_acceptance(rule)
    found = record_trace(model, sampler, args.length, seed=args.seed, prompt_len=args.prompt_len)
    save_trace(found, args.output)
    counts = [count for block in found.accepted for count in block]
    print(
        f"{found.tokens_per_pass:.4g} tokens per pass ({min(counts)} to {max(counts)}): "
        f"{found.decoding_passes:,} passes over {len(found.accepted):,} blocks "
        f"for {found.length:,} tokens"
    )
    print(f"trace {found.label} written to {args.output}")
    return 0
