"""The prompts of decodes: those of a file as token ids, and the check of ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError
from dlm_bench.plugins.api import ModelInfo

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prompts:
    """The prompts of a file as token ids. The sequence of seed s is decoded after prompt s mod n.

    label: the file's name and the digest of its content, as in records.
    ids: of each of the n prompts.
    names: of each prompt.
    """

    label: str
    ids: tuple[tuple[int, ...], ...] = field(repr=False, compare=False)
    names: tuple[str, ...] = field(repr=False, compare=False)

    def number(self, seed: int) -> int:
        """Return the number of the prompt of a sequence."""
        return seed % len(self.ids)

    def drawn(self, seeds: Iterable[int]) -> list[str]:
        """Return the names of these sequences' prompts."""
        return [self.names[self.number(seed)] for seed in seeds]

    def shortest(self, seeds: Iterable[int]) -> int:
        """Return the tokens of the shortest of these sequences' prompts."""
        return min(len(self.ids[self.number(seed)]) for seed in seeds)

    def check_ids(self, vocab_size: int) -> None:
        """Raise ConfigError for an id outside a vocabulary."""
        for name, ids in zip(self.names, self.ids, strict=True):
            if (wrong := max(ids)) >= vocab_size:
                raise ConfigError(
                    f"prompts: token {wrong} of prompt {name} in {self.label} is not allowed; must "
                    f"be from 0 to {vocab_size - 1}, the vocabulary of this backbone and size "
                    "(that of tiny ones is small)"
                )

    def tokens(self, seed: int, length: int) -> list[int]:
        """Return the prompt of a sequence: the last `length` tokens of its prompt, behind the
        prompts before it in the file where it is shorter."""
        number, parts, missing = self.number(seed), list[Sequence[int]](), length
        while missing > 0:
            part = self.ids[number][-missing:]
            parts.append(part)
            number, missing = (number - 1) % len(self.ids), missing - len(part)
        return [each for part in reversed(parts) for each in part]


def drawn_prompt(
    prompts: Prompts, seeds: Sequence[int], length: int, config: ModelInfo
) -> "Tensor":
    """Return the prompts of sequences, (sequences, length) int64. Raises ConfigError for an id that
    is not the model's."""
    import torch

    prompts.check_ids(config.vocab_size)
    drawn = torch.tensor([prompts.tokens(seed, length) for seed in seeds])
    check_prompt(drawn, len(seeds), config, length)
    return drawn


def check_prompt(prompt: object, batch: int, config: ModelInfo, prompt_len: int = 0) -> None:
    """Raise ConfigError unless `prompt` is (batch, tokens) int64 of at least one id of the
    vocabulary, as many as prompt_len if that is not 0."""
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
    wrong = prompt[(prompt < 0) | (prompt >= config.vocab_size)]
    if len(wrong):
        raise ConfigError(
            f"prompt: token {int(wrong[0])} is not allowed; must be from 0 to "
            f"{config.vocab_size - 1}"
        )
