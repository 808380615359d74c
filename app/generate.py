"""`countgen generate`: from a prompt to images with the right count, before and after."""

import json
import math
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from countgen import Models, Options, Result, Run, methods
from countgen.app.arguments import Generate
from countgen.app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from countgen.app.file_names import free_paths, named
from countgen.app.interrupts import held_interrupts, run_to_end
from countgen.app.options import MAX_SEED, MAX_SEEDS
from countgen.app.result_lines import record_of, report
from countgen.app.terminal import fitted
from countgen.backbones.sources import find_source
from countgen.images import check_writable, read_png, save_png
from countgen.methods.settings import with_text
from countgen.number_slider import load_calibration
from countgen.number_slider.shifts import number_offset_from
from countgen.prompts import Prompt, read, targets_from
from countgen.prompts.number_words import number_word
from countgen.recipe import plain
from countgen.tokens.library import find_token


def run(command: Generate) -> int:
    """Generate the images, and print their counts."""
    seeds = _seeds(command)
    check_writable(command.out)
    options = _options(command)
    # Objects of any name decide which detectors are loaded; these then read the prompt with their classes.
    named = read(command.prompt, targets=options.targets).targets
    models = _load(command, [target.object_name for target in named])
    prompt = models.read(command.prompt, options.targets)
    records, interrupted = _generate(command, prompt, models, options, seeds)
    grid = _save_grid([Path(record["after"]) for record in records]) if command.grid and records else None
    right = sum(record["verified"] for record in records)
    if command.json:
        summary = {"prompt": command.prompt, "images": records, "right": right, "interrupted": interrupted}
        print(json.dumps(summary | ({"grid": str(grid)} if grid else {})))
    elif command.text:
        if len(records) > 1:
            print(fitted(f"the judge agrees with {right} of {len(records)} images"))
        if grid:
            print(fitted("grid ->", path=str(grid)))
    if interrupted:
        return INTERRUPTED
    return OK if right == len(seeds) else NOT_REACHED


def _seeds(command: Generate) -> list[int]:
    seeds = list(dict.fromkeys(seed for text in command.seed or ["0"] for seed in seeds_in(text)))
    if command.images is not None:
        if len(seeds) > 1:
            raise ValueError("--images counts up from one seed; give one --seed with it, or a range like --seed 0-3")
        seeds = list(range(seeds[0], seeds[0] + command.images))
    if max(seeds) > MAX_SEED:
        raise ValueError(f"a seed must be from 0 to {MAX_SEED}, got {max(seeds)}; begin lower")
    return seeds


def seeds_in(text: str) -> list[int]:
    """Return the seeds in "7" or "0-3", both ends included; a random one for "-1"."""
    if text == "-1":
        return [secrets.randbelow(MAX_SEED - MAX_SEEDS)]  # --images counts up from it
    match = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < first + MAX_SEEDS or last > MAX_SEED:
        known = f"write 7, 0-3 for several (at most {MAX_SEEDS}), from 0 to {MAX_SEED}, or -1 for a random one"
        raise ValueError(f"--seed {text}: {known}")
    return list(range(first, last + 1))


def _options(command: Generate) -> Options:
    same = ("method", "max_seconds", "max_evaluations", "until", "sure", "worth", "negative_prompt", "deterministic")
    return Options(
        **{name: getattr(command, name) for name in same},
        targets=targets_from(",".join(command.count)) if command.count else None,
        settings=with_text(methods.load(command.method).settings_class(), command.set or ()),
        token=find_token(command.token, find_source(command.model).name) if command.token else None,
        number_offset=number_offset_from(command.number_offset or ()),
        calibration=load_calibration(command.calibration) if command.calibration else None,
    )


def _load(command: Generate, objects: Sequence[str]) -> Models:
    """Load the model and its detectors, and print how the model is sampled."""
    models = command.load(objects, draft=command.draft, **command.detector_options)
    backbone = models.backbone
    if command.text and not command.model.startswith("miniature"):
        sampled = f"{backbone.num_inference_steps} steps, guidance {backbone.guidance_scale:g}, "
        if not backbone.num_inference_steps:
            sampled = ""
        print(fitted(f"{backbone.name}: {sampled}{backbone.chosen}; licence: {backbone.preset.licence}"))
    if command.text and command.size and (warning := _size_warning(command.model, *command.size)):
        print(fitted(f"warning: {warning}"), file=sys.stderr)
    return models


def _size_warning(model: str, width: int, height: int) -> str:
    """Return what to expect of a size that is far from the model's own; empty if it is near."""
    own = find_source(model).preset
    larger = width * height / (own.width * own.height)
    if own.remote or (0.5 <= larger <= 2 and max(width, height) <= 2 * min(width, height)):
        return ""
    expected = "objects that are cut or malformed"
    if larger > 1:
        expected = f"objects that are repeated, and {larger:.2g} times the time or more for each evaluation"
    return f"{model} is made for {own.width}x{own.height}: at {width}x{height} expect {expected}"


def _generate(
    command: Generate, prompt: Prompt, models: Models, options: Options, seeds: Sequence[int]
) -> tuple[list[dict[str, Any]], bool]:
    """Return the records of the images, and whether the user interrupted the command."""
    records: list[dict[str, Any]] = []
    for seed in seeds:
        current = Run(prompt, models, options, seed=seed)
        for shift in current.shifts if command.text and not records else ():
            moved = f"the prompt embeddings of {number_word(shift.number)}, moved by {shift.offset:+g} objects"
            print(fitted(f"{shift.object_name}: {moved}; --number-offset 0 for the prompt as written", hang=4))
        interrupted = run_to_end(current, f"seed {seed}", command.max_steps, shown=command.text)
        if current.best is None:  # interrupted before the first candidate
            return records, True
        with held_interrupts() as pressed:
            result = current.result()
            records.append(_save(result, command.out, command.name))
        if command.text:
            report(records[-1])
        if command.text and (why := current.why_replaced(result)):
            print(fitted(f"  the image before was right by the judge already. {why}", hang=4))
        if interrupted or pressed.is_set():
            return records, True
    return records, False


def _save(result: Result, folder: Path, template: str) -> dict[str, Any]:
    """Write both images of a result, recipe inside, and return its record."""
    now = datetime.now()
    values: dict[str, str | int] = {
        "prompt": result.recipe["prompt"],
        "seed": result.seed,
        "model": result.recipe["backbone"],
        "method": result.method,
        "counts": "-".join(f"{target.object_name}-{target.target_count}" for target in result.targets),
        "date": f"{now:%Y-%m-%d}",
        "time": f"{now:%H-%M-%S}",
    }
    before_path, after_path = free_paths(folder, named(template, values), ("-before.png", "-after.png"))
    before = save_png(result.before, before_path, plain(result.recipe))
    try:
        after = save_png(result.image, after_path, result.recipe)
    except BaseException:  # both images or none, on a full disk too
        before.unlink(missing_ok=True)
        raise
    return record_of(result, before, after)


def _save_grid(paths: Sequence[Path]) -> Path:
    """Write images of one size as one, in about as many columns as rows, and return its path beside the first."""
    images = [read_png(path)[0] for path in paths]
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    grid = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), "white")
    for number, image in enumerate(images):
        grid.paste(image, (number % columns * width, number // columns * height))
    return save_png(grid, paths[0].with_name(f"{paths[0].stem.removesuffix('-after')}-grid.png"))
