"""A denoiser whose confidences are written down, pass by pass."""

import math
from dataclasses import dataclass

import torch

from dlm_bench.kernels.choice import UnmaskKernels

TOKENS = 4  # the first is predicted everywhere; the last id is MASK


@dataclass(frozen=True)
class ScriptedConfig:
    backbone: str = "scripted"
    size: str = "one"
    vocab_size: int = TOKENS + 1
    mask_id: int = TOKENS
    bos_id: int = 1
    d_model: int = TOKENS + 1


class ScriptedModel:
    """A model whose pass i has the confidences script[i] at the positions of its query, and a pass
    beyond the script any.

    seen: the positions of each pass.
    """

    config = ScriptedConfig()
    kernels = UnmaskKernels()
    supports = ("full", "fast-dllm", "block-cache", "prefill", "sub-blocks", "next-token")
    checkpoint = ""

    def __init__(self, *script):
        self.script, self.seen = list(script), []
        self.head = torch.nn.Linear(TOKENS + 1, TOKENS + 1, bias=False)
        self.head.weight.data = torch.eye(TOKENS + 1)

    def new_caches(self, batch, length, *, reverse_state=False):
        return []

    def __call__(self, tokens, t=None, window=None, caches=None):
        places = range(tokens.shape[1]) if window is None else window.positions().tolist()
        self.seen.append(list(places))
        confidences = self.script.pop(0) if self.script else [0.5] * len(places)
        assert len(confidences) == len(places)
        # One token with this probability, the others with the rest in equal shares.
        logits = torch.zeros(len(tokens), len(places), TOKENS + 1)
        for place, confidence in enumerate(confidences):
            logits[:, place, 0] = math.log(confidence / (1 - confidence) * (TOKENS - 1))
        return logits
