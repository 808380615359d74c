"""Write the shipped suites: `python -m countgen.benchmarks.evaluation.suites.build`.

Every suite is a balanced design enumerated by index, without randomness, so that every machine writes the same bytes.
The sentences are ours; counts, objects and variations are those of the published benchmarks, as far as their papers
state them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from countgen.benchmarks.evaluation.suites.prompt import Prompt
from countgen.benchmarks.evaluation.suites.readers import DATA
from countgen.benchmarks.evaluation.suites.words import CATEGORIES, SCENES, STYLES, counted
from countgen.miniature.world import BACKGROUNDS, HELD_OUT_OBJECTS, HELD_OUT_PAIRS, OBJECT_NAMES, PLURALS
from countgen.prompts import Target

Noun = tuple[str, str]
Group = tuple[tuple[Noun, int], ...]

_COCO = tuple(noun for objects in CATEGORIES.values() for noun in objects)
_CATEGORY = {name: category for category, objects in CATEGORIES.items() for name, _ in objects}
_COCOCOUNT_COUNTS = (2, 3, 4, 5, 7, 10)
_MINIATURE = tuple(zip(OBJECT_NAMES, PLURALS, strict=True))
_MINIATURE_SCENES = tuple(background.strip() for background in BACKGROUNDS if background)
_MINIATURE_STYLES = {"picture": "a picture of", "image": "an image of"}
_LEADS = {"photo": "a photo of"} | STYLES | _MINIATURE_STYLES


def suites() -> dict[str, list[Prompt]]:
    """Return all shipped suites by name."""
    in_scenes = [(noun, SCENES[_CATEGORY[noun[0]]]) for noun in _COCO[1::2]]
    on_backgrounds = [(noun, _MINIATURE_SCENES) for noun in _MINIATURE[:20]]
    designs: dict[str, Callable[[str], Iterator[Prompt]]] = {
        "t2icountbench-style": _t2icountbench,
        "t2icountbench-miniature": _t2icountbench_miniature,
        "d2d-small-style": partial(_one_class, objects=_COCO, counts=range(1, 11)),
        "d2d-small-miniature": _d2d_small_miniature,
        "d2d-large-style": partial(_one_class, objects=_COCO[::2], counts=range(11, 21)),
        "d2d-large-miniature": partial(_one_class, objects=_MINIATURE, counts=range(11, 16)),
        "d2d-multi-style": partial(_several_classes, objects=_COCO, number=100),
        "d2d-multi-miniature": partial(_several_classes, objects=_MINIATURE, number=60),
        "cococount-style": partial(_cococount, objects=in_scenes),
        "cococount-miniature": partial(_cococount, objects=on_backgrounds),
    }
    return {name: list(design(name)) for name, design in designs.items()}


def _t2icountbench(suite: str) -> Iterator[Prompt]:
    """Return every count from 1 to 15 in each category: plain, in each scene, in each style; objects in turn."""
    for count in range(1, 16):
        for place, (category, objects) in enumerate(CATEGORIES.items()):
            variations = [("", "photo")]
            variations += [(scene, "photo") for scene in SCENES[category]]
            variations += [("", style) for style in STYLES]
            for turn, (scene, style) in enumerate(variations):
                noun = objects[(3 * count + place + turn) % len(objects)]
                yield _prompt(suite, ((noun, count),), scene, style)


def _t2icountbench_miniature(suite: str) -> Iterator[Prompt]:
    """Return every count from 1 to 15: plain, on each background and with each beginning of its captions."""
    variations = [("", "photo")] * 5
    variations += [(scene, "photo") for scene in _MINIATURE_SCENES] * 2
    variations += [("", style) for style in _MINIATURE_STYLES for _ in range(3)]
    for count in range(1, 16):
        for turn, (scene, style) in enumerate(variations):
            noun = _MINIATURE[(5 * count + turn) % len(_MINIATURE)]
            yield _prompt(suite, ((noun, count),), scene, style)


def _one_class(suite: str, objects: Sequence[Noun], counts: Sequence[int]) -> Iterator[Prompt]:
    """Return every object with every count, without a scene."""
    for noun in objects:
        for count in counts:
            yield _prompt(suite, ((noun, count),))


def _d2d_small_miniature(suite: str) -> Iterator[Prompt]:
    """Return as many prompts as the large suite has: every object with every count, then some on a background."""
    yield from _one_class(suite, _MINIATURE, range(1, 11))
    for turn in range(160):
        noun = _MINIATURE[turn % len(_MINIATURE)]
        scene = _MINIATURE_SCENES[(turn + turn // 120) % len(_MINIATURE_SCENES)]
        yield _prompt(suite, ((noun, 1 + turn % 10),), scene)


def _several_classes(suite: str, objects: Sequence[Noun], number: int) -> Iterator[Prompt]:
    """Return `number` prompts with two object classes and as many with three, 1 to 5 of each."""
    for turn in range(number):
        first, second = objects[turn % len(objects)], objects[(turn + 7 + turn // len(objects)) % len(objects)]
        yield _prompt(suite, ((first, 1 + turn % 5), (second, 1 + turn // 5 % 5)))
    for turn in range(number):
        indices = (turn, turn + 5 + turn // len(objects), turn + 11 + 2 * (turn // len(objects)))
        first, second, third = (objects[index % len(objects)] for index in indices)
        yield _prompt(suite, ((first, 1 + turn % 5), (second, 1 + turn // 5 % 5), (third, 1 + turn // 25 % 5)))


def _cococount(suite: str, objects: Sequence[tuple[Noun, tuple[str, ...]]]) -> Iterator[Prompt]:
    """Return ten prompts for each object: every count once plain and four of the six counts in one of its scenes."""
    for place, (noun, scenes) in enumerate(objects):
        for count in _COCOCOUNT_COUNTS:
            yield _prompt(suite, ((noun, count),))
        for turn in range(4):
            count = _COCOCOUNT_COUNTS[(place + turn) % len(_COCOCOUNT_COUNTS)]
            yield _prompt(suite, ((noun, count),), scenes[(place + turn) % len(scenes)])


def _prompt(suite: str, group: Group, scene: str = "", style: str = "photo") -> Prompt:
    phrases = [counted(noun, count) for noun, count in group]
    listed = " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))
    tags = {"scene": scene or "none", "style": style}
    names = [noun[0] for noun, _ in group]
    if suite.endswith("-miniature"):
        unseen = any(noun[0] in HELD_OUT_OBJECTS or (noun[0], count) in HELD_OUT_PAIRS for noun, count in group)
        tags["training"] = "held out" if unseen else "seen"
    else:
        tags["category"] = "+".join(dict.fromkeys(_CATEGORY[name] for name in names))
    targets = tuple(Target(noun[0], count) for noun, count in group)
    return Prompt(" ".join(filter(None, (_LEADS[style], listed, scene))), targets, suite, tags)


def lines(prompts: Sequence[Prompt]) -> str:
    """Return a suite as JSONL; the suite's name is the file's."""
    rows = (
        {
            "prompt": prompt.prompt,
            "targets": {target.object_name: target.target_count for target in prompt.targets},
            "tags": dict(prompt.tags),
        }
        for prompt in prompts
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.evaluation.suites.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (%(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, prompts in suites().items():
        (options.out / f"{name}.jsonl").write_text(lines(prompts), encoding="utf-8", newline="\n")
        print(f"{name}: {len(prompts)} prompts")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
