"""The kernels of a sweep file, checked and chosen on this machine: this file imports torch."""

from collections.abc import Callable, Collection, Mapping
from itertools import product

import torch

from dlm_bench.errors import ConfigError
from dlm_bench.kernels.choice import IMPLEMENTATIONS, MEASURED, choose_kernels
from dlm_bench.kernels.choice import check_unmask_kernels as check_unmask_kernels
from dlm_bench.models.factory import parse_device, parse_dtype
from dlm_bench.models.own import OWN, own_config, own_sizes
from dlm_bench.sweep.file import File
from dlm_bench.sweep.kernel_check import NEVER_PLAIN, Choice, Faults

WALKING = {"ssd": "torch", "walking_scan": "triton"}  # of whole sequences from zeros

# Of attention: dtype and width of the heads, and the heads of queries to one of keys.
Heads = tuple[torch.dtype, int, int]


def choose(file: File, faults: Faults | None) -> Choice:
    """Choose the kernels of a file on the file's device, without the faulty kernels.

    Raises ConfigError for a kernel that cannot run there, in any size and dtype of the file.
    """
    device, heads = parse_device(file.device), _heads(file)
    for dtype, head_dim, group in heads:
        choose_kernels(device, dtype, head_dim, file.kernels, group=group)
    if faults is None:
        return Choice(file.kernels, {}, {})
    return without(faults, device, heads, file.kernels)


def without(
    faults: Faults,
    device: torch.device,
    heads: Collection[Heads],
    asked: Mapping[str, str],
) -> Choice:
    """Choose another implementation for each operation with a faulty choice on this device.

    An operation is left out if there is none, or if `asked` insists on the faulty implementation.
    """

    def chosen(operation: str, kernels: Mapping[str, str]) -> set[str]:
        return {
            choose_kernels(device, dtype, head_dim, kernels, group=group).named()[operation]
            for dtype, head_dim, group in heads
        }

    def is_there(operation: str, name: str, kernels: Mapping[str, str]) -> bool:
        try:
            return chosen(operation, {**kernels, operation: name}) == {name}
        except ConfigError:
            return False

    def candidates(operation: str, kernels: Mapping[str, str]) -> set[str]:
        measured = {MEASURED[operation]} if operation in MEASURED.keys() - kernels else set()
        return chosen(operation, kernels) | measured

    choice = Choice(dict(asked), {}, {})
    for operation, faulty in faults.items():
        hit = (
            candidates(operation, choice.kernels) & faulty.keys()
            if operation in IMPLEMENTATIONS
            else ()
        )
        if not hit:
            continue
        why = faulty[min(hit)]
        never = {*faulty, *({"torch"} if operation in NEVER_PLAIN else ())}
        others = [] if operation in asked else IMPLEMENTATIONS[operation]
        others = [name for name in others if name not in never]
        found = next((name for name in others if is_there(operation, name, choice.kernels)), None)
        if found is None and operation == "ssd" and _walks(faults, choice.kernels, is_there):
            choice.kernels.update(WALKING)
            choice.stand_ins[operation] = f"the walking scan stands in, as {why}"
        elif found is None:
            choice.left_out[operation] = why
        else:
            choice.kernels[operation] = found
            choice.stand_ins[operation] = f"{found!r} stands in, as {why}"
    return choice


def _walks(
    faults: Faults,
    kernels: Mapping[str, str],
    is_there: Callable[[str, str, Mapping[str, str]], bool],
) -> bool:
    """Tell if the walking scan can take whole sequences without `ssd`."""
    return (
        not kernels.keys() & WALKING.keys()
        and WALKING["walking_scan"] not in faults.get("walking_scan", {})
        and is_there("walking_scan", WALKING["walking_scan"], {**kernels, **WALKING})
    )


def _heads(file: File) -> set[Heads]:
    """Return the attention heads of this project's backbones."""
    found = set()
    for group in file.lines:
        models = product(group.backbone, group.size or file.size, group.dtype or file.dtype or [])
        for backbone, size, dtype in models:
            if backbone in OWN and size in own_sizes(backbone):
                config = own_config(backbone, size)
                found.add((parse_dtype(dtype), config.head_dim, config.heads // config.kv_heads))
    return found
