"""The check of a caller's prompt."""

from dlm_bench.errors import ConfigError
from dlm_bench.plugins.api import ModelInfo


def check_prompt(prompt: object, batch: int, config: ModelInfo, prompt_len: int = 0) -> None:
    """Raise ConfigError unless `prompt` is (batch, tokens) int64 of at least one id of the
    vocabulary, none of them MASK, as many as prompt_len if that is not 0."""
    import torch

    if not isinstance(prompt, torch.Tensor) or prompt.dtype != torch.int64:
        what = prompt.dtype if isinstance(prompt, torch.Tensor) else type(prompt).__name__
        raise ConfigError(f"prompt: {what} is not allowed; must be a tensor of torch.int64")
    wanted = (batch, prompt_len or max(1, prompt.shape[-1] if prompt.dim() else 1))
    if tuple(prompt.shape) != wanted:
        raise ConfigError(
            f"prompt: shape {tuple(prompt.shape)} is not allowed; must be "
            f"({batch}, {prompt_len or 'tokens'}), a row for each sequence of the batch"
        )
    ids, mask = config.vocab_size, config.mask_id
    wrong = prompt[(prompt < 0) | (prompt >= ids) | (prompt == mask)]
    if len(wrong):
        last, but = (ids - 1, f" without MASK ({mask})") if mask < ids - 1 else (mask - 1, "")
        raise ConfigError(
            f"prompt: token {int(wrong[0])} is not allowed; must be from 0 to {last}{but}"
        )
