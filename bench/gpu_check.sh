#!/usr/bin/env bash
# Everything that needs a GPU, in one run of under 8 minutes without a network:
#
#   bench/gpu_check.sh OUTPUT [WHEELS]
#
# It needs python3 with torch >= 2.11 and triton. What else that python lacks comes from WHEELS, a
# folder that bench/gpu_wheels.sh fills on a machine with a network, into a temporary folder.
# OUTPUT gets check.log, kernels.jsonl, gpu-check.jsonl and figures.tar.gz; to publish a run, copy
# gpu-check.jsonl to results/GPU/ and the figures to plots/GPU/, as they are.
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
export PYTHONPATH="$PWD:$site" PYTHONUNBUFFERED=1
# Compiled kernels, and what was tuned, serve all stages.
export TRITON_CACHE_AUTOTUNING=1 TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-${TMPDIR:-/tmp}/dlm-bench-triton}
exec > >(tee "$output/check.log") 2>&1

for old in kernels.jsonl gpu-check.jsonl; do
    if [ -e "$output/$old" ]; then
        echo "gpu check: $output/$old is there already; name a new folder"
        exit 2
    fi
done

if ! python3 -c 'import torch, triton; raise SystemExit(not torch.cuda.is_available())'; then
    echo "gpu check: this python3 has no torch with a CUDA device, or no triton"
    exit 2
fi

if [ -d "${wheels:-}" ]; then # only what is missing, so as not to hide what this python has
    for wheel in "$wheels"/*.whl; do
        name=$(basename "$wheel" | cut -d- -f1)
        python3 -c "from importlib.metadata import version; version('$name')" 2>/dev/null ||
            python3 -m zipfile -e "$wheel" "$site"
    done
fi
for module in pydantic numpy scipy pandas matplotlib rich pytest; do
    python3 -c "import $module" || {
        echo "gpu check: this python3 lacks $module: see bench/gpu_wheels.sh"
        exit 2
    }
done

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

left() { # what SECONDS are left of those that the check may take up to here
    echo $(($1 - SECONDS > 10 ? $1 - SECONDS : 10))
}

stage environment 20 python3 -m dlm_bench env --device cuda
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
pytest=(python3 -m pytest -m gpu -p no:cacheprovider --tb=short -q)
stage tests "$(left 185)" "${pytest[@]}" tests/gpu/test_models.py
stage sweep "$(left 420)" python3 -m dlm_bench sweep bench/sweeps/gpu_check.toml \
    ${attention:+--attention "$attention"} --output "$output/gpu-check.jsonl"
stage floors 15 python3 bench/pass_floors.py "$output/gpu-check.jsonl"
stage figures 40 python3 -m dlm_bench plot "$output/gpu-check.jsonl" --output "$site/figures"
tar -czf "$output/figures.tar.gz" -C "$site" figures
stage float32 "$(left 470)" "${pytest[@]}" tests/gpu/test_float32.py

echo
echo "gpu check: $SECONDS s, failed: ${failed[*]:-none}"
[ ${#failed[@]} -eq 0 ]
