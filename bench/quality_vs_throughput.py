"""What decoding faster costs in quality: checkpoints of `bench/train_tiny.py`, decoded at every p
and by confidence thresholds.

    OMP_WAIT_POLICY=passive python bench/quality_vs_throughput.py checkpoints/*.safetensors

Decodes at temperature 1 and in a random order, so that one token a pass draws from the model's own
distribution, and each p above it is off by the tokens that it takes for independent. By threshold a
pass takes the drawn tokens that are at least so likely; --traces keeps how many those were, to time
the same acceptance with other weights (`dlm-bench run -o trace=FILE`). Two scores,
because either alone can be fooled: the cross-entropy of the decoded text under a byte n-gram of the
training text, and the text's own unigram entropy, which falls where a text repeats itself. The
held-out text's scores are the ones to come near to, and the bound is the model's own on that text.
Prints a Markdown table; --output keeps the records.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from train_tiny import BYTES, sequences, topics

import dlm_bench
from dlm_bench.results.store import append_record
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import save_trace
from dlm_bench.training.objective import bound

ORDER = 4  # bytes of context; of 3, 4 and 5 the one that tells the held-out text best


class NGram:
    """A byte n-gram of a text, its orders interpolated by Witten and Bell's rule (1991):

    P(c | h) = (n(h c) + T(h) P(c | h')) / (n(h) + T(h)), h' being h without its first byte and T(h)
    the number of different bytes seen after h; below all of them every byte is as likely.
    """

    def __init__(self, text: Iterable[int], order: int = ORDER) -> None:
        data = bytes(text)
        self.order = order
        self.after: dict[bytes, Counter[int]] = {}
        for i, byte in enumerate(data):
            for context in range(min(i, order) + 1):
                self.after.setdefault(data[i - context : i], Counter())[byte] += 1
        self.totals = {history: count.total() for history, count in self.after.items()}

    def probability(self, byte: int, history: bytes) -> float:
        """P(byte | the last `order` bytes of the history)."""
        p = 1 / BYTES
        for context in range(min(len(history), self.order) + 1):
            seen = self.after.get(history[len(history) - context :])
            if seen is None:
                break
            kinds = len(seen)
            total = self.totals[history[len(history) - context :]]
            p = (seen[byte] + kinds * p) / (total + kinds)
        return p

    def nats(self, text: Tensor) -> float:
        """Cross-entropy of texts (texts, length) in nats per byte; an end of text, which no text
        holds, counts as the rarest byte."""
        total = 0.0
        for row in text.clamp(max=BYTES - 1).tolist():
            data = bytes(row)
            for i, byte in enumerate(data):
                total -= math.log(self.probability(byte, data[max(0, i - self.order) : i]))
        return total / text.numel()


def entropy(text: Tensor) -> float:
    """The text's own unigram entropy, nats per byte."""
    p = torch.bincount(text.flatten(), minlength=BYTES + 1).double() / text.numel()
    return torch.special.entr(p).sum().item()


def line(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="FILE.safetensors")
    parser.add_argument("--tokens-per-step", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--threshold", type=float, nargs="*", default=[0.9, 0.7, 0.5, 0.3])
    parser.add_argument("--traces", type=Path, metavar="DIR", help="keep the traces of thresholds")
    parser.add_argument("--sampler", nargs="+", default=["full", "block-cache"])
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--texts", type=int, default=32, help="texts scored at each point (32)")
    parser.add_argument("--repeats", type=int, default=3, help="timed decodes at batch 1 (3)")
    parser.add_argument("--output", type=Path, metavar="FILE.jsonl", help="append the records here")
    args = parser.parse_args()
    training, held_out = topics()
    ngram = NGram(training.tolist())
    head = ["backbone", "bound", "sampler", "passes accept", "tokens/pass", "tokens/s"]
    head += [f"{ORDER + 1}-gram nats/byte", "entropy"]
    print(line(*head))
    print(line(*["---"] * len(head)))
    real = sequences(held_out, args.length)
    blank = [""] * 5
    print(line("held-out text", *blank, f"{ngram.nats(real):.3f}", f"{entropy(real):.3f}"))
    order = torch.randperm(real.numel(), generator=torch.Generator().manual_seed(0))
    noise = real.flatten()[order].view_as(real)
    print(line("its bytes shuffled", *blank, f"{ngram.nats(noise):.3f}", f"{entropy(noise):.3f}"))
    fixed = {f"p = {p}": {"order": "random", "tokens_per_step": p} for p in args.tokens_per_step}
    sure = {f">= {x:g}": {"accept": "threshold", "threshold": x} for x in args.threshold}
    for path in args.checkpoints:
        model = dlm_bench.load_checkpoint(path)
        backbone, held = model.config.backbone, f"{bound(model, real).nats:.3f}"
        for name in args.sampler:
            for way, options in (fixed | sure).items():
                sampler = dlm_bench.build_sampler(name, temperature=1.0, **options)
                record = dlm_bench.measure(
                    model, sampler, args.length, warmup=1, repeats=args.repeats
                )
                if args.output:
                    append_record(args.output, record)
                if args.traces and way in sure:
                    trace = record_trace(model, sampler, args.length)
                    save_trace(
                        trace, args.traces / f"{backbone}-{name}-{options['threshold']}.json"
                    )
                texts = sampler.decode(model, args.length, batch=args.texts, seed=1)
                speed = f"{record.tokens_per_pass:.2f}", f"{record.tokens_per_second:.0f}"
                scores = f"{ngram.nats(texts):.3f}", f"{entropy(texts):.3f}"
                print(line(backbone, held, name, way, *speed, *scores), flush=True)


if __name__ == "__main__":
    main()
