"""The table of launches: the nodes of the passes at 1.3b, none more than there were."""

import pytest

pytest.importorskip("triton", reason="triton is not installed")

import launches
from pass_estimates import GPUS, PREDICTING, block_parts, pass_seconds
from pass_estimates import LEAST as LEAST_EARLY
from pass_estimates import MOST as MOST_EARLY

from dlm_bench.models.config import model_config

MOST = {  # nodes of a pass
    ("diffumamba", "block-cache", "denoise"): 129,
    ("diffumamba", "block-cache", "commit"): 126,
    ("diffumamba", "fast-dllm", "refresh"): 300,
    ("diffutran", "block-cache", "denoise"): 129,
    ("ar-transformer", "ar", "decode"): 132,
    ("diffutran", "fast-dllm", "refresh"): 229,
}


@pytest.mark.parametrize("backbone", ["diffumamba", "diffutran", "ar-transformer"])
def test_a_pass_has_no_more_nodes_than_it_had(backbone, capsys):
    rows = list(launches.passes_of(backbone, 1024, {}))
    nodes = {(row.backbone, row.sampler, row.kind): row.nodes for row in rows}
    for key in [key for key in MOST if key[0] == backbone]:
        assert nodes[key] <= MOST[key], key
    launches.print_passes(rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1
    # The floor is the least time there is.
    assert all(min(row.over_floor.values()) > 1 for row in rows)
    if backbone in ("diffumamba", "diffutran"):
        parts = block_parts(model_config(backbone, "1.3b"), 1024, 32, GPUS["h100"])
        assert sum(part.launches for part in parts) == nodes[backbone, "block-cache", "denoise"]
        without = sum(part.launches for part in parts if part.name not in PREDICTING)
        assert without == nodes[backbone, "block-cache", "commit"]


def test_kernels_that_begin_early_save_their_gaps_and_prefetch():
    shape, gpu = ("diffutran", 32, 8192), GPUS["h100"]
    usual = pass_seconds(*shape, gpu)
    least, most = (pass_seconds(*shape, gpu, early=each) for each in (LEAST_EARLY, MOST_EARLY))
    # 129 launches but the three of torch.
    assert usual - least == pytest.approx(126 * 0.15e-6)
    assert usual - most == pytest.approx(126 * 0.96e-6)
    shape = "diffumamba", 32, 8192
    saved = pass_seconds(*shape, gpu) - pass_seconds(*shape, gpu, early=MOST_EARLY)
    # Half of out_proj's 29.5 MB, at 0.85 of 3 TB/s, in each of 24 layers.
    assert saved == pytest.approx(126 * 0.96e-6 + 24 * 1920 * 7680 / (0.85 * 3.0e12))


def test_the_parts_of_a_pass_add_up(capsys):
    launches.print_parts(["diffumamba"], 8192)
    h100 = capsys.readouterr().out.split("\n\n")[0].splitlines()
    *parts, together = [[float(each) for each in line[22:].split()] for line in h100[2:]]
    assert together[-2] == pytest.approx(sum(part[-2] for part in parts), abs=5)  # rounded lines
    expected = 1e6 * pass_seconds("diffumamba", 32, 8192, GPUS["h100"])
    assert together[-2] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(("backbone", "most"), [("diffumamba", 250), ("diffutran", 235)])
def test_own_kernels_of_whole_sequences_make_fewer_launches(backbone, most):
    usual, own = (
        next(launches.passes_of(backbone, 1024, {}, **kernels)) for kernels in ({}, launches.OWN)
    )
    assert (usual.sampler, usual.kind) == (own.sampler, own.kind) == ("full", "denoise")
    assert own.nodes <= most < usual.nodes
    assert own.milliseconds["h100"] < usual.milliseconds["h100"]
