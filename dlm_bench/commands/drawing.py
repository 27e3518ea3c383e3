"""Draw figures (`plot`) and fit the latency law (`fit`)."""

import argparse
import sys
from pathlib import Path

from dlm_bench.commands.arguments import Commands, add_results


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "fit",
        help="fit the latency law to results",
        description="Fit per-pass latency = a L^2 + b L + c, all >= 0, to each line of results.",
    )
    add_results(parser)
    parser.add_argument("--sampler", help="only this sampler's lines")
    parser.set_defaults(command=fit)

    parser = subparsers.add_parser(
        "plot", help="draw figures", description="Draw figures, PDF and PNG."
    )
    add_results(parser)
    parser.add_argument("--figure", default="all", help="throughput, latency or all (default)")
    parser.add_argument("--sampler", help="latency: only this sampler's lines")
    parser.add_argument(
        "--output", type=Path, default=Path("plots"), metavar="DIR", help="default: plots/"
    )
    parser.set_defaults(command=plot)


def fit(args: argparse.Namespace) -> int:
    """Fit the latency law to each line of the results and print it."""
    from dlm_bench.results.store import load_results
    from dlm_bench.terminal import print_fits

    print_fits(load_results(*args.results), args.sampler)
    return 0


def plot(args: argparse.Namespace) -> int:
    """Draw the figures that the records allow, and name those that they do not."""
    from dlm_bench.errors import ResultsError, unknown
    from dlm_bench.figures import FIGURES, save
    from dlm_bench.results.store import load_results

    if args.figure not in (*FIGURES, "all"):
        raise unknown("--figure", args.figure, (*FIGURES, "all"))
    frame = load_results(*args.results)
    problems, drawn = [], False
    for name, draw in FIGURES.items():
        if args.figure not in (name, "all"):
            continue
        options = {"sampler": args.sampler} if name == "latency" and args.sampler else {}
        try:
            figure = draw(frame, **options)
        except ResultsError as error:
            problems.append(f"figure {name!r}: {error}")
            continue
        drawn = True
        for path in save(figure, args.output / name):
            print(path)
    if not drawn:
        raise ResultsError(problems[0])
    for problem in problems:
        print(f"dlm-bench: not drawn: {problem}", file=sys.stderr)
    return 0
