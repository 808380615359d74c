"""`countgen calibrate`: measure what a model generates by number word and offset, for the number slider."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.exit_codes import INTERRUPTED, OK
from countgen.app.interrupts import held_interrupts
from countgen.app.options import MAX_SEED, Model, Trust, bounded, option
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen.number_slider import Calibration


@dataclass(frozen=True, kw_only=True)
class Calibrate(Model, Trust):
    """Generate images for each number word and for offsets along the number axis, and count them.

    generate --number-offset needs the file. Every measured point is saved; interrupt it whenever you like, and the same
    command goes on.
    """

    critic: str | None = option(None, "NAME", "the detector that counts", "chosen by what is counted")
    images: int = bounded(200, "images for each point")
    max_number: int = bounded(16, "highest number word to measure")
    object: list[str] | None = option(None, "NAME", "an object class, such as apple; repeatable", "twelve common ones")
    seed: int | None = bounded(None, "first seed of each point", least=0, most=MAX_SEED, if_none="of the tuning seeds")
    out: Path | None = option(None, "FILE", "where to save it", "calibration-MODEL.json")

    def run(self) -> int:
        from countgen.backbones.sources import find_source
        from countgen.images import check_writable
        from countgen.number_slider import load_calibration
        from countgen.number_slider.measurement import FIRST_SEED, OBJECTS, new_calibration, targets_to_measure

        objects = self.object or OBJECTS
        targets_to_measure(objects, self.images, self.max_number)
        name = find_source(self.model).name
        out = self.out or Path(f"calibration-{name.replace('/', '-')}.json")
        if out.suffix != ".json":
            raise ValueError(f"a calibration is a .json file, got --out {out}")
        check_writable(out.parent)
        begun = load_calibration(out) if out.exists() else None
        models = self.load(objects, critics=self.critic, judge=None, trust_checkpoint=self.trust_checkpoint)
        wanted = new_calibration(
            models,
            object_names=objects,
            images_per_point=self.images,
            max_number=self.max_number,
            first_seed=FIRST_SEED if self.seed is None else self.seed,
        )
        if begun is not None and replace(begun, points=()) != wanted:
            raise ValueError(f"{out} is a calibration with other settings; give another --out, or remove it")
        calibration, interrupted = self._measured(models, begun or wanted, out)
        summary = _summary(calibration)
        if self.json:
            print(json.dumps({"calibration": str(out), **summary, "interrupted": interrupted}))
        elif self.text:
            _report(calibration, summary, out)
        return INTERRUPTED if interrupted else OK

    def _measured(self, models: Any, calibration: "Calibration", out: Path) -> "tuple[Calibration, bool]":
        """Return the calibration, each point saved as soon as it is measured, and whether the user interrupted it."""
        from countgen.number_slider.measurement import measure
        from countgen.progress import progress_line

        points = measure(models, calibration)
        try:
            with progress_line("measuring", shown=self.text) as show:
                while calibration.left:
                    measured = next(points)
                    with held_interrupts() as interrupt:
                        measured.save(out)
                        calibration = measured
                    done, left = len(calibration.points), len(calibration.left)
                    show(f"measured {done} points, {left} or more left", done / (done + left))
                    if interrupt.asked:
                        return calibration, True
        except KeyboardInterrupt:
            return calibration, True
        return calibration, False


def _summary(calibration: "Calibration") -> dict[str, Any]:
    """Return what follows from the points; only their number if some are missing."""
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


def _report(calibration: "Calibration", summary: dict[str, Any], out: Path) -> None:
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
