"""`countgen calibrate`: measure what a model generates by number word and offset, for the number slider."""

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from countgen.app.exit_codes import INTERRUPTED, OK
from countgen.app.interrupts import held_interrupts
from countgen.app.options import Detectors, Model, given, option, setting
from countgen.app.terminal import fitted
from countgen.backbones.sources import find_source
from countgen.images import check_writable
from countgen.methods import DEFAULT_SURE
from countgen.models import Models
from countgen.number_slider import Calibration, load_calibration
from countgen.number_slider.measurement import OBJECTS, CalibrationSettings, measure, new_calibration
from countgen.progress import progress_line
from countgen.prompts import Target


class Calibrate(Model, Detectors):
    """Generate images for each number word and for offsets along the number axis, and count them.

    The first critic counts. The probability that a count is right is fitted to the margins of all critics and the
    counts of the judge. generate --calibration takes the file. Every measured point is saved; interrupt it whenever you
    like, and the same command goes on.
    """

    images: int | None = setting(CalibrationSettings, "images")
    max_number: int | None = setting(CalibrationSettings, "max_number")
    object: list[str] | None = option(None, "NAME", "an object class, such as apple; repeatable", "twelve common ones")
    seed: int | None = setting(CalibrationSettings, "seed")
    out: Path | None = option(None, "FILE", "where to save it", "calibration-MODEL.json")

    def run(self) -> int:
        objects = self.object or OBJECTS
        settings = CalibrationSettings(**given(images=self.images, max_number=self.max_number, seed=self.seed))
        for object_name in objects:
            Target(object_name, settings.max_number)
        name = find_source(self.model).name
        out = self.out or Path(f"calibration-{name.replace('/', '-')}.json")
        if out.suffix != ".json":
            raise ValueError(f"a calibration is a .json file, got --out {out}")
        check_writable(out.parent)
        begun = load_calibration(out) if out.exists() else None
        models = self.load(objects, **self.detector_options)
        wanted = new_calibration(models, objects, settings)
        if begun is not None:
            critics, judge = {critic.name for critic in models.critics}, models.required_judge.name
            fitted_to = begun.acceptance and (begun.acceptance.judge, set(begun.acceptance.scales))
            other_detectors = fitted_to and fitted_to[0] and fitted_to != (judge, critics)
            if other_detectors or replace(begun, points=(), acceptance=None) != wanted:
                raise ValueError(f"{out} is a calibration with other settings; give another --out, or remove it")
        calibration, interrupted = self._measured(models, begun or wanted, out)
        summary = _summary(calibration)
        if self.json:
            print(json.dumps({"calibration": str(out), **summary, "interrupted": interrupted}))
        elif self.text:
            _report(calibration, summary, out)
        return INTERRUPTED if interrupted else OK

    def _measured(self, models: Models, calibration: Calibration, out: Path) -> tuple[Calibration, bool]:
        """Return the calibration, saved after each point and after the fit, and whether the user interrupted it."""
        try:
            with progress_line("measuring", shown=self.text) as show:
                for measured in measure(models, calibration):
                    with held_interrupts() as pressed:
                        measured.save(out)
                        calibration = measured
                    done, left = len(calibration.points), len(calibration.left)
                    then = "" if calibration.acceptance else ", then P(right)"
                    show(f"measured {done} points, {left} or more left{then}", done / (done + left + bool(then)))
                    if pressed.is_set():
                        return calibration, True
        except KeyboardInterrupt:
            return calibration, True
        return calibration, False


def _summary(calibration: Calibration) -> dict[str, Any]:
    """Return what follows from the points; only their number if points or P(right) are missing."""
    acceptance = None if calibration.left else calibration.acceptance
    summary: dict[str, Any] = {"points": len(calibration.points), "complete": acceptance is not None}
    if acceptance is None:
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
        "fitted": {name: getattr(acceptance, name) for name in ("judge", "images", "confirmed", "right")},
    }


def _report(calibration: Calibration, summary: dict[str, Any], out: Path) -> None:
    if not summary["complete"]:
        left = "more are left" if calibration.left else "P(right) is left"
        print(fitted(f"{len(calibration.points)} points measured, {left}: the same command goes on"))
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
        if (fit := summary["fitted"])["judge"]:
            confirmed = f"of {fit['images']} images {fit['confirmed']} are confirmed at {DEFAULT_SURE:g}"
            right = f"{fit['right']} of them right by {fit['judge']}"
            print(fitted(f"P(right) on seeds that it was not fitted to: {confirmed}, {right}"))
            print(
                fitted("prompts with one object class were measured; several are less certain by the embedded models'")
            )
    print(f"  {out}")
