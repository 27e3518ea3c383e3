"""The former name of `dlm_bench.plugins.api`, until version 0.2."""

import warnings

from dlm_bench.plugins.api import CAPABILITIES as PASSES
from dlm_bench.plugins.api import BackbonePlugin, Cache, Head, Model, UsedKernels
from dlm_bench.plugins.api import ModelInfo as Facts

__all__ = ["PASSES", "BackbonePlugin", "Cache", "Facts", "Head", "Model", "UsedKernels"]

warnings.warn("dlm_bench.protocols is dlm_bench.plugins.api now", DeprecationWarning, stacklevel=2)
