"""Evaluate models, critics and methods that are held in memory, without a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from msgspec.structs import replace

from countgen import methods as method_registry
from countgen.benchmarks.evaluation.plan import Case
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.report.findings import findings
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.benchmarks.evaluation.report.table import Table
from countgen.benchmarks.evaluation.report.tables import tables
from countgen.benchmarks.evaluation.suites import Prompt, load
from countgen.benchmarks.evaluation.worker import failed, generated
from countgen.critics import Critic
from countgen.methods import MethodFunction
from countgen.models import Models
from countgen.options import EditFields
from countgen.progress import counted_progress
from countgen.prompts import parse
from countgen.run import Run

if TYPE_CHECKING:
    from pandas import DataFrame

METHODS = ("plain", "search", "auto")


@dataclass(frozen=True)
class Evaluation:
    """The results of `evaluate`.

    Attributes:
        records: one for each image, without paths: images are not kept.
        tables: those of `countgen report`, as text.
    """

    records: tuple[Record, ...]
    tables: tuple[Table, ...]

    def to_pandas(self) -> dict[str, DataFrame]:
        """Return the tables by their titles; needs pandas."""
        import pandas

        return {
            table.title: pandas.DataFrame(
                [row[1:] for row in table.rows], [row[0] for row in table.rows], table.header[1:]
            )
            for table in self.tables
        }


def evaluate(
    models: Models | Mapping[str, Models],
    suite: str | Path | Sequence[str | Prompt],
    methods: Sequence[str | MethodFunction] = METHODS,
    *,
    judges: Sequence[Critic] = (),
    seeds: Sequence[int] = (0,),
    progress: bool = False,
    **options: Unpack[EditFields],
) -> Evaluation:
    """Generate every prompt with every model, method and seed, and count with judges that steered nothing.

    Nothing is written and nothing is resumed; `countgen eval` does both. An image that fails is a failed record.

    Args:
        models: from `countgen.load`, with a judge; several by name.
        suite: a name, a file or a list of prompts.
        methods: names or functions.
        judges: further ones; the models' own judge decides.
        seeds: of each prompt.
        progress: show the progress on standard error.
        options: fields of `countgen.Options` for every image, those that `countgen.edit` takes: `max_evaluations`, ....

    Raises:
        ValueError: no prompts, or models without a judge or with a judge of a critic's family.
    """
    held = models if isinstance(models, Mapping) else {models.backbone.name: models}
    prompts = load(suite) if isinstance(suite, str | Path) else tuple(map(_prompt, suite))
    if not (prompts and methods and seeds and held):
        raise ValueError("give at least one model, prompt, method and seed")
    judged_by = {name: {judge.name: judge for judge in (own.required_judge, *judges)} for name, own in held.items()}
    combinations = [(name, *others) for name in held for others in product(prompts, seeds, methods)]

    def record(number: int, name: str, prompt: Prompt, seed: int, method: str | MethodFunction) -> Record:
        own, own_judges = held[name], judged_by[name]
        critics = tuple(critic.name for critic in own.critics)
        case = Case(str(number), prompt, seed, name, method_registry.name_of(method), critics, tuple(own_judges))
        try:
            for judge in own_judges.values():
                Models(own.backbone, own.critics, judge).check(prompt.targets)
            run = Run(prompt.prompt, own, targets=prompt.targets, method=method, seed=seed, **options)
            return replace(generated(case, run, own_judges).record, image=None, before=None)
        except Exception as error:  # one bad case must not end the evaluation
            return failed(case, error).record

    made = (record(number, *combination) for number, combination in enumerate(combinations))
    records = tuple(counted_progress(made, len(combinations), has_failed=_has_failed, shown=progress))
    sections = findings(ReportedRun("evaluation", {}, records, {}))
    return Evaluation(records, tuple(table for section in sections for table in tables(section)))


def _prompt(prompt: str | Prompt) -> Prompt:
    return prompt if isinstance(prompt, Prompt) else Prompt(prompt, parse(prompt), "prompts")


def _has_failed(record: Record) -> bool:
    return record.status == "failed"
