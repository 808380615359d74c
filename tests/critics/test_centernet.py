"""The heat-map critic: peaks, boxes, sizes, gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from countgen.critics.candidates import Candidates
from countgen.critics.detectors import centernet
from countgen.critics.detectors.centernet import CenterNetCritic, decode, encode_size
from countgen.critics.networks.hourglass import STRIDE
from countgen.critics.weights import write


class Drawn(centernet.CenterNet):
    """A detector whose maps are given, to look at what is made of them."""

    def __init__(self, heat: Tensor, size: float, offset: float) -> None:
        super().__init__(heat.shape[1])
        self.heat, self.size, self.offset = heat, size, offset

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.heat[:, :2]
        return self.heat, torch.full_like(maps, self.size), torch.full_like(maps, self.offset)


def candidates_of(heat: Tensor, size: float = 0.0, offset: float = 0.0) -> tuple[Candidates, ...]:
    critic = CenterNetCritic(Drawn(heat, size, offset), ["cat", "dog"])
    return critic.candidates(torch.zeros(1, 3, 128, 128), ["cat", "dog"])


def test_every_separate_peak_counts_once_and_its_slope_never() -> None:
    heat = torch.full((1, 2, 32, 32), -6.0)
    for row, column in ((4, 4), (4, 10), (20, 20)):
        heat[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 1.0
        heat[0, 0, row, column] = 3.0
    cats, dogs = candidates_of(heat)
    assert int((cats.kept & (cats.logits > 0)).sum()) == 3
    assert int((dogs.kept & (dogs.logits > 0)).sum()) == 0


def test_a_box_lies_around_its_peak() -> None:
    heat = torch.full((1, 2, 32, 32), -6.0)
    heat[0, 1, 10, 20] = 4.0
    wanted = torch.tensor([76.0, 36.0, 92.0, 52.0])
    _, dogs = candidates_of(heat, size=float(encode_size(wanted)[0]), offset=0.5)
    torch.testing.assert_close(dogs.boxes[0, 0], wanted)


def test_sizes_and_offsets_decode_to_the_boxes_they_encode() -> None:
    boxes = torch.tensor([[10.0, 20.0, 40.0, 30.0]])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE
    cell = centre.floor()
    log_size = encode_size(boxes)[:, :, None, None].expand(-1, -1, 32, 32)
    offset = (centre - cell - 0.5)[:, :, None, None].expand(-1, -1, 32, 32)
    index = int(cell[0, 1] * 32 + cell[0, 0])
    torch.testing.assert_close(decode(log_size, offset)[:, index], boxes)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (144, 144), (100, 180), (512, 300)])
def test_images_of_any_size_give_boxes_in_their_own_pixels(height: int, width: int) -> None:
    torch.manual_seed(0)
    critic = CenterNetCritic(centernet.build(2), ["cat", "dog"])
    boxes = critic.propose(torch.rand(1, 3, height, width), ["cat"]).boxes
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert float(centres[..., 0].max()) == pytest.approx(width, rel=0.06)
    assert float(centres[..., 1].max()) == pytest.approx(height, rel=0.06)


def test_load_reads_names_threshold_and_half_precision_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = centernet.build(3)
    write(tmp_path / "model.safetensors", network.state_dict(), ["cat", "dog", "bird"], 0.3)
    critic = centernet.load(weights=tmp_path / "model.safetensors")
    assert critic.object_names == ("cat", "dog", "bird")
    assert critic.settings.threshold == 0.3
    image = torch.rand(1, 3, 128, 128)
    expected = network.half().float().eval()(image)[0]
    torch.testing.assert_close(critic.detector(image)[0], expected)
    write(tmp_path / "other.safetensors", network.state_dict(), ["cat"])
    with pytest.raises(ValueError, match="does not hold the weights"):
        centernet.load(weights=tmp_path / "other.safetensors")
