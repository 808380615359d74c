"""`countgen tokens learn`: train a count token and save it."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from typer import Argument

from countgen.app.exit_codes import INTERRUPTED, OK
from countgen.app.options import Detectors, Group, Model, bounded, flag, given, names, option, setting
from countgen.app.terminal import fitted
from countgen.images import check_writable
from countgen.models import Models
from countgen.progress import progress_line
from countgen.tokens.file import SUFFIX, CountToken, load_token, save_token
from countgen.tokens.settings import LearnSettings
from countgen.tokens.trainer import Learning
from countgen.tokens.trial import try_token


class Training(Group, panel="Training"):
    """Settings of the training, by their names in `LearnSettings`."""

    loss: str | None = setting(LearnSettings, "loss")
    learning_rate: float | None = setting(LearnSettings, "learning_rate")
    semantic_weight: float | None = setting(LearnSettings, "semantic_weight")
    num_vectors: int | None = setting(LearnSettings, "num_vectors")
    num_optimization_steps: int | None = setting(LearnSettings, "num_optimization_steps")
    distillation_steps: int | None = setting(LearnSettings, "distillation_steps")
    validation_images: int | None = setting(LearnSettings, "validation_images")
    objects_per_step: int | None = setting(LearnSettings, "objects_per_step")
    seeds_per_object: int | None = setting(LearnSettings, "seeds_per_object")
    patience: int | None = setting(LearnSettings, "patience")
    seed: int | None = setting(LearnSettings, "seed")

    @property
    def training_options(self) -> dict[str, Any]:
        """The given settings by name."""
        return given(**{field.name: getattr(self, field.name) for field in fields(Training)})


class Learn(Model, Training, Detectors):
    """Train a token that gives more accurate counts than the number word, for use with generate --token.

    First it is distilled from prompts that count better, then the count loss is minimised. After an interruption the
    best token so far is saved, and the same command resumes.
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
        objects = names(self.object)
        if not objects:
            raise ValueError("--object names nothing; write apple, or apple,dog for several")
        out = self.out or Path(f"count-{self.count}{SUFFIX}")
        checkpoint = out.with_suffix(f".checkpoint{SUFFIX}")
        self._check_output(out, checkpoint)
        settings = LearnSettings(**self.training_options)
        models = self.load(objects, **self.detector_options)
        learning = Learning(models, self.count, objects, settings, checkpoint=checkpoint)
        if out.exists() and not self.overwrite and not _unfinished(load_token(out), learning.token):
            raise taken(out)
        return self._train(models, learning, out, checkpoint)

    def _check_output(self, out: Path, checkpoint: Path) -> None:
        """Raise if the token cannot be written, or exists without the checkpoint of an interrupted training."""
        if out.suffix != SUFFIX:
            raise ValueError(f"--out must end with {SUFFIX}, got {out.name}")
        if out.is_dir():
            raise ValueError(f"{out} is a folder; give --out the name of a file")
        check_writable(out.parent)
        if out.exists() and not self.overwrite and not checkpoint.exists():
            raise taken(out)

    def _train(self, models: Models, learning: Learning, out: Path, checkpoint: Path) -> int:
        state, interrupted = learning.state, False
        try:
            self._follow(learning)
        except KeyboardInterrupt:
            interrupted = True
        except Exception:
            if state.validations:
                save_token(learning.token, out, overwrite=True)
            raise
        validated = state.best_validation.accuracy if state.validations else None
        validation = "not validated" if validated is None else f"{100 * validated:.0f} % correct by the critics"
        steps = f"{state.distillation_steps} distillation steps and {state.step} steps on the count loss"
        self._finish(
            models,
            learning.token,
            out,
            f" after {steps}, {validation}",
            trial_images=0 if interrupted else self.trial_images,
            steps=state.distillation_steps + state.step,
            distillation_steps=state.distillation_steps,
            optimization_steps=state.step,
            evaluations=state.evaluations,
            validation_accuracy=validated,
            interrupted=interrupted,
        )
        if interrupted:
            return INTERRUPTED
        checkpoint.unlink(missing_ok=True)
        return OK

    def _follow(self, learning: Learning) -> None:
        """Take all steps of the training, and show them."""
        settings = learning.settings
        phases = {
            "distill": ("distillation", settings.distillation_steps),
            "train": ("count loss", settings.num_optimization_steps),
        }
        with progress_line("training", shown=self.text) as show:
            for step in learning:
                (phase, total), number = phases[step.phase], step.index + 1
                counted = "" if step.soft_count is None else f", soft count {step.soft_count:.1f}"
                show(f"{phase}: step {number} of {total}, loss {step.loss:.2f}{counted}", number / total)

    def _finish(self, models: Models, token: CountToken, out: Path, made: str, trial_images: int, **more: Any) -> None:
        """Save a token, with the accuracy that the judge measures in a trial, and print it and how it was made."""
        save_token(token, out, overwrite=True)
        plain = None
        if trial_images:
            accuracy, plain = try_token(models, token, trial_images)
            token = replace(token, accuracy=accuracy)
            save_token(token, out, overwrite=True)
        record = {"token": str(out), "placeholder_token": token.placeholder_token, **more}
        if self.json:
            print(json.dumps(record | {"accuracy": token.accuracy, "plain_accuracy": plain}))
        elif self.text:
            print(fitted(f"{token.placeholder_token}{made}"))
            print(fitted(" ", path=str(out)))
            if plain is not None:
                judged = f"{100 * accuracy:.0f} % correct, baseline {100 * plain:.0f} %"
                print(fitted(f"  on new seeds, by the judge: {judged}", hang=4))


def _unfinished(existing: CountToken, expected: CountToken) -> bool:
    """Return whether a token is the output of this training after an interruption, without a measured accuracy."""
    names = [field.name for field in fields(expected) if field.name != "vectors"]
    return all(getattr(existing, name) == getattr(expected, name) for name in names)


def taken(out: Path) -> ValueError:
    """Return the error of an output that exists already."""
    return ValueError(f"{out} exists already; give another --out, or --overwrite")
