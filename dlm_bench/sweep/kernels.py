"""The kernels of a sweep file, checked and chosen on this machine: this file imports torch."""

from collections.abc import Collection, Mapping
from itertools import product

import torch

from dlm_bench.errors import ConfigError
from dlm_bench.kernels.choice import IMPLEMENTATIONS, choose_kernels
from dlm_bench.kernels.choice import check_unmask_kernels as check_unmask_kernels
from dlm_bench.models.factory import parse_device, parse_dtype
from dlm_bench.models.own import OWN, own_config, own_sizes
from dlm_bench.sweep.file import File
from dlm_bench.sweep.kernel_check import NEVER_PLAIN, Choice, Faults


def choose(file: File, faults: Faults | None) -> Choice:
    """Choose the kernels of a file on the file's device, without the faulty kernels.

    Raises ConfigError for a kernel that cannot run there, in any size of the file.
    """
    device, dtype = parse_device(file.device), parse_dtype(file.dtype or "")
    heads = _heads(file)
    for head_dim, group in heads:
        choose_kernels(device, dtype, head_dim, file.kernels, group=group)
    if faults is None:
        return Choice(file.kernels, {}, {})
    return without(faults, device, dtype, heads, file.kernels)


def without(
    faults: Faults,
    device: torch.device,
    dtype: torch.dtype,
    heads: Collection[tuple[int, int]],
    asked: Mapping[str, str],
) -> Choice:
    """Choose another implementation for each operation with a faulty choice on this device.

    heads: widths of the models' attention heads, and heads of queries to one of keys.
    An operation is left out if there is none, or if `asked` insists on the faulty implementation.
    """

    def chosen(operation: str, kernels: Mapping[str, str]) -> set[str]:
        return {
            choose_kernels(device, dtype, head_dim, kernels, group=group).named()[operation]
            for head_dim, group in heads
        }

    def is_there(operation: str, name: str, kernels: Mapping[str, str]) -> bool:
        try:
            return chosen(operation, {**kernels, operation: name}) == {name}
        except ConfigError:
            return False

    choice = Choice(dict(asked), {}, {})
    for operation, faulty in faults.items():
        hit = (
            chosen(operation, choice.kernels) & faulty.keys()
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
        if found is None:
            choice.left_out[operation] = why
        else:
            choice.kernels[operation] = found
            choice.stand_ins[operation] = f"{found!r} stands in, as {why}"
    return choice


def _heads(file: File) -> set[tuple[int, int]]:
    """Return the attention heads of this project's backbones: their width, and how many heads of
    queries share one of keys."""
    found = set()
    for group in file.lines:
        for backbone, size in product(group.backbone, group.size or file.size):
            if backbone in OWN and size in own_sizes(backbone):
                config = own_config(backbone, size)
                found.add((config.head_dim, config.heads // config.kv_heads))
    return found
