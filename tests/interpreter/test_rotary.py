"""The rotary kernel against plain PyTorch, under Triton's interpreter."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels.cuda.rotary import rotate_qkv
from dlm_bench.kernels.rotary import rotary_angles, rotate

# float32: a fused multiply-add rounds once where the reference rounds twice. float16: both round
# the same float32 value to 2^-11, now and then to different sides.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 2e-4}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float16"])
LENGTH = 80


class Case:
    """A projection, caches full of other values, and what they should become."""

    def __init__(self, batch, query_len, heads, head_dim, start, dtype):
        self.qkv = torch.randn(batch, query_len, 3, heads, head_dim).to(dtype)
        self.angles = rotary_angles(torch.arange(LENGTH), head_dim)
        self.start = None if start is None else torch.tensor([start])
        self.caches = torch.randn(2, batch, heads, LENGTH, head_dim).to(dtype).unbind()
        self.here = slice(start or 0, (start or 0) + query_len)
        angles = tuple(table[self.here] for table in self.angles)
        q, k, self.v = self.qkv.clone().permute(2, 0, 3, 1, 4)
        self.q, self.k = rotate(q, angles), rotate(k, angles)

    def run(self, *caches):
        rotate_qkv(self.qkv, *self.angles, self.start, *caches)
        return self.qkv.permute(2, 0, 3, 1, 4)


SHAPES = pytest.mark.parametrize(
    ("batch", "query_len", "heads", "head_dim"),
    [
        (1, 1, 4, 16),
        (2, 37, 4, 16),  # 32 tokens a program: the last one partly beyond the end
        (1, 17, 4, 32),
        (2, 3, 24, 40),  # two tokens a program, heads that are not a power of two
        (1, 2, 24, 80),
        (2, 5, 3, 60),
        (1, 3, 5, 6),  # odd halves
        (1, LENGTH, 2, 64),
    ],
)


@DTYPES
@SHAPES
@pytest.mark.parametrize("start", [None, 0, 13, "last"])
def test_puts_keys_and_values_in_the_caches(batch, query_len, heads, head_dim, start, dtype):
    last = LENGTH - query_len
    start = last if start == "last" else start and min(start, last)
    case = Case(batch, query_len, heads, head_dim, start, dtype)
    k_cache, v_cache = (cache.clone() for cache in case.caches)
    before = case.qkv.clone()
    q, _, _ = case.run(k_cache, v_cache)
    assert_close(q, case.q, TOLERANCES[q.dtype], "l2")
    assert torch.equal(case.qkv[:, :, 1:], before[:, :, 1:])
    assert_close(k_cache[:, :, case.here], case.k, TOLERANCES[k_cache.dtype], "l2")
    assert torch.equal(v_cache[:, :, case.here], case.v)
    for cache, kept in zip((k_cache, v_cache), case.caches, strict=True):
        cache[:, :, case.here] = kept[:, :, case.here]
        assert torch.equal(cache, kept)


@DTYPES
@SHAPES
@pytest.mark.parametrize("start", [None, 13])
def test_turns_in_place_without_caches(batch, query_len, heads, head_dim, start, dtype):
    start = start and min(start, LENGTH - query_len)
    case = Case(batch, query_len, heads, head_dim, start, dtype)
    q, k, v = case.run()
    assert_close(q, case.q, TOLERANCES[q.dtype], "l2")
    assert_close(k, case.k, TOLERANCES[k.dtype], "l2")
    assert torch.equal(v, case.v)


def test_the_first_position_is_left_as_it_is():
    case = Case(1, 1, 4, 16, None, torch.float32)
    before = case.qkv.clone()
    case.run()
    assert torch.equal(case.qkv, before)


def test_one_cache_alone_is_an_error():
    case = Case(1, 1, 4, 16, None, torch.float32)
    with pytest.raises(ValueError, match="both or none"):
        case.run(case.caches[0])
