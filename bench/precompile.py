"""Compile every Triton kernel of the GPU check for sm_90, in parallel, without a GPU.

    TRITON_CACHE_DIR=FOLDER python bench/precompile.py [--jobs N]

The passes of the models run on the meta device, where a launch is written down with its types; then
N processes compile the launches, and every configuration of those that are tuned, into Triton's
cache. On a machine with a GPU no process has a CUDA context, so that nothing on the GPU waits.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
if __name__ == "__main__":  # tests that import this keep their GPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch: no CUDA context

import torch  # noqa: E402
from support.cases import CAUSAL  # noqa: E402
from support.hopper import SHARED_LIMIT, Launch, build_for_hopper, record_launches  # noqa: E402
from support.traced import traced_model, traced_state  # noqa: E402

from dlm_bench.errors import first_line  # noqa: E402
from dlm_bench.kernels.choice import DEPENDENT  # noqa: E402
from dlm_bench.samplers import build_sampler  # noqa: E402

# Passes, and lengths at which the compiler sees other numbers of splits or wider counts: those over
# the whole sequence at all lengths of the sweep.
BLOCKS = (1024, 8192)
DENOISING = (
    ("full", {}, (1024, 8192, 32768, 131072)),
    ("block-cache", {}, BLOCKS),
    ("fast-dllm", {}, BLOCKS),
    ("block-cache", {"commit": "fused"}, BLOCKS),
)
AUTOREGRESSIVE = (("ar", {}, BLOCKS),)
OWN = {"attention": "triton", "walking_scan": "triton"}  # over whole sequences
WHOLE = ("full", "fast-dllm")
EARLY = {"small_pass": DEPENDENT}
BACKBONES = ("diffumamba", "diffutran", "diffumamba-h", "ar-transformer", "ar-mamba")
SIZES = {"1.3b": None, "240m": (300,)}  # of the sweep, and of most tests, with their length


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--only", default="", metavar="NAME", help="kernels with this in the name")
    args = parser.parse_args()
    begin = time.perf_counter()
    launches.extend(each for each in unique_launches(args.sizes) if args.only in each.name)
    print(f"{len(launches)} kernels to compile, traced in {time.perf_counter() - begin:.1f} s")
    failed = 0
    with multiprocessing.get_context("fork").Pool(args.jobs) as pool:
        for said, ok in pool.imap_unordered(compiled, range(len(launches))):
            failed += not ok
            print(said, flush=True)
    print(
        f"{len(launches) - failed} of {len(launches)} compiled, {time.perf_counter() - begin:.1f} s"
    )
    return 1 if failed else 0


launches: list[Launch] = []  # what the processes that are forked compile, by index


def compiled(index: int) -> tuple[str, bool]:
    """Compile a launch: a line that says how it went, and True if it can run on the GPU."""
    launch, begin = launches[index], time.perf_counter()
    try:
        built = build_for_hopper(launch)
    except (
        Exception
    ) as error:  # ptxas' and Triton's own; the others are to be compiled all the same
        return f"{launch.name}: {type(error).__name__}: {first_line(error)}", False
    compile_launcher(built)
    seconds = time.perf_counter() - begin
    # A configuration that needs more is refused at its launch, and the tuner takes another.
    beyond = ", too much shared memory to launch" if built.metadata.shared > SHARED_LIMIT else ""
    return f"{launch.name}: {seconds:.1f} s{beyond}", True


def compile_launcher(built: Any) -> None:
    """Compile the C function that launches a kernel, of which Triton before 3.7 needs one for each
    signature: half a second of the C compiler. Without libcuda or a C compiler it is not done."""
    from triton.backends.nvidia import driver

    if hasattr(driver, "make_launcher"):
        with contextlib.suppress(Exception):  # the first launch raises it
            driver.CudaLauncher(built.src, built.metadata)


@torch.inference_mode()
def unique_launches(sizes: list[str]) -> list[Launch]:
    """The launches of all passes that the compiler can tell apart."""
    found: dict[str, Launch] = {}
    for size in sizes:
        for backbone in BACKBONES:
            passes = AUTOREGRESSIVE if backbone in CAUSAL else DENOISING
            whole = [each for each in passes if each[0] in WHOLE]
            for kernels, samplers in (({}, passes), (OWN, whole), (EARLY, passes)):
                model = traced_model(backbone, size, **kernels)
                for name, options, lengths in samplers:
                    sampler = build_sampler(name, **options)
                    for length in SIZES[size] or lengths:
                        for launch in launches_of(model, sampler, length):
                            found.setdefault(launch.key, launch)
    return list(found.values())


def launches_of(model: Any, sampler: Any, length: int) -> Iterator[Launch]:
    """The launches of one pass of each kind."""
    state = traced_state(model, sampler, length)
    for kind in dict.fromkeys(place.kind for place in state.passes):
        with record_launches(every_configuration=True) as seen:
            sampler.step(model, state, kind)
        yield from seen


if __name__ == "__main__":
    sys.exit(main())
