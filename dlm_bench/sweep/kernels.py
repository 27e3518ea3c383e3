"""The kernels that a sweep file asks for, checked on this machine: this file imports torch."""

from itertools import product

from dlm_bench.kernels.choice import check_unmask_kernels as check_unmask_kernels
from dlm_bench.kernels.choice import choose_kernels
from dlm_bench.models.device import Device
from dlm_bench.models.factory import parse_device, parse_dtype
from dlm_bench.models.own import OWN, own_config, own_sizes
from dlm_bench.sweep.file import File
from dlm_bench.sweep.kernel_check import Choice, Faults, without


def check_kernels(file: File, place: Device) -> None:
    """Raise ConfigError for a kernel that cannot run on a device, in any size of the file."""
    device, dtype = parse_device(str(place)), parse_dtype(file.dtype or "")
    for head_dim in _head_dims(file):
        choose_kernels(device, dtype, head_dim, file.kernels)


def without_faults(file: File, faults: Faults) -> Choice:
    """Choose kernels for a file without the faulty ones (see `kernel_check.without`)."""
    device, dtype = parse_device(file.device), parse_dtype(file.dtype or "")
    return without(faults, device, dtype, _head_dims(file), file.kernels)


def _head_dims(file: File) -> set[int]:
    """Return the widths of the attention heads in this project's backbones."""
    found = set()
    for group in file.lines:
        for backbone, size in product(group.backbone, group.size or file.size):
            if backbone in OWN and size in own_sizes(backbone):
                found.add(own_config(backbone, size).head_dim)
    return found
