"""A throughput benchmark for diffusion language models.

The names below are loaded on first use, so that `import dlm_bench` does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dlm_bench.version import __version__ as __version__

if TYPE_CHECKING:
    from dlm_bench.analysis.latency_fit import LatencyFit, fit_latency
    from dlm_bench.cost.too_fast import measure
    from dlm_bench.errors import ConfigError, DlmBenchError, ResultsError
    from dlm_bench.models.factory import build_model
    from dlm_bench.results.record import Point, Record
    from dlm_bench.results.store import append_record, load_results, read_records
    from dlm_bench.samplers import build_sampler
    from dlm_bench.samplers.acceptance.adaptive import record_trace
    from dlm_bench.samplers.acceptance.trace import load_trace, save_trace
    from dlm_bench.samplers.prompt_file import load_prompts
    from dlm_bench.samplers.schedule import Pass, Schedule
    from dlm_bench.training.checkpoint import load_checkpoint, save_checkpoint

_HOMES = {
    "ConfigError": "dlm_bench.errors",
    "DlmBenchError": "dlm_bench.errors",
    "LatencyFit": "dlm_bench.analysis.latency_fit",
    "Pass": "dlm_bench.samplers.schedule",
    "Point": "dlm_bench.results.record",
    "Record": "dlm_bench.results.record",
    "ResultsError": "dlm_bench.errors",
    "Schedule": "dlm_bench.samplers.schedule",
    "append_record": "dlm_bench.results.store",
    "build_model": "dlm_bench.models.factory",
    "build_sampler": "dlm_bench.samplers",
    "fit_latency": "dlm_bench.analysis.latency_fit",
    "load_checkpoint": "dlm_bench.training.checkpoint",
    "load_prompts": "dlm_bench.samplers.prompt_file",
    "load_results": "dlm_bench.results.store",
    "load_trace": "dlm_bench.samplers.acceptance.trace",
    "measure": "dlm_bench.cost.too_fast",
    "read_records": "dlm_bench.results.store",
    "record_trace": "dlm_bench.samplers.acceptance.adaptive",
    "save_checkpoint": "dlm_bench.training.checkpoint",
    "save_trace": "dlm_bench.samplers.acceptance.trace",
}

__all__ = [
    "ConfigError",
    "DlmBenchError",
    "LatencyFit",
    "Pass",
    "Point",
    "Record",
    "ResultsError",
    "Schedule",
    "append_record",
    "build_model",
    "build_sampler",
    "fit_latency",
    "load_checkpoint",
    "load_prompts",
    "load_results",
    "load_trace",
    "measure",
    "read_records",
    "record_trace",
    "save_checkpoint",
    "save_trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dlm_bench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
