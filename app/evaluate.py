"""`countgen eval`: compare methods and backbones on a suite of prompts; the same command resumes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typer import Option

from countgen.app.exit_codes import NOT_REACHED, OK
from countgen.app.options import (
    MODEL_NAMES,
    CalibrationFile,
    Device,
    NegativePrompt,
    Output,
    Sampling,
    Trust,
    bounded,
    flag,
    names,
    option,
)
from countgen.files.printable import printable

if TYPE_CHECKING:
    from countgen.benchmarks.evaluation.plan import Case, RunSettings
    from countgen.benchmarks.evaluation.run import Engine, Summary
    from countgen.benchmarks.evaluation.worker import Outcome

DEFAULT_METHODS = "plain,search,noise,auto"
DEFAULT_MAX_EVALUATIONS = 100
_SHOWN_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What generates the images of an evaluation."""

    panel: ClassVar = "Engine"
    shard: str = option("1/1", "I/N", "this part of the run only, in its own folder")
    engine: Literal["local", "ray"] = Option("local", help="what generates")
    workers: int = bounded(2, "of --engine ray")
    address: str | None = option(None, "HOST:PORT", "of a Ray cluster", "a local one")
    threads: int = bounded(1, "of torch, in each process")

    def load_engine(self) -> "Engine":
        """Return the engine; Ray is imported only for its engine."""
        if self.engine == "local":
            from countgen.benchmarks.evaluation.engines import local

            return local.attempts
        from countgen.benchmarks.evaluation.engines import ray_cluster

        def attempts(cases: "Sequence[Case]", settings: "RunSettings") -> "Iterator[Outcome]":
            return ray_cluster.attempts(cases, settings, workers=self.workers, address=self.address)

        return attempts


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
    first_seed: int = bounded(700_000, "of the first prompt", least=0, most=2**32)
    max_evaluations: int | None = bounded(
        None, "limit of each image", if_none=f"{DEFAULT_MAX_EVALUATIONS} without --max-seconds"
    )
    max_seconds: float | None = option(None, "S", "limit of each image, whose result depends on the clock")
    quiet: bool = flag("quiet", "show no progress")
    retry_failed: bool = flag("retry-failed", "try what failed earlier again")
    batch_size: int = bounded(1, "images that --rejudge judges at once")

    def run(self) -> int:
        from countgen.benchmarks.evaluation.run import evaluate
        from countgen.models import check_detectors

        if self.rejudge:
            return self._rejudge(self.rejudge)
        if self.out and self.images:
            return self._judge_images(self.images, self.out)
        if not (self.suite and self.out):
            raise ValueError(
                "give --suite and --out, --images and --out, or --rejudge RUN with judges for a finished run"
            )
        settings = self.run_settings(self.suite)
        if self.address is None:  # with a cluster the detectors' files are on other machines
            check_detectors((*settings.critics, *settings.judges))
        summary = evaluate(settings, self.out, self.load_engine(), retry_failed=self.retry_failed, quiet=not self.text)
        self._report(list(_lines(summary, self.out)), self.out, asdict(summary))
        return NOT_REACHED if summary.failed else OK

    def run_settings(self, suite: str) -> "RunSettings":
        """Return the settings of the run.

        Raises:
            ValueError: an unknown name, no case, a judge that steers, or an invalid method setting.
            OSError: a model's or a calibration's file cannot be read.
        """
        from countgen.benchmarks.evaluation import arms
        from countgen.benchmarks.evaluation.generation import Generation
        from countgen.benchmarks.evaluation.models import recorded_model, run_detectors
        from countgen.benchmarks.evaluation.plan import RunSettings, suite_digest

        models = [recorded_model(model) for model in names([self.model or "miniature"])]
        methods = names([self.methods or DEFAULT_METHODS])
        backbones = tuple(name for name, _ in models)
        critics, judges, chosen = run_detectors(backbones, suite, self.critic, self.judge)
        if chosen and self.text:
            print(printable(f"detectors: {chosen}"), flush=True)
        unlimited = self.max_evaluations is None and self.max_seconds is None
        return RunSettings(
            suite=suite,
            suite_sha256=suite_digest(suite),
            limit=self.limit,
            backbones=backbones,
            methods=methods,
            critics=critics,
            judges=judges,
            max_evaluations=DEFAULT_MAX_EVALUATIONS if unlimited else self.max_evaluations,
            max_seconds=self.max_seconds,
            first_seed=self.first_seed,
            seeds_per_prompt=self.seeds,
            shard=self.shard,
            device=self._device_of_engine(),
            threads=self.threads,
            trust_checkpoint=self.trust_checkpoint,
            method_settings=arms.canonical(methods, self.set or ()),
            sources=tuple(source for _, source in models),
            generation=Generation(
                **self.asked_of_model,
                negative_prompt=self.negative_prompt,
                calibration=str(self.calibration) if self.calibration else None,
            ),
        )

    def _device_of_engine(self) -> str:
        """Return the device; with a cluster the one that is named is on another machine."""
        return self.device if self.address and self.device else self.available_device()

    def _rejudge(self, folder: Path) -> int:
        from countgen.benchmarks.evaluation.rejudge import rejudge

        if self.suite or self.out or self.images:
            raise ValueError("--rejudge generates nothing: leave --suite and --out away")
        summary = rejudge(
            folder,
            self.judge or (),
            device=self.available_device(),
            threads=self.threads,
            batch_size=self.batch_size,
            trust_checkpoint=self.trust_checkpoint,
            quiet=not self.text,
        )
        lines = [
            f"{name}: {number} of {summary.images} images, {summary.abstained[name]} without an answer"
            for name, number in summary.judged.items()
        ]
        reasons = list(summary.unread.items())
        lines += [f"  not judged: {name}: {reason}" for name, reason in reasons[:_SHOWN_REASONS]]
        if len(reasons) > _SHOWN_REASONS:
            lines.append(f"  and {len(reasons) - _SHOWN_REASONS} more")
        self._report(lines, folder, asdict(summary))
        return NOT_REACHED if reasons else OK

    def _judge_images(self, path: Path, folder: Path) -> int:
        from countgen import miniature
        from countgen.benchmarks.evaluation.judge_images import judge_images, read_list, settings_of

        judges = self.judge or list(dict.fromkeys((miniature.JUDGE, *miniature.DETECTORS)))
        given = read_list(path, judges, self.methods or "given", self.model or "unknown")
        device, trusted = self.available_device(), self.trust_checkpoint
        settings = settings_of(
            path, given, judges, device, threads=self.threads, shard=self.shard, trust_checkpoint=trusted
        )
        summary = judge_images(given, settings, folder, retry_failed=self.retry_failed, quiet=not self.text)
        lines = [f"{summary.done} of {summary.total} images are judged in {folder}"]
        if summary.failed:
            lines.append(f"{summary.failed} failed, the reasons are in their records; --retry-failed judges them again")
        done = {"total": summary.total, "done": summary.done, "failed": summary.failed}
        self._report(lines, folder, done)
        return NOT_REACHED if summary.failed else OK

    def _report(self, lines: Sequence[str], folder: Path, summary: dict[str, Any]) -> None:
        if self.json:
            print(json.dumps({"run": str(folder), **summary}))
        else:
            print("\n".join(map(printable, [*lines, f"results: countgen report {folder}"])))


def _lines(summary: "Summary", out: Path) -> Iterator[str]:
    from countgen.benchmarks.evaluation.image_files import lost_images_message

    yield f"{summary.done} of {summary.total} images are in {out}"
    if summary.earlier:
        yield f"{summary.earlier} were there before"
    if summary.lost:
        yield f"{lost_images_message(out, summary.lost)}; they were generated again"
    if summary.left_out:
        yield f"{summary.left_out} more are no part of the run: no token is made for their targets"
    if summary.failed:
        yield f"{summary.failed} failed, the reasons are in their records; --retry-failed generates them again"
        for reason, times in list(summary.reasons.items())[:_SHOWN_REASONS]:
            yield f"  {times} x {reason}"
