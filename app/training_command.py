"""What the commands that train something share: options, output, models and progress."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import add_trust_checkpoint, names, not_negative
from countgen.app.detector_arguments import announced, detectors_of
from countgen.app.loading import available_device
from countgen.app.model_arguments import add_loading, add_model, add_sampling, asked_of_load

if TYPE_CHECKING:
    from countgen.models import Models
    from countgen.tokens.trainer import Learning

LOSSES = ("l1", "d2d", "margin")
"""The names in `countgen.critics.losses`, repeated here because the parser must not import torch."""
SUFFIX = ".safetensors"
SettingOption = tuple[str, Callable[[str], Any], str, str]
"""Name of the setting, type, placeholder, and help with the default."""


def add_training(
    parser: argparse.ArgumentParser, settings: Iterable[SettingOption], *, loss: str, trial_images: int
) -> None:
    """Add the options of objects, models, detectors, settings, the trial at the end and reports.

    Args:
        parser: of the command.
        settings: options of the settings.
        loss, trial_images: defaults.
    """
    parser.add_argument(
        "--object",
        action="extend",
        type=names,
        required=True,
        metavar="NAME[,NAME]",
        help="object classes to learn on, such as apple,cat; repeatable, several make the token general",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing token file")
    add_model(parser)
    add_loading(parser)
    add_sampling(parser)
    parser.add_argument(
        "--critic",
        action="append",
        metavar="NAME",
        help=(
            "a detector to optimise against, or 'DETECTOR by DENSITY': counts of the first, gradient of the second; "
            "repeatable (the backbone's own)"
        ),
    )
    parser.add_argument(
        "--judge", metavar="NAME", help="a detector that evaluates the finished token only (the backbone's own)"
    )
    add_trust_checkpoint(parser)
    parser.add_argument(
        "--loss",
        choices=LOSSES,
        help=(
            "the count loss: l1, absolute error of the soft count; d2d, scores weighted by their distance from the "
            f"threshold; margin, a hinge on the ranked scores; a DENSITY has a loss of its own ({loss})"
        ),
    )
    for name, kind, metavar, said in settings:
        parser.add_argument(option_of(name), dest=name, type=kind, metavar=metavar, help=said)
    parser.add_argument(
        "--trial-images",
        type=not_negative,
        default=trial_images,
        metavar="N",
        help="images with the finished token, and as many without it, that the judge counts; 0 for no trial "
        "(%(default)s)",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (CUDA where there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def option_of(name: str) -> str:
    """Return the option of a setting."""
    return f"--{name.replace('_', '-')}"


def given_settings(settings_class: type[Any], options: argparse.Namespace) -> Any:
    """Return the settings of a training, with the options that were given."""
    given = {field.name: getattr(options, field.name, None) for field in fields(settings_class)}
    return settings_class(**{name: value for name, value in given.items() if value is not None})


def check_output(out: Path, checkpoint: Path, overwrite: bool) -> None:
    """Refuse an output that cannot be written, or that exists without the checkpoint of an interrupted training.

    Raises:
        ValueError, OSError: as said.
    """
    from countgen.images import check_writable

    for option, path in (("--out", out), ("--checkpoint", checkpoint)):
        if path.suffix != SUFFIX:
            raise ValueError(f"{option} must end with {SUFFIX}, got {path.name}")
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give {option} the name of a file")
        check_writable(path.parent)
    if out == checkpoint:
        raise ValueError(f"--out and --checkpoint are both {out}; give two files")
    if out.exists() and not overwrite and not checkpoint.exists():
        raise taken(out)


def check_unfinished(out: Path, expected: Any, load: Callable[[Path], Any], *, overwrite: bool) -> None:
    """Refuse to replace an existing file, unless it is the output of this training after an interruption.

    Args:
        out: file of the output, which may exist.
        expected: token of this training, without a measured accuracy.
        load: reads the file.
        overwrite: replace any file.

    Raises:
        ValueError: the file holds something else, or a finished output.
    """
    if overwrite or not out.exists():
        return
    existing = load(out)
    names = [field.name for field in fields(expected) if field.name not in ("vectors", "direction")]
    if any(getattr(existing, name) != getattr(expected, name) for name in names):
        raise taken(out)


def taken(out: Path) -> ValueError:
    """Return the error of an output that exists already."""
    return ValueError(f"{out} exists already; give another --out, or --overwrite")


def load_models(options: argparse.Namespace, object_names: Sequence[str]) -> Models:
    """Load the model and the detectors that the options name, or those that the objects need.

    Raises:
        ValueError, OSError: as `countgen.load`.
    """
    device = available_device(options.device)

    import countgen

    silent = options.quiet or options.json
    return countgen.load(
        options.model,
        objects=object_names,
        device=device,
        progress=not silent,
        announce=announced(text=not silent),
        **detectors_of(options),
        **asked_of_load(options),
    )


def train(learning: Learning, bars: Mapping[str, tuple[str, int]], save: Callable[[], object], *, silent: bool) -> bool:
    """Run a training to its end, with a bar for each phase; return whether the user interrupted it.

    The best parameters so far are saved afterwards, also where the training failed.

    Args:
        learning: is iterated over.
        bars: title and number of steps by phase.
        save: writes the output.
        silent: show no bar.
    """
    from tqdm import tqdm

    phase = ""
    # disable=None disables the bar if standard error is not a terminal.
    try:
        with tqdm(unit="step", disable=silent or None, leave=False) as bar:
            for step in learning:
                if step.phase != phase:
                    phase = step.phase
                    title, total = bars[phase]
                    bar.reset(total)
                    bar.set_description(title, refresh=False)
                bar.set_postfix_str(f"loss {step.loss:.2f}, soft count {step.soft_counts[0]:.1f}", refresh=False)
                bar.update(step.index + 1 - bar.n)
    except KeyboardInterrupt:
        save()
        return True
    except Exception:
        if learning.state.validations:
            save()
        raise
    save()
    return False
