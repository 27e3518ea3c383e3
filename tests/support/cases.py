"""Every backbone with every way of decoding it, for tests of whole passes."""

from dlm_bench.models.config import BACKBONES
from dlm_bench.samplers import build_sampler

DENOISERS = tuple(name for name, backbone in BACKBONES.items() if backbone.denoiser)
CAUSAL = tuple(name for name, backbone in BACKBONES.items() if not backbone.denoiser)
# Of the field's backbones those that differ in more than size: heads without groups, a token shift
# with biases, norms of q and k, YaRN, a tied head.
FIELD_DENOISERS = ("llada", "dream", "sdar", "nemotron-ld", "open-dcoder")
FIELD_CAUSAL = ("llama", "qwen2", "qwen3")
# The kernels of the CUDA path that need no GPU to be interpreted or traced.
FUSED = {
    "attention": "triton",
    "cached_attention": "triton",
    "ssd": "mamba-ssm",
    "conv": "triton",
    "block_scan": "triton",
    "step": "triton",
    "small_pass": "triton",
    "lm_head": "triton",
    "elementwise": "triton",
}


# (backbone, size, name of a sampler) of the field, for a GPU. Groups of 6 heads with a token shift
# and a tied head; norms of q and k; YaRN; a causal twin.
FIELD = [
    ("fast-dllm-v2", "1.5b", "separate"),
    ("fast-dllm-v2", "1.5b", "dual"),
    ("sdar", "1.7b", "fused"),
    ("nemotron-ld", "3b", "separate"),
    ("qwen3", "1.7b", "ar"),
]

# Samplers that the model can decide the passes of.
ADAPTIVE = [
    ("full", {}),
    ("fast-dllm", {"cache": "dual"}),
    ("fast-dllm", {"cache": "prefix"}),
    ("block-cache", {"commit": "separate"}),
    ("block-cache", {"commit": "fused"}),
]
# Around the confidences of reference.lively_model: passes accept one token, some, or all.
RULES = [{"accept": "threshold", "threshold": 0.05}, {"accept": "factor", "factor": 2.9}]
MORE_RULES = [
    {"accept": "strict", "threshold": 0.05},
    {"accept": "bounded", "threshold": 0.08, "max_passes": 3},
    {"accept": "entropy", "gamma": 10.0},
    {"accept": "factor-released", "factor": 2.9},
]


def adaptive(name, option, rule, block_size=8):
    """One of ADAPTIVE by a rule."""
    blocks = {} if name == "full" else {"block_size": block_size}
    return build_sampler(name, **option, **rule, **blocks)


def samplers(**blocks):
    """All samplers and options that make a pass of their own, by a short name; `blocks` are the
    block size and tokens per step of those that have blocks."""
    whole = {name: value for name, value in blocks.items() if name != "tokens_per_step"}
    return {
        "full": build_sampler("full"),
        "dual": build_sampler("fast-dllm", **blocks),
        "prefix": build_sampler("fast-dllm", cache="prefix", **blocks),
        "separate": build_sampler("block-cache", **blocks),
        "fused": build_sampler("block-cache", commit="fused", **blocks),
        "none": build_sampler("block-cache", commit="none", **blocks),
        "random": build_sampler("block-cache", order="random", **blocks),
        "threshold": build_sampler("block-cache", accept="threshold", threshold=0.1, **whole),
        "factor": build_sampler("fast-dllm", accept="factor", factor=2.0, **whole),
        "warm": build_sampler("block-cache", temperature=0.8, **blocks),
        "ar": build_sampler("ar"),
        "warm ar": build_sampler("ar", temperature=0.8),
    }


def pairs(*without):
    """(backbone, name of a sampler) of every pair that fits, but for these names."""
    names = [name for name in samplers() if name not in without]
    return [
        (backbone, name)
        for backbone in (*DENOISERS, *CAUSAL)
        for name in names
        if name.endswith("ar") == (backbone in CAUSAL)
    ]
