"""Slow, obvious decodes: every pass recomputed from scratch, with no cache, state or counter.

Two ideas stand for every cache of the package. A pass over part of a sequence is the mixer over the
whole of it, in which the other tokens' inputs are those they had when they were last computed. And
a sequence is cut into blocks of which each sees itself and all before it: one block is a denoiser's
whole sequence, blocks of one token are a causal model.
"""

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from dlm_bench import build_model
from dlm_bench.models.attention import Attention
from dlm_bench.models.transformer import Transformer
from dlm_bench.samplers.schedule import run_lengths
from support.close import assert_close

# Both sides are float32 and sum in different orders through three layers: 1.4e-5 of the largest
# value is measured, 1e-4 allowed. A broken cache is 6e-3 off or more: test_comparison_power.py.
TOLERANCE = 1e-4


class Step(NamedTuple):
    """One pass: hidden states of its query tokens (batch, query_len, d_model), and all tokens
    (batch, length) after its unmasking."""

    hidden: torch.Tensor
    tokens: torch.Tensor


@functools.cache
def lively_model(backbone, size="tiny", layers=None):
    """A network in which no parameter is at a value that hides it (biases of 0, scales of 1), and
    whose attention is sharp enough that tokens depend on their places."""
    # Of seed 0 open-dcoder, whose head is tied, decodes two tokens.
    model = build_model(backbone, size, layers=layers, seed=1 if backbone == "open-dcoder" else 0)
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if "qkv.weight" in name:
            weight.mul_(3)
        elif weight.std() == 0 or "adaln.bias" in name:
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return model


# The package's side.


def package_steps(sampler, model, length, batch=1, seed=0, before_pass=None, prompt_len=0):
    """Decode by the schedule; returns the steps and the final state. `before_pass(state)` may
    meddle with the state."""
    hidden, steps = [], []
    hook = model.register_forward_hook(lambda module, inputs, output: hidden.append(output))
    try:
        state = sampler.prepare(model, length, batch, seed, prompt_len)
        if batch == 1:  # else the sequences of a trace may need more passes together
            schedule = sampler.schedule(length, prompt_len)
            assert run_lengths(length, state.passes, prompt_len) == schedule
        for planned in state.passes:
            if before_pass is not None:
                before_pass(state)
            sampler.step(model, state, planned.kind)
            steps.append(Step(hidden[-1], state.tokens.clone()))
            assert hidden[-1].shape[1] == planned.query_len
    finally:
        hook.remove()
    assert len(hidden) == len(steps)
    return steps, state


def assert_same_decode(steps, expected):
    """Every pass has the same hidden states and leaves the same tokens."""
    assert len(steps) == len(expected)
    for i, (step, wanted) in enumerate(zip(steps, expected, strict=True)):
        assert_close(step.hidden, wanted.hidden, TOLERANCE, where=f"pass {i}")
        assert torch.equal(step.tokens, wanted.tokens), f"pass {i}"


# The network, over a sequence from its first token on.


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


# The unmasking.

TIE = 1e-5  # Probabilities this close, relatively, are a tie: the lower place goes first.
# Two decodes that sum in different orders have probabilities up to this far apart, and may so see
# places that are neither tied nor further apart than this in either order.
NEAR = 1e-5


def deal(tokens, per_step):
    """Tokens to unmask in each pass: dealt out one by one to ceil(tokens / per_step) passes."""
    counts = [0] * math.ceil(tokens / per_step)
    for i in range(tokens):
        counts[i % len(counts)] += 1
    return counts


def counts_of(sampler, block, mask_id):
    """For each pass over a block, whose tokens `block` are a view of: how many to unmask, or a
    function of the masked tokens' scores (see score_of), largest first, that says so."""
    if sampler.accept == "fixed":
        yield from deal(block.shape[1], sampler.tokens_per_step)
        return
    passes = 0
    while (block == mask_id).any():
        yield lambda scores, left=sampler.max_passes - passes: accepted(sampler, scores, left)
        passes += 1


def accepted(sampler, scores, passes_left=None):
    """The tokens of a pass by the rules, one token after the other."""
    if sampler.accept == "factor-released":
        return released(scores, sampler.factor)
    count, entropies = 0, 0.0
    for n, score in enumerate(scores, 1):
        if sampler.accept == "threshold":
            sure = score >= sampler.threshold * (1 - TIE)
        elif sampler.accept in ("strict", "bounded"):
            sure = score > sampler.threshold * (1 + TIE)
        elif sampler.accept == "entropy":
            sure = entropies <= sampler.gamma + (n - 1) * TIE
            entropies -= math.log(score)
        else:
            bound = 1 - sampler.factor / (n + 1)
            sure = score > bound + abs(bound) * TIE
        if not sure:
            break
        count = n
    if sampler.accept == "bounded":
        count = max(count, math.ceil(len(scores) / passes_left))
    return max(1, count)


def released(scores, factor):
    """The factor rule as Fast-dLLM's code decides: the walk ends at the first token below its
    bound, or at the last one; the first token and a last one that was reached are taken."""
    bounds = [-1.0] + [1 - factor / (n + 1) for n in range(2, len(scores) + 1)]
    pairs = enumerate(zip(scores, bounds, strict=True))
    below = (n for n, (score, bound) in pairs if score < bound - abs(bound) * TIE)
    reached = next(below, len(scores) - 1)
    return reached + (reached in (0, len(scores) - 1))


def score_of(sampler, probabilities, place):
    """How sure the model is of a place with these probabilities, the larger the surer; so written
    that scores which rounding moves by TIE, relatively, are tied."""
    accept, order = getattr(sampler, "accept", ""), getattr(sampler, "order", "confidence")
    if accept == "entropy" or order == "entropy":
        return math.exp(sum(p * math.log(p) for p in probabilities if p > 0))
    if order == "left-to-right":
        return 1 / (1 + place)
    if order == "margin":
        first, second = sorted(probabilities)[-1:-3:-1]
        return 1 + first - second
    return max(probabilities)


def masked_fraction(model, tokens):
    counts = (tokens == model.config.mask_id).sum(dim=1).tolist()
    assert len(set(counts)) == 1  # every sequence of a batch has as many
    return counts[0] / tokens.shape[1]


def most_confident(score, count, after=None):
    """`count` of the places of score (place: number), the largest first and ties to the left.
    `after` tells of each place whether another decode took it: that decides between places which
    the two may see in either order."""
    ranked = sorted(score, key=lambda place: (-score[place], place))
    least = score[ranked[count - 1]]
    off = {place: score[place] - least for place in ranked}
    above = [place for place in ranked if off[place] > least * TIE]
    tied = sorted(place for place in ranked if abs(off[place]) <= least * TIE)
    near = max(NEAR, 2 * least * TIE)
    if after and any(least * TIE < abs(off[place]) <= near for place in ranked):
        chosen = [place for place in ranked if after[place]]
        assert len(chosen) == count
        assert all(after[place] for place in ranked if off[place] > near)
        assert all(off[place] >= -near for place in chosen)
        return chosen
    return (above + tied)[:count]


def reveal(sampler, model, tokens, hidden, start, count, priority=None, witness=None):
    """Unmask in place `count` (see counts_of) of the tokens at start, start + 1, ... of these
    hidden states: those of the largest score, or of the largest priority (batch, length).
    `witness` are the tokens of another decode after this pass (see most_confident)."""
    mask_id = model.config.mask_id
    logits = model.logits(hidden)
    logits[..., mask_id : mask_id + 1] = -math.inf  # a causal model may have none
    probabilities = torch.softmax(logits, dim=-1)
    for row in range(len(tokens)):
        score, token = {}, {}
        for place in range(hidden.shape[1]):
            position = start + place
            if tokens[row, position] == mask_id:
                chances = probabilities[row, place].tolist()
                score[position] = (
                    score_of(sampler, chances, place)
                    if priority is None
                    else priority[row, position].item()
                )
                token[position] = chances.index(max(chances))
        wanted = count(sorted(score.values(), reverse=True)) if callable(count) else count
        after = None
        if witness is not None and priority is None:
            after = {i: (witness[row, i] != mask_id).item() for i in score}
        for position in most_confident(score, wanted, after):
            tokens[row, position] = token[position]


# The samplers, as generators of passes: after each, its tokens are unmasked by `reference_steps`.


class Evaluated(NamedTuple):
    """A pass's hidden states, of which those from `offset` on, `block_len` of them, belong to the
    tokens at `start`, of which `count` (see counts_of) are unmasked."""

    hidden: torch.Tensor
    offset: int
    start: int
    block_len: int
    count: int


def reference_steps(
    sampler, model, length, batch=1, priority=None, witness=None, prompt=None, passes=None
):
    """The decode by definition. `priority` (batch, prompt_len + length) is the order of `random`
    unmasking, `witness` the steps of a decode that settles near ties, `prompt` (batch, prompt_len)
    what stands before the decoded tokens, `passes` the generator of a sampler's own structure."""
    of_sampler = {
        "full": full_passes,
        "fast-dllm": fast_dllm_passes,
        "block-cache": block_cache_passes,
        "ar": autoregressive_passes,
    }
    passes = passes or of_sampler[sampler.name]
    tokens = torch.full((batch, length), model.config.mask_id)
    if prompt is not None:
        tokens = torch.cat((prompt, tokens), dim=1)
    first = tokens.shape[1] - length
    steps = []
    for hidden, offset, start, block_len, count in passes(sampler, model, tokens, first):
        if count:
            settled = None if witness is None else witness[len(steps)].tokens
            block = hidden[:, offset : offset + block_len]
            reveal(sampler, model, tokens, block, start, count, priority, settled)
        steps.append(Step(hidden, tokens.clone()))
    return steps


def block_spans(length, size, first=0):
    return [(start, min(start + size, length)) for start in range(first, length, size)]


def full_passes(sampler, model, tokens, first):
    length = tokens.shape[1]
    for count in counts_of(sampler, tokens[:, first:], model.config.mask_id):
        times = [masked_fraction(model, tokens)] * length
        hidden = network(model, tokens, times, lambda _, mixer, x: mixed(mixer, x, [(0, length)]))
        hidden = shifted(model, hidden)
        yield Evaluated(hidden, first, first, length - first, count)


def fast_dllm_passes(sampler, model, tokens, first):
    length = tokens.shape[1]
    stale = {}  # layer -> the mixer's inputs at the block's first pass

    def refresh(layer, mixer, x):
        stale[layer] = x
        return mixed(mixer, x, [(0, length)])

    def continued(layer, mixer, x):
        whole = stale[layer].clone()
        whole[:, rows] = x
        return mixed(mixer, whole, [(0, length)])[:, rows]

    for start, stop in block_spans(length, sampler.block_size, first):
        counts = counts_of(sampler, tokens[:, start:stop], model.config.mask_id)
        for i, count in enumerate(counts):
            if i == 0:
                rows, mix = slice(0, length), refresh
            else:
                rows = slice(start, stop if sampler.cache == "dual" else length)
                mix = continued
            times = [masked_fraction(model, tokens)] * (rows.stop - rows.start)
            hidden = network(model, tokens[:, rows], times, mix)
            if i == 0 and start:
                front = hidden[:, start - 1 : start]
            hidden = shifted(model, hidden, front if i and start else None)
            yield Evaluated(hidden, start - rows.start, start, stop - start, count)


def block_cache_passes(sampler, model, tokens, first):
    length, size = tokens.shape[1], sampler.block_size
    spans = block_spans(length, size, first)
    # What the cache of the blocks before was made from: the prompt is one of them.
    past, past_times, before = tokens[:, :first].clone(), [0.0] * first, []
    if first:
        before = [(0, first)]
        hidden = network(model, past, past_times, lambda _, mixer, x: mixed(mixer, x, before))
        hidden = shifted(model, hidden)
        yield Evaluated(hidden, 0, 0, first, 0)
    for number, (start, stop) in enumerate(spans):

        def block_causal(inputs, times, visible=before + spans[: number + 1]):
            hidden = network(model, inputs, times, lambda _, mixer, x: mixed(mixer, x, visible))
            return shifted(model, hidden)

        counts = counts_of(sampler, tokens[:, start:stop], model.config.mask_id)
        for i, count in enumerate(counts):
            block = tokens[:, start:stop]
            times = past_times + [masked_fraction(model, block)] * (stop - start)
            inputs = torch.cat((past, block), dim=1)
            hidden = block_causal(inputs, times)
            clean = size if sampler.commit == "fused" and i == 0 and number > 0 else 0
            yield Evaluated(hidden[:, start - clean :], clean, start, stop - start, count)
        if sampler.commit == "none":
            past, past_times = inputs, times
            continue
        past, past_times = tokens[:, :stop].clone(), [0.0] * stop
        if sampler.commit == "separate" and stop < length:
            yield Evaluated(block_causal(past, past_times)[:, start:], 0, start, stop - start, 0)


def autoregressive_passes(sampler, model, tokens, first):
    batch, length = tokens.shape
    start_of_text = torch.full((batch, 1 if first == 0 else 0), model.config.bos_id)
    for i in range(first, length):
        inputs = torch.cat((start_of_text, tokens[:, :i]), dim=1)
        spans = block_spans(inputs.shape[1], 1)
        hidden = network(model, inputs, None, lambda _, mixer, x, s=spans: mixed(mixer, x, s))
        new = first if 0 < i == first else 1  # of the whole prompt, or of one token
        yield Evaluated(hidden[:, -new:], new - 1, i, 1, 1)
