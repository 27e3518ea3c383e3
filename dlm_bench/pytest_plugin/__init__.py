"""The pytest plugin: a fixture to time a point, and to fail a test if the point got slower.

    def test_decoding_speed(throughput):
        record = throughput("diffumamba", "block-cache", length=512, tokens_per_step=8)
        throughput.check(record)

Every pytest run where dlm-bench is installed imports this module, so nothing here is heavy: torch
comes with the fixture, the statistics with a baseline (docs/ci.md).
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dlm_bench.errors import ConfigError, DlmBenchError, share_of
from dlm_bench.pytest_plugin.session import Session

if TYPE_CHECKING:
    from dlm_bench.pytest_plugin.fixture import Throughput

_KEY = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options `--dlm-...`."""
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
        "--dlm-false-alarms",
        type=_share,
        default="0.2%",
        metavar="SHARE",
        help="the chance of any false alarm, all points of the baseline together (default: 0.2%%)",
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
    baseline, save = (_path(config, name) for name in ("dlm_baseline", "dlm_save"))
    if save is not None and save == baseline:
        raise pytest.UsageError(
            "--dlm-save: must not be the file of --dlm-baseline, which a slowdown would become "
            "part of"
        )
    records = None
    if baseline is not None or save is not None:
        from dlm_bench.pytest_plugin.files import check_files  # scipy and pydantic

        try:
            records = check_files(baseline, save)
        except DlmBenchError as error:
            raise pytest.UsageError(f"dlm-bench: {error}") from None
    config.stash[_KEY] = Session(
        baseline=records,
        save=save,
        threshold=config.getoption("dlm_threshold"),
        run_spread=config.getoption("dlm_run_spread"),
        false_alarms=config.getoption("dlm_false_alarms"),
        strict=config.getoption("dlm_strict"),
        device=config.getoption("dlm_device"),
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print a line for every judged point."""
    lines = config.stash[_KEY].lines
    if lines:
        terminalreporter.section("dlm-bench")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def throughput(pytestconfig: pytest.Config) -> "Throughput":
    """Time points and check them against the baseline; see Throughput."""
    from dlm_bench.pytest_plugin.fixture import Throughput  # torch

    return Throughput(pytestconfig.stash[_KEY])


def _path(config: pytest.Config, option: str) -> Path | None:
    given = config.getoption(option)  # a test may change the current folder
    return (config.invocation_params.dir / given).resolve() if given else None


def _share(text: str) -> float:
    """Return the share of a text such as `5%` or `0.05` (see `share_of`)."""
    try:
        return share_of("", text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix(": ")) from None
