"""PyTorch's calls and the time of small passes on a CPU, and the throughput they give.

    OMP_WAIT_POLICY=passive python bench/small_passes.py [--size small] [--lengths 512 4096]

Counts the calls (operators of PyTorch's profiler, nested ones too: the same at every run) of each
kind of pass, and times the kinds in turns in one process. Then decodes with a block cache, the
backbones in turns: the ratio of their throughputs, of pairs of decodes next to each other.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity

import dlm_bench
from dlm_bench.plugins.api import Model
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.profile import profiler

DENOISERS = {
    "block-cache": {},
    "block-cache commit=fused": {"commit": "fused"},
    "fast-dllm": {},
}
LENGTH, PROMPT = 256, 64  # of the decodes whose passes are counted


class Case(NamedTuple):
    """A kind of pass of a decode, and a place of the schedule where one starts."""

    backbone: str
    sampler_name: str
    kind: str
    query_len: int
    model: Model
    sampler: Sampler
    state: DecodeState
    index: int

    def seek(self) -> None:
        self.sampler.seek(self.state, self.index)

    def step(self) -> None:
        self.sampler.step(self.model, self.state, self.kind)


def cases(backbone: str, size: str) -> Iterator[Case]:
    """Every kind of pass of a backbone, in the middle of those of its kind."""
    model = dlm_bench.build_model(backbone, size=size, dtype=torch.float32, seed=0)
    names = DENOISERS if "block-cache" in model.supports else {"ar": {}}
    seen = set()
    for name, options in names.items():
        sampler = dlm_bench.build_sampler(name.split()[0], **options)
        state = sampler.prepare(model, LENGTH, prompt_len=PROMPT)
        kinds: dict[str, list[int]] = {}
        for index, planned in enumerate(state.passes):
            kinds.setdefault(planned.kind, []).append(index)
        for kind, places in kinds.items():
            index = places[len(places) // 2]
            if (kind, name.split()[0]) not in seen:
                seen.add((kind, name.split()[0]))
                length = state.passes[index].query_len
                yield Case(backbone, name, kind, length, model, sampler, state, index)


def count_calls(case: Case) -> int:
    """Count the calls of a pass, after a first one of its kind."""
    for warm in (True, False):
        case.seek()
        if warm:
            case.step()
    return calls_of(case.step)


def calls_of(run: Callable[[], object]) -> int:
    """Run a function and count the calls of PyTorch's operators."""
    with profiler([ProfilerActivity.CPU]) as profiled:
        run()
    prefixes = "aten::", "mkldnn::"
    return sum(e.count for e in profiled.key_averages() if e.key.startswith(prefixes))


def time_in_turns(every: Sequence[Case], rounds: int) -> list[list[float]]:
    """Seconds of each case's pass in each round."""
    times: list[list[float]] = [[] for _ in every]
    for _ in range(rounds):
        for case, seconds in zip(every, times, strict=True):
            case.seek()
            begin = time.perf_counter()
            case.step()
            seconds.append(time.perf_counter() - begin)
    return times


def throughputs(backbones: Sequence[str], size: str, length: int, rounds: int) -> list[list[float]]:
    """Tokens/s of each backbone's decode with a block cache in each round, after a first decode."""
    sampler = dlm_bench.build_sampler("block-cache")
    models = [
        dlm_bench.build_model(name, size=size, dtype=torch.float32, seed=0) for name in backbones
    ]
    found: list[list[float]] = [[] for _ in models]
    for number in range(-1, rounds):
        for model, rates in zip(models, found, strict=True):
            state = sampler.prepare(model, length)
            begin = time.perf_counter()
            sampler.run(model, state)
            if number >= 0:
                rates.append(length / (time.perf_counter() - begin))
    return found


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbones", nargs="+", default=["diffumamba", "diffutran"])
    parser.add_argument("--size", default="small")
    parser.add_argument("--lengths", nargs="*", type=int, default=[512, 4096])
    parser.add_argument("--rounds", type=int, default=50, help="of passes (default: 50)")
    parser.add_argument("--decodes", type=int, default=5, help="of each backbone (default: 5)")
    args = parser.parse_args(arguments)
    print(f"size {args.size}, float32, {torch.get_num_threads()} threads")
    every = [case for backbone in args.backbones for case in cases(backbone, args.size)]
    calls = [count_calls(case) for case in every]
    print("backbone        sampler                   pass       tokens   calls   ms (quartiles)")
    for case, count, seconds in zip(every, calls, time_in_turns(every, args.rounds), strict=True):
        text = f"{case.backbone:15} {case.sampler_name:25} {case.kind:10} {case.query_len:6}"
        ms = [1e3 * each for each in seconds]
        low, middle, high = statistics.quantiles(ms, n=4) if len(ms) > 1 else ms * 3
        print(f"{text} {count:7}   {middle:.2f} ({low:.2f} to {high:.2f})")
    for length in args.lengths:
        first, *others = throughputs(args.backbones, args.size, length, args.decodes)
        print(f"{length} tokens with a block cache: {args.backbones[0]} {_middle(first)} tokens/s")
        for backbone, rates in zip(args.backbones[1:], others, strict=True):
            ratios = sorted(a / b for a, b in zip(first, rates, strict=True))
            print(
                f"  {backbone} {_middle(rates)} tokens/s; {args.backbones[0]} over it "
                f"{statistics.median(ratios):.2f} (pairs from {ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


def _middle(rates: list[float]) -> str:
    return f"{statistics.median(rates):.0f}"


if __name__ == "__main__":
    main()
