"""A model to be trained: the plain kernels, which autograd goes back through, and other weights."""

import torch

from dlm_bench.kernels.choice import IMPLEMENTATIONS
from dlm_bench.models.factory import build_denoiser
from dlm_bench.models.language_model import LanguageModel


def build_trainable(
    backbone: str, size: str = "tiny", device: str | torch.device = "cpu", seed: int = 0
) -> LanguageModel:
    """A backbone in float32 whose parameters require gradients, at the start of a training.

    The weights of `build_model` make every layer count, right for timing; training starts from
    idle layers (adaLN-Zero, DiT, arXiv 2212.09748) and a head of zeros, as in MDLM. Raises
    ConfigError as `build_model` does.
    """
    plain = dict.fromkeys(IMPLEMENTATIONS, "torch")
    model = build_denoiser(backbone, size, device, torch.float32, seed, kernels=plain)
    init_for_training(model)
    return model.train().requires_grad_()


@torch.no_grad()
def init_for_training(model: LanguageModel) -> None:
    """Zero the head, and adaLN with its gates (a causal model has none); the rest stays."""
    model.head.weight.zero_()
    if model.config.denoiser:
        model.adaln.weight.zero_()
        model.adaln.bias.zero_()
