"""Arguments of `ab`."""

from functools import partial
from pathlib import Path

from dlm_bench.cli.parser.arguments import add_verdicts
from dlm_bench.cli.parser.base import Commands, add_command
from dlm_bench.errors import seconds_of

EXAMPLE = "dlm-bench ab ci --base origin/main --budget 5m"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "ab",
        "compare two revisions on this machine",
        "Measure two revisions of the current repository alternately, until every point\n"
        "is settled or the budget is spent. Exit codes are those of compare (docs/ci.md).",
        EXAMPLE,
    )
    parser.add_argument(
        "sweep",
        type=Path,
        metavar="SWEEP.toml",
        help="measure the points of this file, or of a shipped sweep such as ci",
    )
    parser.add_argument(
        "--base", required=True, metavar="REV", help="compare with this git revision"
    )
    parser.add_argument(
        "--head", metavar="REV", help="judge this git revision (default: the working tree)"
    )
    parser.add_argument(
        "--budget",
        type=partial(seconds_of, "--budget"),
        default="5m",
        metavar="TIME",
        help="stop after this long, as 90s, 5m or 1h (default: 5m)",
    )
    add_verdicts(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="append the records to DIR/base.jsonl and DIR/head.jsonl",
    )
