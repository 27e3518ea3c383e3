"""The rotary kernel against plain PyTorch, under Triton's interpreter."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels.cuda.rotary import rotate_qkv
from dlm_bench.kernels.rms_norm import rms_norm
from dlm_bench.kernels.rotary import rotary_angles, rotate

# float32: a fused multiply-add rounds once where the reference rounds twice. float16: both round
# the same float32 value to 2^-11, now and then to different sides.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 2e-4}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float16"])
LENGTH = 80
EPSILON = 1e-2  # so large that a forgotten one shows


class Case:
    """A projection, caches full of other values, and what they should become."""

    def __init__(
        self,
        batch,
        query_len,
        heads,
        head_dim,
        start,
        dtype,
        kv_heads=None,
        turned=None,
        normed=False,
    ):
        kv_heads = heads if kv_heads is None else kv_heads
        self.groups = (heads, kv_heads, kv_heads)
        self.qkv = torch.randn(batch, query_len, sum(self.groups), head_dim).to(dtype)
        self.angles = rotary_angles(torch.arange(LENGTH), turned or head_dim)
        self.norms = tuple(torch.rand(2, head_dim).to(dtype)) if normed else None
        self.start = None if start is None else torch.tensor([start])
        self.caches = torch.randn(2, batch, kv_heads, LENGTH, head_dim).to(dtype).unbind()
        self.here = slice(start or 0, (start or 0) + query_len)
        angles = tuple(table[self.here] for table in self.angles)
        q, k, self.v = self.split(self.qkv.clone())
        if self.norms is not None:  # in float32, rounded once, behind the turn
            q, k = (
                rms_norm(x, weight.float(), EPSILON)
                for x, weight in zip((q, k), self.norms, strict=True)
            )
        self.q, self.k = (rotate(x, angles).to(dtype) for x in (q, k))

    def split(self, qkv):
        return qkv.transpose(1, 2).split(self.groups, dim=1)

    def run(self, *caches):
        rotate_qkv(
            self.qkv,
            *self.angles,
            self.start,
            *caches,
            kv_heads=self.groups[1],
            norms=self.norms,
            epsilon=EPSILON,
        )
        return self.split(self.qkv)

    def check_stored(self):
        """Run with caches: q is turned in place, k and v are in the caches, all else is kept."""
        k_cache, v_cache = (cache.clone() for cache in self.caches)
        before = self.qkv.clone()
        q, _, _ = self.run(k_cache, v_cache)
        assert_close(q, self.q, TOLERANCES[q.dtype], "l2")
        heads = self.groups[0]
        assert torch.equal(self.qkv[:, :, heads:], before[:, :, heads:])
        assert_close(k_cache[:, :, self.here], self.k, TOLERANCES[k_cache.dtype], "l2")
        assert torch.equal(v_cache[:, :, self.here], self.v)
        for cache, kept in zip((k_cache, v_cache), self.caches, strict=True):
            cache[:, :, self.here] = kept[:, :, self.here]
            assert torch.equal(cache, kept)

    def check_turned(self):
        """Run without caches: q and k are turned in place, v is kept."""
        q, k, v = self.run()
        assert_close(q, self.q, TOLERANCES[q.dtype], "l2")
        assert_close(k, self.k, TOLERANCES[k.dtype], "l2")
        assert torch.equal(v, self.v)


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
# Of a head's columns all turn, or fewer; norms of heads padded to a power of two and not.
GROUPS = pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "turned"),
    [(7, 1, 16, 16), (8, 2, 16, 8), (28, 4, 128, 128), (6, 3, 60, 20), (4, 4, 16, 4), (3, 1, 6, 2)],
)
NORMS = pytest.mark.parametrize("normed", [False, True], ids=["plain", "normed"])


@DTYPES
@SHAPES
@pytest.mark.parametrize("start", [None, 0, 13, "last"])
def test_puts_keys_and_values_in_the_caches(batch, query_len, heads, head_dim, start, dtype):
    last = LENGTH - query_len
    start = last if start == "last" else start and min(start, last)
    Case(batch, query_len, heads, head_dim, start, dtype).check_stored()


@DTYPES
@SHAPES
@pytest.mark.parametrize("start", [None, 13])
def test_turns_in_place_without_caches(batch, query_len, heads, head_dim, start, dtype):
    start = start and min(start, LENGTH - query_len)
    Case(batch, query_len, heads, head_dim, start, dtype).check_turned()


@DTYPES
@NORMS
@GROUPS
def test_grouped_heads_with_norms_and_columns_that_pass(
    heads, kv_heads, head_dim, turned, normed, dtype
):
    for start in (None, 13):
        Case(2, 5, heads, head_dim, start, dtype, kv_heads, turned, normed).check_stored()
        Case(2, 5, heads, head_dim, start, dtype, kv_heads, turned, normed).check_turned()


def test_the_first_position_is_left_as_it_is():
    case = Case(1, 1, 4, 16, None, torch.float32)
    before = case.qkv.clone()
    case.run()
    assert torch.equal(case.qkv, before)


def test_one_cache_alone_is_an_error():
    case = Case(1, 1, 4, 16, None, torch.float32)
    with pytest.raises(ValueError, match="both or none"):
        case.run(case.caches[0])
