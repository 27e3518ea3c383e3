"""A fixed number of tokens a pass, the paper's p."""

from collections.abc import Iterator
from dataclasses import dataclass

from dlm_bench.errors import check_int
from dlm_bench.samplers.acceptance.acceptance import Acceptance
from dlm_bench.samplers.schedule import reveals


@dataclass(frozen=True)
class Fixed(Acceptance):
    """tokens_per_step tokens a pass, as even as can be."""

    name = "fixed"
    tokens_per_step: int

    def __post_init__(self) -> None:
        check_int("tokens_per_step", self.tokens_per_step)

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        return reveals(block_len, self.tokens_per_step)
