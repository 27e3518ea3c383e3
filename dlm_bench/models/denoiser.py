"""The former name of `dlm_bench.models.language_model`, until version 0.2."""

import warnings

from dlm_bench.models.language_model import LanguageModel as Denoiser
from dlm_bench.models.language_model import TimestepEmbedding

__all__ = ["Denoiser", "TimestepEmbedding"]

warnings.warn(
    "dlm_bench.models.denoiser.Denoiser is dlm_bench.models.language_model.LanguageModel now",
    DeprecationWarning,
    stacklevel=2,
)
