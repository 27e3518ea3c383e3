"""Arguments of `check`."""

from dlm_bench.cli.parser.arguments import (
    add_device,
    add_kernels,
    add_length,
    add_random_weights,
    add_sampler_options,
)
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = "dlm-bench check diffumamba block-cache --size tiny"
LENGTH = 40


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "check",
        "check that a backbone and its samplers decode what they plan",
        "Check a backbone, as of a plug-in, with one sampler or all that it supports:\n"
        "schedule, shapes, caches, seeds, batches, and on a GPU the capture of passes.\n"
        "Exits with 3 if a check fails.",
        EXAMPLE,
    )
    parser.add_argument("backbone", help="check this backbone (see dlm-bench list), or hf:FOLDER")
    parser.add_argument(
        "sampler", nargs="?", help="check with this sampler (default: all that it supports)"
    )
    add_length(parser, LENGTH)
    parser.add_argument(
        "--size", help="build a model of this size (default: small; tiny of the field's models)"
    )
    add_random_weights(parser)
    add_sampler_options(parser)
    add_device(parser)
    add_kernels(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="draw weights with this seed (default: 0)"
    )
    parser.set_defaults(checkpoint=None, length=LENGTH)
