"""`list`: show backbones, sizes, samplers, options, figures and sweeps."""

import argparse

from dlm_bench.cli.arguments import Commands, add_command

EXAMPLE = "dlm-bench list"


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "list",
        "show backbones, sizes, samplers and options",
        "List backbones, sizes, samplers, their options, figures and shipped sweeps.",
        EXAMPLE,
    )
    parser.set_defaults(command=list)


def list(args: argparse.Namespace) -> int:
    """Print all backbones, sizes, samplers and options."""
    from dlm_bench.cli.terminal import print_names

    print_names()
    return 0
