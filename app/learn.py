"""`countgen tokens learn`: train a count token and save it."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typer import Argument, Option

from countgen.app.exit_codes import INTERRUPTED, OK
from countgen.app.options import (
    MAX_SEED,
    CalibrationFile,
    Detectors,
    Model,
    bounded,
    flag,
    names,
    option,
)
from countgen.app.terminal import fitted
from countgen.tokens.settings import LearnSettings

if TYPE_CHECKING:
    from countgen.models import Models
    from countgen.number_slider import Calibration
    from countgen.tokens.file import CountToken
    from countgen.tokens.trainer import Learning

SUFFIX = ".safetensors"
DEFAULTS = LearnSettings()


def setting(name: str, text: str, **bounds: Any) -> Any:
    """Return the option of a number in `LearnSettings`, which has the default."""
    return bounded(None, text, str(getattr(DEFAULTS, name)), **bounds)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of the training, by their names in `LearnSettings`; None for the default there."""

    panel: ClassVar = "Training"
    loss: Literal["l1", "d2d", "margin"] | None = Option(
        None,
        help="the count loss: l1, absolute error of the soft count; d2d, scores weighted by their distance from "
        "the threshold; margin, a hinge on the ranked scores; a DENSITY has a loss of its own",
        show_default=DEFAULTS.loss,
    )
    learning_rate: float | None = setting(
        "learning_rate", "the token gets worse with a high rate", metavar="X", least=0, most=1
    )
    semantic_weight: float | None = setting(
        "semantic_weight", "of the loss that keeps the object recognisable; 0: none", metavar="X", least=0
    )
    num_vectors: int | None = bounded(None, "embedding vectors of the token", if_none="as many as the number word has")
    num_optimization_steps: int | None = setting(
        "num_optimization_steps", "most steps on the count loss, after the distillation", least=0
    )
    distillation_steps: int | None = setting(
        "teacher_steps", "steps of the distillation; 0 for the count loss only", least=0
    )
    validation_images: int | None = setting(
        "validation_images", "of each validation; fewer are faster and choose worse"
    )
    objects_per_step: int | None = setting("objects_per_step", "object classes per step, sampled from all --object")
    seeds_per_object: int | None = setting(
        "seeds_per_object", "images per object class in a step; more reduce noise and are slower"
    )
    patience: int | None = setting("patience", "validations without improvement before the training ends")
    seed: int | None = setting("seed", "the same seed learns the same token", least=0, most=MAX_SEED)

    @property
    def asked_of_training(self) -> dict[str, Any]:
        """The given settings by name."""
        asked = {field.name: getattr(self, field.name) for field in fields(Training)}
        asked["teacher_steps"] = asked.pop("distillation_steps")
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Learn(Model, Training, Detectors, CalibrationFile):
    """Train a token that gives more accurate counts than the number word, for use with generate --token.

    First it is distilled from prompts that count better, then the count loss is minimised. After an interruption the
    best token so far is saved, and the same command resumes. A count that no number word of the model reaches, by its
    calibration, is not trained but gets a direction of the prompt embeddings.
    """

    count: int = Argument(..., metavar="N", min=1, help="the number of objects that the token stands for")
    object: list[str] = option(
        ..., "NAME,...", "classes to train on, such as apple,cat; repeatable, several make the token general"
    )
    out: Path | None = option(None, "FILE", "the .safetensors file to write", "count-N.safetensors")
    overwrite: bool = flag("overwrite", "replace an existing token file")
    trial_images: int = bounded(
        32, "images with the finished token, and as many without, that the judge counts; 0: no trial", least=0
    )

    def run(self) -> int:
        from countgen.number_slider import find_calibration, load_calibration
        from countgen.tokens.file import load_token
        from countgen.tokens.trainer import Learning

        objects = names(self.object)
        if not objects:
            raise ValueError("--object names nothing; write apple, or apple,dog for several")
        out = self.out or Path(f"count-{self.count}{SUFFIX}")
        checkpoint = out.with_suffix(f".checkpoint{SUFFIX}")
        self._check_output(out, checkpoint)
        calibration = load_calibration(self.calibration) if self.calibration else None
        settings = LearnSettings(**self.asked_of_training)
        models = self.load(objects, **self.asked_detectors)
        if calibration is not None:
            calibration.check(models.backbone)
        calibration = calibration or find_calibration(models.backbone)
        if calibration is not None and calibration.replacement_for(self.count) is not None:
            return self._make_direction(models, calibration, objects, out)
        settings = self._with_length(settings, models)
        learning = Learning(models, self.count, objects, settings, checkpoint=checkpoint)
        if out.exists() and not self.overwrite and not _unfinished(load_token(out), learning.token):
            raise taken(out)
        return self._train(models, learning, settings, out, checkpoint)

    def _check_output(self, out: Path, checkpoint: Path) -> None:
        """Raise if the token cannot be written, or exists without the checkpoint of an interrupted training."""
        from countgen.images import check_writable

        if out.suffix != SUFFIX:
            raise ValueError(f"--out must end with {SUFFIX}, got {out.name}")
        if out.is_dir():
            raise ValueError(f"{out} is a folder; give --out the name of a file")
        check_writable(out.parent)
        if out.exists() and not self.overwrite and not checkpoint.exists():
            raise taken(out)

    def _with_length(self, settings: LearnSettings, models: "Models") -> LearnSettings:
        """Return the settings with as many vectors as the number word has, unless a number was given."""
        from countgen.prompts.number_words import number_word
        from countgen.tokens.textual_inversion import length_of

        if self.num_vectors is not None:
            return settings
        return replace(settings, num_vectors=length_of(number_word(self.count), models.backbone))

    def _train(
        self, models: "Models", learning: "Learning", settings: LearnSettings, out: Path, checkpoint: Path
    ) -> int:
        from countgen.tokens.file import save_token

        interrupted = False
        try:
            self._follow(learning, settings)
        except KeyboardInterrupt:
            interrupted = True
        except Exception:
            if learning.validations:
                save_token(learning.token, out, overwrite=True)
            raise
        save_token(learning.token, out, overwrite=True)
        token, plain = learning.token, None
        if not interrupted:
            token, plain = self._tried(models, token, out)
            checkpoint.unlink(missing_ok=True)
        state = learning.state
        validated = learning.best_validation.accuracy if learning.validations else None
        record = {
            "token": str(out),
            "placeholder_token": token.placeholder_token,
            "steps": learning.steps_made,
            "distillation_steps": state.distillation_steps,
            "optimization_steps": state.step,
            "evaluations": state.evaluations,
            "validation_accuracy": validated,
            "accuracy": token.accuracy,
            "plain_accuracy": plain,
            "interrupted": interrupted,
        }
        validation = "not validated" if validated is None else f"{100 * validated:.0f} % correct by the critics"
        made = f"{state.distillation_steps} distillation steps and {state.step} steps on the count loss"
        self._report(record, f"{token.placeholder_token} after {made}, {validation}")
        return INTERRUPTED if interrupted else OK

    def _follow(self, learning: "Learning", settings: LearnSettings) -> None:
        """Take all steps of the training, and show them."""
        from countgen.progress import progress_line

        phases = {
            "distill": ("distillation", settings.teacher_steps),
            "train": ("count loss", settings.num_optimization_steps),
        }
        with progress_line("training", shown=self.text) as show:
            for step in learning:
                phase, total = phases[step.phase]
                loss = f"loss {step.loss:.2f}, soft count {step.soft_counts[0]:.1f}"
                show(f"{phase}: step {step.index + 1} of {total}, {loss}", (step.index + 1) / total)

    def _tried(self, models: "Models", token: "CountToken", out: Path) -> "tuple[CountToken, float | None]":
        """Return the token with the accuracy that the judge measures, saved, and that of the number word."""
        from countgen.tokens.file import save_token
        from countgen.tokens.trial import try_token

        if not self.trial_images:
            return token, None
        accuracy, plain = try_token(models, token, self.trial_images)
        token = replace(token, accuracy=accuracy)
        save_token(token, out, overwrite=True)
        return token, plain

    def _make_direction(self, models: "Models", calibration: "Calibration", objects: tuple[str, ...], out: Path) -> int:
        """Make a token with a number direction, save it and print its accuracy.

        Raises:
            ValueError: the calibration does not reach the count, or an option of the training was given.
        """
        from countgen.number_slider.learning import direction_token
        from countgen.prompts import Target
        from countgen.prompts.number_words import number_word
        from countgen.tokens.file import save_token

        if out.exists() and not self.overwrite:
            raise taken(out)
        if self.asked_of_training:
            name = next(iter(self.asked_of_training)).replace("_", "-").replace("teacher", "distillation")
            raise ValueError(
                f"{calibration.backbone} follows number words up to {number_word(calibration.hi)}, so the token of "
                f"{self.count} is a direction of the prompt embeddings, which is not trained: leave out --{name}"
            )
        for name in objects:
            models.check((Target(name, self.count),))
        token = direction_token(models.backbone, self.count, objects, calibration)
        save_token(token, out, overwrite=self.overwrite)
        token, plain = self._tried(models, token, out)
        assert token.direction is not None
        start, offset = token.direction.start_number, token.direction.offset
        record = {
            "token": str(out),
            "placeholder_token": token.placeholder_token,
            "start_number": start,
            "offset": offset,
            "accuracy": token.accuracy,
            "plain_accuracy": plain,
        }
        self._report(
            record, f"{token.placeholder_token}: {number_word(start)} moved by {offset:g} along the number axis"
        )
        return OK

    def _report(self, record: dict[str, Any], title: str) -> None:
        if self.json:
            print(json.dumps(record))
        elif self.text:
            print(fitted(title))
            print(fitted(" ", path=record["token"]))
            if record["plain_accuracy"] is not None:
                judged = f"{100 * record['accuracy']:.0f} % correct, baseline {100 * record['plain_accuracy']:.0f} %"
                print(fitted(f"  on new seeds, by the judge: {judged}", hang=4))


def _unfinished(existing: "CountToken", expected: "CountToken") -> bool:
    """Return whether a token is the output of this training after an interruption, without a measured accuracy."""
    names = [field.name for field in fields(expected) if field.name not in ("vectors", "direction")]
    return all(getattr(existing, name) == getattr(expected, name) for name in names)


def taken(out: Path) -> ValueError:
    """Return the error of an output that exists already."""
    return ValueError(f"{out} exists already; give another --out, or --overwrite")
