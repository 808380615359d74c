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


def test_gradient_reaches_all_three_layers_after_the_first_step():
    start = LatentModifier(NOISE)
    optimizer = torch.optim.SGD(start.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (start() - 1).square().sum().backward()
        optimizer.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in start.parameters())
