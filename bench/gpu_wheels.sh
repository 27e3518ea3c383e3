#!/usr/bin/env bash
# Fill a folder with the wheels that bench/gpu_check.py may lack on a machine without a network:
#
#   bench/gpu_wheels.sh WHEELS [PYTHON_VERSION [PACKAGE...]]
#
# PYTHON_VERSION is that of the GPU machine's python (default 3.12). Without packages named, all that
# the check needs but torch and triton. In the versions of requirements.txt. mamba-ssm is built
# without its compiled part: its Triton kernels are all that is used.
set -euo pipefail
if [ $# -lt 1 ]; then
    echo "usage: $0 WHEELS [PYTHON_VERSION [PACKAGE...]]" >&2
    exit 2
fi
folder=$1 version=${2:-3.12}
shift $(($# < 2 ? $# : 2))
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -eq 0 ]; then
    set -- annotated-types contourpy cycler einops fonttools iniconfig kiwisolver markdown-it-py \
        matplotlib mdurl numpy nvidia-ml-py packaging pandas pillow pluggy pydantic pydantic_core Pygments \
        pyparsing pytest python-dateutil rich scipy typing-inspection typing_extensions mamba-ssm
fi
mkdir -p "$folder"
pinned=()
for package in "$@"; do
    if [ "$package" = mamba-ssm ]; then
        make --no-print-directory -C "$root" .venv/installed
        MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE "$root/.venv/bin/pip" wheel --quiet \
            --no-cache-dir --no-deps --no-build-isolation --wheel-dir "$folder" mamba-ssm==2.3.2.post1
    else
        pinned+=("$(grep -i "^$package==" "$root/requirements.txt")")
    fi
done
platforms=()
for glibc in 2_28 2_27 2_17; do
    platforms+=(--platform "manylinux_${glibc}_x86_64")
done
[ ${#pinned[@]} -eq 0 ] || python3 -m pip download --quiet --no-deps --only-binary=:all: \
    --dest "$folder" --python-version "$version" --implementation cp "${platforms[@]}" \
    --platform manylinux2014_x86_64 "${pinned[@]}"
ls "$folder"
