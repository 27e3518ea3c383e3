"""The unmasking of a pass, place by place: the rules of acceptance, the orders, and ties."""

import math

import torch

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
    if sampler.accept == "joint":
        yield from counts_until_nothing_changes(sampler, block, mask_id)
        return
    if sampler.accept == "fixed":
        yield from deal(int((block[0] == mask_id).sum()), sampler.tokens_per_step)
        return
    passes = 0
    while (block == mask_id).any():
        yield lambda scores, left=sampler.max_passes - passes: accepted(sampler, scores, left)
        passes += 1


def counts_until_nothing_changes(sampler, block, mask_id):
    """As `counts_of`, where tokens that stand are replaced (see `reveal`)."""
    edits = 0
    while True:
        before = block.clone()
        yield lambda scores: accepted(sampler, scores) if scores else 0
        if not (before == mask_id).any():
            edits += 1
            if torch.equal(block, before) or edits == sampler.max_edit_passes:
                return


def accepted(sampler, scores, passes_left=None):
    """The tokens of a pass by the rules, at least one of the masked."""
    if sampler.accept == "factor-released":
        return released(scores, sampler.factor)
    count = sure_of(sampler, scores)
    if sampler.accept == "bounded":
        count = max(count, math.ceil(len(scores) / passes_left))
    return max(1, count)


def sure_of(sampler, scores):
    """The tokens of a pass that a rule is sure of, one token after the other."""
    count, entropies = 0, 0.0
    for n, score in enumerate(scores, 1):
        if sampler.accept == "threshold":
            sure = score >= sampler.threshold * (1 - TIE)
        elif sampler.accept in ("strict", "bounded", "joint"):
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
    return count


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
    hidden states: those of the largest score, or of the largest priority (batch, length). With
    accept=joint the others give way to what is predicted surely enough.
    `witness` are the tokens of another decode after this pass (see most_confident)."""
    mask_id, edits = model.config.mask_id, getattr(sampler, "accept", "") == "joint"
    logits = model.logits(hidden)
    logits[..., mask_id : mask_id + 1] = -math.inf  # a causal model may have none
    probabilities = torch.softmax(logits, dim=-1)
    for row in range(len(tokens)):
        score, token = {}, {}
        for place in range(hidden.shape[1]):
            position = start + place
            masked = tokens[row, position] == mask_id
            if not masked and not edits:
                continue
            chances = probabilities[row, place].tolist()
            best = chances.index(max(chances))
            if masked:
                token[position] = best
                drawn = None if priority is None else priority[row, position].item()
                score[position] = score_of(sampler, chances, place) if drawn is None else drawn
            elif max(chances) > sampler.edit_threshold * (1 + TIE):
                tokens[row, position] = best
        wanted = count(sorted(score.values(), reverse=True)) if callable(count) else count
        if not wanted:
            continue
        after = None
        if witness is not None and priority is None:
            after = {i: (witness[row, i] != mask_id).item() for i in score}
        for position in most_confident(score, wanted, after):
            tokens[row, position] = token[position]
