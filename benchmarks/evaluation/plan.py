"""The images of a run: every prompt with every method, backbone and seed, each under a key of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import product
from typing import Any

import countgen
from countgen import plugins
from countgen.backbones.registry import find, presets
from countgen.benchmarks.evaluation import arms
from countgen.benchmarks.evaluation.generation import Generation
from countgen.benchmarks.evaluation.suites import Prompt, load
from countgen.methods.settings import as_dict
from countgen.methods.step import Budget
from countgen.miniature import FOLDER as MINIATURE
from countgen.models import check_detector, parts_of
from countgen.tokens.library import available_tokens

_SELECTION = (
    *("suite", "suite_sha256", "limit", "methods", "method_settings", "backbones"),
    *("first_seed", "seeds_per_prompt", "shard"),
)
"""Run settings that select cases; all others are part of the key of each case. Of the method settings,
a key holds those of its own arm."""

_LIBRARIES = ("torch", "diffusers", "transformers", "ultralytics")
"""Libraries whose versions can change the image of a seed, or its counts."""


def code_version() -> str:
    """Return countgen's version, a digest of the embedded weights and tokens, and the versions of the libraries."""
    weights = hashlib.sha256((MINIATURE / "SHA256SUMS").read_bytes()).hexdigest()[:12]
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"{countgen.__version__}, weights {weights}, {libraries}"


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run: prompts, methods, judges and versions; a run folder holds results of one of these only.

    Attributes:
        suite: a name or a file, as `countgen.benchmarks.evaluation.suites.load` reads it.
        suite_sha256: of its prompts, targets and seeds.
        limit: number of prompts used, evenly spread; None for all.
        backbones: presets, or what `countgen.benchmarks.evaluation.models.recorded_model` calls other models.
        methods: arms, see `countgen.benchmarks.evaluation.arms`: methods, by themselves, with a token or as written.
        critics: detectors that steer, for every backbone.
        judges: detectors that do not steer; the first one decides.
        max_evaluations, max_seconds: the budget of an image, the same for all methods; at least one is given.
        first_seed, seeds_per_prompt: prompt i of the suite gets the seeds first_seed + i * seeds_per_prompt and on,
            so that no two prompts share their noise; a prompt with a seed of its own (CoCoCount's) starts there.
        shard: "1/1", or this part of a run that is split over several folders: "3/8".
        device: "cpu", "cuda", ...
        threads: of torch; results are bit-equal only for equal numbers.
        code: versions of countgen, the embedded weights and the libraries, from `code_version`.
        trust_checkpoint: as of `countgen.load`; each command gives it anew, and no run folder stores it.
        sources: what loads each of `backbones`, its name by default; likewise given anew, since it may be a path.
        method_settings: "ARM.NAME=VALUE"; kept as `arms.canonical` writes those that differ from the defaults.
        generation: what the models are asked for in place of their own settings.

    Raises:
        ValueError: an unknown name, no case, a judge that steers, or an invalid method setting.
    """

    suite: str
    suite_sha256: str
    backbones: tuple[str, ...]
    methods: tuple[str, ...]
    critics: tuple[str, ...]
    judges: tuple[str, ...]
    limit: int | None = None
    max_evaluations: int | None = None
    max_seconds: float | None = None
    first_seed: int = 0
    seeds_per_prompt: int = 1
    shard: str = "1/1"
    device: str = "cpu"
    threads: int = 1
    code: str = field(default_factory=code_version)
    trust_checkpoint: bool = False
    method_settings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    generation: Generation = field(default_factory=Generation)

    def __post_init__(self) -> None:
        if not self.sources:
            for backbone in self.backbones:
                find(backbone)
        if not (self.critics and self.judges):
            raise ValueError(f"{', '.join(self.backbones)} come without detectors: name critics and judges")
        for name in ("backbone", "method", "critic", "judge"):
            check_names(name, getattr(self, f"{name}s"))
        object.__setattr__(self, "method_settings", arms.canonical(self.methods, self.method_settings))
        for detector in (*self.critics, *self.judges):
            check_detector(detector)
        for backbone, arm in product(self.backbones, map(arms.find, self.methods)):
            if arm.with_token and not available_tokens(backbone):
                raise ValueError(
                    f"no count token is shipped for {backbone}, so {arm.name!r} can generate nothing with it; leave "
                    "one of the two out"
                )
        for judge in self.judges:
            if not steering(self.critics).isdisjoint(parts_of(judge)):
                raise ValueError(f"{judge!r} is critic and judge; a judge must be a detector that nothing optimises")
        if self.max_evaluations is None and self.max_seconds is None:
            raise ValueError("give the budget of an image: max_evaluations, max_seconds or both")
        Budget(self.max_seconds, self.max_evaluations)
        shard_of(self.shard)

    def source_of(self, backbone: str) -> str:
        """Return what loads one of `backbones`."""
        return dict(zip(self.backbones, self.sources or self.backbones, strict=True))[backbone]


def check_names(kind: str, names: Sequence[str]) -> None:
    """Raise if there is no name, or one of them twice."""
    if not names or len(set(names)) < len(names):
        raise ValueError(f"name at least one {kind}, and each once; got {', '.join(names) or 'none'}")


def steering(critics: Sequence[str]) -> set[str]:
    """Return the detectors that critics name: both of "miniature-yolo by miniature-density"; none of them may judge."""
    return {part for name in critics for part in parts_of(name)}


def recorded(settings: RunSettings) -> dict[str, Any]:
    """Return the settings stored with a run, including model overrides and what plug-ins it uses."""
    not_stored = ("trust_checkpoint", "sources", "generation")
    own = {name: value for name, value in asdict(settings).items() if name not in not_stored}
    plugged = _plugins_of(settings)
    return own | settings.generation.recorded | ({"plugins": plugged} if plugged else {})


def _plugins_of(settings: RunSettings) -> list[str]:
    """Return package, version and digest of each plug-in, so that changed code cannot resume old records as its own."""
    detectors = {part for name in (*settings.critics, *settings.judges) for part in parts_of(name)}
    known = presets()
    used: dict[plugins.Kind, set[str]] = {
        "methods": {name.partition("+")[0] for name in settings.methods},  # those of given images have any name
        "critics": {name.partition(":")[0] for name in detectors},
        "backbones": {known[name][0] for name in settings.backbones if name in known},
        "suites": {settings.suite},
        "losses": {text.partition("=")[2] for text in settings.method_settings},
    }
    asked = ((kind, name) for kind, names in used.items() for name in sorted(names))
    return [described for kind, name in asked if (described := plugins.provenance(kind, name))]


@dataclass(frozen=True)
class Case:
    """An image to generate.

    Attributes:
        key: digest of everything that determines the image and its record.
        prompt: of the suite.
        seed, backbone: of the run.
        method: name of an arm, see `countgen.benchmarks.evaluation.arms`.
        critics, judges: names of the detectors that steer and that only count; the first judge decides.
    """

    key: str
    prompt: Prompt
    seed: int
    backbone: str
    method: str
    critics: tuple[str, ...]
    judges: tuple[str, ...]


def suite_digest(suite: str) -> str:
    """Return the digest of a suite's content, independent of its path."""
    return content_digest([[prompt.prompt, _counts(prompt), prompt.tags.get("seed")] for prompt in load(suite)])


def is_possible(case: Case) -> bool:
    """Return whether the count token that a case needs, if any, is shipped.

    Others are no part of a run: an image that cannot be generated says nothing about the method.
    """
    if not arms.find(case.method).with_token:
        return True
    return len(case.prompt.targets) == 1 and token_name(case.prompt) in _tokens(case.backbone)


_tokens = cache(available_tokens)


def object_names(cases: Iterable[Case]) -> tuple[tuple[str, ...], ...]:
    """Return the object names of cases, each combination once."""
    return tuple(dict.fromkeys(tuple(target.object_name for target in case.prompt.targets) for case in cases))


def cases(settings: RunSettings) -> list[Case]:
    """Return the cases of a run, or of its shard, each once and in their order, also those that are not possible.

    Raises:
        ValueError: the suite is not the one the settings were made for, or is too long for the first seed.
    """
    if suite_digest(settings.suite) != settings.suite_sha256:
        raise ValueError(f"the suite {settings.suite} has changed since these settings were made")
    determining = content_digest({name: value for name, value in recorded(settings).items() if name not in _SELECTION})
    own_settings = {name: _own_settings(name, settings) for name in settings.methods}
    prompts = list(enumerate(load(settings.suite)))
    if settings.limit is not None and settings.limit < len(prompts):  # evenly spread
        prompts = [prompts[k * len(prompts) // settings.limit] for k in range(settings.limit)]
    by_key: dict[str, Case] = {}
    for backbone in settings.backbones:
        for place, prompt in prompts:
            first = int(prompt.tags.get("seed", settings.first_seed + place * settings.seeds_per_prompt))
            if first + settings.seeds_per_prompt > 2**32:
                raise ValueError(f"prompt {place + 1} would get seeds from {first} on, above 2**32 - 1; start lower")
            for seed in range(first, first + settings.seeds_per_prompt):
                # A shard has all methods of an image, which are then compared in pairs.
                if not in_shard(content_digest([prompt.prompt, _counts(prompt), seed]), settings.shard):
                    continue
                for method, own in own_settings.items():
                    content = [prompt.prompt, _counts(prompt), seed, backbone, method, determining + own]
                    key = content_digest(content)[:32]
                    by_key[key] = Case(key, prompt, seed, backbone, method, settings.critics, settings.judges)
    return list(by_key.values())


def shard_of(text: str) -> tuple[int, int]:
    """Return the number and the count of shards from "3/8".

    Raises:
        ValueError: another form, or a number outside 1 to the count.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"{text!r} is not a shard; write 3/8 for the third of eight")
    return int(number), int(count)


def in_shard(key: str, shard: str) -> bool:
    """Return whether what has a hexadecimal key is in a shard, such as "3/8": each key is in exactly one."""
    part, parts = shard_of(shard)
    return int(key[:8], 16) % parts == part - 1


def _own_settings(name: str, settings: RunSettings) -> str:
    """Return the digest of an arm's settings; "" at the defaults, so that new settings do not change the keys."""
    arm = arms.find(name)
    own, defaults = as_dict(arm.settings(settings.method_settings)), as_dict(arm.settings(()))
    return content_digest(own) if own != defaults else ""


def token_name(prompt: Prompt) -> str:
    """Return the name of the count token for a prompt of one object class."""
    return f"count-{prompt.targets[0].target_count}"


def _counts(prompt: Prompt) -> list[list[Any]]:
    return [[target.object_name, target.target_count] for target in prompt.targets]


def content_digest(content: Any) -> str:
    """Return the SHA-256 of a JSON value; the order of an object's keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
