"""Records for reports, made through the real model and stored as a sweep stores them."""

import dataclasses
import itertools

from dlm_bench.models.config import model_config
from support.records import SAMPLERS, make_record

H100 = "NVIDIA H100 80GB HBM3"
# Milliseconds of a pass at 1024 tokens, and what doubling the length makes of it.
SPEEDS = {"diffutran": (2.0, 2.6), "diffumamba": (3.0, 1.9), "diffumamba-h": (2.7, 2.1)}
LENGTHS = (512, 1024, 2048, 4096)
EVIL = '<script>window.ran = 1</script><img src=x onerror="window.ran = 1">'


def record(backbone="diffutran", sampler="full", length=1024, p=8, point=None, **changes):
    """A record; `changes` are of its fields, `point` of its point's."""
    ms, growth = SPEEDS.get(backbone, (1.0, 1.5))
    seconds = length / p * ms / 1e3 * growth ** (length.bit_length() - 11)
    options = {} if sampler == "ar" else {"tokens_per_step": p} | SAMPLERS[sampler]
    fields = {
        "nfe": length // p,
        "seconds": [0.98 * seconds, seconds, 1.02 * seconds],
        "environment": {"hardware": "a CPU of the tests", "torch": "2.13.0"},
    }
    point = {"options": options} | (point or {})
    return make_record(backbone, sampler, length, point=point, **fields | changes)


def failed(status, length=8192, **changes):
    """A record of a point that could not be measured."""
    return record(length=length, status=status, seconds=[], nfe=None, **changes)


def study(lengths=LENGTHS):
    """Three backbones by three samplers."""
    named = itertools.product(SPEEDS, SAMPLERS, lengths)
    return [record(backbone, sampler, length) for backbone, sampler, length in named]


def of_gpu(backbone, sampler, length, p, size="1.3b", hardware=H100):
    """A record with all that a GPU's has: its model, memory, energy, kernels and graphs."""
    return record(
        backbone,
        sampler,
        length,
        p,
        point={"size": size, "dtype": "bfloat16", "device": "cuda"},
        model=dataclasses.asdict(model_config(backbone, size)),
        peak_memory_bytes=3_000_000_000 + 100_000 * length,
        telemetry={"energy_joules": 0.2 * length, "tokens_per_joule": 10.0, "samples": 40},
        kernels={"attention": "cudnn", "ssd": "mamba-ssm", "lm_head": "fused"},
        graphs={"denoise": "captured"},
        flags=["throttled"] if length == 4096 else [],
        environment={"hardware": hardware, "driver": "575.1", "cuda": "13.0", "torch": "2.13.0"},
    )


def thousand():
    """1,000 records of a GPU, up to 131072 tokens; some of the longest ran out of memory."""
    lengths = [1 << power for power in range(10, 18)]
    where = itertools.product(("H100 80GB HBM3", "H200"), ("1.3b", "0.5b"), lengths)
    records = []
    for name, size, length in where:
        hardware = f"NVIDIA {name}"
        for backbone, sampler, p in itertools.product(SPEEDS, SAMPLERS, (4, 8, 16)):
            records.append(of_gpu(backbone, sampler, length, p, size, hardware))
        for backbone in ("ar-transformer", "ar-mamba"):
            records.append(of_gpu(backbone, "ar", length, 1, size, hardware))
    while len(records) < 1000:
        records.append(failed("oom", length=1 << 17, point={"batch": len(records)}))
    return records[:1000]
