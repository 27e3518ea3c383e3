#!/usr/bin/env bash
# Fill a folder with the wheels that bench/gpu_check.sh may lack on a machine without a network:
#
#   bench/gpu_wheels.sh WHEELS [PYTHON_VERSION]     (the GPU machine's python, default 3.12)
#
# mamba-ssm is built without its compiled part: its Triton kernels are all that is used. That
# build wants a python with torch and setuptools, such as this repository's .venv.
set -euo pipefail
folder=$1
version=${2:-3.12}
mkdir -p "$folder"
platforms=()
for glibc in 2_28 2_27 2_17; do
    platforms+=(--platform "manylinux_${glibc}_x86_64")
done
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" \
    --python-version "$version" --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 \
    pydantic==2.14.3 pydantic_core==2.50.4 annotated-types typing-inspection typing_extensions einops
MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE "$(dirname "$0")/../.venv/bin/pip" wheel --quiet \
    --no-deps --no-build-isolation --wheel-dir "$folder" mamba-ssm==2.3.2.post1
ls "$folder"
