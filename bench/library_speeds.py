"""The speeds that libraries reach on this GPU:

- ceilings: the rate of a matrix product and of a copy, as the roofline takes them;
- matmuls: those of a 32-token pass, where reading the weights is all that there is to do.

    python bench/library_speeds.py --output libraries.jsonl --ceilings ceilings.json

Each measurement is a line of the output as soon as there is one.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rows import append

from dlm_bench.cost.calibration import measure_hardware
from dlm_bench.errors import first_line
from dlm_bench.models.config import ModelConfig, model_config
from dlm_bench.models.factory import parse_device
from dlm_bench.timing.clocks import laps_of

ROWS = 32  # tokens of a block
RUNS = 5
ROTATED_BYTES = 256 << 20  # of weights: a layer's are not in the cache when its turn comes

Row = dict[str, Any]


@torch.inference_mode()
def main() -> int:
    args = parser().parse_args()
    device = parse_device(args.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    config = model_config("diffutran", args.size)
    failed = 0

    hardware = measure_hardware(args.device)
    print(hardware.summary, flush=True)
    if args.ceilings:
        args.ceilings.write_text(json.dumps(asdict(hardware)))
    for row in matmul_rows(config, device, dtype):
        failed += "message" in row
        print(json.dumps(row), flush=True)
        append(args.output, row)
    if failed:
        print(f"library_speeds: {failed} measurements failed, see the rows with a message")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--device", default="cuda")
    found.add_argument("--size", default="1.3b")
    found.add_argument("--output", type=Path, help="append a JSON line a measurement")
    found.add_argument("--ceilings", type=Path, help="write the two ceilings here")
    return found


def matmul_shapes(config: ModelConfig) -> list[tuple[int, int]]:
    """(outputs, inputs) of the matmuls of a block pass, DiffuTran's and DiffuMamba's."""
    d = config.d_model
    mamba = model_config("diffumamba", config.size)
    inputs = mamba.directions * (2 * mamba.d_inner + 2 * mamba.d_state + mamba.ssm_heads)
    inner = mamba.directions * mamba.d_inner
    shapes = [(3 * d, d), (d, d), (4 * d, d), (d, 4 * d)]  # qkv, out, up, down
    shapes += [(inputs, d), (d, inner), (2 * d, d), (d, 2 * d)]  # in, out, up, down
    return list(dict.fromkeys(shapes))


def matmul_rows(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Iterator[Row]:
    """Seconds and TB/s of weights of products with ROWS tokens, plain and with GELU."""
    for outputs, inputs in matmul_shapes(config):
        x = torch.randn(ROWS, inputs, device=device).to(dtype)
        size = outputs * inputs * x.element_size()
        weights = [
            torch.randn(outputs, inputs, device=device).to(dtype)
            for _ in range(max(1, min(20, ROTATED_BYTES // size)))
        ]
        bias = torch.zeros(outputs, device=device, dtype=dtype)
        for name, product in (("linear", F.linear), ("gelu", gelu)):
            row = {"what": "matmul", "implementation": name, "outputs": outputs, "inputs": inputs}

            products = [partial(product, x, weight, bias) for weight in weights]
            try:
                seconds = median_seconds(captured(products, device), device) / len(weights)
            except RuntimeError as error:
                yield row | {"message": first_line(error)}
                continue
            yield row | {"seconds": seconds, "terabytes_per_second": size / seconds / 1e12}


def gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The product with GELU in its epilogue, as the MLP's first one."""
    return torch._addmm_activation(bias, x, weight.t(), use_gelu=True)


def captured(works: Sequence[Callable[[], object]], device: torch.device) -> Callable[[], object]:
    """A graph of works in turn, as a pass runs them: launching them takes longer than running."""

    def run() -> None:
        for work in works:
            work()

    if device.type != "cuda":
        return run
    run()  # cuBLAS allocates its workspace
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of runs that follow each other."""
    return median(laps_of([work] * RUNS, device, before=work))


if __name__ == "__main__":
    sys.exit(main())
