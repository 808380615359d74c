import pytest
import torch

from countgen.critics import Detections
from countgen.datasets.boxes import agreed_boxes

pytestmark = pytest.mark.core


def detections(*boxes: tuple[float, ...], score: float = 0.9) -> Detections:
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.full((len(boxes),), score), "cat")


def test_a_box_is_the_mean_of_both_inside_the_image_with_both_scores() -> None:
    boxes = agreed_boxes(detections((0, 0, 10, 10)), detections((-4, 0, 10, 12), score=0.5), 100, 11)
    assert boxes is not None
    (box,) = boxes
    assert (box.left, box.top, box.right, box.bottom) == (0, 0, 10, 11)
    assert (box.critic_score, box.judge_score) == (0.9, 0.5)
    assert box.iou == pytest.approx(100 / 168, abs=1e-4)
    assert box.xywh == (0, 0, 10, 11)


def test_boxes_are_matched_one_to_one_in_any_order() -> None:
    first, second = (0.0, 0.0, 10.0, 10.0), (4.0, 0.0, 14.0, 10.0)
    boxes = agreed_boxes(detections(first, second), detections(second, first), 50, 50)
    assert boxes is not None
    assert [box.iou for box in boxes] == [1, 1]
    # Both boxes of the critic overlap one of the judge's: one of them remains without a partner.
    assert agreed_boxes(detections(first, (1.0, 0.0, 11.0, 10.0)), detections(first, (30, 30, 40, 40)), 50, 50) is None


def test_no_set_of_boxes_without_agreement() -> None:
    assert agreed_boxes(detections((0, 0, 10, 10)), detections(), 50, 50) is None
    # IoU 0.493 and 0.504
    assert agreed_boxes(detections((0, 0, 10, 10)), detections((3.4, 0, 13.4, 10)), 50, 50) is None
    assert agreed_boxes(detections((0, 0, 10, 10)), detections((3.3, 0, 13.3, 10)), 50, 50) is not None
    assert agreed_boxes(detections(), detections(), 50, 50) == ()
