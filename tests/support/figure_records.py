"""Records to draw, made up but for their models, and what can be read off a figure."""

from dataclasses import asdict
from functools import partial

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dlm_bench.cost.roofline import Hardware
from dlm_bench.figures import FIGURES, draw_roofline
from dlm_bench.models.config import BACKBONES, model_config
from support.records import SAMPLERS, make_record

LAWS = {  # seconds per pass: quadratic, linear, constant
    "diffutran": (4e-9, 1e-5, 1e-3),
    "diffumamba": (0, 1.4e-5, 2.4e-3),
    "diffumamba-h": (9e-10, 1.3e-5, 2e-3),
}
CPU = "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
H100 = "NVIDIA H100 80GB HBM3"
SHEET = Hardware("made-up", 1e13, 1e11, 1e12, source="a test", dtype="float32")
# Every figure, of these records: no CPU has a sheet.
DRAWN = FIGURES | {"roofline": partial(draw_roofline, hardware=SHEET)}
del DRAWN["batch"], DRAWN["waiting"]  # which need several: test_batch_figure.py
del DRAWN["pareto"], DRAWN["repeats"]  # of other records: test_free.py


def record(backbone, sampler, length, *, p=8, noise=0.02, point=None, hardware=CPU, **more):
    """A record whose times follow the backbone's law, the same ones for the same arguments."""
    random = np.random.default_rng([length, p, *map(ord, backbone + sampler)])
    quadratic, linear, constant = LAWS.get(backbone, (0, 1e-7, 1e-3))
    query = length if sampler == "full" else 32
    passes = length if sampler == "ar" else length // p
    per_pass = quadratic * query * length + linear * query + constant
    options = SAMPLERS.get(sampler, {}) | ({} if sampler == "ar" else {"tokens_per_step": p})
    point = {"size": "tiny", "options": options} | (point or {})
    point |= {"device": "cuda"} if hardware != CPU else {}
    defaults = {
        "warmup": 3,
        "repeats": 5,
        "nfe": passes,
        "seconds": (passes * per_pass * (1 + noise * random.standard_normal(5))).tolist(),
        "environment": {"hardware": hardware},
        "telemetry": {"energy_joules": 50 * passes * per_pass},
        "peak_memory_bytes": 2**30 + 2**12 * length,
    }
    if backbone in BACKBONES:
        defaults["model"] = asdict(model_config(backbone, point["size"]))
    return make_record(backbone, sampler, length, point=point, **defaults | more)


def demo(lengths=(512, 1024, 2048, 4096, 8192), steps=(8,), **more):
    """The records of the demo: 3 backbones x 3 samplers for each p, and 2 AR baselines."""
    for length in lengths:
        for p in steps:
            for backbone in LAWS:
                yield from (record(backbone, name, length, p=p, **more) for name in SAMPLERS)
        yield from (record(name, "ar", length, **more) for name in ("ar-transformer", "ar-mamba"))


def measured(axes):
    """The measured curves of a panel by their labels."""
    return {each.get_label(): each.lines[0] for each in axes.containers}


def caption_of(figure):
    return figure.caption


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def renderer(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()
