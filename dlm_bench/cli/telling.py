"""What there is (`list`), and what numbers depend on (`env`)."""

import argparse

from dlm_bench.cli.arguments import Commands, add_kernels, forced_kernels


def add(subparsers: Commands) -> None:
    """Add the grammar of these commands."""
    parser = subparsers.add_parser(
        "env", help="show hardware, versions and kernels", description="What numbers depend on."
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", help="default: float32 on a CPU, else bfloat16")
    parser.add_argument(
        "--size", default="1.3b", help="whose attention heads (default: %(default)s)"
    )
    add_kernels(parser)
    parser.set_defaults(command=env)

    parser = subparsers.add_parser(
        "list", help="show backbones, sizes, samplers and options", description="What there is."
    )
    parser.set_defaults(command=list)


def env(args: argparse.Namespace) -> int:
    """Print what numbers depend on, and which kernels a model would run with."""
    from dlm_bench.kernels.choice import choose_kernels
    from dlm_bench.models.config import model_config
    from dlm_bench.models.factory import parse_device, parse_dtype
    from dlm_bench.models.place import default_dtype
    from dlm_bench.timing.environment import environment

    device = parse_device(args.device)
    dtype = parse_dtype(default_dtype(device.type) if args.dtype is None else args.dtype)
    head_dim = model_config("diffutran", args.size).head_dim
    kernels = choose_kernels(device, dtype, head_dim, forced_kernels(args))
    facts = environment(device.type, device.index or 0)
    facts |= {f"kernel {operation}": name for operation, name in kernels.named().items()}
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}} {value}")
    return 0


def list(args: argparse.Namespace) -> int:
    """Print all backbones, sizes, samplers and options."""
    from dlm_bench.cli.terminal import print_names

    print_names()
    return 0
