"""`cost`: predict the least cost of decoding."""

import argparse

from dlm_bench.cli.parser.cost import DECODE
from dlm_bench.cost.roofline import find_hardware
from dlm_bench.cost.table import cost_report
from dlm_bench.errors import ConfigError
from dlm_bench.sweep.floor import sweep_report
from dlm_bench.sweep.load import load_sweep


def cost(args: argparse.Namespace) -> int:
    """Print the least cost of decoding."""
    asked = {name: getattr(args, name) for name in DECODE if getattr(args, name) is not None}
    if args.sweep is None:
        hardware = find_hardware(args.hardware)
        print(cost_report(hardware, style=args.format, **(DECODE | asked)))
        return 0
    for name in asked:
        raise ConfigError(f"--{name.replace('_', '-')}: is not allowed with --sweep, which says it")
    sweep = load_sweep(args.sweep, on_this_machine=False)
    print(sweep_report(sweep, find_hardware(args.hardware), args.format))
    return 0
