"""Attention over part of a cache is the textbook's softmax over that part."""

import math

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels.attention import attend, attend_cached

BATCH, HEADS, LENGTH, HEAD_DIM = 2, 3, 12, 8
# A softmax over at most 12 scores of order 1 and a sum of as many values: some 1e-7.
ROUNDING = 1e-5


def random(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, HEADS, length, HEAD_DIM, generator=generator)


def textbook(q, k, v, allowed=None):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    weights = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)
    return weights / weights.sum(dim=-1, keepdim=True) @ v


@pytest.mark.parametrize("query_len", [1, 4])
@pytest.mark.parametrize("visible", range(1, LENGTH + 1))
def test_a_query_sees_the_first_visible_keys_and_no_others(visible, query_len):
    q, k, v = random(query_len, 0), random(LENGTH, 1), random(LENGTH, 2)
    expected = textbook(q, k[:, :, :visible], v[:, :, :visible])
    k[:, :, visible:] = 1e4  # would take all of the weight
    v[:, :, visible:] = 1e4
    assert_close(attend_cached(q, k, v, torch.tensor([visible])), expected, ROUNDING, "each")


def test_whole_attention_sees_every_key():
    q, k, v = random(LENGTH, 0), random(LENGTH, 1), random(LENGTH, 2)
    assert_close(attend(q, k, v), textbook(q, k, v), ROUNDING, "each")


def test_a_short_query_sees_every_key():
    q, k, v = random(4, 0), random(LENGTH, 1), random(LENGTH, 2)
    assert_close(attend(q, k, v), textbook(q, k, v), ROUNDING, "each")


def test_heads_of_queries_share_those_of_keys_in_order():
    q = torch.cat((random(LENGTH, 0), random(LENGTH, 3)), dim=1)
    k, v = random(LENGTH, 1), random(LENGTH, 2)
    each = [tensor.repeat_interleave(2, dim=1) for tensor in (k, v)]
    assert_close(attend(q, k, v), textbook(q, *each), ROUNDING, "each")
    expected = textbook(q, *(tensor[:, :, :7] for tensor in each))
    assert_close(attend_cached(q, k, v, torch.tensor([7])), expected, ROUNDING, "each")


def test_causal_attention_sees_itself_and_what_is_left_of_it():
    q, k, v = random(LENGTH, 0), random(LENGTH, 1), random(LENGTH, 2)
    allowed = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    assert_close(attend(q, k, v, causal=True), textbook(q, k, v, allowed), ROUNDING, "each")
