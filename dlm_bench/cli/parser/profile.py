"""Arguments of `profile`."""

from pathlib import Path

from dlm_bench.cli.parser.arguments import (
    add_cuda,
    add_device,
    add_length,
    add_prompt_len,
    add_random_weights,
    add_sampler_options,
)
from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = """\
dlm-bench profile diffumamba block-cache -L 4096 --role denoise --trace pass.json
  nsys profile -c cudaProfilerApi dlm-bench profile diffumamba block-cache -L 4096 --nvtx"""


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "profile",
        "show where the time of a pass goes",
        "Replay the middle pass of each role under torch.profiler: its operations by summed\n"
        "time, the gaps between them, and the floor of the pass by the cost model.",
        EXAMPLE,
    )
    parser.add_argument(
        "backbone", help="decode with this backbone (see dlm-bench list), or hf:FOLDER"
    )
    parser.add_argument("sampler", help="decode with this sampler (see dlm-bench list)")
    add_length(parser)
    parser.add_argument("--size", help="build a model of this size (default: small)")
    add_random_weights(parser)
    parser.add_argument(  # before the sampler's options, of which -o trace=FILE is another
        "--trace",
        dest="trace_file",
        type=Path,
        metavar="FILE.json",
        help="write a trace for Chrome or Perfetto, with a range such as `block 12/denoise` a pass",
    )
    add_sampler_options(parser)
    parser.add_argument(
        "--batch",
        "--batch-size",
        type=int,
        default=1,
        metavar="SEQUENCES",
        help="decode this many sequences at once (default: 1)",
    )
    add_prompt_len(parser, "")
    add_device(parser)
    add_cuda(parser)
    parser.add_argument(
        "--role",
        metavar="ROLE",
        help="profile passes of this role alone, as denoise, commit or refresh (default: all)",
    )
    parser.add_argument(
        "--replays",
        type=int,
        default=5,
        metavar="RUNS",
        help="replay each pass this often (default: %(default)s)",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=12,
        metavar="ROWS",
        help="print this many operations of a pass (default: %(default)s)",
    )
    parser.add_argument(
        "--hardware",
        metavar="NAME|measured",
        help="take the floor of this GPU, or calibrate this machine (measured) (default: by the "
        "GPU's name)",
    )
    parser.add_argument(
        "--nvtx",
        action="store_true",
        help="run the passes in NVTX ranges between cudaProfilerStart and cudaProfilerStop, for "
        "nsys, and print no table",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="draw weights and tokens with this seed (default: 0)"
    )
    parser.set_defaults(checkpoint=None)
