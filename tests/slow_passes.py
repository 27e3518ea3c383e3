"""A pytest plugin (`-p slow_passes`) that plants a slowdown: each pass of a model runs twice. Real
work, in the place where a slow kernel would be."""

from dlm_bench.models.denoiser import Denoiser

_forward = Denoiser.forward


def _slow(self, *args, **kwargs):
    _forward(self, *args, **kwargs)
    return _forward(self, *args, **kwargs)


Denoiser.forward = _slow
