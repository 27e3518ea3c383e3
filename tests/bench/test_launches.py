"""The table of launches: the nodes of the passes at 1.3b, none more than there were."""

import pytest

pytest.importorskip("triton", reason="triton is not installed")

import launches

MOST = {  # nodes of a pass
    ("diffumamba", "block-cache", "denoise"): 129,
    ("diffumamba", "block-cache", "commit"): 150,
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
