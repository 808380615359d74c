"""Match the words of a prompt to the classes of a detector."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from countgen.critics.catalogue import with_facts

if TYPE_CHECKING:
    import inflect

UNUSED_LABELS = ("n/a", "__background__")
"""Entries of published label lists that stand for no class; COCO's lists contain some."""
COCO_CLASSES = tuple(
    (
        "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,"
        "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,"
        "suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,"
        "tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,"
        "hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,"
        "cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
    ).split(",")
)
"""The 80 object classes of COCO (Lin et al. 2014), in the order of the detectors trained on it."""
PLURAL_ONLY = frozenset(
    "binoculars chopsticks eyeglasses goggles headphones jeans leggings overalls pajamas pants pliers pyjamas scissors "
    "shears shorts sunglasses tights tongs trousers tweezers".split()
)
"""Words without a singular form: they are their own singular."""

# Errors of inflect: Latin plurals without their singular, plurals in -us and -is taken for singulars, and singulars
# that it shortens.
_SINGULARS = {
    "cacti": "cactus",
    "caribous": "caribou",
    "christmas": "christmas",
    "emus": "emu",
    "foci": "focus",
    "fungi": "fungus",
    "gnus": "gnu",
    "gurus": "guru",
    "hippopotami": "hippopotamus",
    "menus": "menu",
    "nuclei": "nucleus",
    "octopi": "octopus",
    "platypi": "platypus",
    "rhinoceri": "rhinoceros",
    "taxis": "taxi",
    "tennis": "tennis",
    "tutus": "tutu",
}

SYNONYMS = (
    ("airplane", "aeroplane", "plane", "aircraft"),
    ("bicycle", "bike"),
    ("car", "automobile"),
    ("cat", "kitten", "kitty"),
    ("cell phone", "mobile phone", "cellphone", "smartphone", "phone"),
    ("cookie", "biscuit"),
    ("couch", "sofa"),
    ("cup", "mug"),
    ("dining table", "table"),
    ("dog", "puppy"),
    ("donut", "doughnut"),
    ("hair drier", "hair dryer", "hairdryer"),
    ("handbag", "purse"),
    ("ladybug", "ladybird"),
    ("motorcycle", "motorbike"),
    ("person", "human", "man", "woman", "child"),
    ("potted plant", "houseplant", "plant"),
    ("refrigerator", "fridge"),
    ("remote", "remote control"),
    ("sports ball", "ball"),
    ("teddy bear", "teddy"),
    ("tv", "television", "tv monitor", "tvmonitor"),
)
"""Words for one class of COCO or of the miniature, in the singular."""

_IMPORTING = threading.Lock()


@cache
def english() -> inflect.engine:
    """Return the engine of inflect, imported on first use: `--help` does not need it.

    typeguard does not rewrite its functions meanwhile, which would take most of the time of the import.
    """
    import typeguard

    with _IMPORTING:
        checked = typeguard.typechecked
        typeguard.typechecked = lambda function: function  # type: ignore[assignment]
        try:
            import inflect
        finally:
            typeguard.typechecked = checked
    return inflect.engine()


@cache
def _singular_word(word: str) -> str:
    if word in PLURAL_ONLY:
        return word
    if word in _SINGULARS:
        return _SINGULARS[word]
    engine = english()
    candidate = engine.singular_noun(word)
    # singular_noun cuts the s of "bus", "lens" and "cactus" as well. But the plural of a word that already
    # is a plural comes out as a blind "-ss" ("cupss"), and that of a true singular does not ("buses").
    if not candidate or (word.endswith("s") and engine.plural_noun(word) != word + "s"):
        return word
    return str(candidate)


def singular(noun: str) -> str:
    """Return the singular of an English noun phrase, in lower case; one already singular is returned unchanged.

    The word before "of" changes in a phrase that has one, otherwise the last word.

    >>> singular("strawberries"), singular("fish"), singular("bus"), singular("teddy bears"), singular("cups of tea")
    ('strawberry', 'fish', 'bus', 'teddy bear', 'cup of tea')
    """
    words = noun.lower().split()
    if not words:
        return ""
    head = words.index("of") - 1 if "of" in words[1:] else len(words) - 1
    words[head] = _singular_word(words[head])
    return " ".join(words)


@cache
def plural(noun: str) -> str:
    """Return the plural of an English noun phrase in the singular; one without another plural is returned unchanged.

    >>> plural("strawberry"), plural("fish"), plural("teddy bear"), plural("scissors")
    ('strawberries', 'fish', 'teddy bears', 'scissors')
    """
    return noun if noun in PLURAL_ONLY else str(english().plural_noun(noun))


def can_be_plural(word: str) -> bool:
    """Return whether one word may stand after a number above one: "cups", "mice", and also "sheep" and "scissors"."""
    if word.endswith(("'s", "’s")):
        return False
    return _singular_word(word) != word or word in PLURAL_ONLY or bool(english().singular_noun(word) == word)


def spellings(names: Sequence[str]) -> dict[str, str]:
    """Return every word that `resolve` accepts, in the singular, with its class.

    >>> spellings(["cat"])
    {'cat': 'cat', 'kitten': 'cat', 'kitty': 'cat'}
    """
    classes = {singular(name): name for name in names}
    groups = {word: group for group in SYNONYMS for word in group}
    for spelling, name in list(classes.items()):
        for word in groups.get(spelling, ()):
            classes.setdefault(word, name)
    return classes


def class_index(object_name: str, names: Sequence[str]) -> int | None:
    """Return the index of an object name among classes, or None; the arguments are those of `resolve`."""
    wanted = " ".join(object_name.lower().split())
    classes = [name.lower() for name in names]
    if wanted in classes:
        return classes.index(wanted)
    singulars = [singular(name) for name in classes]
    if singular(wanted) in singulars:
        return singulars.index(singular(wanted))
    synonyms = {word for group in SYNONYMS if singular(wanted) in group for word in group}
    return next((i for i, name in enumerate(classes) if {name, singulars[i]} & synonyms), None)


def resolve(object_name: str, names: Sequence[str], owner: str) -> int:
    """Return the index of an object name among the classes of a detector.

    Args:
        object_name: singular or plural, any case, or a synonym; a class of that very name comes first.
        names: the detector's classes; some detectors have plural ones ("skis").
        owner: name of the detector, for the message.

    Raises:
        ValueError: no class matches; the message names the nearest, and a detector that knows the object.
    """
    index = class_index(object_name, names)
    if index is not None:
        return index
    near = difflib.get_close_matches(singular(object_name), [name.lower() for name in names], n=3, cutoff=0.5)
    classes = ", ".join(names[:24]) + (f" and {len(names) - 24} more" if len(names) > 24 else "")
    hint = f"nearest: {', '.join(near)}; " if near else ""
    in_coco = class_index(object_name, COCO_CLASSES) is not None
    other = "nanodet, which is embedded, knows it" if in_coco else f"{with_facts('owl:owlv2-base')} reads any noun"
    raise ValueError(f"{owner} has no class for {object_name!r}; {hint}it knows {classes}; {other}")
