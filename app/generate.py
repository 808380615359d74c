"""`countgen generate`: from a prompt to images with the right count, before and after."""

import json
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Argument

from countgen import methods
from countgen.app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from countgen.app.image_files import DEFAULT_TEMPLATE, KNOWN_FIELDS, name_template, save_grid, save_result
from countgen.app.interrupts import held_interrupts, run_to_end
from countgen.app.options import (
    MAX_SEED,
    CalibrationFile,
    Detectors,
    Limits,
    Model,
    NegativePrompt,
    Settings,
    bounded,
    flag,
    option,
    settings_help,
)
from countgen.app.result_lines import report
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen import Models, Options, Run

MAX_SEEDS = 10_000
"""Most seeds of one command."""


@dataclass(frozen=True, kw_only=True)
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
    draft: bool = flag("draft", "cheaper gradients through a tiny decoder; only if the model has one")
    out: Path = option(Path("images"), "FOLDER", "of the images")
    name: str = option(DEFAULT_TEMPLATE, "TEMPLATE", f"name of each file, from {KNOWN_FIELDS}", parser=name_template)

    def run(self) -> int:
        from countgen.images import check_writable
        from countgen.prompts import check_prompt, parse

        seeds = self._seeds()
        check_writable(self.out)
        check_prompt(self.prompt)
        options = self._options()
        models = self._load([target.object_name for target in options.targets or parse(self.prompt)])
        records, interrupted = self._generate(models, options, seeds)
        grid = save_grid([Path(record["after"]) for record in records]) if self.grid and records else None
        right = sum(record["verified"] for record in records)
        if self.json:
            summary = {"prompt": self.prompt, "images": records, "right": right, "interrupted": interrupted}
            print(json.dumps(summary | ({"grid": str(grid)} if grid else {})))
        elif self.text:
            if len(records) > 1:
                print(fitted(f"the judge agrees with {right} of {len(records)} images"))
            if grid:
                print(fitted("grid ->", path=str(grid)))
        if interrupted:
            return INTERRUPTED
        return OK if right == len(seeds) else NOT_REACHED

    def _seeds(self) -> list[int]:
        seeds = list(dict.fromkeys(seed for text in self.seed or ["0"] for seed in seeds_in(text)))
        if self.images is not None:
            if len(seeds) > 1:
                raise ValueError(
                    "--images counts up from one seed; give one --seed with it, or a range like --seed 0-3"
                )
            seeds = list(range(seeds[0], seeds[0] + self.images))
        if max(seeds) > MAX_SEED:
            raise ValueError(f"a seed must be from 0 to {MAX_SEED}, got {max(seeds)}; begin lower")
        return seeds

    def _options(self) -> "Options":
        from countgen.backbones.sources import find_source
        from countgen.methods.settings import with_text
        from countgen.number_slider import load_calibration
        from countgen.number_slider.shifts import number_offset_from
        from countgen.options import Options
        from countgen.prompts import targets_from
        from countgen.tokens.library import find_token

        return Options(
            targets=targets_from(",".join(self.count)) if self.count else None,
            method=self.method,
            settings=with_text(methods.load(self.method).settings_class(), self.set or ()),
            max_seconds=self.max_seconds,
            max_evaluations=self.max_evaluations,
            until=self.until,
            sure=self.sure,
            token=find_token(self.token, find_source(self.model).name) if self.token else None,
            number_offset=number_offset_from(self.number_offset or ()),
            calibration=load_calibration(self.calibration) if self.calibration else None,
            negative_prompt=self.negative_prompt,
            deterministic=self.deterministic,
        )

    def _load(self, objects: Sequence[str]) -> "Models":
        """Load the model and its detectors, and print how the model is sampled."""
        models = self.load(objects, draft=self.draft, **self.asked_detectors)
        backbone = models.backbone
        if self.text and not self.model.startswith("miniature"):
            sampled = f"{backbone.num_inference_steps} steps, guidance {backbone.guidance_scale:g}"
            print(fitted(f"{backbone.name}: {sampled}, {backbone.chosen}; licence: {backbone.preset.licence}"))
        if self.text and self.size and (warning := self._size_warning()):
            print(fitted(f"warning: {warning}"), file=sys.stderr)
        return models

    def _size_warning(self) -> str:
        """Return what to expect of a size that is far from the model's own; empty if it is near."""
        from countgen.backbones.sources import find_source

        assert self.size is not None
        own, (width, height) = find_source(self.model).preset, self.size
        larger = width * height / (own.width * own.height)
        if 0.5 <= larger <= 2 and max(width, height) <= 2 * min(width, height):
            return ""
        expected = "objects that are cut or malformed"
        if larger > 1:
            expected = f"objects that are repeated, and {larger:.2g} times the time or more for each evaluation"
        return f"{self.model} is made for {own.width}x{own.height}: at {width}x{height} expect {expected}"

    def _generate(
        self, models: "Models", options: "Options", seeds: Sequence[int]
    ) -> tuple[list[dict[str, Any]], bool]:
        """Return the records of the images, and whether the user interrupted the command."""
        from countgen import Run

        records: list[dict[str, Any]] = []
        for seed in seeds:
            current = Run(self.prompt, models, options, seed=seed)
            if self.text and not records:
                _report_shifts(current)
            interrupted = run_to_end(current, f"seed {seed}", self.max_steps, shown=self.text)
            if current.best is None:  # interrupted before the first candidate
                return records, True
            with held_interrupts() as interrupt:
                result = current.result()
                records.append(save_result(result, self.out, self.name))
            if self.text:
                report(records[-1])
            if self.text and (why := current.why_replaced(result)):
                print(fitted(f"  the image before was right by the judge already. {why}", hang=4))
            if interrupted or interrupt.asked:
                return records, True
        return records, False


def _report_shifts(current: "Run") -> None:
    """Print how the prompt embeddings are moved along the number axis, if they are."""
    from countgen.prompts.number_words import number_word

    for shift in current.shifts:
        moved = f"the prompt embeddings of {number_word(shift.number)}, moved by {shift.offset:+g} objects"
        print(fitted(f"{shift.object_name}: {moved}; --number-offset 0 for the prompt as written", hang=4))


def seeds_in(text: str) -> list[int]:
    """Return the seeds in "7" or "0-3", both ends included; a random one for "-1".

    Raises:
        ValueError: another form, a seed that is too high, or a range that runs backwards or is too long.
    """
    if text == "-1":
        return [secrets.randbelow(MAX_SEED - MAX_SEEDS)]  # --images counts up from it
    match = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < first + MAX_SEEDS or last > MAX_SEED:
        raise ValueError(
            f"--seed {text}: write 7, 0-3 for several (at most {MAX_SEEDS}), from 0 to {MAX_SEED}, or -1 for a random "
            "one"
        )
    return list(range(first, last + 1))
