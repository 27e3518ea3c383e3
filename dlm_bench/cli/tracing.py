"""Record what a model accepts (`trace`), to time the same acceptance with any weights."""

import argparse
from pathlib import Path
from typing import Any

from dlm_bench.cli.arguments import (
    Commands,
    add_kernels,
    add_prompt_len,
    add_random_weights,
    add_sampler_options,
    forced_kernels,
    sampler_options,
    warn_of_random_acceptance,
)
from dlm_bench.cli.measuring import model_of
from dlm_bench.errors import ConfigError, check_lengths
from dlm_bench.models.backbones import DEFAULT_SIZE
from dlm_bench.samplers.denoising import RULE_OPTIONS

EXAMPLES = """\
example:
  dlm-bench trace diffumamba block-cache -L 256 --threshold 0.9 --checkpoint w.safetensors \\
    --output trace.json
  dlm-bench run diffumamba block-cache -L 4096 --size 1.3b -o trace=trace.json

The trace holds how many tokens each pass of the decode accepted, block by block. The sampler's
option trace=FILE, in a sweep too, has every pass unmask as many, whatever the weights; a longer
decode takes the trace's blocks again from the first one.
"""


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = subparsers.add_parser(
        "trace",
        help="record how many tokens each pass accepts",
        description="Decode once by confidence and record how many tokens each pass accepts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backbone", help="a denoiser (see dlm-bench list)")
    parser.add_argument("sampler", help="full, fast-dllm or block-cache")
    parser.add_argument("-L", "--length", type=int, required=True, help="tokens to generate")
    parser.add_argument("--size", help=f"model size (default: {DEFAULT_SIZE}, or the checkpoint's)")
    add_random_weights(parser)
    parser.add_argument(
        "--accept",
        choices=tuple(RULE_OPTIONS),
        help="which rule says how many (default: threshold, or the one whose value is given)",
    )
    parser.add_argument(
        "--threshold", type=float, help="accept tokens at least this confident (default: 0.9)"
    )
    parser.add_argument(
        "--factor", type=float, help="accept the n surest with (n + 1)(1 - c_n) below it (1.0)"
    )
    add_sampler_options(parser)
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="trained weights, instead of random ones"
    )
    add_prompt_len(parser, "drawn by --seed")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", help="default: float32 on a CPU, else bfloat16")
    add_kernels(parser)
    parser.add_argument("--seed", type=int, default=0, help="of weights and noise (default: 0)")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.json", help="write the trace here"
    )
    parser.set_defaults(command=trace)


def trace(args: argparse.Namespace) -> int:
    """Record a trace and print what a pass accepted."""
    from dlm_bench.models.place import default_dtype, find_place
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
    device = find_place(args.device)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    model = model_of(args, dtype, forced_kernels(args))
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
