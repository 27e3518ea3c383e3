"""Arguments of `sweep`."""

import argparse
from functools import partial
from pathlib import Path

from dlm_bench.cli.parser.arguments import add_conditions, add_cuda
from dlm_bench.cli.parser.base import Commands, add_command
from dlm_bench.errors import seconds_of

EXAMPLE = "dlm-bench sweep quick --output results/quick.jsonl --resume"


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "sweep",
        "measure the points of a TOML file",
        "Measure every point of a sweep file and append the records to a results file.",
        EXAMPLE,
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE.toml",
        help="measure the points of this file, or of a shipped sweep such as quick",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.jsonl",
        help="append the records here (default: results/NAME.jsonl)",
    )
    parser.add_argument(
        "--device", help="run on auto, cpu, cuda or cuda:N instead (default: the file's)"
    )
    parser.add_argument(
        "--mode",
        metavar="exact|sampled|auto",
        help="time in this mode instead (default: the file's)",
    )
    parser.add_argument(
        "--budget",
        type=partial(seconds_of, "--budget"),
        metavar="TIME",
        help="spend this long, as 10m, where the stated error is largest; with --dry-run, predict "
        "the time that the sweep takes (default: no budget)",
    )
    add_cuda(parser)
    parser.add_argument(
        "--kernel-check",
        type=Path,
        metavar="FILE.jsonl",
        help="use no kernel that bench/kernel_floors.py found wrong, by this output of it: another "
        "one stands in, or the points are skipped (default: trust all)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the points and their forward passes (NFE); measure nothing",
    )
    parser.add_argument(
        "--hardware",
        metavar="NAME|measured",
        help="with --dry-run: predict the time that the sweep takes on this GPU",
    )
    parser.add_argument(
        "--resume", action="store_true", help="measure only what the results file does not hold"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="with --resume: measure failed points again"
    )
    parser.add_argument(
        "--only",
        metavar="CONDITIONS",
        help="measure the points that meet these conditions only, as 'sampler=block-cache "
        "length>=16384': KEY OP VALUE with = != < <= > >=, globs for names (default: all)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the file for all points, as repeats=10, lengths=1024,4096 or, for the "
        "samplers that have the option, sampler.block_size=16,64; may be repeated",
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=1,
        metavar="RUNS",
        help="measure the whole sweep this many times, in fresh workers; figures show the interval "
        "over runs (default: 1)",
    )
    parser.add_argument(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="measure the points of each model in an order by this seed, another in each run "
        "(default: the file's order)",
    )
    parser.add_argument(
        "--timeout",
        type=partial(seconds_of, "--timeout"),
        metavar="TIME",
        help="give a point up after this long, as 90s, 10m or 2h (default: the file's, or never)",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="limit the memory of a point on a CPU, as 8GiB; Linux only (default: the file's)",
    )
    add_conditions(parser)
    _add_launcher(parser)


def _add_launcher(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many GPUs")
    group.add_argument(
        "--launcher",
        metavar="local|slurm",
        help="measure on all visible GPUs at once (local), or in jobs of Slurm, at least one for "
        "each model (slurm) (default: one worker here)",
    )
    group.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="pass a long option to sbatch, as partition=gpu, gpus-per-node=1 or time=8:00:00, or "
        "run a command before the points, as setup=COMMAND; may be repeated",
    )
    group.add_argument(
        "--points-per-job",
        type=int,
        metavar="POINTS",
        help="slurm: measure at most this many points in a job (default: all of a model)",
    )
    group.add_argument("--no-wait", action="store_true", help="slurm: submit the jobs and return")
