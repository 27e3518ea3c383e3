"""Products by oneDNN have the numbers of the plain ones, and stay away where it cannot help."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close
from torch.profiler import ProfilerActivity, profile

from dlm_bench.kernels import linear as products
from dlm_bench.kernels.linear import (
    HAS_ONEDNN,
    PACKED_NUMBERS,
    WORTH,
    WORTH_PACKED,
    Packed,
    linear,
    linear_gelu,
)

# Two orders of the same float32 sums of 128 products.
ROUNDING = 1e-6
WIDE, ROWS = (320, 128), 32  # a product worth it


@pytest.fixture(autouse=True)
def onednn(monkeypatch):
    """The products of a processor whose BLAS takes half of the vector width."""
    monkeypatch.setattr(products, "BLAS_TAKES_HALF", True)


def case(shape=WIDE, rows=ROWS, dtype=torch.float32):
    """Rows, a weight and a bias."""
    generator = torch.Generator().manual_seed(0)
    out, width = shape
    drawn = (torch.randn(size, generator=generator) for size in ((2, rows, width), shape, (out,)))
    x, weight, bias = (each.to(dtype) for each in drawn)
    return x, weight / width**0.5, bias


needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="PyTorch is built without oneDNN")


def calls(function, *args):
    """The result, and the names of PyTorch's operators that a call runs."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        out = function(*args)
    return out, {event.key for event in profiled.key_averages()}


def exact(x, weight, bias=None):
    """The product in float64."""
    return F.linear(x.double(), weight.double(), None if bias is None else bias.double())


def takes_onednn(*args):
    return "mkldnn::_linear_pointwise" in calls(linear, *args)[1]


@pytest.mark.parametrize(
    ("maker", "capability", "mkl", "half"),
    [
        ("AuthenticAMD", "AVX512", True, True),
        ("AuthenticAMD", "AVX2", True, False),
        ("AuthenticAMD", "AVX512", False, False),
        ("GenuineIntel", "AVX512", True, False),
    ],
)
def test_the_blas_takes_half_of_avx_512_on_other_processors_than_intels(
    monkeypatch, maker, capability, mkl, half
):
    monkeypatch.setattr(products.Path, "read_text", lambda _: f"vendor_id\t: {maker}\n")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    assert products.blas_takes_half() == half


@needs_onednn
def test_where_the_blas_takes_the_whole_width_it_gets_all_but_large_products_of_a_kept_weight(
    monkeypatch,
):
    monkeypatch.setattr(products, "BLAS_TAKES_HALF", False)
    rows = WORTH_PACKED // (2 * 320 * 128) + 1  # and two sequences
    large, packed = case(rows=rows), Packed()
    assert takes_onednn(*large, packed)
    assert len(packed.reordered) == 1
    assert not takes_onednn(*large)
    assert not takes_onednn(*case(rows=rows - 1), packed)
    assert not takes_onednn(*case((PACKED_NUMBERS // 128 + 1, 128), rows=rows), packed)
    assert_close(linear(*large, packed), exact(*large).float(), ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
@torch.inference_mode()
def test_the_blas_gives_a_decode_the_numbers_of_the_plain_form_to_the_bit(
    monkeypatch, dtype, with_bias
):
    monkeypatch.setattr(products, "BLAS_TAKES_HALF", False)
    packed = Packed()
    for rows in (2 * ROWS, ROWS, 1):
        x, weight, bias = case(rows=rows, dtype=dtype)
        given = (x, weight, bias) if with_bias else (x, weight, None)
        for each in (x, x[0]):
            found = linear(each, *given[1:], packed)
            assert torch.equal(found, F.linear(each, *given[1:]))


@needs_onednn
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_is_that_of_the_plain_form(with_bias):
    x, weight, bias = case()
    args = (x, weight, bias) if with_bias else (x, weight)
    out, names = calls(linear, *args)
    assert "mkldnn::_linear_pointwise" in names
    assert_close(out, exact(*args).float(), ROUNDING)


@needs_onednn
def test_gelu_is_that_of_the_plain_form_at_small_and_large_numbers():
    x, weight, bias = case()
    x *= torch.logspace(-3, 2, ROWS)[:, None]
    out, names = calls(linear_gelu, x, weight, bias)
    assert "mkldnn::_linear_pointwise" in names
    assert "aten::gelu" not in names
    assert_close(out, F.gelu(exact(x, weight, bias), approximate="tanh").float(), ROUNDING)


def test_parts_of_wider_tensors_are_taken_without_an_error():
    x, weight, bias = case((640, 256))
    for rows in (x[:, 3:, 128:], x[:, :, :128].transpose(0, 1)):
        for columns in (weight[7:, :128], weight[7:, :128].contiguous()):
            found = linear(rows, columns, bias[7:])
            assert_close(found, exact(rows, columns, bias[7:]).float(), ROUNDING)


@torch.inference_mode()
def test_no_rows_are_no_rows():
    _, weight, bias = case()
    assert linear(torch.zeros(2, 0, 128), weight, bias, Packed()).shape == (2, 0, 320)


def test_a_row_that_is_not_finite_leaves_the_others_alone():
    x, weight, bias = case()
    x[0, 3] = torch.nan
    x[1, 5] = torch.inf
    out = linear(x, weight, bias)
    finite = out.isfinite().all(dim=-1)
    assert finite.sum() == 2 * ROWS - 2
    assert not out[0, 3].isfinite().any()
    assert not out[1, 5].isfinite().any()


@needs_onednn
def test_a_small_product_and_bfloat16_are_left_to_pytorch():
    assert takes_onednn(*case())
    rows, (out, width) = 2 * ROWS, WIDE
    assert rows // 4 * out * width < WORTH
    assert not takes_onednn(*case(rows=ROWS // 4))
    assert not takes_onednn(*case(dtype=torch.bfloat16))


@needs_onednn
def test_onednn_gets_a_weight_with_gaps_as_a_copy_without():
    x, weight, bias = case((320, 256))
    names = calls(linear, x[..., :128], weight[:, :128], bias)[1]
    assert {"mkldnn::_linear_pointwise", "aten::contiguous"} <= names


@needs_onednn
def test_a_decode_keeps_a_small_weight_in_the_layout_of_onednn_and_no_large_one():
    packed = Packed()
    _, weight, bias = case()
    for rows in (2 * ROWS, ROWS, 100):  # kept for one number of rows, and taken for others
        x = case(rows=rows)[0]
        assert_close(linear(x, weight, bias, packed), exact(x, weight, bias).float(), ROUNDING)
        found = linear_gelu(x, weight, bias, packed)
        assert_close(found, linear_gelu(x, weight, bias), ROUNDING)
        assert len(packed.reordered) == 1
    x, weight, _ = case((PACKED_NUMBERS // 128 + 1, 128))
    linear(x, weight, packed=packed)
    assert len(packed.reordered) == 1


@pytest.mark.parametrize("form", [linear, linear_gelu])
def test_gradients_are_those_of_the_plain_form(form):
    x, weight, bias = (each.requires_grad_() for each in case())
    form(x, weight, bias).square().sum().backward()
    found = [each.grad.clone() for each in (x, weight, bias)]
    for each in (x, weight, bias):
        each.grad = None
    product = F.linear(x, weight, bias)
    out = F.gelu(product, approximate="tanh") if form is linear_gelu else product
    out.square().sum().backward()
    for gradient, each in zip(found, (x, weight, bias), strict=True):
        assert torch.equal(gradient, each.grad)
