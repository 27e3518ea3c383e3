"""Import what the GPU check needs, in one process, and name all that is missing. Then launch a
kernel.

python bench/gpu_imports.py DEVICE
"""

import importlib
import os
import shutil
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
    return launch_fault(device) if device == "cuda" else None


def launch_fault(device: str) -> str | None:
    """The reason why no kernel of Triton can run, None if one did."""
    from first_launch import first_launch

    from dlm_bench.errors import first_line

    try:
        print(f"the first kernel of Triton ran after {first_launch(device):.1f} s")
    except Exception as error:  # Triton's, the C compiler's, or CUDA's
        compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
        advice = (
            f"it was compiled with {compiler}, which needs Python.h (package python3-dev)"
            if compiler
            else "there is no C compiler: install gcc, or name one in CC"
        )
        return f"Triton launches no kernel; {advice}; {type(error).__name__}: {first_line(error)}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
