"""Learn a count token: vectors in the place of a number word, for any object, prompt and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.backbones.registry import base_model
from countgen.errors import NonFiniteLossError
from countgen.methods.objective import PLAIN_VIEW, Objective
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step
from countgen.models import Models
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.placeholders import placeholder_of
from countgen.prompts.plurals import counted
from countgen.tokens.checkpoint import Checkpoint, Validation, load_checkpoint, save_checkpoint
from countgen.tokens.distillation import Imitation, Lesson, imitate
from countgen.tokens.file import CountToken
from countgen.tokens.settings import TEMPLATES, LearnSettings
from countgen.tokens.textual_inversion import encoders_of, length_of, spliced
from critics import Critic, Evaluation
from critics.losses import LOSSES

__all__ = ["TEMPLATES", "LearnSettings", "Learning", "Semantic", "class_confidence", "learn_token"]

FIRST_SEED = 2**31
"""Of training; validation uses seeds from `FIRST_VALIDATION_SEED` on, and pictures usually have far lower ones."""
FIRST_VALIDATION_SEED = 2**30

Semantic = Callable[[Tensor, Target], Tensor]
"""How recognisable the object is: pictures (B, 3, H, W) and a target to float (B,) in [0, 1], with gradient."""


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

    First come steps of the phase "imitate", where a teacher is imitated, then those of the phase "learn". Each shows
    the first picture of its batch. The loss is the batch's mean, in "imitate" of the difference from the teacher; the
    soft count is the batch's mean in "learn" and that picture's in "imitate".

    Args:
        models: the critics teach; the judge is never asked.
        target_count: what the token shall say.
        object_names: to learn on, singular; the more kinds, the better the token generalises.
        settings: how.
        semantic: what keeps the object recognisable; by default the class score of the first critic that detects.
        checkpoint: written at the beginning and after every step; one that is there is continued.
        licence: of the learned vectors.

    Raises:
        ValueError: no objects, an object that a detector does not know, no critic that detects and no `semantic`, no
            encoder that learns, or an initial text of more than `num_vectors` tokens.
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
            critic = detecting(self.models)
            if critic is None:
                raise ValueError(
                    "none of the critics says how recognisable an object is: name one that detects too, or set "
                    "semantic_weight to 0, on the command line --semantic-weight 0; in Python semantic= may say it"
                )
            self.semantic = class_confidence(critic)
        own = encoders_of(self.models.backbone)
        if not any(key in self.settings.encoders for key in own):
            raise ValueError(
                f"none of the encoders {', '.join(self.settings.encoders)} is in {self.models.backbone.name}, "
                f"which has {', '.join(own)}"
            )
        self.word = self._vectors_of(self.settings.initial_text or number_word(self.target_count))
        state = load_checkpoint(self.checkpoint, self._identity) if self.checkpoint else None
        self.state = state or Checkpoint(self.word)

    @property
    def _identity(self) -> str:
        """What a checkpoint must be of."""
        critics = (critic.name for critic in self.models.critics)
        count, base = str(self.target_count), base_model(self.models.backbone)
        return "; ".join((base, count, *self.object_names, self.settings.config_hash, *critics))

    @property
    def token(self) -> CountToken:
        """The best so far by validation, or the initial one where nothing was validated yet."""
        return CountToken(
            placeholder_token=placeholder_of(self.target_count),
            target_count=self.target_count,
            vectors={key: vectors.clone() for key, vectors in self.state.best.items()},
            base_model=base_model(self.models.backbone),
            revision=self.models.backbone.preset.revision,
            object_names=tuple(self.object_names),
            critic=", ".join(critic.name for critic in self.models.critics),
            config_hash=self.settings.config_hash,
            accuracy=None,
            licence=self.licence,
        )

    @property
    def validations(self) -> list[Validation]:
        """All so far, those before a resume included."""
        return self.state.validations

    @property
    def best_validation(self) -> Validation:
        """Of the vectors that `token` has."""
        return self.state.best_validation

    @property
    def steps_made(self) -> int:
        """By imitating and on the count, those before a resume included."""
        return self.state.taught + self.state.step

    @property
    def most_steps(self) -> int:
        """That there can be; patience may end it before."""
        settings = self.settings
        return (settings.teacher_steps if settings.teacher is not None else 0) + settings.num_optimization_steps

    def __iter__(self) -> Iterator[Step]:
        self.budget = Budget()
        self._save()
        yield from self._start()
        settings, state = self.settings, self.state
        vectors = self._parameters()
        learned = [parameter for parameter in vectors.values() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=0.0)
        state.restore(vectors, optimizer, state.step)
        while state.step < settings.num_optimization_steps and state.waited < settings.patience:
            optimizer.zero_grad()
            with torch.enable_grad():
                step = self._backward(vectors, state.step)
            optimizer.step()
            state.step += 1
            state.keep(vectors, optimizer)
            if state.step % settings.validate_every == 0 or state.step == settings.num_optimization_steps:
                self._judge(state.vectors)
            self._save()
            yield step

    def _save(self) -> None:
        if self.checkpoint:
            save_checkpoint(self.state, self.checkpoint, self._identity)

    def _parameters(self) -> dict[str, Tensor]:
        """The vectors as they are now; those of the encoders that learn ask for a gradient."""
        learning = self.settings.encoders
        return {key: value.clone().requires_grad_(key in learning) for key, value in self.state.vectors.items()}

    def _backward(self, vectors: Mapping[str, Tensor], index: int) -> Step:
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
            evaluation = self._objective(target).evaluate(images)
            loss = evaluation.loss.mean()
            if self.semantic is not None and settings.semantic_weight:
                loss = loss + settings.semantic_weight * (1 - self.semantic(images, target)).mean()
            if not torch.isfinite(loss):
                raise NonFiniteLossError(f"the loss is not finite at step {index}; lower learning_rate or use float32")
            (loss / len(objects)).backward()
            self.state.evaluations += COST_WITH_GRADIENT * len(seeds)
            looks.append((seeds[0], latents[0], images[0].detach(), evaluation, loss.item()))
        seed, latent, image, evaluation, _ = looks[0]
        return self._step(
            evaluation,
            phase="learn",
            index=index,
            seed=seed,
            loss=sum(look[4] for look in looks) / len(looks),
            soft_counts=(float(torch.cat([look[3].soft_counts for look in looks]).mean()),),
            image=image,
            latents=latent,
        )

    def _objective(self, target: Target) -> Objective:
        return Objective(self.models.critics, (target,), PLAIN_VIEW, self.settings.loss)

    def _step(self, evaluation: Evaluation, **seen: Any) -> Step:
        """What is to be told about a batch, whose first picture the evaluation is about."""
        return Step(
            counts=tuple(evaluation.counts[0].tolist()),
            margin=float(evaluation.margin[0]),
            evaluations=self.state.evaluations,
            seconds=self.budget.seconds,
            **seen,
        )

    def _render(
        self, vectors: Mapping[str, Tensor], template: str, target: Target, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Latents and pictures of a prompt that says the number with these vectors."""
        backbone = self.models.backbone
        placeholder = placeholder_of(self.target_count)
        with spliced(backbone, {placeholder: vectors}) as encode:
            objects = counted(target.object_name, target.target_count)
            embeds = encode(template.format(number=placeholder, objects=objects))
        latents = backbone.initial_latents(seeds)
        return latents, backbone.render(latents, embeds, seeds)

    def _vectors_of(self, text: str) -> dict[str, Tensor]:
        backbone = self.models.backbone
        number = self.settings.num_vectors
        return {key: encoder.vectors_of(text, number, backbone) for key, encoder in encoders_of(backbone).items()}

    def _start(self) -> Iterator[Step]:
        """Choose where to start: the word, what the teacher taught, or further on the way to the right count."""
        settings, state = self.settings, self.state
        if state.stage == "word":
            self._judge(self.word)
            self._enter("imitate")
        if state.stage == "imitate":
            if settings.teacher is not None and settings.teacher_steps:
                yield from self._imitate(settings.teacher)
                self._judge(state.vectors)
            self._enter("walk")
        if state.stage == "walk":
            self._walk()
            state.vectors, state.waited = dict(state.best), 0
            self._enter("learn")

    def _enter(self, stage: str) -> None:
        self.state.stage, self.state.moments = stage, {}
        self._save()

    def _imitate(self, teacher: str) -> Iterator[Step]:
        settings, state = self.settings, self.state
        vectors = self._parameters()
        optimizer = torch.optim.Adam((v for v in vectors.values() if v.requires_grad), lr=settings.teacher_rate)
        state.restore(vectors, optimizer, state.taught)
        lessons = self._lessons(teacher)
        for made in imitate(
            self.models.backbone,
            placeholder_of(self.target_count),
            vectors,
            optimizer,
            lessons,
            lessons_per_step=settings.objects_per_step,
            done=state.taught,
        ):
            state.taught += 1
            state.evaluations += (1 + COST_WITH_GRADIENT) * len(made.lessons)
            state.keep(vectors, optimizer)
            self._save()
            yield self._imitated(made)

    @torch.no_grad()
    def _imitated(self, made: Imitation) -> Step:
        first = made.lessons[0]
        image = self.models.backbone.decode(made.drawn)
        evaluation = self._objective(first.target).evaluate(image)
        return self._step(
            evaluation,
            phase="imitate",
            index=self.state.taught - 1,
            seed=first.seed,
            loss=made.loss,
            soft_counts=(float(evaluation.soft_counts[0, 0]),),
            image=image[0],
            latents=made.latents[0],
        )

    def _lessons(self, teacher: str) -> list[Lesson]:
        settings = self.settings
        placeholder, word = placeholder_of(self.target_count), number_word(self.target_count)
        generator = torch.Generator().manual_seed(settings.seed)
        number = settings.teacher_steps * settings.objects_per_step
        lessons = []
        for k, seed in enumerate(torch.randint(FIRST_SEED, (number,), generator=generator).tolist()):
            target = self.targets[k % len(self.targets)]
            # The next template once all objects have had this one, so that neither stands for the other.
            template = settings.templates[k // len(self.targets) % len(settings.templates)]
            objects = counted(target.object_name, target.target_count)
            prompt = template.format(number=placeholder, objects=objects)
            lessons.append(Lesson(prompt, teacher.format(number=word, objects=objects), target, FIRST_SEED + seed))
        return lessons

    def _walk(self) -> None:
        """Go from the best so far towards the neighbouring number that the counts call for, while it gets better."""
        settings, state = self.settings, self.state
        if not settings.initial_step:
            return
        sign = -1 if self.best_validation.count > self.target_count else 1
        neighbour = number_word(self.target_count + sign)
        if length_of(neighbour, self.models.backbone) > settings.num_vectors:
            return
        ends, base = self._vectors_of(neighbour), dict(state.best)
        for number in range(1, settings.initial_tries + 1):
            share = number * settings.initial_step
            tried = {
                key: base[key] + share * (ends[key] - self.word[key]) if key in settings.encoders else base[key]
                for key in base
            }
            if not self._judge(tried):
                break

    @torch.no_grad()
    def _judge(self, vectors: Mapping[str, Tensor]) -> bool:
        """Count on the validation pictures, the same each time; True where no vectors before were better."""
        settings = self.settings
        shares = torch.arange(settings.validation_pictures).tensor_split(len(self.targets))
        right, losses, counts = [], [], []
        for target, share in zip(self.targets, shares, strict=True):
            for template, part in zip(settings.templates, share.tensor_split(len(settings.templates)), strict=True):
                seeds = [FIRST_VALIDATION_SEED + number for number in part.tolist()]
                if not seeds:
                    continue
                _, images = self._render(vectors, template, target, seeds)
                for critic in self.models.critics:
                    seen = critic.evaluate(images, {target.object_name: target.target_count}, LOSSES[settings.loss])
                    right += (seen.counts[:, 0] == target.target_count).tolist()
                    losses += seen.loss.tolist()
                    counts += seen.counts[:, 0].tolist()
        self.state.evaluations += settings.validation_pictures
        means = (sum(values) / len(values) for values in (right, losses, counts))
        return self.state.judge(vectors, Validation(self.state.step, *means))


def detecting(models: Models) -> Critic | None:
    """The first critic that finds objects and their classes; None where all only count."""
    return next((critic for critic in models.critics if critic.detects), None)


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
