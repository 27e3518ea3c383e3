"""Arguments of `run`."""

from functools import partial
from pathlib import Path

from dlm_bench.cli.parser.arguments import (
    add_conditions,
    add_cuda,
    add_device,
    add_length,
    add_prompt_len,
    add_prompts,
    add_random_weights,
    add_sampler_options,
    add_stop_at_eos,
)
from dlm_bench.cli.parser.base import Commands, add_command
from dlm_bench.errors import seconds_of, share_of
from dlm_bench.timing.settings import DEFAULTS

EXAMPLE = """\
dlm-bench run diffumamba block-cache --size small --length 4096 --mode sampled"""


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "run",
        "measure one point",
        "Measure the throughput of one backbone and sampler at one length.",
        EXAMPLE,
    )
    parser.add_argument(
        "backbone", help="decode with this backbone (see dlm-bench list), or hf:FOLDER"
    )
    parser.add_argument("sampler", help="decode with this sampler (see dlm-bench list)")
    add_length(parser)
    parser.add_argument(
        "--size",
        help="build a model of this size (default: small; tiny of the field's models; the "
        "checkpoint's)",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="load trained weights, saved by dlm_bench.save_checkpoint (default: random weights)",
    )
    add_random_weights(parser)
    add_sampler_options(parser)
    parser.add_argument(
        "--batch",
        "--batch-size",
        type=int,
        default=1,
        metavar="SEQUENCES",
        help="decode this many sequences at once (default: 1)",
    )
    add_prompt_len(parser, "; prefill is timed separately")
    add_prompts(
        parser,
        ": sequence i after prompt --seed + i, its last --prompt-len tokens, or by "
        "default as many as the shortest of the batch has",
    )
    add_stop_at_eos(parser)
    add_device(parser)
    parser.add_argument(
        "--mode",
        default=DEFAULTS.mode,
        metavar="exact|sampled|auto",
        help="time whole decodes (exact, default), a few passes and integrate (sampled), or exact "
        "where that takes at most --max-seconds (auto)",
    )
    parser.add_argument(
        "-w",
        "--warmup",
        type=int,
        default=DEFAULTS.warmup,
        metavar="RUNS",
        help="run this many decodes untimed first (default: %(default)s)",
    )
    parser.add_argument(
        "-r",
        "--repeats",
        type=int,
        default=DEFAULTS.repeats,
        metavar="RUNS",
        help="time this many decodes (default: %(default)s)",
    )
    parser.add_argument(
        "--tolerance",
        type=partial(share_of, "--tolerance"),
        metavar="SHARE",
        help="stop at this relative error, as 1%% or 0.01 (default: 1%% in sampled mode; in exact "
        "mode --repeats decodes, whatever the error)",
    )
    parser.add_argument(
        "--max-seconds",
        type=partial(seconds_of, "--max-seconds"),
        default=f"{DEFAULTS.max_seconds:g}s",
        metavar="TIME",
        help="give up on --tolerance after this long, as 30s or 2m (default: %(default)s)",
    )
    parser.add_argument(
        "--min-warmup",
        type=partial(seconds_of, "--min-warmup"),
        default=DEFAULTS.min_warmup,
        metavar="TIME",
        help="exact mode: warm up for this long at least, as 5s (default: for --warmup decodes)",
    )
    parser.add_argument(
        "--min-time",
        type=partial(seconds_of, "--min-time"),
        default=DEFAULTS.min_time,
        metavar="TIME",
        help="exact mode: time decodes for this long at least, as 3s (default: --repeats decodes)",
    )
    parser.add_argument(
        "--soak",
        type=partial(seconds_of, "--soak"),
        default=DEFAULTS.soak,
        metavar="TIME",
        help="exact mode: decode on before timing until speed, clocks and temperature are flat, at "
        "most this long, as 2m; the record has the sustained speed over the first (default: none)",
    )
    parser.add_argument(
        "--nodes",
        type=int,
        default=DEFAULTS.nodes,
        metavar="PASSES",
        help="sampled mode: time at most this many passes of a kind (default: %(default)s)",
    )
    add_cuda(parser)
    add_conditions(parser)
    parser.add_argument(
        "--seed",
        type=int,
        default=DEFAULTS.seed,
        help="draw weights and tokens with this seed (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.jsonl", help="append the record to this results file"
    )
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
