"""`check`: check that a backbone and its samplers decode what they plan."""

import argparse

from dlm_bench.cli.arguments import forced_kernels, sampler_options
from dlm_bench.cli.dispatch import OK, POINTS_FAILED
from dlm_bench.cli.model import find_device, load_model, print_device
from dlm_bench.errors import counted
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.device import default_dtype
from dlm_bench.samplers import build_sampler, with_models_defaults
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.streams import folded
from dlm_bench.testing import outcomes, samplers_of


def check(args: argparse.Namespace) -> int:
    """Print a line a check; return the exit code of a failed point if one fails."""
    samplers: list[Sampler] | None = None
    if args.sampler is not None:
        info = backbone_info(args.backbone)
        options = with_models_defaults(args.sampler, sampler_options(args), info)
        samplers = [build_sampler(args.sampler, **options)]
        samplers[0].check_backbone(args.backbone, args.length)
    device = find_device(args)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    print_device(args, device)
    model = load_model(args, dtype, forced_kernels(args))
    failed = checks = 0
    for sampler in samplers_of(model) if samplers is None else samplers:
        print(f"{args.backbone} {model.config.size} {sampler.name}")
        for outcome in outcomes(model, sampler, args.length):
            sign = "FAILED" if outcome.fault else "skipped" if outcome.skipped else "ok"
            why = outcome.fault or outcome.skipped
            told = f"{outcome.name}: {why}" if why else outcome.name
            print(folded(f"  {sign:8}{told}", indent=10))
            checks += not outcome.skipped
            failed += bool(outcome.fault)
    print(f"{counted(checks, 'check')}, {failed or 'none'} failed")
    return POINTS_FAILED if failed else OK
