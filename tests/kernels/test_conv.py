"""The depthwise causal convolution is PyTorch's, and continues from the inputs it has seen."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close

from dlm_bench.kernels.conv import causal_conv_silu, conv_tail

BATCH, CHANNELS, D_CONV = 2, 6, 4
REACH = D_CONV - 1
# Four products of order 1 a value, summed in another order: some 1e-7.
ROUNDING = 1e-6
LENGTHS = [1, 2, 3, 5, 40]


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(CHANNELS, D_CONV, generator=generator)
    return weight, torch.randn(CHANNELS, generator=generator)


def sequence(length, seed=1):
    return torch.randn(BATCH, length, CHANNELS, generator=torch.Generator().manual_seed(seed))


def tail_of(given):
    return sequence(REACH, seed=2) if given else None


def torch_conv(x, weight, bias, tail):
    before = torch.zeros(BATCH, REACH, CHANNELS) if tail is None else tail
    inputs = torch.cat((before, x), dim=1).transpose(1, 2)
    return F.silu(F.conv1d(inputs, weight[:, None], bias, groups=CHANNELS)).transpose(1, 2)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "tail"])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_convolution_is_conv1d_with_silu(length, given):
    x, tail = sequence(length), tail_of(given)
    got = causal_conv_silu(x, *weights(), tail)
    assert_close(got, torch_conv(x, *weights(), tail), ROUNDING, "each")


@pytest.mark.parametrize("length", LENGTHS)
def test_the_convolution_leaves_its_inputs_as_they_were(length):
    x, tail = sequence(length), tail_of(True)
    causal_conv_silu(x, *weights(), tail)
    assert torch.equal(x, sequence(length))
    assert torch.equal(tail, tail_of(True))


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "tail"])
@pytest.mark.parametrize(
    ("length", "at"), [(length, at) for length in (1, 2, 3, 5) for at in range(length + 1)]
)
def test_the_tail_is_the_last_inputs_before_a_position(length, at, given):
    x, tail = sequence(length), tail_of(given)
    before = torch.zeros(BATCH, REACH, CHANNELS) if tail is None else tail
    expected = torch.cat((before, x), dim=1)[:, at : at + REACH]
    assert torch.equal(conv_tail(x, tail, torch.tensor([at]), REACH), expected)  # copied, exact


@pytest.mark.parametrize("pieces", [(1,) * 9, (2, 1, 3, 3), (5, 4), (1, 8)])
def test_pieces_with_a_carried_tail_are_one_run(pieces):
    x, tail = sequence(9), tail_of(True)
    expected = causal_conv_silu(x, *weights(), tail)
    outs = []
    for piece in x.split(pieces, dim=1):
        outs.append(causal_conv_silu(piece, *weights(), tail))
        tail = conv_tail(piece, tail, torch.tensor([piece.shape[1]]), REACH)
    assert_close(torch.cat(outs, dim=1), expected, ROUNDING, "each")


def test_bfloat16_is_rounded_once_at_the_end():
    x, (weight, bias), tail = sequence(40).bfloat16(), weights(), tail_of(True).bfloat16()
    weight, bias = weight.bfloat16(), bias.bfloat16()
    expected = causal_conv_silu(x.float(), weight.float(), bias.float(), tail.float())
    assert torch.equal(causal_conv_silu(x, weight, bias, tail), expected.bfloat16())
