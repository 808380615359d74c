from pathlib import Path

import pytest
from PIL import Image

from countgen.benchmarks.evaluation.failures import MOST_SHOWN, SIDE, failures, main
from countgen.benchmarks.evaluation.records import PACKED, RECORDS, SETTINGS, Record, RunFolderError, read_run, to_line
from tests.benchmarks.evaluation.made_records import record


def run_of(folder: Path, records: list[Record]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / SETTINGS).write_text("{}")
    for one in records:
        if one.image:
            Image.new("RGB", (128, 128), "red").save(folder / one.image)
    (folder / RECORDS).write_bytes(b"".join(map(to_line, records)))
    return folder


def pictured(method: str, seed: int, counted: int | None) -> Record:
    return record(method, seed, counted, image=f"images/{method}-{seed}.png" if counted is not None else None)


def test_failures_come_undrawn_first_then_the_furthest_off() -> None:
    records = [pictured("auto", seed, counted) for seed, counted in enumerate((3, 4, None, 9, 1))]
    assert [one.seed for one in failures(records, "detector")] == [2, 3, 4, 1]


def test_a_shipped_run_has_the_failing_pictures_of_the_named_methods_and_leads_to_no_other(tmp_path: Path) -> None:
    records = [pictured(method, seed, 3 if seed % 2 else 5) for method in ("plain", "auto") for seed in range(4)]
    run, out = run_of(tmp_path / "run", records), tmp_path / "out"
    assert main([str(run), "--out", str(out)]) == 0
    shipped = read_run(out)[1]
    assert {one.key: one.image for one in shipped if one.image} == {
        f"auto-3-{seed}": f"images/auto-3-{seed}.jpg" for seed in (0, 2)
    }
    assert [one.judge_counts for one in shipped] == [one.judge_counts for one in records]
    (out / PACKED).write_bytes((out / PACKED).read_bytes()[:-9])
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_run(out)
    for path in (out / "images").iterdir():
        with Image.open(path) as picture:
            assert picture.size == (SIDE, SIDE)
    assert main([str(run), "--out", str(out), "--methods", "plain"]) == 0
    assert len(list((out / "images").iterdir())) == 2  # those of an earlier time are gone


def test_no_more_pictures_are_shipped_than_a_page_shows(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [pictured("auto", seed, 5) for seed in range(MOST_SHOWN + 2)])
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out" / "images").iterdir())) == MOST_SHOWN


@pytest.mark.parametrize(("methods", "out", "reason"), [("lmn", "out", "no method lmn"), ("auto", "run", "run itself")])
def test_an_unknown_method_and_the_run_itself_are_refused(
    methods: str, out: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", [pictured("auto", 0, 5)])
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(run), "--out", str(tmp_path / out), "--methods", methods])
    assert reason in capsys.readouterr().err
    assert (run / "images" / "auto-0.png").exists()
