"""The parity benchmark finds parity."""

from benchmarks import parity


def test_parity_is_total_without_a_resize(capsys):
    assert parity.main(["--per-count", "1"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("as they are: 21 of 21 scenes equal")
