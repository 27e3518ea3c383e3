"""`fit`: fit the latency law to results."""

import argparse

from dlm_bench.cli.arguments import Commands, add_command, add_results

EXAMPLE = "dlm-bench fit results/quick.jsonl --sampler full"


def add(subparsers: Commands) -> None:
    """Add the grammar of this command."""
    parser = add_command(
        subparsers,
        "fit",
        "fit the latency law to results",
        "Fit the latency of a pass, a L^2 + b L + c with all coefficients >= 0, to each\n"
        "series of results.",
        EXAMPLE,
    )
    add_results(parser)
    parser.add_argument("--sampler", metavar="NAME", help="fit this sampler only (default: all)")
    parser.set_defaults(command=fit)


def fit(args: argparse.Namespace) -> int:
    """Fit the latency law to each line of the results and print it."""
    from dlm_bench.cli.terminal import print_fits
    from dlm_bench.results.store import load_results

    print_fits(load_results(*args.results), args.sampler)
    return 0
