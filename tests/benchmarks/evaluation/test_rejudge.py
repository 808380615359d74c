"""Further judges of a finished run: their counts stand beside the run's own."""

import shutil
from pathlib import Path

import pytest
import torch

from countgen import miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation import rejudge as module
from countgen.benchmarks.evaluation.judgements import JUDGEMENTS, Judgement, read_judgements, with_judgements
from countgen.benchmarks.evaluation.judges import judged
from countgen.benchmarks.evaluation.records import RECORDS, read_run
from countgen.benchmarks.evaluation.rejudge import rejudge
from countgen.benchmarks.evaluation.report.findings import findings
from countgen.benchmarks.evaluation.report.reported_run import read_reported_run
from countgen.critics import NO_ANSWER
from countgen.critics.validation import to_batch
from countgen.models import load_critic
from tests.benchmarks.evaluation.made_records import record

FIRST, SECOND = miniature.JUDGE, "miniature-yolo"


@pytest.fixture
def run(judged_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged_run, tmp_path / "run"))


def test_further_judges_have_columns_of_their_own_and_the_records_stay(run: Path) -> None:
    before = (run / RECORDS).read_bytes()
    summary = rejudge(run, [SECOND], quiet=True)
    assert (summary.images, summary.judged, summary.unread) == (4, {SECOND: 4}, {})
    assert (run / RECORDS).read_bytes() == before
    (section,) = findings(read_reported_run([run]))
    assert section.judges == (FIRST, SECOND, "unanimous")
    assert section.methods[0].scores[SECOND].images == 4
    assert section.agreements[f"{FIRST} & {SECOND}"].counts == 4
    judge = load_critic(SECOND)
    for one in read_judgements(run):
        assert one.counts is not None
        assert one.counts == judged(judge, to_batch(run / f"images/{one.key}.png"), ["apple"])[0][0]
        assert len(one.boxes) == sum(one.counts)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_is_judged_survives_a_kill_and_the_same_command_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    batches = iter([judged])

    with monkeypatch.context() as patched:  # the second batch finds no judge
        patched.setattr(module, "judged", lambda *arguments: next(batches)(*arguments))
        with pytest.raises(RuntimeError):
            rejudge(run, [SECOND], batch_size=batch_size, quiet=True)
    with (run / JUDGEMENTS).open("ab") as file:
        file.write(b'{"schema":1,"key":"torn')
    kept = read_judgements(run)
    assert len(kept) == batch_size
    for _ in range(2):
        assert rejudge(run, [SECOND], batch_size=batch_size, quiet=True).judged == {SECOND: 4}
        assert len((run / JUDGEMENTS).read_bytes().splitlines()) == 4
    assert read_judgements(run)[:batch_size] == kept


def test_an_image_that_is_lost_or_of_another_run_is_named_and_the_others_are_judged(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, records = read_run(run)
    lost, swapped = (run / (one.image or "") for one in records[:2])
    lost.unlink()
    shutil.copy(run / str(records[3].image), swapped)
    assert main(["eval", "--rejudge", str(run), "--judge", SECOND, "--quiet"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{SECOND}: 2 of 4 images" in printed
    assert "is missing" in printed
    assert "is an image of another run: its recipe has prompt " in printed


def test_objects_that_the_judge_cannot_count_end_it_before_the_first_image(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / RECORDS).write_text((run / RECORDS).read_text().replace('"targets":{"apple"', '"targets":{"unicorn"'))
    assert main(["eval", "--quiet", "--rejudge", str(run), "--judge", SECOND]) == 2
    assert "unicorn" in " ".join(capsys.readouterr().err.split())
    assert read_judgements(run) == []


def test_damaged_judgements_are_named_by_their_line(run: Path) -> None:
    good = Judgement("a", SECOND, (1,), 0.5, ((1, 2, 3, 4),)).to_line()
    for line in (b"[]\n", good.replace(b"[1]", b"[-1]"), good.replace(b'"schema":1', b'"schema":"\\u001b[2J"')):
        (run / JUDGEMENTS).write_bytes(good + line + good)
        with pytest.raises(ValueError, match=r"judgements\.jsonl, line 2 is not a judgement") as error:
            read_judgements(run)
        assert str(error.value).isprintable()
    with pytest.raises(ValueError, match=r"image plain-3-0: vlm has 2 counts for 1 objects"):
        with_judgements([record()], [Judgement(record().key, "vlm", (1, 2), 0.0, ())])


def test_a_judge_without_answers_rejudges_a_run_and_its_silence_is_counted(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = load_critic(SECOND)
    answers = iter([[3], [NO_ANSWER], [5], [NO_ANSWER]])
    monkeypatch.setattr(type(judge), "detects", property(lambda _: False))
    monkeypatch.setattr(judge, "counts", lambda images, names: torch.tensor([next(answers) for _ in images]))
    monkeypatch.setattr(module, "load_critic", lambda *_, **__: judge)
    assert main(["eval", "--quiet", "--rejudge", str(run), "--judge", SECOND]) == 0
    assert f"{SECOND}: 4 of 4 images, 2 without an answer" in capsys.readouterr().out
    (section,) = findings(read_reported_run([run]))
    found = section.methods[0].scores[SECOND]
    assert (found.images, found.abstained, found.right, found.failed, found.mae) == (4, 2, 2, 0, 0)
