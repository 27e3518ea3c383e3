"""Arguments of `report`."""

from pathlib import Path

from dlm_bench.cli.parser.arguments import add_results
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = "dlm-bench report results/quick.jsonl --output report.html"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "report",
        "write an HTML report of results",
        "Write one self-contained HTML file: interactive figures, tables, environments,\n"
        "and a list of failed, throttled or noisy points.",
        EXAMPLE,
    )
    add_results(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE.html",
        help="write this file (default: %(default)s)",
    )
