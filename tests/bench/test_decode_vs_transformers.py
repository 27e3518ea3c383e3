"""bench/decode_vs_transformers.py: both decodes give the same tokens; other tokens are told."""

import re

import decode_vs_transformers as script
import pytest

SHORT = ["--sizes", "tiny", "--lengths", "32", "--block-size", "16", "--repeats", "1"]


def test_the_decodes_agree_and_the_ratios_are_printed(capsys):
    script.main([*SHORT, "--backbones", "diffumamba"])
    told = capsys.readouterr().out
    assert "32 tokens, 5 passes" in told
    for name in ("transformers", "the same network", "diffumamba"):
        assert re.search(rf"  {name}: \S+ ms, \d+ calls a pass, ratio \d", told)


def test_a_decode_of_other_tokens_is_not_timed(monkeypatch):
    library = script.decode_by_library
    monkeypatch.setattr(script, "decode_by_library", lambda *a, **k: library(*a, **k).roll(1))
    with pytest.raises(SystemExit, match="the decodes disagree"):
        script.main(SHORT)
