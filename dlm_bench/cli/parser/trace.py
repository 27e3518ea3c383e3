"""Arguments of `trace`."""

from pathlib import Path

from dlm_bench.cli.parser.arguments import (
    add_device,
    add_kernels,
    add_length,
    add_prompt_len,
    add_prompts,
    add_random_weights,
    add_sampler_options,
)
from dlm_bench.cli.parser.base import Commands, add_command
from dlm_bench.models.backbones import DEFAULT_SIZE
from dlm_bench.samplers import SAMPLERS, SHIPPED_RULE
from dlm_bench.samplers.acceptance.adaptive import has_trace
from dlm_bench.samplers.acceptance.options import ADAPTIVE
from dlm_bench.samplers.self_speculation import SelfSpeculation

EXAMPLE = """\
dlm-bench trace diffumamba block-cache -L 256 --threshold 0.9 \\
    --checkpoint w.safetensors --output trace.json
  dlm-bench run diffumamba block-cache -L 4096 --size 1.3b -o trace=trace.json"""

_TRACED = [name for name, kind in SAMPLERS.items() if has_trace(kind)]


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "trace",
        "record how many tokens each pass accepts",
        "Decode once by confidence, or with --prompts once after each prompt, and record\n"
        "how many tokens each pass accepts, block by block. The sampler option trace=FILE,\n"
        "in a sweep too, replays the counts with any weights; a longer decode starts again\n"
        "from the trace's first block.",
        EXAMPLE,
    )
    parser.add_argument("backbone", help="decode with this denoiser (see dlm-bench list)")
    parser.add_argument("sampler", help=f"decode with {', '.join(_TRACED[:-1])} or {_TRACED[-1]}")
    add_length(parser)
    parser.add_argument(
        "--size",
        help=f"build a model of this size (default: {DEFAULT_SIZE}; tiny of the field's models; "
        "the checkpoint's)",
    )
    add_random_weights(parser)
    parser.add_argument(
        "--accept",
        choices=(*ADAPTIVE, SelfSpeculation.traced_rule, SHIPPED_RULE),
        help="accept by this rule, shipped by the model's own (default: threshold, or the rule "
        "whose value is given)",
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
    add_prompts(parser, ": each prompt in turn, its last --prompt-len tokens or by default all")
    add_device(parser)
    add_kernels(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="draw weights and noise with this seed (default: 0)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.json", help="write the trace here"
    )
