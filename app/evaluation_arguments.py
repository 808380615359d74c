"""What the commands of evaluations accept, see `countgen.app.arguments`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from typer import Argument, Option

from countgen.app.options import (
    MAX_SEED,
    MODEL_NAMES,
    CalibrationFile,
    Device,
    Json,
    NegativePrompt,
    Output,
    Sampling,
    Trust,
    bounded,
    flag,
    option,
)

DEFAULT_METHODS = "plain,search,noise,auto"
DEFAULT_MAX_EVALUATIONS = 100


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What generates the images of an evaluation."""

    panel: ClassVar = "Engine"
    shard: str = option("1/1", "I/N", "this part of the run only, in its own folder")
    engine: Literal["local", "ray"] = Option("local", help="what generates")
    workers: int = bounded(2, "of --engine ray")
    address: str | None = option(None, "HOST:PORT", "of a Ray cluster", "a local one")
    threads: int = bounded(1, "of torch, in each process", most=1024)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Output, Engines, Trust, CalibrationFile, NegativePrompt, Device, Sampling):
    """Generate every prompt of a suite with every method, count with independent judges, and record each image.

    After an interruption the same command resumes the evaluation. The exit code is 1 if some images failed. With
    --rejudge or --images nothing is generated.
    """

    suite: str | None = option(None, "NAME|FILE", "prompts with known counts")
    out: Path | None = option(None, "RUN", "folder of the results")
    rejudge: Path | None = option(
        None, "RUN", "let each --judge count the images of this run, in place of --suite and --out"
    )
    images: Path | None = option(
        None,
        "LIST",
        "in place of --suite: let each --judge count these images, of another source; a list of prompts with a "
        "column image, or a folder in GenEval's layout",
    )
    methods: str | None = option(
        None,
        "NAMES",
        "to compare, with commas; METHOD+token uses a count token for the number, METHOD+as-written no number "
        "slider; of --images, the name of what generated them",
        DEFAULT_METHODS,
    )
    model: str | None = option(
        None, MODEL_NAMES, "to compare, as of countgen generate, with commas; of --images, any name", "miniature"
    )
    set: list[str] | None = option(
        None, "METHOD.NAME=VALUE", "a setting of a method, such as noise.learning_rate=0.1; repeatable"
    )
    critic: list[str] | None = option(None, "NAME", "a detector that steers; repeatable", "chosen by what is counted")
    judge: list[str] | None = option(
        None,
        "NAME",
        "a detector that only counts; repeatable, the first decides",
        "chosen by what is counted; for an embedded model all others",
    )
    limit: int | None = bounded(None, "so many prompts of the suite, evenly spread", if_none="all")
    seeds: int = bounded(1, "images per prompt and method")
    first_seed: int = bounded(700_000, "of the first prompt", least=0, most=MAX_SEED)
    max_evaluations: int | None = bounded(
        None, "limit of each image", if_none=f"{DEFAULT_MAX_EVALUATIONS} without --max-seconds"
    )
    max_seconds: float | None = option(None, "S", "limit of each image, whose result depends on the clock")
    quiet: bool = flag("quiet", "show no progress")
    retry_failed: bool = flag("retry-failed", "try what failed earlier again")
    batch_size: int = bounded(1, "images that --rejudge judges at once")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Formats of published benchmarks."""

    panel: ClassVar = "Export"
    export: Literal["geneval", "geneval-results", "geneval2"] | None = Option(
        None, help="write the images, or what a judge counts, for the tools of GenEval or GenEval 2 to --out"
    )
    method: str | None = option(None, "NAME", "whose images --export writes, if the run has several")
    judge: str | None = option(None, "NAME", "whose counts --export writes", "the run's first")


@dataclass(frozen=True, kw_only=True)
class Report(Json, Export):
    """Report on an evaluation: accuracy by count, cost, comparison of methods, agreement of judges and people.

    Prints tables; --out writes one self-contained HTML page. Two evaluations are compared, each method with itself on
    the cases of both: settings that differ, accuracy by each judge of both with exact McNemar tests, and the cases that
    only one of them gets right.
    """

    folders: list[Path] = Argument(..., metavar="RUN...", help="a run, the shards of one, or two runs to compare")
    baseline: str | None = option(None, "METHOD", "that the others are compared with", "search, else plain")
    out: Path | None = option(None, "PATH", "write FILE.html; or a FOLDER with report.html and the plots")
    images: int = bounded(400, "largest number of images in the page", least=0)
    calibration: Path | None = option(
        None, "RUN", "a labelled run that says how often its judges err", "this run's own labels"
    )
    parquet: Path | None = option(None, "FILE", "write a row per image: its record, and statistics of its pixels")
    tables: Literal["csv", "latex", "markdown"] | None = Option(None, help="print tables only, in this format")
    all: bool = flag("all", "print all tables, not only the first of each suite")
    cases: int = bounded(10, "changed cases of two runs that are listed", least=0)


@dataclass(frozen=True, kw_only=True)
class Label(Json):
    """Collect human counts for the images of an evaluation.

    --out writes a sheet of images in shuffled order and of the objects to count, without the target counts; fill in the
    column 'count', '-' for what cannot be counted, and save the sheet with --read. Without either, print how many
    images each person has labelled.
    """

    folder: str = Argument(..., metavar="RUN", help="a folder that countgen eval wrote")
    out: Path | None = option(None, "FILE.csv", "write the images this person has not labelled")
    read: Path | None = option(None, "FILE.csv", "save the counts of a filled-in sheet")
    import_from: Path | None = Option(
        None,
        "--import",
        metavar="FILE.csv",
        help="save counts from elsewhere: columns image, object, count; or GeckoNum's annotations",
    )
    labeller: str | None = option(None, "NAME", "name of the person; --import also reads the column labeller")
    number: int | None = bounded(None, "images in the sheet", if_none="all")
    seed: int = bounded(0, "seed of the order", least=0, most=MAX_SEED)
