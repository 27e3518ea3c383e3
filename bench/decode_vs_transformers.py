"""A block-cache decode against one of the `transformers` library's own modules, on a CPU.

    OMP_WAIT_POLICY=passive python bench/decode_vs_transformers.py [--lengths 512] [--sizes small]

Both decode with the same weights of a Qwen3 without a causal mask, block by block, by the same
passes: t that unmask the most confident tokens of a block, then one that commits the clean block to
the cache. The library's decode is the usual loop: a pass through Qwen3Model and its DynamicCache,
which is cropped after a pass that does not commit, then LM head, softmax and top-k. The tokens must
agree before both are timed, side by side in alternation, at float32. Backbones of the paper of the
sizes `tiny` and `small`, of the same width and depth, decode by the same passes beside them. The
calls are those of PyTorch's operators in a decode of COUNTED tokens, nested ones too, by the number
of passes.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from small_passes import calls_of
from torch import Tensor
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM

import dlm_bench
from dlm_bench.plugins.api import Model

VOCABULARY, MASK = 2050, 2049
COUNTED = 128  # the profiler takes much longer than a decode


class Size(NamedTuple):
    """Width, depth and heads of a network."""

    d_model: int
    layers: int
    heads: int


# The first two are those of this project's sizes; a network of the third is bound by its products.
SIZES = {"tiny": Size(64, 3, 4), "small": Size(128, 5, 4), "wide": Size(512, 6, 8)}


def networks(size: Size, folder: Path) -> tuple[Qwen3ForCausalLM, Model]:
    """The library's network, and ours of the same weights."""
    d_model, layers, heads = size
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=d_model,
        intermediate_size=3 * d_model,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=d_model // heads,
        max_position_embeddings=1 << 15,
        attn_implementation="sdpa",
    )
    library = Qwen3ForCausalLM(config).eval().requires_grad_(False)
    for weight in library.parameters():
        if weight.dim() > 1:  # of gain 1: every layer counts
            weight.normal_(std=weight.shape[-1] ** -0.5)
    library.save_pretrained(folder)
    file = folder / "config.json"
    fields = json.loads(file.read_text()) | {"is_causal": False, "mask_token_id": MASK}
    file.write_text(json.dumps(fields))
    for layer in library.model.layers:
        layer.self_attn.is_causal = False
    return library, dlm_bench.build_model(f"hf:{folder}", dtype=torch.float32)


def decode_by_library(
    network: Qwen3ForCausalLM, prompt: Tensor, length: int, block_size: int, tokens_per_step: int
) -> Tensor:
    """Decode `length` tokens, (1, length), after a prompt (1, prompt_len)."""
    prompt_len = prompt.shape[1]
    tokens = torch.cat((prompt, torch.full((1, length), MASK)), dim=1)
    cache = DynamicCache()
    _pass(network, prompt, torch.arange(prompt_len)[None], cache)
    for start in range(prompt_len, prompt_len + length, block_size):
        block = tokens[:, start : start + block_size]
        positions = torch.arange(start, start + block.shape[1])[None]
        masked = block == MASK
        while masked.any():
            logits = network.lm_head(_pass(network, block, positions, cache))
            cache.crop(-block.shape[1])
            logits[..., MASK] = -torch.inf
            confidence, chosen = logits.softmax(dim=-1).max(dim=-1)
            confidence = confidence.masked_fill(~masked, -1)
            count = min(tokens_per_step, int(masked.sum()))
            best = confidence.topk(count, dim=-1).indices
            block.scatter_(1, best, chosen.gather(1, best))
            masked = block == MASK
        if start + block_size < prompt_len + length:
            _pass(network, block, positions, cache)
    return tokens[:, prompt_len:]


def _pass(
    network: Qwen3ForCausalLM, block: Tensor, positions: Tensor, cache: DynamicCache
) -> Tensor:
    """Run a block over the cache: its tokens see the cached ones and each other."""
    return network.model(
        input_ids=block,
        attention_mask={"full_attention": None},
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state


def compare(size: str, length: int, args: argparse.Namespace) -> None:
    """Decode by the library and by every model of a size, and print the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        library, model = networks(SIZES[size], Path(folder))
    models: dict[str, Model] = {"the same network": model}
    for name in args.backbones if size in ("tiny", "small") else ():
        models[name] = dlm_bench.build_model(name, size=size, dtype=torch.float32, seed=0)
    plan = {"block_size": args.block_size, "tokens_per_step": args.tokens_per_step}
    sampler = dlm_bench.build_sampler("block-cache", **plan)

    def prompt(vocabulary: int) -> Tensor:
        # Without a prompt the first block's MASKs are alike, and rounding would order them.
        generator = torch.Generator().manual_seed(0)
        return torch.randint(vocabulary - 1, (1, args.block_size), generator=generator)

    def ours(model: Model, length: int) -> Tensor:
        given = prompt(model.config.vocab_size)
        return sampler.decode(model, length, prompt_len=args.block_size, prompt=given)

    def theirs(length: int) -> Tensor:
        return decode_by_library(library, prompt(VOCABULARY), length, **plan)

    differ = int((ours(model, length) != theirs(length)).sum())
    if differ:
        raise SystemExit(f"the decodes disagree: {differ} of {length} tokens differ")
    decodes: dict[str, Callable[[int], Tensor]] = {"transformers": theirs}
    decodes |= {name: partial(ours, model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in decodes}
    for number in range(-1, args.repeats):
        for name, decode in decodes.items():
            begin = time.perf_counter()
            decode(length)
            if number >= 0:
                seconds[name].append(time.perf_counter() - begin)
    passes, counted = (sampler.schedule(n).forward_passes for n in (length, COUNTED))
    print(
        f"{size}: d_model {SIZES[size].d_model}, {SIZES[size].layers} layers, {length} tokens, "
        f"{passes} passes, {torch.get_num_threads()} threads, float32; tokens agree"
    )
    baseline = seconds["transformers"]
    for name, found in seconds.items():
        ratios = sorted(b / a for a, b in zip(found, baseline, strict=True))
        middle, low, high = statistics.median(ratios), ratios[0], ratios[-1]
        print(
            f"  {name}: {statistics.median(found) * 1e3:.1f} ms, "
            f"{calls_of(partial(decodes[name], COUNTED)) / counted:.0f} calls a pass, "
            f"ratio {middle:.2f} (pairs from {low:.2f} to {high:.2f})"
        )


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--backbones", nargs="*", default=["diffutran", "diffumamba"])
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--tokens-per-step", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5, help="of each decode (default: 5)")
    args = parser.parse_args(arguments)
    for size in args.sizes:
        for length in args.lengths:
            compare(size, length, args)


if __name__ == "__main__":
    main()
