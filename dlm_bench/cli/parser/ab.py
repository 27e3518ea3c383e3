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
        "compare two revisions, environments or settings",
        "Measure two revisions of a repository, two Pythons or two settings alternately,\n"
        "until every point is settled or the budget is spent. Exit codes are those of\n"
        "compare (docs/ci.md).",
        EXAMPLE,
    )
    parser.add_argument(
        "sweep",
        type=Path,
        metavar="SWEEP.toml",
        help="measure the points of this file, or of a shipped sweep such as ci",
    )
    parser.add_argument(
        "--base", metavar="REV", help="compare with this git revision (default: the working tree)"
    )
    parser.add_argument(
        "--head", metavar="REV", help="judge this git revision (default: the working tree)"
    )
    parser.add_argument(
        "--repo",
        type=Path,
        metavar="DIR",
        help="take the revisions of this repository, of dlm-bench or of a plug-in (default: the "
        "current folder's)",
    )
    for name in ("base", "head"):
        parser.add_argument(
            f"--{name}-python",
            metavar="PYTHON",
            help=f"run {name} in the environment of this Python (default: this one)",
        )
        parser.add_argument(
            f"--{name}-set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"set a key of the sweep file for {name}, as kernels.attention=flash, "
            "graphs=off or sampler.block_size=64; may be repeated",
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
