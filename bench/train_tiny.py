"""Train denoisers of size `tiny` on bytes: the texts of `help()`, which every Python has, or tasks.

    OMP_WAIT_POLICY=passive python bench/train_tiny.py --output checkpoints
    OMP_WAIT_POLICY=passive python bench/train_tiny.py --corpus tasks --seconds 2100

For each backbone: AdamW on the masked-diffusion objective for --seconds, a checkpoint, the bound
on held-out topics or tasks beside what no context gives (the unigram entropy), and two decodes. The
tasks (`tasks.py`) have certain answers, of which alone the bound is; every other step is by the
pass of a block cache. The bound of an autoregressive backbone, if asked for, is its exact
likelihood. Ends with a Markdown table.
"""

import argparse
import math
import pydoc_data.topics
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from tasks import QUESTION, as_tokens, cases
from torch import Tensor

import dlm_bench
from dlm_bench.models.config import BACKBONES
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.training.objective import Bound, bound, mean_bound, objective
from dlm_bench.training.prompted import prompted_objective
from dlm_bench.training.trainable import build_trainable

BYTES = 256  # of the vocabulary of `tiny`; then come end of text and MASK
HELD_OUT = 0.1  # of the bytes, in whole topics
ROWS = 16  # tasks of a step
DRAWS = 4  # of each held-out task, by each kind of pass
CASES = 60_000, 1000  # of tasks, to train on and held out
SEED = 0


@dataclass(frozen=True)
class Recipe:
    """How to train: steps of `tokens` bytes in sequences of `lengths` in turn.

    Short ones too, because a block-cache decode begins with them. `warmup` is a fraction of the
    training; `epsilon` is the least t, which bounds a token's weight 1/t in few sequences a step.
    """

    tokens: int = 1024
    lengths: tuple[int, ...] = (32, 64, 128, 256)
    peak: float = 6e-3
    warmup: float = 0.03
    decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    epsilon: float = 0.1

    def rate(self, progress: float) -> float:
        """The learning rate at a fraction of the training: a linear warm-up, then half a cosine."""
        if progress < self.warmup:
            return self.peak * progress / self.warmup
        rest = (progress - self.warmup) / (1 - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))


def topics() -> tuple[Tensor, Tensor]:
    """Training and held-out bytes, each (bytes,) int64, of different topics.

    Topics quote each other: what a held-out one says too, by paragraphs, is no text to train on.
    """
    names = sorted(pydoc_data.topics.topics)
    random.Random(SEED).shuffle(names)
    texts = [pydoc_data.topics.topics[name] for name in names]
    wanted, held = HELD_OUT * sum(map(len, texts)), 0
    while sum(map(len, texts[:held])) < wanted:
        held += 1
    told = {words(paragraph) for text in texts[:held] for paragraph in paragraphs(text)}
    kept = [p for text in texts[held:] for p in paragraphs(text) if words(p) not in told]
    held_out = "\n\n".join(text.strip("\n") for text in texts[:held])
    return as_tensor("\n\n".join(kept).encode()), as_tensor(held_out.encode())


def paragraphs(text: str) -> list[str]:
    """What empty lines part."""
    return [paragraph.strip("\n") for paragraph in text.split("\n\n") if paragraph.strip()]


def words(paragraph: str) -> str:
    """A paragraph whatever its indentation."""
    return " ".join(paragraph.split())


def as_tensor(text: bytes) -> Tensor:
    """A byte a token, (bytes,) int64."""
    return torch.tensor(list(text))


def as_text(tokens: Tensor) -> str:
    """What tokens (length,) say; what is no UTF-8, and an end of text, becomes a sign."""
    return bytes(min(token, 0xFF) for token in tokens.tolist()).decode(errors="replace")


def sequences(text: Tensor, length: int) -> Tensor:
    """(sequences, length): the text cut, without what is left over."""
    whole = len(text) // length
    return text[: whole * length].view(whole, length)


def unigram_nats(text: Tensor, training: Tensor) -> float:
    """The cross-entropy of the text under the bytes' frequencies in the training text (one more of
    each byte, so that none is impossible), in nats per byte."""
    counts = torch.bincount(training.flatten(), minlength=BYTES).double() + 1
    return -(counts / counts.sum()).log()[text].mean().item()


class Corpus(Protocol):
    """What a model is trained on."""

    def loss(
        self, model: LanguageModel, recipe: Recipe, step: int, generator: torch.Generator
    ) -> Tensor:
        """The loss of a step, a scalar, in nats per token."""

    def bound(self, model: LanguageModel) -> Bound:
        """The bound on what is held out."""

    def unigram(self) -> float:
        """`unigram_nats` of what is held out."""


class Text:
    """Bytes to train on and held out, each (bytes,) int64; sequences begin anywhere."""

    def __init__(self, text: Tensor, held_out: Tensor) -> None:
        self.text, self.held_out = text, held_out

    def loss(
        self, model: LanguageModel, recipe: Recipe, step: int, generator: torch.Generator
    ) -> Tensor:
        length = recipe.lengths[step % len(recipe.lengths)]
        rows = max(1, recipe.tokens // length)
        starts = torch.randint(len(self.text) - length + 1, (rows, 1), generator=generator)
        x = self.text[starts + torch.arange(length)]
        return objective(model, x, generator, recipe.epsilon).mean()

    def bound(self, model: LanguageModel) -> Bound:
        return bound(model, sequences(self.held_out, max(Recipe.lengths)), seed=SEED)

    def unigram(self) -> float:
        return unigram_nats(self.held_out, self.text)


class Tasks:
    """Answers to questions, by the passes of both kinds of sampler in turn (`prompted`)."""

    def __init__(self) -> None:
        number, held = CASES
        self.cases = as_tokens(cases(number, held_out=False))
        self.held_out = as_tokens(cases(held, held_out=True))

    def loss(
        self, model: LanguageModel, recipe: Recipe, step: int, generator: torch.Generator
    ) -> Tensor:
        x = self.cases[torch.randint(len(self.cases), (ROWS,), generator=generator)]
        return prompted_objective(
            model, x, QUESTION, generator, recipe.epsilon, cached=step % 2 == 0
        ).mean()

    @torch.inference_mode()
    def bound(self, model: LanguageModel) -> Bound:
        """By both kinds of passes."""
        generator = torch.Generator().manual_seed(SEED)
        ways = [
            prompted_objective(model, self.held_out, QUESTION, generator, cached=cached).double()
            for cached in (False, True) * DRAWS
        ]
        return mean_bound(torch.stack(ways))

    def unigram(self) -> float:
        return unigram_nats(self.held_out[:, QUESTION:].flatten(), self.cases[:, QUESTION:])


CORPORA: dict[str, Callable[[], Corpus]] = {"help": lambda: Text(*topics()), "tasks": Tasks}


def train(
    model: LanguageModel, corpus: Corpus, recipe: Recipe, progress: Callable[[int], float]
) -> list[float]:
    """Train until `progress`, of the number of steps so far, is 1. Returns each step's loss in nats
    per token."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=recipe.betas, weight_decay=recipe.decay, fused=True
    )
    losses: list[float] = []
    while (done := progress(len(losses))) < 1:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(done)
        loss = corpus.loss(model, recipe, len(losses), generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        losses.append(loss.item())
    model.eval().requires_grad_(False)
    return losses


def by_clock(seconds: float) -> Callable[[int], float]:
    """Progress that is the fraction of these seconds gone since now."""
    begin = time.perf_counter()
    return lambda steps: (time.perf_counter() - begin) / seconds


@dataclass(frozen=True)
class Row:
    """What came of training a backbone."""

    backbone: str
    steps: int
    seconds: float
    training: float
    held_out: Bound


def run(
    backbone: str, corpus: Corpus, seconds: float, recipe: Recipe, output: Path
) -> tuple[Row, LanguageModel]:
    """Train, save and score one backbone."""
    model = build_trainable(backbone, "tiny", seed=SEED)
    begin = time.perf_counter()
    losses = train(model, corpus, recipe, by_clock(seconds))
    taken = time.perf_counter() - begin
    output.mkdir(parents=True, exist_ok=True)
    dlm_bench.save_checkpoint(model, output / f"{backbone}.safetensors")
    last = losses[-max(1, len(losses) // 10) :]
    return Row(backbone, len(losses), taken, sum(last) / len(last), corpus.bound(model)), model


def show_decodes(model: LanguageModel, length: int = 256) -> None:
    """Print what each sampler decodes: one token a pass, random order, temperature 0.7."""
    drawn = {"temperature": 0.7}
    denoising = drawn | {"tokens_per_step": 1, "order": "random"}
    ways = {"full": denoising, "block-cache": denoising} if model.config.denoiser else {"ar": drawn}
    for name, options in ways.items():
        tokens = dlm_bench.build_sampler(name, **options).decode(model, length, seed=SEED)
        settings = ", ".join(f"{option}={value}" for option, value in options.items())
        print(f"\n{name} ({settings}), {length} bytes:\n{as_text(tokens[0])}")


def table(rows: list[Row], unigram: float) -> str:
    """The rows as Markdown. `unigram` in nats per byte."""
    head = "backbone", "seconds", "steps", "training nats/byte", "held-out nats/byte", "bits/byte"
    lines = [head, ("---",) * len(head)]
    for row in rows:
        found = row.held_out
        lines.append(
            (
                row.backbone,
                f"{row.seconds:.0f}",
                f"{row.steps}",
                f"{row.training:.2f}",
                f"{found.nats:.3f} ± {found.standard_error:.3f}",
                f"{found.bits:.2f}",
            )
        )
    for name, nats in (("unigram", unigram), ("uniform", math.log(BYTES + 1))):
        lines.append((name, "", "", "", f"{nats:.3f}", f"{nats / math.log(2):.2f}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    denoisers = [name for name, kind in BACKBONES.items() if kind.denoiser]
    parser.add_argument(
        "--backbone", action="append", choices=BACKBONES, help="may be repeated (the denoisers)"
    )
    parser.add_argument("--corpus", choices=CORPORA, default="help", help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=240, help="of training, each (240)")
    parser.add_argument("--output", type=Path, default=Path("checkpoints"), metavar="DIR")
    parser.add_argument(
        "--peak", type=float, default=Recipe.peak, help="learning rate (%(default)g)"
    )
    args = parser.parse_args()
    recipe, corpus = Recipe(peak=args.peak), CORPORA[args.corpus]()
    rows = []
    for backbone in args.backbone or denoisers:
        row, model = run(backbone, corpus, args.seconds, recipe, args.output)
        rows.append(row)
        print(f"\n== {backbone}: {row.steps} steps, {row.held_out.nats:.3f} nats/byte held out")
        if isinstance(corpus, Text):
            show_decodes(model)
    if isinstance(corpus, Text):
        print(f"\n{len(corpus.text)} bytes to train on, {len(corpus.held_out)} held out")
    print(f"\n{table(rows, corpus.unigram())}")


if __name__ == "__main__":
    main()
