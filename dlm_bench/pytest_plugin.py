"""The pytest plugin: a fixture that times a point, and asserts that it did not get slower.

    def test_decoding_speed(throughput):
        record = throughput("diffumamba", "block-cache", length=512, tokens_per_step=8)
        throughput.check(record)

Every pytest run where dlm-bench is installed imports this module, so it imports nothing but pytest;
torch comes with the first point, the statistics with a baseline (docs/ci.md).
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dlm_bench.errors import ConfigError, DlmBenchError, ResultsError, share_of

if TYPE_CHECKING:
    from dlm_bench.compare.baseline import Baseline
    from dlm_bench.compare.verdicts import PointVerdict
    from dlm_bench.plugins.api import Model
    from dlm_bench.results.record import Graphs, Mode, Record


@dataclass(frozen=True)
class _Settings:
    baseline: Path | None
    save: Path | None
    threshold: float
    run_spread: float
    strict: bool
    device: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, all of them `--dlm-...`."""
    group = parser.getgroup("dlm-bench", "throughput of diffusion language models")
    group.addoption(
        "--dlm-baseline", metavar="FILE", help="results file that throughput.check compares with"
    )
    group.addoption(
        "--dlm-save", metavar="FILE", help="append the record of every point timed to this file"
    )
    group.addoption(
        "--dlm-threshold",
        type=_share,
        default="5%",
        metavar="SHARE",
        help="the slowdown that must not pass (default: 5%%)",
    )
    group.addoption(
        "--dlm-run-spread",
        type=_share,
        default="2%",
        metavar="SHARE",
        help="what runs of the same code differ by, a standard deviation (default: 2%%)",
    )
    group.addoption(
        "--dlm-strict",
        action="store_true",
        help="fail, and not skip, what the baseline lacks or has from another environment",
    )
    group.addoption(
        "--dlm-device", default="cpu", metavar="DEVICE", help="cpu or cuda (default: cpu)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the baseline, so that a wrong file ends the session before anything is measured."""
    settings = _settings(config)
    if settings.save is not None and settings.save == settings.baseline:
        raise pytest.UsageError(
            "--dlm-save: must not be the file of --dlm-baseline, which a slowdown would become "
            "part of"
        )
    baseline = None
    try:
        if settings.baseline is not None:
            from dlm_bench.compare.baseline import read_baseline

            baseline = read_baseline(settings.baseline)
        if settings.save is not None:
            from dlm_bench.results.store import check_writable

            check_writable(settings.save)
    except DlmBenchError as error:
        raise pytest.UsageError(f"dlm-bench: {error}") from None
    config.stash[_KEY] = Throughput(settings, baseline)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """A line for every point that was judged."""
    lines = config.stash[_KEY].lines
    if lines:
        terminalreporter.section("dlm-bench")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def throughput(pytestconfig: pytest.Config) -> "Throughput":
    """Times points and checks them against the baseline; see Throughput."""
    return pytestconfig.stash[_KEY]


class Throughput:
    """The `throughput` fixture. Keeps a model while points ask for the same model; a second model
    would add to the peak memory."""

    def __init__(self, settings: _Settings, baseline: "Baseline | None") -> None:
        self._settings, self._baseline = settings, baseline
        self._model: tuple[tuple[object, ...], Model] | None = None
        self.lines: list[str] = []

    def __call__(
        self,
        backbone: str,
        sampler: str,
        *,
        length: int,
        size: str | None = None,
        batch: int = 1,
        prompt_len: int = 0,
        device: str | None = None,
        dtype: str | None = None,
        mode: "Mode | None" = None,
        warmup: int | None = None,
        repeats: int | None = None,
        seed: int | None = None,
        graphs: "Graphs | None" = None,
        **options: Any,
    ) -> "Record":
        """Time a point and return its record; `options` are the sampler's.

        `backbone` and `size` are those of `dlm_bench.build_model`; `device` is that of --dlm-device
        if it is not given, `dtype` float32 on a CPU and else bfloat16; mode, warmup, repeats, seed
        and graphs are those of `dlm_bench.measure`, with its defaults. Skips the test in a worker
        of pytest-xdist, beside whose work no time means anything. Fails it in a line for a value
        that is not allowed.
        """
        __tracebackhide__ = True
        if "PYTEST_XDIST_WORKER" in os.environ:
            pytest.skip("dlm-bench: workers of pytest-xdist would slow each other; use -n 0")
        given = {"mode": mode, "warmup": warmup, "repeats": repeats, "seed": seed, "graphs": graphs}
        settings: dict[str, Any] = {k: value for k, value in given.items() if value is not None}
        shape = {"length": length, "prompt_len": prompt_len, "batch": batch}
        try:
            return self._measure((backbone, size, device, dtype), sampler, options, shape, settings)
        except DlmBenchError as error:
            failure = f"dlm-bench: {error}"
        pytest.fail(failure, pytrace=False)  # not in the handler: the error would be its context

    def _measure(
        self,
        asked: "tuple[str, str | None, str | None, str | None]",
        sampler: str,
        options: dict[str, Any],
        shape: dict[str, int],
        given: dict[str, Any],
    ) -> "Record":
        from dlm_bench.models.place import default_dtype, find_place
        from dlm_bench.results.store import append_record
        from dlm_bench.samplers import build_sampler
        from dlm_bench.samplers.schedule import DecodeShape
        from dlm_bench.sweep.worker.jobs import release
        from dlm_bench.timing.measure import measure_point
        from dlm_bench.timing.settings import MeasureSettings

        backbone, size, device, dtype = asked
        settings = MeasureSettings(**given)
        place = find_place(self._settings.device if device is None else device)
        dtype = default_dtype(place.type) if dtype is None else dtype
        built = build_sampler(sampler, **options)
        try:
            model = self._load_model(backbone, size, str(place), dtype, settings.seed)
            record = measure_point(model, built, DecodeShape(**shape), settings)
        finally:
            release(place.type)
        if self._settings.save is not None:
            append_record(self._settings.save, record)
        return record

    def check(self, record: "Record") -> "PointVerdict | None":
        """Fail the test if the record's point is proven slower than in the baseline.

        Returns the verdict otherwise: faster, same or undecided; None if there is no
        --dlm-baseline. Skips the test if the baseline has no time of the point, or one from
        another environment; with --dlm-strict that fails, too.
        """
        __tracebackhide__ = True
        if not hasattr(record, "seconds"):
            pytest.fail(
                f"dlm-bench: check: {record!r} is not allowed; must be a record, which "
                "throughput(...) returns",
                pytrace=False,
            )
        if self._baseline is None:
            return None
        from dlm_bench.compare.baseline import judge, line_of

        try:
            judged = judge(
                record,
                self._baseline,
                threshold=self._settings.threshold,
                run_spread=self._settings.run_spread,
            )
        except ResultsError as error:
            self._cannot_tell(f"{record.point.describe()}: {error}")
        if judged.change is None:
            failed = f": {judged.note}" if judged.note else ""
            self._cannot_tell(
                f"{record.point.describe()}: no time of it in {self._baseline.path}{failed}"
            )
        self.lines.append(line_of(judged))
        if judged.verdict == "slower":
            pytest.fail(
                f"dlm-bench: {line_of(judged)}; threshold {100 * self._settings.threshold:g} %, "
                f"baseline {self._baseline.path}",
                pytrace=False,
            )
        return judged

    def _cannot_tell(self, why: str) -> None:
        __tracebackhide__ = True
        self.lines.append(f"not compared: {why}")
        if self._settings.strict:
            pytest.fail(f"dlm-bench: {why}", pytrace=False)
        pytest.skip(f"dlm-bench: {why}")

    def _load_model(self, *asked: Any) -> "Model":
        if self._model is None or self._model[0] != asked:
            from dlm_bench.models.factory import build_model

            self._model = None  # free the old one before the new one is there
            backbone, size, device, dtype, seed = asked
            self._model = asked, build_model(backbone, size, device, dtype, seed)
        return self._model[1]


_KEY = pytest.StashKey[Throughput]()


def _settings(config: pytest.Config) -> _Settings:
    def path(option: str) -> Path | None:
        given = config.getoption(option)  # a test may change the current folder
        return (config.invocation_params.dir / given).resolve() if given else None

    return _Settings(
        baseline=path("dlm_baseline"),
        save=path("dlm_save"),
        threshold=config.getoption("dlm_threshold"),
        run_spread=config.getoption("dlm_run_spread"),
        strict=config.getoption("dlm_strict"),
        device=config.getoption("dlm_device"),
    )


def _share(text: str) -> float:
    """The share that a text such as `5%` or `0.05` says (see `share_of`)."""
    try:
        return share_of("", text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from None
