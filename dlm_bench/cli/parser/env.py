"""Arguments of `env`."""

from dlm_bench.cli.parser.arguments import add_device, add_kernels
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = "dlm-bench env --device cuda"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "env",
        "show hardware, versions and kernels",
        "Print hardware, library versions and the kernels that would be used.",
        EXAMPLE,
    )
    add_device(parser)
    parser.add_argument(
        "--size",
        default="1.3b",
        help="choose the attention kernel for the head width of this size (default: %(default)s)",
    )
    add_kernels(parser)
