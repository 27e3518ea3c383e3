"""A pytest plugin (`-p support.slow_passes`) that plants a slowdown: each pass of a model runs five
times. Real work, in the place where a slow kernel would be, and more than neighbours slow a pass
down."""

from dlm_bench.models.language_model import LanguageModel

_forward = LanguageModel.forward


def _slow(self, *args, **kwargs):
    for _ in range(4):
        _forward(self, *args, **kwargs)
    return _forward(self, *args, **kwargs)


LanguageModel.forward = _slow
