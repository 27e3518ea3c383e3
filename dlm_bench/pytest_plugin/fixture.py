"""The `throughput` fixture."""

import os
from pathlib import Path
from typing import Any

import pytest

from dlm_bench.compare.baseline import judge, line_of
from dlm_bench.compare.verdicts import PointVerdict
from dlm_bench.cost.too_fast import check_not_too_fast
from dlm_bench.errors import DlmBenchError, ResultsError
from dlm_bench.models.backbones import backbone_info
from dlm_bench.models.device import default_dtype, find_device
from dlm_bench.models.factory import build_model
from dlm_bench.plugins.api import Model
from dlm_bench.pytest_plugin.session import Session
from dlm_bench.results.record import Graphs, Mode, Record
from dlm_bench.results.store import append_record
from dlm_bench.samplers import build_sampler, with_models_defaults
from dlm_bench.samplers.prompt_file import load_prompts
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.sweep.worker.jobs import release
from dlm_bench.timing.measure import measure_point
from dlm_bench.timing.settings import DEFAULTS, MeasureSettings


class Throughput:
    """The `throughput` fixture.

    Keeps the model while points ask for the same: another would count in their peak memory.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._model: tuple[tuple[object, ...], Model] | None = None

    def __call__(
        self,
        backbone: str,
        sampler: str,
        *,
        length: int,
        size: str | None = None,
        batch: int = 1,
        prompt_len: int = 0,
        prompts: str | Path | None = None,
        stop_at_eos: bool = False,
        device: str | None = None,
        dtype: str | None = None,
        mode: Mode | None = None,
        warmup: int | None = None,
        repeats: int | None = None,
        seed: int | None = None,
        graphs: Graphs | None = None,
        tolerance: float | None = None,
        max_seconds: float | None = None,
        min_warmup: float | None = None,
        min_time: float | None = None,
        soak: float | None = None,
        **options: Any,
    ) -> Record:
        """Time a point and return its record; `options` are the sampler's.

        `backbone` and `size` are those of `dlm_bench.build_model`. `device` defaults to
        --dlm-device, `dtype` to float32 on a CPU and bfloat16 elsewhere. `prompts` is the path of a
        file, or "shipped". The other parameters are
        those of `dlm_bench.measure`, with the same defaults. Skips the test in a worker of
        pytest-xdist, beside other work. Fails the test in a line for a wrong value.
        """
        __tracebackhide__ = True
        if "PYTEST_XDIST_WORKER" in os.environ:
            pytest.skip("dlm-bench: workers of pytest-xdist would slow each other; use -n 0")
        given: dict[str, Any] = {"mode": mode, "warmup": warmup, "repeats": repeats, "seed": seed}
        given |= {"graphs": graphs, "tolerance": tolerance, "max_seconds": max_seconds}
        given |= {"min_warmup": min_warmup, "min_time": min_time, "soak": soak}
        settings = {name: value for name, value in given.items() if value is not None}
        try:
            shape = DecodeShape(length, prompt_len, batch, stop_at_eos=stop_at_eos)
            if prompts is not None:
                found = load_prompts(prompts, backbone_info(backbone).folder)
                shape = shape.after(found, settings.get("seed", DEFAULTS.seed))
            return self._measure((backbone, size, device, dtype), sampler, options, shape, settings)
        except DlmBenchError as error:
            failure = f"dlm-bench: {error}"
        pytest.fail(failure, pytrace=False)  # not in the handler: the error would be its context

    def _measure(
        self,
        asked: tuple[str, str | None, str | None, str | None],
        sampler: str,
        options: dict[str, Any],
        shape: DecodeShape,
        given: dict[str, Any],
    ) -> Record:
        backbone, size, device, dtype = asked
        settings = MeasureSettings(**given)
        place = find_device(self._session.device if device is None else device)
        dtype = default_dtype(place.type) if dtype is None else dtype
        info = backbone_info(backbone)
        built = build_sampler(sampler, **with_models_defaults(sampler, options, info))
        try:
            model = self._load_model(backbone, size, str(place), dtype, settings.seed)
            record = measure_point(model, built, shape, settings)
            check_not_too_fast(record, built)
        finally:
            release(place.type)
        if self._session.save is not None:
            append_record(self._session.save, record)
        return record

    def check(self, record: Record) -> PointVerdict | None:
        """Fail the test if the record's point is proven slower than in the baseline.

        Returns the verdict otherwise: faster, same or undecided; None without --dlm-baseline.
        Skips the test, or fails it with --dlm-strict, if the baseline has no time of the point
        from this environment.
        """
        __tracebackhide__ = True
        if not hasattr(record, "seconds"):
            pytest.fail(
                f"dlm-bench: check: {record!r} is not allowed; must be a record, which "
                "throughput(...) returns",
                pytrace=False,
            )
        baseline = self._session.baseline
        if baseline is None:
            return None
        try:
            judged = judge(
                record,
                baseline,
                threshold=self._session.threshold,
                run_spread=self._session.run_spread,
                false_alarms=self._session.false_alarms,
            )
        except ResultsError as error:
            self._cannot_tell(f"{record.point.describe()}: {error}")
        if judged.change is None:
            failed = f": {judged.note}" if judged.note else ""
            self._cannot_tell(
                f"{record.point.describe()}: no time of it in {baseline.path}{failed}"
            )
        self._session.lines.append(line_of(judged))
        if judged.verdict == "slower":
            pytest.fail(
                f"dlm-bench: {line_of(judged)}; threshold {100 * self._session.threshold:g} %, "
                f"baseline {baseline.path}",
                pytrace=False,
            )
        return judged

    def _cannot_tell(self, why: str) -> None:
        __tracebackhide__ = True
        self._session.lines.append(f"not compared: {why}")
        if self._session.strict:
            pytest.fail(f"dlm-bench: {why}", pytrace=False)
        pytest.skip(f"dlm-bench: {why}")

    def _load_model(self, *asked: Any) -> Model:
        if self._model is None or self._model[0] != asked:
            self._model = None  # free the old one before the new one is there
            backbone, size, device, dtype, seed = asked
            self._model = asked, build_model(backbone, size, device, dtype, seed)
        return self._model[1]
