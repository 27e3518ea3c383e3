"""`compare`: say which points of one results file are slower than another's."""

import argparse
from functools import partial
from pathlib import Path

from dlm_bench.cli.arguments import Commands, add_command
from dlm_bench.cli.verdicts import add_verdicts, check_format, print_report
from dlm_bench.errors import share_of

EXAMPLE = "dlm-bench compare results/main.jsonl results/change.jsonl --format markdown"


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "compare",
        "compare two results files",
        "Compare two results files point by point. Exit with 1 if a regression is proven\n"
        "or a point fails newly (docs/ci.md).",
        EXAMPLE,
    )
    parser.add_argument(
        "base", type=Path, metavar="BASE.jsonl", help="compare with this results file"
    )
    parser.add_argument("head", type=Path, metavar="HEAD.jsonl", help="judge this results file")
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
    parser.set_defaults(command=compare)


def compare(args: argparse.Namespace) -> int:
    """Compare two results files; 1 if head has a regression."""
    check_format(args.format)
    from dlm_bench.compare.match import compare_files

    report = compare_files(
        args.base,
        args.head,
        threshold=args.threshold,
        run_spread=args.run_spread,
        allow_different_environment=args.allow_different_environment,
    )
    return print_report(report, args)
