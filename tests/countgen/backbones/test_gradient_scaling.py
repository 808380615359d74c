import pytest
import torch

from countgen.backbones.gradient_scaling import GradientScale

pytestmark = pytest.mark.core


def test_a_gradient_below_the_range_of_float16_passes_a_half_precision_model() -> None:
    weight = torch.linspace(0.5, 2, 6).half()
    latents = torch.ones(2, 6, requires_grad=True)
    scale = GradientScale()
    images = scale.scale_gradient((scale.unscale_gradient(latents).half() * weight).float())
    upstream = torch.tensor([1e-15, 3e-4])[:, None].expand(2, 6)

    (images * upstream).sum().backward()

    assert latents.grad is not None
    torch.testing.assert_close(latents.grad, upstream * weight.float(), rtol=1e-3, atol=0)


def test_values_pass_unchanged_and_a_zero_gradient_stays_zero() -> None:
    latents = torch.randn(2, 3, requires_grad=True)
    scale = GradientScale()
    images = scale.scale_gradient(scale.unscale_gradient(latents))
    assert torch.equal(images, latents)

    (images * 0).sum().backward()

    assert latents.grad is not None
    assert not latents.grad.any()
