"""The bidirectional mixer against two Mamba2 mixers of the `transformers` library, on a CPU.

    OMP_WAIT_POLICY=passive python bench/mixer_vs_transformers.py

Both run the same weights and must agree before they are timed (one forward, one over the reversed
sequence, added), side by side in alternation, at float32, d_model 256 and 4096 tokens. The
library runs the PyTorch path it takes where mamba-ssm is not installed.
"""

import argparse
import dataclasses
import logging
import statistics
import time

import torch
from torch import Tensor
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.config import model_config


def mixers(
    d_model: int, headdim: int = 64, d_state: int = 128
) -> tuple[BiMamba, list[Mamba2Mixer]]:
    """Our mixer and the library's two, with the same random weights."""
    config = dataclasses.replace(
        model_config("diffumamba", "small"), d_model=d_model, headdim=headdim, d_state=d_state
    )
    ours = BiMamba(config)
    ours.init_weights(torch.Generator().manual_seed(0))
    theirs = []
    for i in range(2):
        mixer = Mamba2Mixer(
            Mamba2Config(
                hidden_size=d_model,
                num_heads=config.ssm_heads,
                head_dim=headdim,
                state_size=d_state,
                n_groups=1,
                expand=config.expand,
                conv_kernel=config.d_conv,
                use_bias=False,
            ),
            layer_idx=0,
        ).eval()
        mixer.in_proj.weight.copy_(ours.in_proj[i])
        mixer.conv1d.weight.copy_(ours.conv_weight[i][:, None])
        mixer.conv1d.bias.copy_(ours.conv_bias[i])
        mixer.dt_bias.copy_(ours.dt_bias[i])
        mixer.A_log.copy_(ours.A_log[i])
        mixer.D.copy_(ours.D[i])
        mixer.norm.weight.copy_(ours.norm_weight[i])
        mixer.out_proj.weight.copy_(ours.out_proj[:, i])
        theirs.append(mixer)
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)  # it says that it has no mamba-ssm
    ours, (forward, reverse) = mixers(args.d_model)
    x = torch.randn(1, args.length, args.d_model)

    def two_library_mixers() -> Tensor:
        return forward(x) + reverse(x.flip(1)).flip(1)

    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    runs = {"ours": lambda: ours(x), "theirs": two_library_mixers}
    error = (runs["ours"]() - runs["theirs"]()).norm() / runs["theirs"]().norm()
    if error > 1e-4:
        raise SystemExit(f"the mixers disagree: relative error {error:.1e}")
    for _ in range(args.repeats):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    mine, library = (statistics.median(times[name]) for name in ("ours", "theirs"))
    ratios = sorted(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
    print(
        f"d_model {args.d_model}, {args.length} tokens, {torch.get_num_threads()} threads, float32"
    )
    print(f"relative difference {error:.1e}")
    print(f"transformers {library * 1e3:.1f} ms, dlm-bench {mine * 1e3:.1f} ms (medians)")
    print(f"ratio {library / mine:.2f} (pairs from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
