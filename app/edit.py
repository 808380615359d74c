"""`countgen edit`: the same image with another count."""

import json
from typing import Any

from countgen.app.arguments import Edit
from countgen.app.exit_codes import INTERRUPTED, NOT_REACHED, OK
from countgen.app.interrupts import held_interrupts, run_to_end
from countgen.app.options import announce
from countgen.app.reproduce import check_png_path, checked_origin, load_origin, token_of
from countgen.app.result_lines import record_of, report
from countgen.app.terminal import fitted
from countgen.detector_choice import AUTO
from countgen.editing import edit_run, targets_of
from countgen.images import read_png, save_png
from countgen.methods.edit import EditSettings
from countgen.methods.settings import with_text
from countgen.models import Detectors
from countgen.number_slider import load_calibration
from countgen.prompts import targets_from


def run(command: Edit) -> int:
    """Edit the image, and print its counts."""
    image, recipe = read_png(command.image)
    counts = {target.object_name: target.target_count for target in targets_from(command.counts)}
    settings = with_text(EditSettings(), command.set or ())
    calibration = load_calibration(command.calibration) if command.calibration else None
    out = command.out or command.image.with_stem(f"{command.image.stem}-edited")
    check_png_path(out)
    token = token_of(command, recipe)
    checked = checked_origin(command, recipe, token, image.size)

    def announced(choice: Any, missing: Any) -> None:
        if missing and not command.yes:
            raise ValueError(f"{'; '.join(map(str, missing))} is not here; give --yes to download it")
        if command.text:
            announce(choice, missing)

    objects = [target.object_name for target in targets_of(recipe)]
    detectors = Detectors(checked.name, objects, command.critic, command.judge or AUTO, announced)
    current = edit_run(
        recipe,
        detectors.join(load_origin(command, checked, shown=command.text), command.trust_checkpoint),
        counts=counts,
        settings=settings,
        max_seconds=command.max_seconds,
        max_evaluations=command.max_evaluations,
        until=command.until,
        sure=command.sure,
        worth=command.worth,
        token=token,
        calibration=calibration,
    )
    interrupted = run_to_end(current, f"edit {command.image.name}", command.max_steps, shown=command.text)
    if current.best is None:  # interrupted before the first candidate
        return INTERRUPTED
    with held_interrupts() as pressed:
        result = current.result()
        record = record_of(result, command.image, save_png(result.image, out, result.recipe))
    record |= {"prompt": current.prompt.given, "interrupted": interrupted | pressed.is_set()}
    if command.json:
        print(json.dumps(record))
    elif command.text:
        print(fitted(f"prompt: {current.prompt}"))
        report(record, preservation=True)
    if record["interrupted"]:
        return INTERRUPTED
    return OK if result.verified else NOT_REACHED
