"""Build the tables of a report about its judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from countgen.benchmarks.evaluation.comparison import Agreement
from countgen.benchmarks.evaluation.report.findings import MethodFindings, Section, raters_of
from countgen.benchmarks.evaluation.report.table import Table, header, judge_text, number, percent, rows_of


def agreement_tables(section: Section) -> Iterator[Table]:
    """Yield matrices of judges by judges, where two judges or more counted."""
    if not section.agreements:
        return
    judges = raters_of(section.judges)
    head = ("", *(judge_text(section, name) for name in judges))

    def matrix(title: str, show: Callable[[Agreement], str], note: str) -> Table:
        def cell(row: str, column: str) -> str:
            agreed = section.agreements.get(f"{row} & {column}") or section.agreements.get(f"{column} & {row}")
            return "-" if agreed is None else show(agreed)

        rows = tuple((judge_text(section, row), *(cell(row, column) for column in judges)) for row in judges)
        return Table(title, head, rows, note)

    yield matrix(
        "Agreement of judges: equal counts",
        lambda agreed: f"{percent(agreed.equal)} % of {agreed.counts}",
        "Of the counts that both judges gave, one for each object class of an image.",
    )
    yield matrix(
        "Agreement of judges: kappa",
        lambda agreed: f"{number(agreed.kappa)} / {number(agreed.verdict_kappa)}",
        "Cohen's kappa, unweighted: of the counts / of right or wrong by image.",
    )


def corrected_table(section: Section) -> Iterator[Table]:
    """Yield the accuracies that are corrected for the judges' errors, where labels allow it."""
    judges = [judge for judge in section.judges if any(judge in method.corrected for method in section.methods)]
    if not judges:
        return

    def cell(method: MethodFindings, judge: str) -> str:
        corrected = method.corrected.get(judge)
        return "-" if corrected is None else percent(corrected.accuracy, (corrected.low, corrected.high))

    rows = tuple((judge_text(section, judge), *(cell(method, judge) for method in section.methods)) for judge in judges)
    note = (
        "Of the images that were generated; 95 % intervals that include the uncertainty of the labels, images taken as "
        "independent. By double sampling: the labelled images are a random sample."
    )
    yield Table("Right, corrected for the judge's errors, %", header(section), rows, note)


def calibration_tables(section: Section) -> Iterator[Table]:
    """Yield what people's labels say about the judges."""
    calibration = section.calibration
    if calibration is None:
        return
    rows = rows_of(
        list(calibration.errors.values()),
        ("truly right", lambda errors: str(errors.right)),
        ("  found right, %", lambda errors: percent(errors.sensitivity)),
        ("truly wrong", lambda errors: str(errors.wrong)),
        ("  found wrong, %", lambda errors: percent(errors.specificity)),
    )
    note = f"On {calibration.labelled} images with labels on which people agree."
    yield Table("Judges against people's labels", ("", *calibration.errors), rows, note)
    votes = tuple(
        (percent(level.share), str(level.images), percent(level.right / level.images, level.interval))
        for level in calibration.votes
    )
    columns = ("% of judges", "images", "truly right, %")
    yield Table("Images that so many judges find right", columns, votes, "95 % Wilson intervals.")
