"""Settings of token training."""

from __future__ import annotations

from dataclasses import dataclass

from countgen.learning.settings import TrainingSettings, check_template
from countgen.tokens.file import ENCODER_KEYS, MAX_VECTORS


@dataclass(frozen=True)
class LearnSettings(TrainingSettings):
    """Settings of token training; those of the shipped tokens are in docs/results.md.

    `TrainingSettings` describes the others. A step on the count loss, with AdamW without weight decay, changes every
    component by about the learning rate; those of a word are near 0.02. With 0 steps there is only the distillation.

    Attributes:
        num_vectors: number of vectors of the token in every text encoder.
        initial_text: text whose embedding is the initial value, its last vector repeated; the number as a word by
            default.
        teacher: template of prompts that may count better than those of `templates`, None for no distillation. The
            token is first distilled from these prompts; the result is kept if it validates better.
        teacher_steps, teacher_rate: number of steps and learning rate of Adam in the distillation.
        initial_step: step size of the line search that follows, relative to the difference between the embeddings of
            the neighbouring number word and of the own one; 0 for no line search.
        initial_tries: largest number of points of the line search, which ends at the first that validates no better.
        encoders: text encoders whose vectors are trained, from `countgen.tokens.file.ENCODER_KEYS`; the others keep the
            vectors of the initial text.
        semantic_weight: weight of the semantic loss, 1 - the probability of the object.
    """

    num_vectors: int = 1
    initial_text: str | None = None
    teacher: str | None = "{number} {objects}"
    teacher_steps: int = 25
    teacher_rate: float = 0.005
    initial_step: float = 0.25
    initial_tries: int = 3
    encoders: tuple[str, ...] = ENCODER_KEYS
    semantic_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_vectors <= MAX_VECTORS:
            raise ValueError(f"num_vectors must be from 1 to {MAX_VECTORS}, got {self.num_vectors}")
        if self.teacher is not None:
            check_template(self.teacher)
        unknown = [key for key in self.encoders if key not in ENCODER_KEYS]
        if unknown or not self.encoders:
            raise ValueError(f"encoders must be of {', '.join(ENCODER_KEYS)}; got {', '.join(self.encoders) or 'none'}")
        if not (self.teacher_rate > 0 and self.semantic_weight >= 0):
            raise ValueError("teacher_rate must be above 0, semantic_weight at least 0")
        if min(self.teacher_steps, self.initial_tries, self.initial_step) < 0:
            raise ValueError("teacher_steps, initial_tries and initial_step must be at least 0")
