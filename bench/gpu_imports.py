"""Import what the GPU check needs, in one process, and name all that is missing.

python bench/gpu_imports.py DEVICE
"""

import importlib
import sys

MODULES = (
    *("torch", "triton", "numpy", "scipy", "pandas", "matplotlib", "rich", "pytest", "pydantic"),
    *("dlm_bench.cli", "dlm_bench.worker", "dlm_bench.timing.measure"),
)


def main(device: str) -> str | None:
    """The reason why the check cannot run, None if it can."""
    missing = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception as error:  # a package that is there may fail in any way
            print(f"{name}: {type(error).__name__}: {error}")
            missing.append(name)
    if not missing:
        from dlm_bench.kernels import mamba_ssm

        try:
            mamba_ssm.find()
        except ImportError as error:
            missing.append(f"mamba-ssm ({error})")
    if missing:
        return f"this python lacks {', '.join(missing)}: see bench/gpu_wheels.sh"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    print(f"all imported: torch {torch.__version__} on {device}")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
