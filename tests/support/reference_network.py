"""The network in its plain form, over a sequence from its first token on, with no cache.

A pass over part of a sequence is the mixer over the whole of it, in which the other tokens' inputs
are those they had when they were last computed. And a sequence is cut into blocks of which each
sees itself and all before it: one block is a denoiser's whole sequence, blocks of one token are a
causal model.
"""

import math

import torch
import torch.nn.functional as F

from dlm_bench.models.attention import Attention
from dlm_bench.models.transformer import Transformer


def network(model, tokens, times, mix):
    """Hidden states (batch, n, d_model) of tokens (batch, n), each at its own time (n,) (None in
    an autoregressive model); mix(layer, mixer, x) mixes the tokens."""
    x = model.embedding(tokens)
    if isinstance(model, Transformer):
        for layer, block in enumerate(model.blocks):
            x = x + mix(layer, block.mixer, rms_norm(x, block.norm1, model.config))
            x = x + gated_mlp(block, rms_norm(x, block.norm2, model.config))
        return rms_norm(x, model.final_norm, model.config)
    if times is not None:
        embedded = model.time_embedding(torch.tensor(times)[None])  # (1, n, time_dim)
        vectors = model.adaln(F.silu(embedded)).split(model.config.d_model, dim=-1)
    for layer, block in enumerate(model.blocks):
        if times is None:
            x = x + mix(layer, block.mixer, block.norm1(x))
            x = x + mlp(block, block.norm2(x))
        else:
            shift1, scale1, gate1, shift2, scale2, gate2 = vectors[6 * layer : 6 * layer + 6]
            x = x + gate1 * mix(layer, block.mixer, block.norm1(x) * (1 + scale1) + shift1)
            x = x + gate2 * mlp(block, block.norm2(x) * (1 + scale2) + shift2)
    x = model.final_norm(x)
    if times is None:
        return x
    shift, scale = vectors[-2:]
    return x * (1 + scale) + shift


def rms_norm(x, norm, config):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + config.norm_eps) * norm.weight


def gated_mlp(block, x):
    gate, up = (x @ block.gate_up.weight.t()).chunk(2, dim=-1)
    return (gate / (1 + torch.exp(-gate)) * up) @ block.down.weight.t()


def shifted(model, hidden, front=None):
    """Hidden states (batch, n, d_model) that predict their tokens: with a token shift those one
    place earlier, `front` (batch, 1, d_model) before the first, or else that one itself."""
    if not getattr(model.config, "token_shift", False):
        return hidden
    return torch.cat((hidden[:, :1] if front is None else front, hidden[:, :-1]), dim=1)


def mlp(block, x):
    x = block.up(x)
    cube = x + 0.044715 * x**3
    return block.down(0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * cube)))


def mixed(mixer, x, spans):
    """The mixer over a whole sequence x (batch, n, d_model), cut into spans (start, stop)."""
    return attention(mixer, x, spans) if isinstance(mixer, Attention) else mamba(mixer, x, spans)


def attention(mixer, x, spans):
    """softmax(Q K^T / sqrt(head_dim)) V, where a token sees its span and those before it, and
    consecutive heads of q share one of k and v."""
    config = mixer.config
    span = torch.cat([torch.full((stop - start,), i) for i, (start, stop) in enumerate(spans)])
    visible = span[None, :] <= span[:, None]  # (query, key)
    columns = x @ mixer.qkv.weight.t()
    if config.qkv_bias:
        columns = columns + mixer.qkv.bias
    heads = columns.unflatten(-1, (-1, config.head_dim)).unbind(dim=2)  # (batch, n, head_dim) each
    shared = config.heads // config.kv_heads
    out = []
    for head in range(config.heads):
        key = config.heads + head // shared
        q, k, v = heads[head], heads[key], heads[key + config.kv_heads]
        if config.qk_norm:
            q, k = rms_norm(q, mixer.q_norm, config), rms_norm(k, mixer.k_norm, config)
        q, k = rotary(q, config), rotary(k, config)
        scores = q @ k.transpose(1, 2) / math.sqrt(config.head_dim)
        out.append(torch.softmax(scores.masked_fill(~visible, -math.inf), dim=-1) @ v)
    return torch.cat(out, dim=-1) @ mixer.out.weight.t()


def rotary(x, config):
    """Turn the pair (x_k, x_{k + w/2}) at position n by n rate_k, in the first w columns of x
    (batch, n, head_dim)."""
    width = getattr(config, "rotary_dim", config.head_dim)
    rate = torch.tensor([rotary_rate(k, width, config) for k in range(width // 2)])
    turn = torch.polar(torch.ones(()), torch.arange(x.shape[1])[:, None] * rate)
    yarn = getattr(config, "yarn", None)
    turned = (
        torch.complex(*x[..., :width].chunk(2, dim=-1)) * turn * (yarn.attention if yarn else 1)
    )
    return torch.cat((turned.real, turned.imag, x[..., width:]), dim=-1)


def rotary_rate(k, width, config):
    """theta^(-2k/w); with YaRN (arXiv 2309.00071) divided by its factor where the pair turns less
    than `slow` times within its length, and in part where less than `fast`."""
    theta, yarn = getattr(config, "rope_theta", 10000.0), getattr(config, "yarn", None)
    rate = theta ** (-2 * k / width)
    if yarn is None:
        return rate

    def pair_of(turns):
        return width / 2 * math.log(yarn.length / (2 * math.pi * turns), theta)

    low, high = math.floor(pair_of(yarn.fast)), math.ceil(pair_of(yarn.slow))
    low, high = max(low, 0), min(high, width - 1)
    share = min(1, max(0, (k - low) / (high - low)))
    return rate * (1 - share) + rate / yarn.factor * share


def mamba(mixer, x, spans):
    """The forward scan over all of x, plus in a denoiser the reverse scan within each span."""
    out = mamba_layer(mixer, 0, x)
    if mixer.directions == 1:
        return out
    reverse = [mamba_layer(mixer, 1, x[:, a:b].flip(1)).flip(1) for a, b in spans]
    return out + torch.cat(reverse, dim=1)


def mamba_layer(mixer, direction, x):
    """Mamba-2 in its quadratic form (arXiv 2405.21060, eq. 16): attention without a softmax."""
    length, state = x.shape[1], mixer.d_state
    z, xbc, dt = (x @ mixer.in_proj[direction].t()).split(
        (mixer.d_inner, mixer.d_inner + 2 * state, mixer.heads), dim=-1
    )
    padded = F.pad(xbc, (0, 0, mixer.reach, 0))
    taps = mixer.conv_weight[direction].unbind(dim=-1)
    conv = sum(padded[:, k : k + length] * tap for k, tap in enumerate(taps))
    u, B, C = F.silu(conv + mixer.conv_bias[direction]).split((mixer.d_inner, state, state), dim=-1)
    u = u.unflatten(-1, (mixer.heads, -1))  # (batch, n, heads, headdim)
    dt = F.softplus(dt + mixer.dt_bias[direction])  # (batch, n, heads)
    decay = torch.cumsum(-torch.exp(mixer.A_log[direction]) * dt, dim=1)
    passed = decay[:, :, None] - decay[:, None]  # (batch, i, j, heads)
    causal = torch.ones(length, length, dtype=torch.bool).tril()[..., None]
    weight = torch.exp(passed.masked_fill(~causal, -math.inf)) * (C @ B.transpose(1, 2))[..., None]
    y = torch.einsum("bijh,bjh,bjhp->bihp", weight, dt, u) + mixer.D[direction][:, None] * u
    gated = y.flatten(2) * F.silu(z)
    normed = gated / torch.sqrt(gated.square().mean(-1, keepdim=True) + 1e-5)
    return normed * mixer.norm_weight[direction] @ mixer.out_proj[:, direction].t()
