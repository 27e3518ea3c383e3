"""How long the SSD scan takes on a CPU by chunk length: where kernels.ssd.CHUNK comes from.

    python bench/ssd_chunk.py

Prints, for each width and dtype, the time of each chunk length over that of the fastest, medians
of interleaved repeats.
"""

import argparse
import statistics
import time

import torch

from dlm_bench.kernels.ssd import CHUNK, ssd_chunked

CHUNKS = (16, 32, 64, 128, 256)
WIDTHS = {"small (d 128)": (4, 64, 64), "d 256": (8, 64, 128), "240m (d 960)": (30, 64, 128)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {args.length} tokens; time over the fastest")
    print(f"{'width':14} {'dtype':9}" + "".join(f"{chunk:>7}" for chunk in CHUNKS) + "   fastest")
    for name, (heads, headdim, d_state) in WIDTHS.items():
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(1, args.length, heads, headdim, dtype=dtype)
            B, C = torch.randn(2, 1, args.length, d_state, dtype=dtype)
            dt, A, D = (
                torch.rand(1, args.length, heads) * 0.1,
                -torch.rand(heads) * 16,
                x[0, 0, :, 0],
            )
            times: dict[int, list[float]] = {chunk: [] for chunk in CHUNKS}
            for repeat in range(args.repeats + 1):
                for chunk in CHUNKS:
                    begin = time.perf_counter()
                    ssd_chunked(x, dt, A, B, C, D, chunk=chunk)
                    if repeat:  # the first one warms up
                        times[chunk].append(time.perf_counter() - begin)
            medians = {chunk: statistics.median(values) for chunk, values in times.items()}
            fastest = min(medians.values())
            ratios = "".join(f"{medians[chunk] / fastest:7.2f}" for chunk in CHUNKS)
            used = medians[CHUNK] / fastest
            kind = str(dtype).removeprefix("torch.")
            print(f"{name:14} {kind:9}{ratios}   {fastest * 1e3:.1f} ms (in use: {used:.2f})")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
