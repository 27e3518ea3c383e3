"""bench/decode_vs_transformers.py: both decodes give the same tokens; other tokens are told."""

import re

import decode_vs_transformers as script
import pytest

SHORT = ["--length", "32", "--block-size", "16", "--layers", "2", "--repeats", "1", "--backbones"]


def test_the_decodes_agree_and_the_ratios_are_printed(capsys):
    script.main([*SHORT, "diffumamba"])
    told = capsys.readouterr().out
    assert "32 tokens, 5 passes" in told
    assert re.search(r"the same network \S+ ms, ratio \d", told)
    assert re.search(r"diffumamba \S+ ms, ratio \d", told)


def test_a_decode_of_other_tokens_is_not_timed(monkeypatch):
    library = script.decode_by_library
    monkeypatch.setattr(script, "decode_by_library", lambda *a, **k: library(*a, **k).roll(1))
    with pytest.raises(SystemExit, match="the decodes disagree"):
        script.main(SHORT)
