"""`countgen edit`: the same image with another count."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer import Argument

from countgen.app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from countgen.app.interrupts import held_interrupts, run_to_end
from countgen.app.options import CalibrationFile, Detectors, Limits, Output, Settings, announce, option, settings_help
from countgen.app.reproduce import Origin
from countgen.app.result_lines import record_of, report
from countgen.app.terminal import fitted


@dataclass(frozen=True, kw_only=True)
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

    def run(self) -> int:
        from countgen import models
        from countgen.detector_choice import AUTO
        from countgen.editing import edit_run, targets_of
        from countgen.images import check_writable, read_png, save_png
        from countgen.methods.edit import EditSettings
        from countgen.methods.settings import with_text
        from countgen.number_slider import load_calibration
        from countgen.prompts import targets_from

        image, recipe = read_png(self.image)
        counts = {target.object_name: target.target_count for target in targets_from(self.counts)}
        settings = with_text(EditSettings(), self.set or ())
        calibration = load_calibration(self.calibration) if self.calibration else None
        out = self.out or self.image.with_stem(f"{self.image.stem}-edited")
        if out.suffix.lower() != ".png":
            raise ValueError(f"--out {out} must end in .png: the recipe travels inside a PNG")
        check_writable(out.parent)
        token = self.token_of(recipe)
        checked = self.check(recipe, token, image.size)
        objects = [target.object_name for target in targets_of(recipe)]
        detectors = models.Detectors(checked.name, objects, self.critic, self.judge or AUTO, self._announce)
        loaded = detectors.join(self.load(checked, shown=self.text), self.trust_checkpoint)
        current = edit_run(
            recipe,
            loaded,
            counts=counts,
            settings=settings,
            max_seconds=self.max_seconds,
            max_evaluations=self.max_evaluations,
            until=self.until,
            sure=self.sure,
            token=token,
            calibration=calibration,
        )
        interrupted = run_to_end(current, f"edit {self.image.name}", self.max_steps, shown=self.text)
        if current.best is None:  # interrupted before the first candidate
            return INTERRUPTED
        with held_interrupts() as interrupt:
            result = current.result()
            record = record_of(result, self.image, save_png(result.image, out, result.recipe))
        interrupted |= interrupt.asked
        record["prompt"] = current.prompt
        if self.json:
            print(json.dumps(record | {"interrupted": interrupted}))
        elif self.text:
            print(fitted(f"prompt: {current.prompt}"))
            report(record, preservation=True)
        if interrupted:
            return INTERRUPTED
        return OK if result.verified else NOT_REACHED

    def _announce(self, choice: Any, missing: Any) -> None:
        if missing and not self.yes:
            raise ValueError(f"{'; '.join(map(str, missing))} is not here; give --yes to download it")
        if self.text:
            announce(choice, missing)
