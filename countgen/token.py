"""Learn a count token: vectors in the place of a number word, for any object, prompt and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from countgen.errors import NonFiniteLossError
from countgen.models import Models
from countgen.number_words import number_word
from countgen.placeholders import placeholder_of
from countgen.plurals import plural
from countgen.prompts import Target
from countgen.spliced import encoders_of, spliced
from countgen.step import COST_WITH_GRADIENT, Budget, Step
from countgen.token_checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from countgen.token_file import ENCODER_KEYS, MAX_VECTORS, CountToken
from countgen.token_teacher import imitate
from countgen.verdict import PLAIN, examine
from critics import Critic
from critics.losses import LOSSES

TEMPLATES = (
    "a photo of {number} {objects}",
    "a picture of {number} {objects}",
    "an image of {number} {objects}",
)
FIRST_SEED = 2**31
"""Of training; validation uses seeds from `FIRST_VALIDATION_SEED` on, and pictures usually have far lower ones."""
FIRST_VALIDATION_SEED = 2**30

Semantic = Callable[[Tensor, Target], Tensor]
"""How recognisable the object is: pictures (B, 3, H, W) and a target to float (B,) in [0, 1], with gradient."""


@dataclass(frozen=True)
class LearnSettings:
    """How a token is learned; what the shipped ones were learned with is in `benchmarks.tokens`.

    Attributes:
        num_vectors: how many words long the token is, in every text encoder.
        initial_text: whose embedding it starts from, its last vector repeated; the number as a word by default.
        teacher: a template, of prompts that may count better than those of `templates`; None for none. The token
            first learns to draw their pictures, and keeps that where it validates better.
        teacher_steps, teacher_rate: of Adam, for that.
        initial_step: of a walk from there along the line through the number words; 0 for none.
        initial_tries: points that it looks at, on the way to where the counts are right, while they validate better.
        templates: of prompts, with {number} and {objects}; drawn at random.
        encoders: that learn; the others keep the vectors of the initial text.
        objects_per_step, seeds_per_object: of each step, drawn at random; all new each time.
        num_optimization_steps, learning_rate: of AdamW, without decay, from there on; 0 steps for none. A step moves
            every number by about the rate; those of a word are near 0.02.
        loss: a name in `critics.losses.LOSSES`.
        semantic_weight: of 1 - how recognisable the object is.
        validate_every: steps.
        validation_pictures: of seeds that are never learned on, the same each time.
        patience: validations without a better one before it ends.
        seed: of the draws.
    """

    num_vectors: int = 1
    initial_text: str | None = None
    teacher: str | None = "{number} {objects}"
    teacher_steps: int = 25
    teacher_rate: float = 0.005
    initial_step: float = 0.25
    initial_tries: int = 3
    templates: tuple[str, ...] = TEMPLATES
    encoders: tuple[str, ...] = ENCODER_KEYS
    objects_per_step: int = 8
    seeds_per_object: int = 2
    num_optimization_steps: int = 60
    learning_rate: float = 0.0005
    loss: str = "l1"
    semantic_weight: float = 0.5
    validate_every: int = 10
    validation_pictures: int = 48
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_vectors <= MAX_VECTORS:
            raise ValueError(f"num_vectors must be from 1 to {MAX_VECTORS}, got {self.num_vectors}")
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; available: {', '.join(LOSSES)}")
        for template in (*self.templates, *([self.teacher] if self.teacher is not None else [])):
            if "{number}" not in template or "{objects}" not in template:
                raise ValueError(f"a template needs {{number}} and {{objects}}, got {template!r}")
        names = ("objects_per_step", "seeds_per_object", "validate_every", "patience")
        if min(getattr(self, name) for name in (*names, "validation_pictures")) < 1 or not self.templates:
            raise ValueError(f"{', '.join(names)} and validation_pictures must be at least 1; templates not empty")
        if not (min(self.learning_rate, self.teacher_rate) > 0 and self.semantic_weight >= 0):
            raise ValueError("learning_rate and teacher_rate must be above 0, semantic_weight at least 0")
        if min(self.num_optimization_steps, self.teacher_steps, self.initial_tries, self.initial_step) < 0:
            raise ValueError("steps, initial_tries and initial_step must be at least 0")

    @property
    def config_hash(self) -> str:
        """Of every setting."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Validation:
    """What the vectors are worth on pictures that are never learned on.

    Attributes:
        step: after how many.
        accuracy: share of right counts, over pictures and critics.
        loss: the count loss, averaged.
        count: the hard count, averaged; the soft one is lower where candidates lie near the threshold.
    """

    step: int
    accuracy: float
    loss: float
    count: float


def class_confidence(critic: Critic) -> Semantic:
    """A detector's mean probability of the N best candidates: low where something else is drawn."""

    def semantic(images: Tensor, target: Target) -> Tensor:
        (found,) = critic.candidates(images, [target.object_name])
        best = found.logits.masked_fill(~found.kept, -torch.inf).topk(min(target.target_count, found.logits.shape[1]))
        return best.values.sigmoid().mean(1)

    return semantic


@dataclass
class Learning:
    """A token in the making. Iterate over it for its `Step`s; stop whenever you like; ask for the `token`.

    A `Step` of the phase "learn" shows the first picture of its batch; loss and soft count are the batch's means.

    Args:
        models: the critics teach; the judge is never asked.
        target_count: what the token shall say.
        object_names: to learn on, singular; the more kinds, the better the token generalises.
        settings: how.
        semantic: what keeps the object recognisable; by default the class score of the first critic that detects.
        checkpoint: written after every step; one that is there is continued.
        licence: of the learned vectors.

    Raises:
        ValueError: no objects, an object that a detector does not know, or no critic that detects and no `semantic`.
        TokenFileError: the checkpoint is damaged or of another learning.
    """

    models: Models
    target_count: int
    object_names: Sequence[str]
    settings: LearnSettings = field(default_factory=LearnSettings)
    semantic: Semantic | None = None
    checkpoint: Path | None = None
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        if not self.object_names:
            raise ValueError("a token is learned on at least one kind of object; give object_names")
        self.targets = tuple(Target(name, self.target_count) for name in self.object_names)
        for target in self.targets:
            self.models.check((target,))
        if self.semantic is None and self.settings.semantic_weight:
            detecting = [critic for critic in self.models.critics if type(critic).propose is not Critic.propose]
            if not detecting:
                raise ValueError("no critic detects: give semantic=, or set semantic_weight to 0")
            self.semantic = class_confidence(detecting[0])
        state = load_checkpoint(self.checkpoint, self._identity) if self.checkpoint else None
        text = self.settings.initial_text or number_word(self.target_count)
        self.state = state or Checkpoint(self._vectors_of(text))
        self.validations: list[Validation] = []

    @property
    def _identity(self) -> str:
        """What a checkpoint must be of."""
        parts = (self.models.backbone.name, str(self.target_count), *self.object_names, self.settings.config_hash)
        return "; ".join((*parts, *(critic.name for critic in self.models.critics)))

    @property
    def token(self) -> CountToken:
        """The best so far by validation, or the initial one where nothing was validated yet."""
        return CountToken(
            placeholder_token=placeholder_of(self.target_count),
            target_count=self.target_count,
            vectors={key: vectors.clone() for key, vectors in self.state.best.items()},
            base_model=self.models.backbone.name,
            revision=self.models.backbone.preset.revision,
            object_names=tuple(self.object_names),
            critic=", ".join(critic.name for critic in self.models.critics),
            config_hash=self.settings.config_hash,
            accuracy=None,
            licence=self.licence,
        )

    def __iter__(self) -> Iterator[Step]:
        settings, state = self.settings, self.state
        if not state.started:
            self._start(state)
        budget = Budget()
        vectors = {key: torch.nn.Parameter(value.clone()) for key, value in state.vectors.items()}
        learned = [parameter for key, parameter in vectors.items() if key in settings.encoders]
        optimizer = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=0.0)
        state.restore(vectors, optimizer)
        while state.step < settings.num_optimization_steps and state.waited < settings.patience:
            optimizer.zero_grad()
            with torch.enable_grad():
                step = self._backward(vectors, state.step, budget)
            optimizer.step()
            state.step += 1
            state.keep(vectors, optimizer)
            if state.step % settings.validate_every == 0 or state.step == settings.num_optimization_steps:
                self._judge(state.vectors)
            if self.checkpoint:
                save_checkpoint(state, self.checkpoint, self._identity)
            yield step

    def _backward(self, vectors: Mapping[str, Tensor], index: int, budget: Budget) -> Step:
        """One batch, object by object, so that no more than one object's pictures are in memory."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + index)

        def drawn(number: int, below: int) -> list[int]:
            return torch.randint(below, (number,), generator=generator).tolist()

        looks = []
        objects = torch.randperm(len(self.targets), generator=generator).tolist()[: settings.objects_per_step]
        for place in objects:
            target = self.targets[place]
            template = settings.templates[drawn(1, len(settings.templates))[0]]
            seeds = [FIRST_SEED + value for value in drawn(settings.seeds_per_object, FIRST_SEED)]
            latents, images = self._render(vectors, template, target, seeds)
            verdict = examine(images, (target,), self.models.critics, PLAIN, LOSSES[settings.loss])
            loss = verdict.loss.mean()
            if self.semantic is not None and settings.semantic_weight:
                loss = loss + settings.semantic_weight * (1 - self.semantic(images, target)).mean()
            if not torch.isfinite(loss):
                raise NonFiniteLossError(f"the loss is not finite at step {index}; lower learning_rate or use float32")
            (loss / len(objects)).backward()
            self.state.evaluations += COST_WITH_GRADIENT * len(seeds)
            looks.append((seeds[0], latents[0], images[0].detach(), verdict, loss.item()))
        seed, latent, image, verdict, _ = looks[0]
        return Step(
            index=index,
            phase="learn",
            seed=seed,
            loss=sum(look[4] for look in looks) / len(looks),
            soft_counts=(float(torch.cat([look[3].soft_counts for look in looks]).mean()),),
            counts=tuple(verdict.counts[0].tolist()),
            margin=float(verdict.margin[0]),
            image=image,
            latents=latent,
            evaluations=self.state.evaluations,
            seconds=budget.seconds,
        )

    def _render(
        self, vectors: Mapping[str, Tensor], template: str, target: Target, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Latents and pictures of a prompt that says the number with these vectors."""
        backbone = self.models.backbone
        placeholder = placeholder_of(self.target_count)
        with spliced(backbone, {placeholder: vectors}) as encode:
            embeds = encode(template.format(number=placeholder, objects=self._said(target)))
        latents = backbone.initial_latents(seeds)
        return latents, backbone.render(latents, embeds, seeds)

    def _vectors_of(self, text: str) -> dict[str, Tensor]:
        backbone = self.models.backbone
        number = self.settings.num_vectors
        return {key: encoder.vectors_of(text, number, backbone) for key, encoder in encoders_of(backbone).items()}

    def _start(self, state: Checkpoint) -> None:
        """Choose where to start: the word, what the teacher taught, or further on the way to the right count."""
        settings = self.settings
        word = state.vectors
        self._judge(word)
        if settings.teacher is not None and settings.teacher_steps:
            self._judge(self._taught(word, settings.teacher))
        if settings.initial_step:
            sign = -1 if self.best_validation.count > self.target_count else 1
            neighbour, base = self._vectors_of(number_word(self.target_count + sign)), dict(state.best)
            for number in range(1, settings.initial_tries + 1):
                share = number * settings.initial_step
                if not self._judge({key: base[key] + share * (neighbour[key] - word[key]) for key in base}):
                    break
        state.vectors, state.waited, state.started = dict(state.best), 0, True

    def _taught(self, vectors: Mapping[str, Tensor], teacher: str) -> dict[str, Tensor]:
        settings = self.settings
        placeholder, word = placeholder_of(self.target_count), number_word(self.target_count)
        generator = torch.Generator().manual_seed(settings.seed)
        number = settings.teacher_steps * settings.objects_per_step
        seeds = torch.randint(FIRST_SEED, (number,), generator=generator).tolist()
        lessons = []
        for k, seed in enumerate(seeds):
            objects = self._said(self.targets[k % len(self.targets)])
            template = settings.templates[k % len(settings.templates)]
            prompt = template.format(number=placeholder, objects=objects)
            lessons.append((prompt, teacher.format(number=word, objects=objects), FIRST_SEED + seed))
        self.state.evaluations += (1 + COST_WITH_GRADIENT) * number
        return imitate(
            self.models.backbone,
            placeholder,
            vectors,
            lessons,
            pictures_per_step=settings.objects_per_step,
            learning_rate=settings.teacher_rate,
        )

    def _said(self, target: Target) -> str:
        return target.object_name if self.target_count == 1 else plural(target.object_name)

    @property
    def best_validation(self) -> Validation:
        """Of the vectors that `token` has."""
        return max(self.validations, key=lambda found: (found.accuracy, -found.loss))

    @torch.no_grad()
    def _judge(self, vectors: Mapping[str, Tensor]) -> bool:
        """Count on the validation pictures, the same each time; True where no vectors before were better."""
        settings = self.settings
        shares = torch.arange(settings.validation_pictures).tensor_split(len(self.targets))
        right, losses, counts = [], [], []
        for place, (target, share) in enumerate(zip(self.targets, shares, strict=True)):
            template = settings.templates[place % len(settings.templates)]
            seeds = [FIRST_VALIDATION_SEED + number for number in share.tolist()]
            if not seeds:
                continue
            _, images = self._render(vectors, template, target, seeds)
            for critic in self.models.critics:
                seen = critic.assess(images, {target.object_name: target.target_count}, LOSSES[settings.loss])
                right += (seen.counts[:, 0] == target.target_count).tolist()
                losses += seen.loss.tolist()
                counts += seen.counts[:, 0].tolist()
        self.state.evaluations += settings.validation_pictures
        means = (sum(values) / len(values) for values in (right, losses, counts))
        self.validations.append(found := Validation(self.state.step, *means))
        return self.state.judge(vectors, found.accuracy, found.loss)


def learn_token(
    models: Models,
    target_count: int,
    object_names: Sequence[str],
    settings: LearnSettings | None = None,
    *,
    semantic: Semantic | None = None,
    checkpoint: Path | None = None,
) -> Learning:
    """A learning to iterate over; its `token` is the best so far.

    >>> learning = learn_token(models, 7, ["apple", "dog", "cup"])  # doctest: +SKIP
    >>> for step in learning: print(step.index, step.loss)  # doctest: +SKIP
    >>> save_token(learning.token, "count-7.safetensors")  # doctest: +SKIP
    """
    return Learning(models, target_count, object_names, settings or LearnSettings(), semantic, checkpoint)
