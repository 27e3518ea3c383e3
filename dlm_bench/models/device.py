"""Devices and dtypes by their names, without torch and the seconds of the import: sweeps and
predicted costs need none."""

import re
from dataclasses import dataclass
from typing import get_args

from dlm_bench.errors import ConfigError, unknown
from dlm_bench.results.record import Graphs

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # the dtypes that models run in
AUTO = "auto"  # CUDA if there is a GPU, else the CPU
_DEVICES = (AUTO, "cpu", "cuda", "cuda:N", "meta")


@dataclass(frozen=True)
class Device:
    """A device by type, "cpu", "cuda" or "meta", and the index of a GPU."""

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


def find_device(device: str, *, must_exist: bool = True) -> Device:
    """Return the device of this name, with the index of its tensors. Raises ConfigError for another
    name, or, with must_exist, for a device this machine lacks."""
    if device == AUTO:
        if not must_exist:
            raise ConfigError(
                "device: 'auto' is chosen on the machine that measures; name cpu or cuda here"
            )
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = re.fullmatch(r"(cpu|cuda|meta)(?::(\d{1,3}))?", device, re.ASCII)
    if found is None:
        raise unknown("device", device, _DEVICES)
    if found[1] != "cuda":
        return Device(found[1])
    named = Device("cuda", int(found[2] or 0))
    if must_exist:
        import torch

        there = torch.cuda.device_count()
        if int(found[2] or 0) >= there:
            raise ConfigError(f"device: {device!r} is not here; {_remedy(there)}")
    return named


def _remedy(devices: int) -> str:
    """Return what to do where one of the CUDA devices is missing."""
    import torch

    if devices:
        return f"name cpu, or a device up to cuda:{devices - 1}"
    if torch.version.cuda is None:
        return f"name cpu, or install a CUDA build of torch: {torch.__version__} has none"
    return "name cpu, or look with nvidia-smi why torch finds no GPU"


def default_dtype(device_type: str) -> str:
    """Return float32 for a CPU, as few have a fast bfloat16; else bfloat16."""
    return "float32" if device_type == "cpu" else "bfloat16"


def item_bytes(dtype: str) -> int:
    """Return the bytes of a number. Raises ConfigError for another dtype than the models'."""
    if dtype not in ITEM_BYTES:
        raise unknown("dtype", dtype, ITEM_BYTES)
    return ITEM_BYTES[dtype]


def check_graphs(graphs: str, device_type: str) -> None:
    """Raise ConfigError for an unknown value, or graphs required of a device without any."""
    if graphs not in get_args(Graphs):
        raise unknown("graphs", graphs, get_args(Graphs))
    if graphs == "require" and device_type != "cuda":
        raise ConfigError(
            f"graphs: 'require' needs a CUDA device, and the model is on {device_type}; allowed: "
            "auto, off"
        )
