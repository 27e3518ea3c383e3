"""The kernels of a pass over few tokens, chosen by a measurement on the GPU at hand.

Own matmuls with norms and gates inside, or torch's with a kernel for each of these: which is faster
depends on the GPU and the size of the model. Each is timed once, and the result kept on disk.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from dlm_bench.errors import first_line
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.models.window import Window

TOKENS = 32  # of the pass that is timed: a block
RUNS, REPLAYS = 5, 5  # passes of a graph, and replays, of which the fastest counts

Seconds = Callable[[str], float]  # of a pass, by the name of the implementation


def results_file() -> Path:
    """Return the file of what was measured on this machine."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "dlm-bench" / "small-pass.json"


def settle_small_pass(model: LanguageModel) -> None:
    """Keep the faster implementation of `small_pass` of a model on a GPU."""
    weight = model.head.weight
    facts = (
        torch.cuda.get_device_name(weight.device),
        torch.__version__,
        str(weight.dtype),
        repr(model.config),
        repr(replace(model.kernels, small_pass="torch")),
    )

    def seconds(name: str) -> float:
        model.use_small_pass(name)
        return _pass_seconds(model)

    model.use_small_pass(faster(facts, seconds, results_file()))


def faster(facts: tuple[str, ...], seconds: Seconds, path: Path) -> str:
    """Return "triton" if its pass takes less time than that of "torch", else "torch".

    What is known of these facts is in the file at `path`; what is measured goes there. An
    implementation that raises is not the faster one, and a warning says why.
    """
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    known = _read(path)
    if known.get(key) in ("triton", "torch"):
        return str(known[key])
    try:
        name = "triton" if seconds("triton") < seconds("torch") else "torch"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton's and ptxas' own
        warnings.warn(
            f"small_pass: 'triton' raised {first_line(error)!r}; 'torch' takes its place",
            stacklevel=2,
        )
        return "torch"
    _write(path, _read(path) | {key: name})
    return name


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
def _pass_seconds(model: LanguageModel) -> float:
    """Seconds of a pass over a block at the begin of a sequence, captured as a graph."""
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
            model(tokens, t, window, caches)
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize(device)
        times.append(begin.elapsed_time(end) / 1e3 / RUNS)
    return min(times)
