"""`countgen calibrate`: measure what a model generates by number word and offset, for the number slider."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import add_trust_checkpoint, one_seed, positive
from countgen.app.exit_codes import INTERRUPTED, OK
from countgen.app.interrupts import held_interrupts
from countgen.app.loading import available_device
from countgen.app.model_arguments import add_loading, add_model, add_sampling, asked_of_load
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen.models import Models
    from countgen.number_slider import Calibration
    from countgen.number_slider.measurement import CalibrationSettings


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "calibrate",
        help="measure a model's number axis",
        description=(
            "Generate images for each number word and for offsets along the number axis, and count them with the first "
            "critic: the judge chooses nothing. generate --number-offset needs the file. Every measured point is "
            "saved; interrupt it whenever you like, and the same command goes on."
        ),
    )
    parser.set_defaults(run=run)
    add_model(parser)
    add_loading(parser)
    add_sampling(parser)
    parser.add_argument("--critic", metavar="NAME", help="the detector that counts (chosen by what is counted)")
    parser.add_argument(
        "--judge", metavar="NAME", help="a detector that the model is loaded with and that is not used here"
    )
    add_trust_checkpoint(parser)
    parser.add_argument("--images", type=positive, default=200, metavar="N", help="images for each point (%(default)s)")
    parser.add_argument(
        "--max-number", type=positive, default=16, metavar="N", help="highest number word to measure (%(default)s)"
    )
    parser.add_argument(
        "--object", action="append", metavar="NAME", help="an object class, such as apple; repeatable (twelve common)"
    )
    parser.add_argument("--seed", type=one_seed, metavar="N", help="first seed of each point (90000)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to save it (calibration-MODEL.json)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(options: argparse.Namespace) -> int:
    """Measure, save and report; returns the exit code.

    Raises:
        ValueError, OSError: bad input, found before any model is loaded wherever that is possible.
    """
    from countgen.backbones.sources import find_source
    from countgen.images import check_writable
    from countgen.number_slider import load_calibration
    from countgen.number_slider.measurement import OBJECTS
    from countgen.prompts import Target

    objects, settings = options.object or OBJECTS, _settings(options)
    for object_name in objects:
        Target(object_name, settings.max_number)
    name = find_source(options.model).name
    out = options.out or Path(f"calibration-{name.replace('/', '-')}.json")
    if out.suffix != ".json":
        raise ValueError(f"a calibration is a .json file, got --out {out}")
    check_writable(out.parent)
    begun = load_calibration(out) if out.exists() else None
    device = available_device(options.device)

    import countgen
    from countgen.detector_choice import AUTO

    models = countgen.load(
        options.model,
        objects=objects,
        critics=(options.critic,) if options.critic else None,
        judge=options.judge or AUTO,
        device=device,
        trust_checkpoint=options.trust_checkpoint,
        progress=not (options.quiet or options.json),
        **asked_of_load(options),
    )
    calibration, interrupted = _measured(models, options, begun, out)
    summary = _summary(calibration)
    if options.json:
        print(json.dumps({"calibration": str(out), **summary, "interrupted": interrupted}))
    elif not options.quiet:
        _report(calibration, summary, out)
    return INTERRUPTED if interrupted else OK


def _measured(
    models: Models, options: argparse.Namespace, begun: Calibration | None, out: Path
) -> tuple[Calibration, bool]:
    """Return the calibration, each point saved when it was measured, and whether the user interrupted it."""
    from msgspec.structs import replace
    from tqdm import tqdm

    from countgen.number_slider.measurement import OBJECTS, measure, new_calibration

    wanted = new_calibration(models, options.object or OBJECTS, _settings(options))
    if begun is not None and replace(begun, points=()) != wanted:
        raise ValueError(f"{out} is a calibration with other settings; give another --out, or remove it")
    calibration = begun or wanted
    silent = options.quiet or options.json or not sys.stderr.isatty()
    points = measure(models, calibration)
    try:
        with tqdm(desc=f"{len(calibration.points)} points", unit="point", disable=silent, leave=False) as bar:
            while calibration.left:
                measured = next(points)
                with held_interrupts() as interrupt:
                    measured.save(out)
                    calibration = measured
                bar.update()
                if interrupt.asked:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        return calibration, True
    return calibration, False


def _settings(options: argparse.Namespace) -> CalibrationSettings:
    """Return the settings of the calibration, with the options that were given."""
    from countgen.number_slider.measurement import CalibrationSettings

    given = {name: getattr(options, name) for name in ("images", "max_number", "seed")}
    return CalibrationSettings(**{name: value for name, value in given.items() if value is not None})


def _summary(calibration: Calibration) -> dict[str, Any]:
    """Return what follows from the points; only their number where some are missing."""
    summary: dict[str, Any] = {"points": len(calibration.points), "complete": not calibration.left}
    if calibration.left:
        return summary
    low, high = calibration.offset_range
    asks = {}
    for count in range(1, max(calibration.max_number, calibration.max_count) + 1):
        best, written = calibration.best_for(count), calibration.as_written(count)
        asks[count] = {
            "number": best.number,
            "offset": best.offset,
            "share": round(best.share(count), 3),
            "as_written": written and round(written.share(count), 3),
            "used": calibration.replacement_for(count) is not None,
        }
    return summary | {
        "lo": calibration.lo,
        "hi": calibration.hi,
        "offsets": [low, high],
        "max_count": calibration.max_count,
        "asks": asks,
    }


def _report(calibration: Calibration, summary: dict[str, Any], out: Path) -> None:
    if calibration.left:
        print(fitted(f"{len(calibration.points)} points measured, more are left: the same command goes on"))
    else:
        low, high = summary["offsets"]
        print(
            fitted(
                f"{calibration.backbone}, {calibration.images_per_point} images for each point counted by "
                f"{calibration.critic}: axis from {calibration.lo} to {calibration.hi}, offsets {low:g} to {high:g}, "
                f"counts 1 to {calibration.max_count}"
            )
        )
        for count, ask in summary["asks"].items():
            written = ask["as_written"]
            said = f"{ask['number']}{ask['offset']:+g}" if ask["offset"] else str(ask["number"])
            as_written = "not measured" if written is None else f"{100 * written:.0f} %"
            used = ", used" if ask["used"] else ""
            print(fitted(f"  {count}: ask for {said}, {100 * ask['share']:.0f} % (as written {as_written}){used}", 4))
    print(f"  {out}")
