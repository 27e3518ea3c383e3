#!/usr/bin/env bash
# Everything that needs a GPU, in one run of under 8 minutes without a network:
#
#   bench/gpu_check.sh OUTPUT [WHEELS]
#
# It needs python3 with torch >= 2.11 and triton; whatever else that python lacks of pydantic,
# pandas, scipy, matplotlib, rich, pytest, einops, mamba-ssm comes from WHEELS, a folder that
# bench/gpu_wheels.sh fills on a machine with a network. Nothing is installed outside a temporary
# folder. OUTPUT gets check.log, kernels.jsonl, gpu-check.jsonl and the figures.
set -uo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 OUTPUT [WHEELS]" >&2
    exit 2
fi
mkdir -p "$1"
output=$(realpath "$1")
wheels=$(realpath "${2:-/nonexistent}" 2>/dev/null)
cd "$(dirname "$0")/.."
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$PWD:$site" PYTHONUNBUFFERED=1 TRITON_CACHE_AUTOTUNING=1
exec > >(tee "$output/check.log") 2>&1

if [ -d "${wheels:-}" ]; then
    for wheel in "$wheels"/*.whl; do
        python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheel" ||
            echo "not installed: $wheel"
    done
fi

if ! python3 -c 'import torch, triton; raise SystemExit(not torch.cuda.is_available())'; then
    echo "gpu check: this python3 has no torch with a CUDA device, or no triton"
    exit 2
fi

failed=()
stage() { # NAME SECONDS COMMAND...: one part of the check, which the next ones do not need
    local name=$1 limit=$2 start=$SECONDS code=0
    shift 2
    echo
    echo "== $name"
    timeout --kill-after=5 "$limit" "$@" || code=$?
    echo "== $name: exit code $code after $((SECONDS - start)) of at most $limit s"
    [ $code -eq 0 ] || failed+=("$name")
}

stage environment 40 python3 -m dlm_bench.cli env --device cuda
stage kernels 90 python3 bench/kernel_floors.py --device cuda --output "$output/kernels.jsonl"
# DiffuTran is to be compared on its fastest attention.
attention=$(python3 - "$output/kernels.jsonl" <<'PYTHON'
import json, sys
from pathlib import Path

path = Path(sys.argv[1])
rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
times = {r["implementation"]: r["seconds"] for r in rows if r["operation"] == "attention"}
print(min(times, key=times.get) if times else "")
PYTHON
)
echo "fastest attention over a whole sequence: ${attention:-not measured, the default}"
stage tests 150 python3 -m pytest -m gpu tests/gpu -p no:cacheprovider --tb=short -q
stage sweep 215 python3 -m dlm_bench.cli sweep bench/sweeps/gpu_check.toml \
    ${attention:+--attention "$attention"} --output "$output/gpu-check.jsonl"
stage floors 30 python3 bench/pass_floors.py "$output/gpu-check.jsonl"
stage figures 30 python3 -m dlm_bench.cli plot "$output/gpu-check.jsonl" --output "$output"

echo
echo "gpu check: $SECONDS s, failed: ${failed[*]:-none}"
[ ${#failed[@]} -eq 0 ]
