"""`trace`: record the acceptance of a model, to time the same with any weights."""

import argparse
from typing import Any

from dlm_bench.cli.arguments import (
    forced_kernels,
    sampler_options,
    warn_of_random_acceptance,
)
from dlm_bench.cli.model import find_device, load_model, print_device
from dlm_bench.errors import ConfigError, check_lengths, counted
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.device import default_dtype
from dlm_bench.samplers import build_sampler, sampler_class, with_models_defaults
from dlm_bench.samplers.acceptance.adaptive import check_has_trace, record_trace
from dlm_bench.samplers.acceptance.options import rule_with
from dlm_bench.samplers.acceptance.trace import save_trace
from dlm_bench.samplers.prompt_file import prompts_of
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.samplers.self_speculation import SelfSpeculation


def trace(args: argparse.Namespace) -> int:
    """Record a trace and print the tokens accepted a pass."""
    check_has_trace(sampler_class(args.sampler))
    options: dict[str, Any] = sampler_options(args)
    given = {name: getattr(args, name) for name in ("threshold", "factor")}
    given = {name: value for name, value in given.items() if value is not None}
    asked = rule_with({*given, *options})
    rule = args.accept or asked or sampler_class(args.sampler).traced_rule
    for name, value in (("accept", rule), *given.items()):
        if name in options:
            raise ConfigError(f"--option: {name}={options[name]} is not allowed; --{name} says it")
        options[name] = value
    info = backbone_info(args.backbone)
    sampler = build_sampler(args.sampler, **with_models_defaults(args.sampler, options, info))
    check_lengths(args.length, args.prompt_len)
    prompts, longest = None, args.prompt_len
    if args.prompts is not None:
        prompts = prompts_of(args.prompts, info, args.size or info.default_size)
        longest = longest or max(map(len, prompts.ids))
    sampler.check_backbone(args.backbone, args.length, longest)
    device = find_device(args)
    dtype = default_dtype(device.type) if args.dtype is None else args.dtype
    print_device(args, device)
    shape = DecodeShape(args.length, longest)
    model = load_model(args, dtype, forced_kernels(args), (sampler, shape))
    if not sampler.is_fixed and not model.checkpoint:
        warn_of_random_acceptance(str(sampler.options()["accept"]))
    place = {"seed": args.seed, "prompt_len": args.prompt_len}
    found = record_trace(model, sampler, args.length, **place, prompts=prompts)
    save_trace(found, args.output)
    counts = [count for blocks in found.sequences for block in blocks for count in block]
    tokens = counted(found.length * len(found.sequences), "token")
    if found.sampler == SelfSpeculation.name:
        unit, passes = "pair of passes", f"{counted(found.decoding_passes, 'pair')} for {tokens}"
    else:
        blocks = counted(len(found.passes_per_block), "block")
        passes = f"{found.decoding_passes:,} pass{'es' * (found.decoding_passes != 1)}"
        unit, passes = "pass", f"{passes} over {blocks} for {tokens}"
    each = counted(found.tokens_per_pass, "token")
    print(f"{each} per {unit} ({min(counts)} to {max(counts)}): {passes}")
    print(f"trace {found.label} written to {args.output}")
    return 0
