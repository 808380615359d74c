"""Build the tables of a report about its judges and about the quality of its images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from countgen.benchmarks.evaluation.comparison import Agreement
from countgen.benchmarks.evaluation.image_statistics import NAMES, ImageQuality
from countgen.benchmarks.evaluation.report.findings import MethodFindings, Section, raters_of
from countgen.benchmarks.evaluation.report.table import Table, header, judge_text, number, percent, rows_of

FLAG = "‡"


def image_quality_table(section: Section) -> Iterator[Table]:
    """Yield the table of image statistics, where some method has images beside plain ones."""
    methods = {method.name: quality for method in section.methods if (quality := method.image_quality) is not None}
    if not methods:
        return

    def cell(quality: ImageQuality, name: str) -> str:
        shift = quality.shifts[name]
        size = abs(shift.change) / shift.spread if shift.spread > 0 else math.nan
        return f"{shift.change:+.3g} ({number(size, 1)}){FLAG * shift.flagged}"

    rows = [("images", *(str(quality.images) for quality in methods.values()))]
    rows += [(name.replace("_", " "), *(cell(quality, name) for quality in methods.values())) for name in NAMES]
    note = (
        "Mean change against the plain image of the seed (in standard deviations of the plain images). "
        f"{FLAG}: moved by more than the plain images' own spread; look at the images."
    )
    yield Table("Image statistics", ("", *methods), tuple(rows), note)


def quality_warnings(section: Section) -> Iterator[str]:
    """Yield a sentence for each method that moves image statistics by more than the plain images' own spread."""
    for method in section.methods:
        if method.image_quality and method.image_quality.flagged:
            names = ", ".join(name.replace("_", " ") for name in method.image_quality.flagged)
            yield f"{FLAG} {method.name} moves {names} by more than plain images differ: look at its images."


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
    """Yield the accuracies that are corrected for the judges' errors, where labels or a calibration allow it."""
    judges = [judge for judge in section.judges if any(judge in method.corrected for method in section.methods)]
    if not judges:
        return

    def cell(method: MethodFindings, judge: str) -> str:
        corrected = method.corrected.get(judge)
        return "-" if corrected is None else percent(corrected.accuracy, (corrected.low, corrected.high))

    rows = tuple((judge_text(section, judge), *(cell(method, judge) for method in section.methods)) for judge in judges)
    note = (
        "Of the images that were generated; 95 % intervals that include the uncertainty of the labels, images taken as "
        "independent. By this run's labels: double sampling, the labelled images being a random sample. By another "
        "run's (--calibration): Rogan and Gladen, the judge erring as often here."
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
