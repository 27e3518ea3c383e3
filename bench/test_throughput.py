"""A pytest-benchmark suite of single passes: the paper's backbones, samplers and roles.

    pytest bench/test_throughput.py --benchmark-save=base
    pytest bench/test_throughput.py --benchmark-compare='*_base' --benchmark-compare-fail=median:10%

A pass is the middle one of its role in a decode. Each round seeks there, runs the pass before it,
so that the caches hold what they do in a decode, and times the pass by timing/clocks.py: CUDA
events on a GPU. `--dlm-device cuda` takes it there (docs/ci.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch

from dlm_bench.models.config import BACKBONES
from dlm_bench.models.device import default_dtype
from dlm_bench.models.factory import build_model, parse_device
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.samplers import SAMPLERS, build_sampler
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import DecodeShape, role_of
from dlm_bench.timing.clocks import laps_of
from dlm_bench.timing.environment import environment
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.measure import point_of

SIZES = ("tiny", "small")
LENGTH = 256  # 8 blocks; both sizes take under two minutes on 2 cores
ROUNDS = 40
WARMUP_ROUNDS = 5
# Options that make other passes than the defaults do.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "full": [{}],
    "fast-dllm": [{"cache": "dual"}, {"cache": "prefix"}],
    "block-cache": [{"commit": "separate"}, {"commit": "fused"}, {"commit": "none"}],
    "ar": [{}],
}


class PassClock:
    """Seconds of all passes so far: a timer for pytest-benchmark, whose own would count the host's
    launches and miss a GPU's work."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


CLOCK = PassClock()


@dataclass(frozen=True)
class Case:
    """One role of pass of one sampler."""

    backbone: str
    size: str
    sampler: Sampler
    role: str

    @property
    def name(self) -> str:
        """E.g. `small-diffumamba-block-cache-fused-commit`."""
        options = self.sampler.options()
        variant = [str(options[name]) for name in ("cache", "commit") if name in options]
        return "-".join([self.size, self.backbone, self.sampler.name, *variant, self.role])


def cases() -> Iterator[Case]:
    """Models outermost, so that each is built once."""
    for size in SIZES:
        for backbone, kind in BACKBONES.items():
            for name in OPTIONS:
                if (SAMPLERS[name].requires != "ar") == kind.denoiser:
                    for options in OPTIONS[name]:
                        sampler = build_sampler(name, **options)
                        roles = dict.fromkeys(p.role for p in sampler.schedule(LENGTH))
                        yield from (Case(backbone, size, sampler, role) for role in roles)


@cache
def model_of(backbone: str, size: str, device: torch.device) -> LanguageModel:
    """The model; all of them together are some megabytes."""
    return build_model(backbone, size, device, default_dtype(device.type))


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
@pytest.mark.benchmark(timer=CLOCK)
@torch.inference_mode()
def test_pass(case: Case, benchmark: Any, pytestconfig: pytest.Config) -> None:
    """Time one pass."""
    device = parse_device(pytestconfig.getoption("dlm_device"))
    model = model_of(case.backbone, case.size, device)
    state = case.sampler.prepare(model, LENGTH)
    steps = Steps(model, case.sampler, state)
    of_role = [i for i, place in enumerate(state.passes) if role_of(place.kind) == case.role]
    index = of_role[len(of_role) // 2]
    assert index > 0, "a decode's first pass has none before it"
    before, place = state.passes[index - 1], state.passes[index]
    steps.prepare([before.kind, place.kind])

    def seek() -> None:
        case.sampler.seek(state, index - 1)

    def run() -> None:
        laps = laps_of([lambda: steps(place.kind)], device, lambda: steps(before.kind))
        CLOCK.seconds += sum(laps)

    benchmark.group = f"{case.size} {case.backbone}"
    benchmark.extra_info |= {
        "point": point_of(model, case.sampler, DecodeShape(LENGTH)).model_dump(),
        "pass": place._asdict() | {"index": index},
        "kernels": model.kernels.named(),
        "graphs": steps.report(),
        "environment": environment(device.type, device.index or 0),
    }
    benchmark.pedantic(run, setup=seek, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)
    assert state.index.item() == index + 1, "the pass did not run"
