"""Arguments of `plot`."""

from pathlib import Path

from dlm_bench.cli.parser.arguments import add_results
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = "dlm-bench plot results/quick.jsonl --figure throughput --output plots/"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "plot",
        "draw figures of results",
        "Draw the figures that the records allow, as PDF and PNG, and write the caption of each as "
        "text and LaTeX.",
        EXAMPLE,
    )
    add_results(parser)
    parser.add_argument(
        "--figure",
        default="all",
        metavar="NAME",
        help="draw this figure (see dlm-bench list; default: all)",
    )
    parser.add_argument(
        "--sampler", metavar="NAME", help="latency figure: draw this sampler (default: full)"
    )
    parser.add_argument(
        "--hardware",
        metavar="NAME|measured",
        help="roofline figure: divide by this hardware's roofline (default: from the records)",
    )
    parser.add_argument(
        "--predict",
        metavar="NAME|measured",
        help="throughput, paper-full and paper-block figures: add this hardware's roofline bound",
    )
    parser.add_argument(
        "--x", metavar="COLUMN", help="with --y: draw a figure of your own against this, as batch"
    )
    parser.add_argument(
        "--y",
        metavar="COLUMN",
        help="with --x: draw this, as tokens_per_second or joules_per_token",
    )
    parser.add_argument(
        "--curves",
        metavar="COLUMN[,COLUMN...]",
        help="with --x: draw a curve for each combination of values, as backbone,file (default: "
        "all that tells points apart)",
    )
    parser.add_argument(
        "--panels", metavar="COLUMN", help="with --x: draw a panel for each value, as prompt_len"
    )
    parser.add_argument(
        "--name", metavar="NAME", help="with --x: name the files so (default: Y-X, as y and x are)"
    )
    parser.add_argument(
        "--caption", action="store_true", help="draw the caption into the picture, too"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("plots"),
        metavar="DIR",
        help="write the files to this folder (default: plots/)",
    )
