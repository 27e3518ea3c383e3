"""The environment of a measurement: hardware, driver, library versions, commit."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dlm_bench.models.backbones import FOLDER
from dlm_bench.models.own import OWN
from dlm_bench.plugins.entry_points import package_of
from dlm_bench.samplers import SAMPLERS
from dlm_bench.timing.nvml import driver_version
from dlm_bench.version import __version__

LIBRARIES = ("torch", "triton", "numpy", "mamba-ssm", "causal-conv1d", "flash-attn", "flash-attn-4")


@cache
def environment(device_type: str, index: int = 0) -> dict[str, Any]:
    """Return the environment of a device ("cpu" or "cuda"), as every record has it.

    `hardware` names the GPU or the CPU; only installed libraries are listed.
    """
    facts: dict[str, Any] = {
        "hardware": cpu_name(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "dlm-bench": __version__,
        "commit": commit(),
    }
    for library in LIBRARIES:
        try:
            facts[library] = version(library)
        except PackageNotFoundError:
            continue
    if device_type == "cpu" and "OMP_WAIT_POLICY" in os.environ:
        facts["OMP_WAIT_POLICY"] = os.environ["OMP_WAIT_POLICY"]
    if device_type == "cuda":
        properties = torch.cuda.get_device_properties(index)
        facts["hardware"] = facts["gpu"] = properties.name
        facts["gpu_memory_bytes"] = properties.total_memory
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["driver"] = driver_version()
    return facts


def origins(backbone: str, sampler: str) -> dict[str, Any]:
    """The packages that a backbone and a sampler come from, where they are not this project's, for
    the environment of their records."""
    facts: dict[str, Any] = {}
    if backbone.startswith(FOLDER):
        facts["transformers"] = version("transformers")
    packages = {
        package_of("backbone", backbone, OWN),
        package_of("sampler", sampler, SAMPLERS),
    }
    if packages != {""}:
        facts["plugins"] = ", ".join(sorted(packages - {""}))
    return facts


def cpu_name() -> str:
    """The CPU's model and the cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {torch.get_num_threads()} threads"


def commit() -> str | None:
    """The source checkout's commit, with `-dirty` if tracked files differ. Outside a checkout, as
    in a copy without .git, the commit that DLM_BENCH_COMMIT names; None if there is none."""
    here = str(Path(__file__).resolve().parent)
    known = None
    if _output("git", "-C", here, "ls-files", __file__):  # else inside some other project's
        known = _output("git", "-C", here, "describe", "--always", "--dirty", "--abbrev=12")
    return known or os.environ.get("DLM_BENCH_COMMIT") or None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else None
