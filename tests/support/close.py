"""Comparison of tensors within a tolerance, whose reason stands at the call."""

import math

import torch


def relative_error(got, expected, norm="max"):
    """Return the size of `got - expected` relative to that of `expected`, computed in float64.

    norm: "max", the largest absolute value; "l2", the root of the sum of squares; "each", the
        largest |got - expected| / (1 + |expected|) of an element.
    Two tensors of zeros have the error 0; a NaN or an infinity in `got` gives infinity.
    """
    got, expected = got.double(), expected.double()
    difference = got - expected
    if not difference.isfinite().all():
        return math.inf
    if norm == "each":
        return (difference.abs() / (1 + expected.abs())).max().item()
    size = {"max": lambda x: x.abs().max().item(), "l2": lambda x: x.norm().item()}[norm]
    if size(difference) == 0:
        return 0.0
    return size(difference) / size(expected) if size(expected) else math.inf


def assert_close(got, expected, tolerance, norm="max", where=""):
    """Assert the same shape and dtype, finite values and a relative error below the tolerance."""
    assert got.shape == expected.shape, where
    assert got.dtype == expected.dtype, where
    assert torch.isfinite(got).all(), where
    error = relative_error(got, expected, norm)
    assert error < tolerance, f"{where} relative error {error:.3g}, allowed {tolerance:.3g}".strip()
