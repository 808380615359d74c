"""Vision-language models as judges: the exact question, strict reading, an untrained model of a published family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from countgen import Models
from countgen.critics import NO_ANSWER
from countgen.critics.detectors import vlm
from countgen.critics.detectors.vlm import QUESTIONS, VlmJudge, read_count
from countgen.critics.losses import LOSSES
from countgen.models import load_critic
from tests.contract import tiny_language
from tests.contract.pictures import rendered

COUNTS = {
    0: ["0"],
    1: ["1 apple.", "There is 1 apple in this picture."],
    2: ['Counting the <points coords="1 1 0435 0634 2 0511 0702">apples</points> shows a total of 2.'],
    3: ["I see 3 apples.", "Answer: 3"],
    7: ["7", "7.", "**7**", '"7"', "Seven", "There are 7 apples in the image.", "<think>3 and 4.</think>\n7"],
    12: [" 12\n", "twelve apples"],
    14: ["The image contains 14 apples."],
    1204: ["1,204"],
    10_000: ["10000"],
}
NO_COUNTS = (
    *("", "no apples", "unclear", "I cannot count them.", "many", "a dozen", "7 or 8", "7-8", "7 to 9", "7+"),
    *("about 7", "at least 7", "more than 20", "approximately 7 apples", "~7", "7.5", "-3", "1/2", "1,20", "12 13"),
    *("7 dogs", "7 apples and 2 dogs", "There are 7 apples, 3 of them red.", "10001", "9" * 400, "twenty-one"),
    *("It is not 7", "7?", "7 apples or so", "<think>There are 7", "٣", "VII", "1e3"),
)


@pytest.fixture(scope="module")
def judge() -> VlmJudge:
    model, processor = tiny_language.qwen()
    tiny_language.talk_in_digits(model, processor.tokenizer)
    # In double precision, so that no answer hangs on the rounding of a batch.
    return VlmJudge(model.double(), processor, name="vlm:qwen", max_new_tokens=12)


def test_an_answer_is_read_with_all_its_digits_or_not_at_all_and_never_guessed() -> None:
    for count, answers in COUNTS.items():
        assert [read_count(answer, "apples") for answer in answers] == [count] * len(answers)
    assert [answer for answer in NO_COUNTS if read_count(answer, "apple") != NO_ANSWER] == []
    assert read_count("There are 7 ladies' shoes.", "ladies' shoe") == 7
    assert read_count("3 T-shirts", "T-shirt") == 3


def test_the_questions_are_asked_about_the_plural_after_the_image() -> None:
    model, processor = tiny_language.qwen()
    heard = []

    def generate(**inputs: Any) -> torch.Tensor:
        heard.append(processor.tokenizer.decode(inputs["input_ids"][0]).replace("<|image_pad|>", ""))
        assert inputs["do_sample"] is False
        return inputs["input_ids"]

    model.generate = generate
    VlmJudge(model, processor, name="vlm").counts(rendered(1), ["strawberry"])
    start, end = "<|im_start|>user\n<|vision_start|><|vision_end|>", "<|im_end|>\n<|im_start|>assistant\n"
    assert heard == [start + question.format(plural="strawberries") + end for question in QUESTIONS]


def test_a_count_needs_the_same_answer_to_more_than_half_of_the_questions(
    judge: VlmJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {
        QUESTIONS[0]: ["7", "7", "7", "some", "3"],
        QUESTIONS[1]: ["7 apples", "8", "There are 7 apples.", "some", "4"],
        QUESTIONS[2]: ["seven", "9", "unclear", "3", "5"],
    }
    monkeypatch.setattr(judge, "answers", lambda images, question, name: recorded[question])
    assert judge.counts(rendered(5), ["apple"])[:, 0].tolist() == [7, NO_ANSWER, 7, NO_ANSWER, NO_ANSWER]


def test_a_batch_is_answered_as_its_images_one_by_one_and_an_answer_that_does_not_end_is_none(judge: VlmJudge) -> None:
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    pictures = [vlm._to_pil(image) for image in images]
    for question in QUESTIONS:
        alone = [judge.answers([picture], question, "apple")[0] for picture in pictures]
        assert judge.answers(pictures, question, "apple") == alone
        assert any(alone)
    judge_of_one = VlmJudge(judge.model, judge.processor, name="vlm", max_new_tokens=1)
    answers = judge_of_one.answers(pictures, QUESTIONS[0], "apple")
    assert "" in answers
    assert set(answers) <= {"", *"0358"}


def test_it_judges_and_never_steers(judge: VlmJudge, models: Models) -> None:
    with pytest.raises(TypeError, match="answers in words, without gradient"):
        judge.evaluate(rendered(1), {"apple": 3}, LOSSES["margin"])
    with pytest.raises(ValueError, match="carries no gradient, so it cannot steer: name it as the judge"):
        Models(models.backbone, (judge,), models.judge)
    Models(models.backbone, models.critics, judge)


def test_a_folder_is_read_that_holds_all_weights_and_a_chat_template(tmp_path: Path) -> None:
    model, processor = tiny_language.qwen()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    judge = load_critic(f"vlm:{tmp_path}")
    assert (judge.name, judge.families) == (f"vlm:{tmp_path.name}", {"vlm-qwen3_vl"})
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[next(name for name in tensors if "layers.0" in name)]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of Qwen3VLForConditionalGeneration"):
        load_critic(f"vlm:{tmp_path}")
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template"):
        load_critic(f"vlm:{tmp_path}")
