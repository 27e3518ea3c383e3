"""Arguments of `list`."""

from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = "dlm-bench list"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    add_command(
        subparsers,
        "list",
        "show backbones, sizes, samplers and options",
        "List backbones, sizes, samplers, their options, figures and shipped sweeps.",
        EXAMPLE,
    )
