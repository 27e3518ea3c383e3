"""Arguments of `compare`."""

from functools import partial
from pathlib import Path

from dlm_bench.cli.parser.arguments import add_verdicts
from dlm_bench.cli.parser.base import Commands, add_command
from dlm_bench.errors import share_of

EXAMPLE = "dlm-bench compare results/main.jsonl results/change.jsonl --format markdown"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "compare",
        "compare results files",
        "Compare results files with a base point by point. Exit with 1 if a regression is proven\n"
        "or a point fails newly (docs/ci.md).",
        EXAMPLE,
    )
    parser.add_argument(
        "base", type=Path, metavar="BASE.jsonl", help="compare with this results file"
    )
    parser.add_argument(
        "head",
        nargs="+",
        type=Path,
        metavar="HEAD.jsonl",
        help="judge these results files, a column each",
    )
    add_verdicts(parser)
    parser.add_argument(
        "--run-spread",
        type=partial(share_of, "--run-spread", zero=True),
        default="2%",
        metavar="SHARE",
        help="assume this standard deviation between runs of the same code, as 2%% or 0.02; counts "
        "more the fewer runs a side has (default: 2%%)",
    )
    parser.add_argument(
        "--allow-different-environment",
        action="store_true",
        help="compare across different hardware, dtypes or library versions",
    )
