"""Write the shipped suites: `python -m benchmarks.evaluation.suites.build`.

Every suite is a balanced design counted out by index, without chance, so that any machine writes the same bytes.
The sentences are ours; what is taken from the published benchmarks is which counts, objects and variations they
ask for, as far as their papers say it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.evaluation.suites.prompt import Prompt
from benchmarks.evaluation.suites.readers import DATA
from benchmarks.evaluation.suites.words import CATEGORIES, SCENES, STYLES, counted
from countgen.miniature.world import BACKGROUNDS, HELD_OUT_OBJECTS, HELD_OUT_PAIRS, OBJECT_NAMES, PLURALS
from countgen.prompts import Target

Kind = tuple[str, str]
Group = tuple[tuple[Kind, int], ...]

_COCO = tuple(kind for kinds in CATEGORIES.values() for kind in kinds)
_CATEGORY = {name: category for category, kinds in CATEGORIES.items() for name, _ in kinds}
_COCOCOUNT_COUNTS = (2, 3, 4, 5, 7, 10)
_MINIATURE = tuple(zip(OBJECT_NAMES, PLURALS, strict=True))
_MINIATURE_SCENES = tuple(background.strip() for background in BACKGROUNDS if background)
_MINIATURE_STYLES = {"picture": "a picture of", "image": "an image of"}
_LEADS = {"photo": "a photo of"} | STYLES | _MINIATURE_STYLES


def suites() -> dict[str, list[Prompt]]:
    """All shipped suites by name."""
    in_scenes = [(kind, SCENES[_CATEGORY[kind[0]]]) for kind in _COCO[1::2]]
    on_backgrounds = [(kind, _MINIATURE_SCENES) for kind in _MINIATURE[:20]]
    designs: dict[str, Callable[[str], Iterator[Prompt]]] = {
        "t2icountbench-style": _t2icountbench,
        "t2icountbench-miniature": _t2icountbench_miniature,
        "d2d-small-style": partial(_one_kind, kinds=_COCO, counts=range(1, 11)),
        "d2d-small-miniature": _d2d_small_miniature,
        "d2d-large-style": partial(_one_kind, kinds=_COCO[::2], counts=range(11, 21)),
        "d2d-large-miniature": partial(_one_kind, kinds=_MINIATURE, counts=range(11, 16)),
        "d2d-multi-style": partial(_several_kinds, kinds=_COCO, number=100),
        "d2d-multi-miniature": partial(_several_kinds, kinds=_MINIATURE, number=60),
        "cococount-style": partial(_cococount, kinds=in_scenes),
        "cococount-miniature": partial(_cococount, kinds=on_backgrounds),
    }
    return {name: list(design(name)) for name, design in designs.items()}


def _t2icountbench(suite: str) -> Iterator[Prompt]:
    """Every count from 1 to 15 in each category: plain, in each scene, in each style; the objects take turns."""
    for count in range(1, 16):
        for place, (category, kinds) in enumerate(CATEGORIES.items()):
            variations = [("", "photo")]
            variations += [(scene, "photo") for scene in SCENES[category]]
            variations += [("", style) for style in STYLES]
            for turn, (scene, style) in enumerate(variations):
                kind = kinds[(3 * count + place + turn) % len(kinds)]
                yield _prompt(suite, ((kind, count),), scene, style)


def _t2icountbench_miniature(suite: str) -> Iterator[Prompt]:
    """Every count from 1 to 15: plain, on each background and with each beginning that its captions have."""
    variations = [("", "photo")] * 5
    variations += [(scene, "photo") for scene in _MINIATURE_SCENES] * 2
    variations += [("", style) for style in _MINIATURE_STYLES for _ in range(3)]
    for count in range(1, 16):
        for turn, (scene, style) in enumerate(variations):
            kind = _MINIATURE[(5 * count + turn) % len(_MINIATURE)]
            yield _prompt(suite, ((kind, count),), scene, style)


def _one_kind(suite: str, kinds: Sequence[Kind], counts: Sequence[int]) -> Iterator[Prompt]:
    """Every object with every count, without a scene."""
    for kind in kinds:
        for count in counts:
            yield _prompt(suite, ((kind, count),))


def _d2d_small_miniature(suite: str) -> Iterator[Prompt]:
    """As many prompts as the large one has: every object with every count, then more of them on a background."""
    yield from _one_kind(suite, _MINIATURE, range(1, 11))
    for turn in range(160):
        kind = _MINIATURE[turn % len(_MINIATURE)]
        scene = _MINIATURE_SCENES[(turn + turn // 120) % len(_MINIATURE_SCENES)]
        yield _prompt(suite, ((kind, 1 + turn % 10),), scene)


def _several_kinds(suite: str, kinds: Sequence[Kind], number: int) -> Iterator[Prompt]:
    """`number` prompts with two kinds of object and as many with three, 1 to 5 of each."""
    for turn in range(number):
        first, second = kinds[turn % len(kinds)], kinds[(turn + 7 + turn // len(kinds)) % len(kinds)]
        yield _prompt(suite, ((first, 1 + turn % 5), (second, 1 + turn // 5 % 5)))
    for turn in range(number):
        indices = (turn, turn + 5 + turn // len(kinds), turn + 11 + 2 * (turn // len(kinds)))
        first, second, third = (kinds[index % len(kinds)] for index in indices)
        yield _prompt(suite, ((first, 1 + turn % 5), (second, 1 + turn // 5 % 5), (third, 1 + turn // 25 % 5)))


def _cococount(suite: str, kinds: Sequence[tuple[Kind, tuple[str, ...]]]) -> Iterator[Prompt]:
    """Ten prompts for each object: every count once plainly and four of the six counts in one of its scenes."""
    for place, (kind, scenes) in enumerate(kinds):
        for count in _COCOCOUNT_COUNTS:
            yield _prompt(suite, ((kind, count),))
        for turn in range(4):
            count = _COCOCOUNT_COUNTS[(place + turn) % len(_COCOCOUNT_COUNTS)]
            yield _prompt(suite, ((kind, count),), scenes[(place + turn) % len(scenes)])


def _prompt(suite: str, group: Group, scene: str = "", style: str = "photo") -> Prompt:
    phrases = [counted(kind, count) for kind, count in group]
    listed = " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))
    tags = {"scene": scene or "none", "style": style}
    names = [kind[0] for kind, _ in group]
    if suite.endswith("-miniature"):
        unseen = any(kind[0] in HELD_OUT_OBJECTS or (kind[0], count) in HELD_OUT_PAIRS for kind, count in group)
        tags["training"] = "held out" if unseen else "seen"
    else:
        tags["category"] = "+".join(dict.fromkeys(_CATEGORY[name] for name in names))
    targets = tuple(Target(kind[0], count) for kind, count in group)
    return Prompt(" ".join(filter(None, (_LEADS[style], listed, scene))), targets, suite, tags)


def lines(prompts: Sequence[Prompt]) -> str:
    """A suite as JSONL; the name of the suite is the file's."""
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
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation.suites.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write into (%(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, prompts in suites().items():
        (options.out / f"{name}.jsonl").write_text(lines(prompts), encoding="utf-8", newline="\n")
        print(f"{name}: {len(prompts)} prompts")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
