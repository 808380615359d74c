"""Vision-language models as judges: asked in words how many objects there are, they count without detecting."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image, fromarray
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from countgen.critics import pretrained
from countgen.critics.base import NO_ANSWER, Critic
from countgen.critics.evaluation import Evaluation
from countgen.critics.losses import CountLoss
from countgen.critics.validation import check_names, checked_images
from countgen.critics.vocabulary import plural, singular

PRESETS: dict[str, str] = {}
"""None: a repository's name says which model."""
QUESTIONS = (
    "How many {plural} are in this image? Answer with one whole number in digits and nothing else.",
    "Count the {plural} in this image. Reply with the number only, in digits.",
    "What is the number of {plural} in this image? Give a single whole number in digits, without any other word.",
)
"""Phrasings of the one question; a count needs the same answer to more than half of them."""
MAX_NEW_TOKENS = 512
"""Longest answer in tokens, for models that point at each object first; a longer one does not count, as its last digits
may be missing."""
MAX_COUNT = 10_000

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_MARKS = "[*_`\"']"
"""Quotes and marks of Markdown, which are not read."""
_LEAD = (
    r"(?:(?:there (?:is|are)|i (?:see|count)|(?:the )?(?:answer|number|count)(?: is|:)|"
    r"the (?:image|picture|photo) (?:contains|shows|has)|counting the [a-z -]+ shows a total of)\s+)?"
)
_NUMBER = rf"(?P<number>[0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]+|{'|'.join(_WORDS)})"
_PLACE = r"(?:\s+(?:visible |shown )?in (?:the|this) (?:image|picture|photo))?"


def load(*, weights: str, revision: str | None = None, device: str | torch.device = "cpu") -> VlmJudge:
    """Load a vision-language model as a judge, in the precision of its checkpoint.

    Args:
        weights: a repository's name or a folder, of any model that transformers reads as image-text-to-text.
        revision: a branch, tag or commit of the repository.
        device: where it runs.

    Raises:
        ValueError: the model is missing, is of another task, has no chat template or lacks weights, or it needs a
            package that is not installed.
    """
    source = pretrained.Source(weights, PRESETS, revision)
    # What is small comes first: a missing package or template is known before the weights are read.
    processor = source.read(AutoProcessor)
    if getattr(processor, "chat_template", None) is None:
        raise ValueError(f"{weights} has no chat template, so it cannot be asked; name an instruction-tuned model")
    model = source.read_model(AutoModelForImageTextToText, complete=True, dtype="auto").to(device)
    return VlmJudge(model, processor, name=source.recorded_as(VlmJudge))


class VlmJudge(Critic):
    """Counts by asking `QUESTIONS` and reading the answers strictly; no gradient, no boxes.

    Each image is asked each question once, decoded greedily. The count is the number that more than half of the
    questions get as an answer, otherwise `NO_ANSWER`.
    """

    differentiable = False
    max_count = MAX_COUNT

    def __init__(self, model: Any, processor: Any, *, name: str, max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        super().__init__(model, None, name=name)
        self.processor = processor
        # Left-pad for batched generation.
        self.processor.tokenizer.padding_side = "left"
        self.family = f"vlm-{model.config.model_type}"
        self.max_new_tokens = max_new_tokens

    def evaluate(self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss) -> Evaluation:
        """Raise TypeError: an answer in words carries no gradient."""
        raise TypeError(f"{self.name} answers in words, without gradient; use counts, or name it as a judge")

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        check_names(object_names)
        pil_images = [_to_pil(image) for image in checked_images(images)]
        columns = []
        for object_name in object_names:
            asked = [self.answers(pil_images, question, object_name) for question in QUESTIONS]
            votes = [[read_count(answer, object_name) for answer in answers] for answers in asked]
            columns.append([_majority(image_votes) for image_votes in zip(*votes, strict=True)])
        return torch.tensor(columns, dtype=torch.int64).T

    @torch.no_grad()
    def answers(self, images: Sequence[Image], question: str, object_name: str) -> list[str]:
        """Return the model's answer for each image of a batch, "" where it does not end within `max_new_tokens`.

        Args:
            images: RGB.
            question: with the place of the object's name, as in `QUESTIONS`.
            object_name: singular or plural.
        """
        text = question.format(plural=plural(singular(object_name)))
        conversations = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
            for image in images
        ]
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self.model.device, self.model.dtype)
        output = self.model.generate(
            **inputs, do_sample=False, temperature=None, top_p=None, top_k=None, max_new_tokens=self.max_new_tokens
        )
        generated = output[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(generated, skip_special_tokens=True)
        ends = torch.tensor(self.model.generation_config.eos_token_id, device=generated.device)  # one or several
        ended = torch.isin(generated, ends).any(1).tolist()
        return [text if whole else "" for text, whole in zip(texts, ended, strict=True)]


def read_count(answer: str, object_name: str) -> int:
    """Return the count that an answer states, `NO_ANSWER` where it is not one whole number alone.

    Accepted are digits ("12", "1,204") or a number word to twenty, with the object's name, "There are" or "in the
    image" around it, and marks of Markdown. Anything else does not count: two numbers, ranges, "about 7", "at least 7",
    decimals, signs, numbers above 10 000. Tags, such as the points that Molmo names, and what stands between <think>
    tags are not read.

    >>> read_count("12", "apple"), read_count("There are **7** apples.", "apple"), read_count("7 or 8", "apple")
    (12, 7, -1)
    """
    _, thought, reply = answer.rpartition("</think>")
    if "<think>" in reply:
        return NO_ANSWER
    text = re.sub(rf"<[^<>]*>|{_MARKS}", "", reply if thought else answer).strip().rstrip(".!").lower()
    word = singular(object_name)
    single, several = (re.escape(re.sub(_MARKS, "", noun).lower()) for noun in (word, plural(word)))
    name = rf"(?:\s+(?:{single}|{several}))?"
    match = re.fullmatch(_LEAD + _NUMBER + name + _PLACE, text)
    if match is None:
        return NO_ANSWER
    number = match["number"].replace(",", "")
    if number in _WORDS:
        return _WORDS.index(number)
    return int(number) if len(number) <= len(str(MAX_COUNT)) and int(number) <= MAX_COUNT else NO_ANSWER


def _majority(votes: Sequence[int]) -> int:
    """Return the count of more than half of the votes, `NO_ANSWER` without one."""
    count, number = Counter(votes).most_common(1)[0]
    return count if 2 * number > len(votes) else NO_ANSWER


def _to_pil(image: Tensor) -> Image:
    return fromarray(image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy())
