import pytest
import torch

from countgen.methods.lmn import LatentModifier

NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("original_share", [0, 0.2, 0.9])
def test_the_output_is_the_weighted_mean_of_the_noise_and_the_modified_noise(original_share):
    start = LatentModifier(NOISE, original_share)
    with torch.no_grad():
        start.bias += 1
    # Modified is noise + 1, so the mean has moved by the modified's share.
    torch.testing.assert_close(start(), NOISE + (1 - original_share))
