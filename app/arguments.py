"""What commands accept; the module of a command's name does the work and is imported when the command runs.

Commands whose options are settings of the library (calibrate, tokens learn) are declared where they run.
"""

from pathlib import Path
from typing import Literal

from typer import Argument, Option

from countgen import methods
from countgen.app.expectation import Expectation, expectation
from countgen.app.file_names import DEFAULT_TEMPLATE, KNOWN_FIELDS, name_template
from countgen.app.options import (
    LOOPBACK,
    MAX_SEED,
    MAX_SEEDS,
    MODEL_NAMES,
    CalibrationFile,
    Command,
    Detectors,
    Device,
    Group,
    Json,
    Limits,
    Loading,
    Loras,
    Model,
    NamedModel,
    NegativePrompt,
    Output,
    Sampling,
    Settings,
    Trust,
    bounded,
    flag,
    option,
    settings_help,
)

DEFAULT_METHODS = "plain,search,noise,auto"
DEFAULT_MAX_EVALUATIONS = 100


class Generate(Model, Limits, Detectors, CalibrationFile, NegativePrompt, Settings):
    """Generate images of a prompt such as 'a photo of seven apples', each before and after steering."""

    prompt: str = Argument(..., metavar="PROMPT", help="what to generate, with the count in words or digits")
    method: str = option(
        "auto", "NAME", f"one of {', '.join(methods.available())}", autocompletion=lambda: methods.available()
    )
    help_settings: bool = settings_help("auto")
    token: str | None = option(
        None, "NAME|FILE", "a count token to say the number: one that countgen tokens lists, or a file"
    )
    number_offset: list[str] | None = option(
        None,
        "X|NAME=X",
        "objects to add to what the prompt says, for every object class or one; 0 for the prompt as written; "
        "repeatable",
        "the calibrated one for search, auto and edit, if no number word reaches the count",
    )
    count: list[str] | None = option(
        None, "NAME=N", "what to count, such as apple=7, in place of the prompt; repeatable"
    )
    seed: list[str] | None = option(None, "N|A-B", "a seed or a range; -1 for a random one; repeatable", "0")
    images: int | None = bounded(None, "images from consecutive seeds", most=MAX_SEEDS, if_none="1")
    grid: bool = flag("grid", "also write all images as one")
    deterministic: bool = flag("deterministic", "the same image for any number of CPU threads: uses one; slower")
    draft: bool = flag("draft", "faster search and gradients by a tiny decoder; only if the model has one")
    out: Path = option(Path("images"), "FOLDER", "of the images")
    name: str = option(DEFAULT_TEMPLATE, "TEMPLATE", f"name of each file, from {KNOWN_FIELDS}", parser=name_template)


class Origin(Device, Loras, panel="Model"):
    """What a recipe may not say by itself, and the user gives."""

    model: str | None = option(
        None,
        MODEL_NAMES,
        "what the image was made with, if not with a preset's own weights; @REVISION if the recipe's is not a commit",
    )
    token: str | None = option(None, "NAME|FILE", "the count token of the image, if it is not a shipped one")
    yes: bool = flag("yes", "download what is not in the hub's cache, and take more steps than is usual")


class Edit(Output, Limits, Detectors, CalibrationFile, Origin, Settings):
    """Change how many objects an image of countgen shows, and keep the rest: the other objects and the background.

    Everything but the counts comes from the recipe inside the image.
    """

    image: Path = Argument(..., metavar="IMAGE.png", help="an image that countgen wrote")
    counts: str = Argument(
        ..., metavar="NAME=N,...", help="how many are wanted, such as apple=7; other objects keep their count"
    )
    help_settings: bool = settings_help("edit")
    out: Path | None = option(None, "FILE.png", "of the result, under a free name", "IMAGE-edited.png")


class Count(Json, Trust, Device):
    """Count objects in images, such as 'countgen count photo.jpg person,bus'.

    Images of countgen say in their recipe what to count, and which judge counts it.

    With --expect "person>=2,bus=0" each image is compared with conditions, and objects need no further words. The exit
    code is 1 if an image does not match, or cannot be read; the others are counted.
    """

    words: list[str] = Argument(
        ...,
        metavar="IMAGE... [OBJECT...]",
        help="files or folders of images, and after them what to count; several objects with commas or spaces",
    )
    critic: str | None = option(
        None, "NAME", "the detector", "the judge of images of countgen, nanodet for COCO's classes, else owl:owlv2-base"
    )
    boxes: Path | None = option(None, "OUT", "draw the boxes: a .png for one image, a folder for several")
    expect: Expectation | None = option(
        None, '"NAME<=N,..."', "conditions on the counts, with = != < > <= >=; all words are images", parser=expectation
    )
    copy: Path | None = option(None, "FOLDER", "copy images that match --expect, under free names")
    csv: bool = flag("csv", "print a table with commas: image, object, count")
    listed: bool = flag("list", "print only the paths of images that match --expect, one a line")


class Tokens(Json):
    """List the count tokens that are shipped for a model, and their measured accuracy."""

    model: str = option("miniature", "NAME", "the preset of the tokens")


class Reproduce(Json, Origin):
    """Generate an image again from the recipe inside it, and print the largest pixel difference.

    It is 0 on the same machine with the same versions. The exit code is 1 if it is above --tolerance.
    """

    image: Path = Argument(..., metavar="IMAGE.png", help="an image that countgen wrote")
    out: Path | None = option(None, "FILE.png", "write the new image there, under a free name")
    tolerance: int = bounded(0, "largest difference allowed", least=0, most=255)


class Engines(Group, panel="Engine"):
    """What generates the images of an evaluation."""

    shard: str = option("1/1", "I/N", "this part of the run only, in its own folder")
    engine: Literal["local", "ray"] = Option("local", help="what generates")
    workers: int = bounded(2, "of --engine ray")
    address: str | None = option(None, "HOST:PORT", "of a Ray cluster", "a local one")
    threads: int = bounded(1, "of torch, in each process", most=1024)


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


class Dataset(Model, Detectors):
    """Generate annotated images whose counts are right, as COCO, Ultralytics YOLO and Hugging Face imagefolder.

    An image is kept if P(right) is at least --sure and critic and judge agree about every box. The same command
    continues after an interruption. The exit code is 1 if a cell lacks images after its budget of seeds.
    """

    out: Path = option(..., "FOLDER", "of the set; new, or of a run to continue")
    plan: Path | None = option(None, "FILE", "a plan in YAML or JSON, in place of the options of the panel Plan")
    object: list[str] | None = option(None, "NAME[+NAME]", "a class, or several in one image; repeatable")
    count: str | None = option(None, "N|A-B", "objects of each class in an image", "1-10")
    per_cell: int | None = bounded(None, "images of each class, count and template", if_none="1")
    template: list[str] | None = option(None, "TEXT", "a prompt with {objects}; repeatable", "a photo of {objects}")
    negative: list[str] | None = option(
        None, "NAME", "objects that are not annotated, without any of the classes in the image; repeatable"
    )
    split: list[str] | None = option(None, "NAME=FRACTION", "repeatable", "train=0.8 and val=0.2")
    sure: float | None = bounded(None, "least probability of a right count", "0.95", least=0, most=1, metavar="P")
    max_seeds: int | None = bounded(None, "seeds for an image, on average over a cell", if_none="100")
    seed: int | None = bounded(None, "the first seed", least=0, most=MAX_SEED, if_none="0")
    workers: int = bounded(1, "processes, each with models of its own; the set does not depend on it", most=1024)
    keep_rejected: bool = flag("keep-rejected", "keep what is not accepted in FOLDER/rejected; the records say why")
    dry_run: bool = flag("dry-run", "print seeds, seconds and megabytes of each cell by one attempt; write nothing")


class Export(Group, panel="Export"):
    """Formats of published benchmarks."""

    export: Literal["geneval", "geneval2"] | None = Option(
        None, help="write the images for the tools of GenEval or GenEval 2 to --out"
    )
    method: str | None = option(None, "NAME", "whose images --export writes, if the run has several")


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
    tables: Literal["csv", "latex", "markdown"] | None = Option(None, help="print tables only, in this format")
    all: bool = flag("all", "print all tables, not only the first of each suite")
    cases: int = bounded(10, "changed cases of two runs that are listed", least=0)


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


class Demo(Command, Detectors, Loading, panel="Options"):
    """Serve a web page to generate images, change their counts, count objects and use count tokens.

    Only this machine can reach it by default; --host changes that and needs a password.
    """

    host: str = option(LOOPBACK, "ADDRESS", "the address to listen on; others need --auth")
    port: int | None = bounded(None, "the port", most=65535, if_none="the first free port from 7860")
    auth: str | None = option(None, "USER:PASSWORD", "require a login", "the value of COUNTGEN_DEMO_AUTH")
    share: bool = flag("share", "create a public link through Gradio's servers; needs --auth")
    model: list[str] | None = option(
        None, MODEL_NAMES, "a model that visitors may choose; repeatable", "the embedded ones"
    )


class Serve(NamedModel, Detectors, CalibrationFile):
    """Serve OpenAI's images interface in front of a model: POST /v1/images/generations.

    A prompt that counts objects is steered until the count is confirmed, any other one gets one plain image. Only this
    machine can reach it by default; --host changes that and needs a key in COUNTGEN_SERVE_KEY.
    """

    host: str = option(LOOPBACK, "ADDRESS", "the address to listen on; others need COUNTGEN_SERVE_KEY")
    port: int = bounded(8000, "the port", most=65535)
    queue: int = bounded(64, "requests that wait or run; more are answered with 429")
    sure: float = bounded(
        methods.DEFAULT_SURE, "probability of a right count, if a request names none", least=0, most=1, metavar="P"
    )
    max_seconds: float = bounded(60.0, "time limit of each image", metavar="S")
    max_evaluations: int = bounded(100, "limit of model evaluations of each image, which a request may lower")


class Doctor(Json, Trust, Device):
    """Check the installation: the exit code is 0 if all checks pass, otherwise 1.

    With --judge, let judges count the golden set instead, generated images whose objects an AI model counted, and print
    how often they count the same.
    """

    judge: list[str] | None = option(None, "NAME", "score this judge; repeatable, several have a majority too")
