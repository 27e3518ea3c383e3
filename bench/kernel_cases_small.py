"""A pass over a block by the kernels for few tokens: a layer of each mixer, and what is around.

The numbers are those of a single layer, as the roundings of all add up. All layers are timed, as a
kernel that waits in vain for the one before may do so only among many.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from kernel_case import Bench, Case, Check, Run
from torch import Tensor

from dlm_bench.models.config import ModelConfig, model_config
from dlm_bench.models.factory import empty_model
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.models.window import Window

BLOCK = 32
AROUND = dict.fromkeys(("cached_attention", "block_scan", "step", "elementwise"), "triton")


def small_pass_cases(bench: Bench) -> Iterator[Case]:
    """Hidden states of a block at the begin of a sequence, against the plain ones in float32."""
    tokens = min(BLOCK, bench.sequence // 4)
    for backbone in ("diffumamba", "diffutran"):
        config = model_config(backbone, bench.config.size)
        layer = replace(config, layers=1)
        for name in bench.implementations("small_pass", **AROUND):
            kernels = AROUND | {"small_pass": name}
            model, whole = (_model(each, bench, kernels) for each in (layer, config))
            exact = empty_model(layer, bench.device, torch.float32, _plain(kernels))
            weights = {key: value.float() for key, value in model.state_dict().items()}
            exact.load_state_dict(weights)
            run, timed, expected = (_pass(each, tokens) for each in (model, whole, exact))
            read = sum(p.numel() for block in whole.blocks for p in block.parameters())
            yield Case(
                "small_pass",
                name,
                f"{backbone} q={tokens}",
                kernels,
                (timed,),
                {"output": Check(run, expected)},
                flops=2.0 * read * tokens,
                bytes=read * bench.dtype.itemsize,
            )


def _model(config: ModelConfig, bench: Bench, kernels: dict[str, str]) -> LanguageModel:
    """A model with other kernels plain, so that none is measured as the model is built."""
    model = empty_model(config, bench.device, bench.dtype, _plain(()) | kernels)
    model.init_weights(torch.Generator(bench.device).manual_seed(0))
    return model


def _plain(kernels: Iterable[str]) -> dict[str, str]:
    whole = ("attention", "ssd", "walking_scan", "conv")
    return dict.fromkeys((*kernels, *whole, "mlp"), "torch")


def _pass(model: LanguageModel, count: int) -> Run:
    device = model.head.weight.device
    caches = model.new_caches(1, count)
    tokens = torch.arange(count, device=device)[None]
    t = torch.full((1, 1), 0.5, device=device)
    window = Window(torch.zeros(1, dtype=torch.int64, device=device), (count,))

    @torch.inference_mode()
    def run() -> Tensor:
        return model(tokens, t, window, caches)

    return run
