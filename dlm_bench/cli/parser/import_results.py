"""Arguments of `import`."""

from pathlib import Path

from dlm_bench.cli.parser.base import Commands, add_command

EXAMPLE = """\
dlm-bench import serve.json --backbone qwen3 --hardware H100 --output results/vllm.jsonl"""


def add(subparsers: Commands) -> None:
    """Add the parser of this command."""
    parser = add_command(
        subparsers,
        "import",
        "turn results of vLLM and SGLang into records",
        "Read the JSON of vllm bench serve, latency and throughput, and of SGLang's\n"
        "bench_serving, bench_one_batch and bench_one_batch_server, and append a record for\n"
        "each result.",
        EXAMPLE,
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.json", help="read these files, JSON or JSONL"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.jsonl", help="append the records here"
    )
    parser.add_argument(
        "--backbone", default="", metavar="NAME", help="name the model so (default: the file's)"
    )
    parser.add_argument(
        "--size", default="other", metavar="NAME", help="name the size so (default: other)"
    )
    parser.add_argument(
        "--sampler", default="ar", metavar="NAME", help="name the sampler so (default: ar)"
    )
    numbers = {
        "--length": ("TOKENS", "take this many generated tokens a sequence (default: the file's)"),
        "--prompt-len": ("TOKENS", "take prompts of this many tokens (default: the file's, or 0)"),
        "--batch": ("SEQUENCES", "take this many sequences at once (default: the file's)"),
        "--nfe": ("PASSES", "take this many passes a decode (default: one a token)"),
    }
    for flag, (metavar, text) in numbers.items():
        parser.add_argument(flag, type=int, metavar=metavar, help=text)
    parser.add_argument(
        "--dtype", default="bfloat16", help="name the precision so (default: bfloat16)"
    )
    parser.add_argument("--device", default="cuda", help="name the device so (default: cuda)")
    parser.add_argument(
        "--hardware",
        default="unknown",
        metavar="NAME",
        help="name the hardware so, as in your own records, to compare (default: unknown)",
    )
    parser.set_defaults(command="import_results")
