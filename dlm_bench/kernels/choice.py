"""The implementation of each operation of a model: chosen once, when the model is built.

`torch` is the plain-PyTorch reference and runs anywhere. On a GPU the others come first if they are
installed; `forced` insists on an implementation.
"""

import importlib.util
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

import torch

from dlm_bench.errors import ConfigError, first_line, unknown
from dlm_bench.kernels import mamba_ssm
from dlm_bench.kernels.attention import choose_attend
from dlm_bench.plugins.api import HEAD_WIDTH

# `triton`, each kernel launched to begin while the one before it ends.
DEPENDENT = "triton-pdl"
# Every operation's implementations, the preferred one first.
IMPLEMENTATIONS: dict[str, tuple[str, ...]] = {
    # flash-attn-4 computes a head's width in steps of 16 columns, cuDNN in steps of 64.
    "attention": ("flash-attn-4", "cudnn", "flash", "efficient", "flash-attn", "triton", "torch"),
    "cached_attention": ("triton", "flash-attn", "varlen", "torch"),
    "ssd": ("mamba-ssm", "torch"),
    "walking_scan": ("triton", "torch"),
    "conv": ("triton", "causal-conv1d", "torch"),
    "block_scan": ("triton", "torch"),
    "step": ("triton", "mamba-ssm", "torch"),
    "small_pass": ("triton", DEPENDENT, "torch"),
    "lm_head": ("triton", "torch"),
    "elementwise": ("triton", "torch"),
    "mlp": ("cublaslt", "torch"),
}
# What a measurement on the GPU may choose instead of the first available (models.measured).
MEASURED = {"attention": "triton", "small_pass": DEPENDENT}
_OF_SMALL_PASS = ("cached_attention", "block_scan", "step", "elementwise")  # around its matmuls
USUAL_HEAD_DIM = 64  # that attention is chosen for where a model does its own
_PACKAGES = {
    "triton": "triton",
    DEPENDENT: "triton",
    "mamba-ssm": "mamba_ssm",
    "causal-conv1d": "causal_conv1d",
    "flash-attn": "flash_attn",
    "flash-attn-4": "flash_attn.cute",
}


@dataclass(frozen=True)
class Kernels:
    """The implementation of each operation.

    attention: of a whole sequence, by SDPA's backends, flash-attn, or `triton` for heads of a width
        that libraries pad.
    cached_attention: of a block's queries over a cache with the length on the device.
    ssd: the scan of a whole sequence.
    walking_scan: the same from zeros, a program a head with the state in registers; `torch` leaves
        it to `ssd`.
    conv: the convolution in front of the scan.
    block_scan: convolution and scan of a few tokens from a cached state, both directions.
    step: the same of a single token (autoregressive decoding).
    small_pass: the layers of a pass over up to 64 tokens from a cache, norms, gates, biases,
        GELU and rotary embedding inside the matmuls; `triton-pdl` with programmatic dependent
        launch, from the window's tokens to unmasking; `torch` takes a kernel for each.
    lm_head: argmax and confidence without a (length, vocabulary) tensor.
    elementwise: residual, norm and modulation; rotary embedding and cache write; SwiGLU's product;
        unmasking.
    mlp: the first matmul of the MLP with the GELU.
    """

    attention: str = "torch"
    cached_attention: str = "torch"
    ssd: str = "torch"
    walking_scan: str = "torch"
    conv: str = "torch"
    block_scan: str = "torch"
    step: str = "torch"
    small_pass: str = "torch"
    lm_head: str = "torch"
    elementwise: str = "torch"
    mlp: str = "torch"

    def named(self) -> dict[str, str]:
        """Map operations to implementations, for records."""
        return asdict(self)


REFERENCE = Kernels()


@dataclass(frozen=True)
class UnmaskKernels:
    """The implementations of dlm-bench's own operations for a foreign model: the LM head with the
    argmax, and unmasking."""

    lm_head: str = "torch"
    elementwise: str = "torch"

    def named(self) -> dict[str, str]:
        """Map operations to implementations, for records."""
        return asdict(self)


def choose_kernels(
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    forced: Mapping[str, str] | None = None,
    *,
    group: int = 1,
) -> Kernels:
    """Choose the first available implementation of each operation, or the forced.

    head_dim, group: width of a head, and heads of queries that share one of keys and values.
    Raises ConfigError for an unknown operation or implementation, or a forced implementation
    without a chance to run here, with the reason.
    """
    forced = {} if forced is None else forced
    if not isinstance(forced, Mapping):
        raise ConfigError(
            f"kernels: {forced!r} is not allowed; must map operations to names, as "
            "{'attention': 'cudnn'}"
        )
    chosen = {}
    for operation in forced:
        if operation not in IMPLEMENTATIONS:
            raise unknown("kernel", operation, IMPLEMENTATIONS)
    for operation, candidates in IMPLEMENTATIONS.items():
        if operation in forced:
            wanted = forced[operation]
            if wanted not in candidates:
                raise unknown(operation, wanted, candidates)
            reason = _missing(operation, wanted, device, dtype, head_dim, group, forced=True)
            if reason:
                raise ConfigError(f"{operation}: {wanted!r} is not there: {reason}")
            chosen[operation] = wanted
        else:
            chosen[operation] = next(
                name
                for name in candidates
                if not _missing(operation, name, device, dtype, head_dim, group, forced=False)
            )
    kernels = Kernels(**chosen)
    for operation, insisted in (("ssd", {"ssd", "conv"}), ("walking_scan", {"walking_scan"})):
        name = getattr(kernels, operation)
        if name == "torch" or kernels.conv != "torch":
            continue
        if insisted & set(forced):
            raise ConfigError(
                f"conv: 'torch' is not allowed with {operation} {name!r}, which takes both "
                "directions at once; allowed: triton, causal-conv1d"
            )
        kernels = replace(kernels, **{operation: "torch"})
    if kernels.small_pass != "torch":
        others = [name for name in _OF_SMALL_PASS if getattr(kernels, name) != "triton"]
        if others and "small_pass" in forced:
            raise ConfigError(
                f"small_pass: {kernels.small_pass!r} is not allowed with {others[0]} "
                f"{getattr(kernels, others[0])!r}; allowed: triton"
            )
        if others:
            kernels = replace(kernels, small_pass="torch")
    return kernels


def check_unmask_kernels(forced: Mapping[str, str]) -> None:
    """Raise ConfigError for an operation of a foreign model's own."""
    names = [field.name for field in fields(UnmaskKernels)]
    for operation in forced:
        if operation not in names:
            raise ConfigError(
                f"kernel: {operation!r} is not allowed; a backbone that is not dlm-bench's own "
                f"chooses it itself; allowed: {', '.join(names)}"
            )


def choose_unmask_kernels(
    device: torch.device,
    dtype: torch.dtype,
    width: int,
    forced: Mapping[str, str] | None = None,
) -> UnmaskKernels:
    """As `choose_kernels`, for a model of someone else's with hidden states of this width.

    Raises ConfigError for any other operation, the model's own affair.
    """
    wanted = dict(forced or {})
    check_unmask_kernels(wanted)
    if width % HEAD_WIDTH:
        if wanted.get("lm_head") == "triton":
            raise ConfigError(
                f"lm_head: 'triton' needs hidden states a multiple of {HEAD_WIDTH} wide, and they "
                f"are {width} wide"
            )
        wanted["lm_head"] = "torch"
    chosen = choose_kernels(device, dtype, USUAL_HEAD_DIM, wanted)
    return UnmaskKernels(chosen.lm_head, chosen.elementwise)


def _missing(
    operation: str,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    group: int,
    *,
    forced: bool,
) -> str | None:
    """Return the reason for an implementation not to run, None if there is none.

    Shapes alone (`meta`) can be traced through any installed implementation, but only on demand;
    and Triton's interpreter runs kernels on a CPU.
    """
    if name == "torch":
        return None
    package = _PACKAGES.get(name)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1" and name in ("triton", "mamba-ssm")
    if device.type == "meta":
        if not forced:
            return "only the plain implementation is chosen for shapes alone"
    elif device.type == "cpu" and not (forced and interpreted):
        return "it needs a CUDA device, and the model is on cpu"
    if package and not _is_installed(package):
        return f"package {package} is not installed"
    if name == "mamba-ssm":
        try:
            mamba_ssm.find()
        except ImportError as error:
            return str(error)
    if device.type != "cuda":
        return None
    if name == DEPENDENT and not launches_dependents(device):
        return "it needs a GPU of compute capability 9.0 or newer"
    if operation == "attention":
        return _sdpa_refuses(name, device, dtype, head_dim, group)
    if name == "varlen" and not _has_varlen():
        return f"torch {torch.__version__} has no varlen_attn(seqused_k=); 2.13 has"
    half = dtype in (torch.bfloat16, torch.float16)
    if name in ("flash-attn", "varlen") and not half:
        return f"it needs bfloat16 or float16, and the model is in {dtype}"
    return None


def launches_dependents(device: torch.device) -> bool:
    """Tell if a GPU has programmatic dependent launch."""
    nvidia = torch.version.hip is None
    return nvidia and torch.cuda.get_device_capability(device) >= (9, 0)


def _is_installed(package: str) -> bool:
    """Tell if a package is there; the bare folder of another package's part, as flash_attn with
    flash-attn-4 alone, is none."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:  # of the package around this one
        return False
    return spec is not None and getattr(spec, "origin", package) is not None


def _has_varlen() -> bool:
    try:
        from inspect import signature

        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "seqused_k" in signature(varlen_attn).parameters


def _sdpa_refuses(
    name: str, device: torch.device, dtype: torch.dtype, head_dim: int, group: int
) -> str | None:
    """Try an attention backend once on a short sequence."""
    q = torch.randn(1, group, 128, head_dim, device=device).to(dtype)
    k = q[:, :1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # in which torch explains what the error says
            choose_attend(name)(q, k, k)
    except Exception as error:  # packages that compile at the first call raise their own
        shared = f", {group} heads of queries to one of keys," if group > 1 else ""
        reason = first_line(error) or repr(error)
        return f"it refuses head_dim {head_dim}{shared} in {dtype}: {reason}"
    return None
