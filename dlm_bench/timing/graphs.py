"""Run the passes of a decode by kind: replays of captured CUDA graphs, or the sampler's own step.

A pass launches some hundred kernels of microseconds each: launched separately from Python they
would cost more than they do. A graph is captured once per kind of pass, after warm-up, and
replayed for every pass of that kind; all changes from pass to pass are on the device.
"""

import gc
from collections import Counter
from collections.abc import Iterable

import torch

from dlm_bench.errors import ConfigError, first_line
from dlm_bench.plugins.api import Model
from dlm_bench.results.record import Graphs
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import role_of
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.capture import WAITS, BrokenCaptureError, Capture, CudaCapture, Replay
from dlm_bench.timing.clocks import timed

CAPTURED = "captured"
WARMUP_STEPS = 2  # before a capture: one autotunes and loads modules, one runs without either
LONG_SECONDS = 0.5  # of a step, with which there is no other: it would take as long as measuring
MOST_GRAPHS = 64  # a graph of a large model holds megabytes of launch parameters


class Steps:
    """Runs of passes: `steps(kind)` runs the next pass of a decode, of this kind.

    graphs: "auto" captures all passes if possible and runs the rest eagerly; "require"
    raises at the first failure; "off" captures nothing.
    """

    def __init__(
        self,
        model: Model,
        sampler: Sampler,
        state: DecodeState,
        graphs: Graphs = "auto",
        capture: Capture | None = None,
    ) -> None:
        self._model, self._sampler, self._state = model, sampler, state
        self._graphs = graphs
        self._replays: dict[str, Replay] = {}
        self._outcomes: dict[str, str] = {}
        self.warm: set[str] = set()  # kinds whose passes take so long that one was warm-up enough
        device = state.tokens.device
        self._capture = capture
        if capture is None and device.type == "cuda":
            self._capture = CudaCapture(device)

    def __call__(self, kind: str) -> None:
        replay = self._replays.get(kind)
        if replay is None:
            self._sampler.step(self._model, self._state, kind)
        else:
            replay()

    def prepare(self, kinds: Iterable[str]) -> None:
        """Capture these kinds, once each; leaves the state anywhere: seek next.

        Raises ConfigError if graphs are required and a kind cannot be captured.
        """
        new = [kind for kind in dict.fromkeys(kinds) if kind not in self._outcomes]
        if new and self._capture is not None:
            # A tensor that is collected during a capture would free its memory inside it.
            gc.collect()
        for kind in new:
            reason = self._try(kind)
            self._outcomes[kind] = CAPTURED if reason is None else f"eager: {reason}"
            if reason is not None and self._graphs == "require":
                raise ConfigError(
                    f"graphs: 'require' is not allowed here; {kind!r} passes cannot be captured: "
                    f"{reason}"
                )

    def report(self) -> dict[str, str]:
        """Return of each role of pass "captured" or the reason against a graph; with the number
        of kinds where outcomes differ."""
        roles: dict[str, Counter[str]] = {}
        for kind, outcome in self._outcomes.items():
            roles.setdefault(role_of(kind), Counter())[outcome] += 1
        return {
            role: next(iter(counts))
            if len(counts) == 1
            else "; ".join(f"{outcome} ({n} kinds)" for outcome, n in counts.items())
            for role, counts in roles.items()
        }

    def _try(self, kind: str) -> str | None:
        """Capture a kind. Return the reason for a failure, None after a success."""
        if self._graphs == "off":
            return "graphs are off"
        capture = self._capture
        if capture is None:
            return f"a {self._state.tokens.device.type} has no CUDA graphs"
        if len(self._replays) >= MOST_GRAPHS:
            return f"this decode has more than {MOST_GRAPHS} kinds of pass"
        first = next(i for i, step in enumerate(self._state.passes) if step.kind == kind)

        def step() -> None:
            self._sampler.step(self._model, self._state, kind)

        def rehearsed() -> None:
            with capture.rehearsal():
                step()

        for number in range(WARMUP_STEPS):
            last = number == WARMUP_STEPS - 1
            self._sampler.seek(self._state, first)
            try:
                laps = timed([rehearsed if last else step], self._state.tokens.device)
            except RuntimeError as error:
                if last and WAITS in str(error):
                    return f"the host waits for the device in it ({first_line(error)})"
                raise
            # The time of a host that compiles, or waits, is not the pass's.
            if laps.seconds[0] - laps.queued > LONG_SECONDS:
                self.warm.add(kind)
                break
        self._sampler.seek(self._state, first)
        try:
            self._replays[kind] = capture(step)
        except (torch.OutOfMemoryError, BrokenCaptureError):
            raise
        except Exception as error:  # whatever cannot be captured raises its own
            return first_line(error) or type(error).__name__
        return None
