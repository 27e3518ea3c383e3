"""Arguments of `history`."""

from pathlib import Path

from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = """\
dlm-bench history results/*.jsonl --point 'backbone=diffumamba' --output history.html"""


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "history",
        "find changes of throughput over commits",
        "Show the throughput of each point over the commits in the records, and find the commits\n"
        "where the level changed. Needs the package ruptures.",
        EXAMPLE,
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.jsonl", help="read these results files"
    )
    parser.add_argument(
        "--point",
        metavar="CONDITIONS",
        help="take the points that meet these conditions only, as 'backbone=diffumamba "
        "length=4096' (default: all)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.html",
        help="write a page with a figure of each point (default: none)",
    )
