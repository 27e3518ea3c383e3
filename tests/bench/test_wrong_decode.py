"""bench/wrong_decode.py: a skipped layer is named by compare and ab."""

from wrong_decode import POINTS, main


def test_a_skipped_layer_is_named_by_compare_and_ab_in_every_mode(capsys):
    few = [each for each in POINTS if each[:2] in {("diffutran", "full"), ("ar-mamba", "ar")}]
    assert main(few) == 0
    told = capsys.readouterr().out
    assert "compare: 4 of 4 wrong decodes named, 0 of 4 right ones" in told
    assert "ab: 4 of 4 wrong decodes named, 0 of 4 right ones" in told
