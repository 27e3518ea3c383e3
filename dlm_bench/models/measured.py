"""The kernels that are chosen by a measurement on the GPU at hand.

- A pass over few tokens: own matmuls with norms and gates inside, launched one after the other or
  each while the one before ends, or torch's with a kernel for each of these.
- Attention over whole sequences: own, or a library's that computes more columns than a head has.
- The scan of a whole sequence: a program a head, or mamba-ssm's in chunks.

Which is faster depends on the GPU and the size of the model. Each is timed once, and the result
kept on disk until a kernel changes.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from dlm_bench.errors import first_line
from dlm_bench.kernels import mamba_ssm
from dlm_bench.kernels.attention import choose_attend
from dlm_bench.kernels.choice import DEPENDENT, Kernels, launches_dependents
from dlm_bench.kernels.conv import Steps
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.models.transformer_config import TransformerConfig
from dlm_bench.models.window import Window

TOKENS = 32  # of the pass that is timed: a block
LENGTH = 8192  # of the sequence that attention and scans are timed over
RUNS, REPLAYS = 5, 5  # passes of a graph, and replays, of which the fastest counts
LIBRARY_COLUMNS = 64  # of a tile, or a multiple
EXACT_WIDTHS = ("flash-attn-4", "triton")  # attention in steps of 16 columns

Seconds = Callable[[str], float]  # of a pass, by the name of the implementation


def results_file(operation: str) -> Path:
    """Return the file of what was measured of an operation on this machine."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "dlm-bench" / f"{operation.replace('_', '-')}.json"


def settle_small_pass(model: LanguageModel) -> None:
    """Keep the fastest implementation of `small_pass` of a model on a GPU."""
    weight = model.head.weight
    names = ["triton", "torch"]
    if launches_dependents(weight.device):
        names.insert(0, DEPENDENT)
    hidden: dict[str, Tensor] = {}
    facts = (
        *names,
        torch.cuda.get_device_name(weight.device),
        torch.__version__,
        str(weight.dtype),
        repr(model.config),
        repr(replace(model.kernels, small_pass="torch")),
    )

    def seconds(name: str) -> float:
        if not hidden:  # what memory held may be all zeros, or NaN
            model.init_weights(torch.Generator(weight.device).manual_seed(0))
        model.use_small_pass(name)
        taken, hidden[name] = _timed_pass(model)
        # The same sums in the same order: a difference is a kernel that ran ahead of its inputs.
        if name == DEPENDENT and not torch.equal(hidden[name], hidden.get("triton", weight)):
            raise ArithmeticError("hidden states that are not those of 'triton'")
        return taken

    model.use_small_pass(fastest("small_pass", names, facts, seconds))


def settle_attention(
    kernels: Kernels,
    config: ModelConfig | TransformerConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> Kernels:
    """Return the kernels of a model on a GPU with the fastest attention: the own one is timed
    beside the chosen one where this computes more columns than a head has."""
    name, layers = kernels.attention, range(config.layers)
    attends = not isinstance(config, ModelConfig) or any(map(config.is_attention, layers))
    padded = name not in EXACT_WIDTHS and config.head_dim % LIBRARY_COLUMNS > 0
    if not (attends and padded and dtype in (torch.bfloat16, torch.float16)):
        return kernels
    if importlib.util.find_spec("triton") is None:
        return kernels
    heads = config.heads, config.kv_heads, config.kv_heads
    causal = not config.denoiser
    facts = (
        torch.cuda.get_device_name(device),
        torch.__version__,
        version("triton"),
        f"{name} {dtype} {heads} {config.head_dim} {causal}",
    )

    def seconds(name: str) -> float:
        return _attention_seconds(name, heads, config.head_dim, device, dtype, causal=causal)

    return replace(kernels, attention=fastest("attention", ("triton", name), facts, seconds))


def settle_scan(
    kernels: Kernels,
    config: ModelConfig | TransformerConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> Kernels:
    """Return the kernels of a model on a GPU with the faster scan of a whole sequence, where there
    is another than the walking one."""
    if not isinstance(config, ModelConfig) or "torch" in (kernels.ssd, kernels.walking_scan):
        return kernels
    if all(map(config.is_attention, range(config.layers))):
        return kernels
    shape = config.directions, config.ssm_heads, config.headdim, config.d_state
    facts = (
        torch.cuda.get_device_name(device),
        torch.__version__,
        version("triton"),
        version("mamba-ssm"),
        f"{dtype} {shape}",
    )

    def seconds(name: str) -> float:
        return _scan_seconds(name, *shape, device, dtype)

    return replace(
        kernels, walking_scan=fastest("walking_scan", ("triton", "torch"), facts, seconds)
    )


def fastest(operation: str, names: Sequence[str], facts: Sequence[str], seconds: Seconds) -> str:
    """Return the name of the implementation that takes least time; of equals the last.

    What is known of these facts is in the operation's file, until a kernel changes; what is
    measured goes there. An implementation that raises is passed over, and a warning says why.
    """
    path = results_file(operation)
    facts = (*facts, kernels_digest())
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    known = _read(path).get(key)
    if known in names:
        return str(known)
    times = {}
    for name in reversed(names):
        try:
            times[name] = seconds(name)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton's and ptxas' own
            if name == names[-1]:
                raise
            warnings.warn(
                f"{operation}: {name!r} raised {first_line(error)!r}; another takes its place",
                stacklevel=2,
            )
    best = min(times, key=times.__getitem__)
    if len(times) == len(names):  # else another version may do better
        _write(path, _read(path) | {key: best})
    return best


@cache
def kernels_digest() -> str:
    """Return a digest of the kernels' source."""
    files = sorted(Path(mamba_ssm.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _read(path: Path) -> dict[str, object]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: Path, known: dict[str, object]) -> None:
    """Replace the file in one step; without a place to write, each process measures."""
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=1))
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


@torch.inference_mode()
def _timed_pass(model: LanguageModel) -> tuple[float, Tensor]:
    """Seconds of a pass over a block at the begin of a sequence, captured as a graph; and its
    hidden states."""
    device = model.head.weight.device
    caches = model.new_caches(1, TOKENS)
    tokens = torch.arange(TOKENS, device=device)[None]
    t = torch.full((1, 1), 0.5, device=device) if model.config.denoiser else None
    window = Window(torch.zeros(1, dtype=torch.int64, device=device), (TOKENS,))
    for _ in range(2):  # compiles, and tunes what is tuned
        model(tokens, t, window, caches)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(RUNS):
            hidden = model(tokens, t, window, caches)
    seconds = _least_seconds(graph.replay, device) / RUNS
    return seconds, hidden.clone()


@torch.inference_mode()
def _attention_seconds(
    name: str,
    heads: tuple[int, int, int],
    head_dim: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    causal: bool,
) -> float:
    """Seconds of attention over LENGTH tokens; heads: those of q, k and v."""
    qkv = torch.randn(1, LENGTH, sum(heads), head_dim, device=device, dtype=dtype)
    q, k, v = qkv.transpose(1, 2).split(heads, dim=1)
    attend = partial(choose_attend(name), q, k, v, causal=causal)
    for _ in range(2):  # compiles
        attend()
    return _least_seconds(attend, device)


@torch.inference_mode()
def _scan_seconds(
    name: str,
    directions: int,
    heads: int,
    headdim: int,
    d_state: int,
    device: torch.device,
    dtype: torch.dtype,
) -> float:
    """Seconds of a scan of LENGTH tokens, walking or mamba-ssm's."""
    from dlm_bench.kernels.cuda.walking_scan import TOKENS, walking_scan  # needs Triton

    widths = [directions * each for each in (heads * headdim, d_state, d_state)]
    rows = torch.randn(1, LENGTH, sum(widths), device=device, dtype=dtype)
    x, B, C = rows.split(widths, dim=-1)
    x = x.unflatten(-1, (directions * heads, headdim))
    B, C = (each.unflatten(-1, (directions, d_state)) for each in (B, C))
    chunk = TOKENS if name == "triton" else mamba_ssm.CHUNK
    dt = torch.rand(1, directions * heads, LENGTH // chunk, chunk, device=device) / 16
    steps, D = Steps(dt, -dt.cumsum(-1)), torch.ones(directions * heads, device=device)
    scan = walking_scan if name == "triton" else mamba_ssm.scan
    run = partial(scan, x, steps, B, C, D)
    for _ in range(2):  # compiles, and tunes what is tuned
        run()
    return _least_seconds(run, device)


def _least_seconds(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of REPLAYS runs."""
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        times.append(begin.elapsed_time(end) / 1e3)
    return min(times)
