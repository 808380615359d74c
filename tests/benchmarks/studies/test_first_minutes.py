import subprocess
from pathlib import Path

import pytest

from benchmarks.first_minutes import ROOT, main, steps


def test_the_readme_says_how_to_draw_the_first_picture() -> None:
    parts = steps((ROOT / "README.md").read_text())
    assert any("venv" in part for part in parts)
    assert any("pip install" in part for part in parts)
    assert "countgen generate" in parts[-1]


def test_every_part_is_timed_in_a_clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("```sh\ntest -d .git && echo countgen generate: right\n```\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(project)]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    assert main(["--source", str(project)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [words[1:4] for words in lines[:4]] == [
        ["min", "git", "clone"],
        ["min", "test", "-d"],
        ["min", "echo", "countgen"],
        ["min", "in", "all"],
    ]
    assert lines[4] == ["countgen", "generate:", "right"]


@pytest.mark.parametrize("readme", ["", "```sh\npip install .\n```\n", "```python\ncountgen generate\n```\n"])
def test_a_readme_that_draws_nothing_is_an_error(readme: str) -> None:
    with pytest.raises(ValueError, match="no shell command"):
        steps(readme)


def test_a_part_that_fails_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ended with 128"):
        main(["--source", str(tmp_path / "nothing")])
