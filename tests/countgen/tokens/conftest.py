import pytest

from countgen import backbones


@pytest.fixture(scope="session")
def pixart():
    return backbones.load("miniature-pixart")


@pytest.fixture(params=["miniature", "miniature-pixart"])
def backbone(request, light_models, pixart):
    return light_models.backbone if request.param == "miniature" else pixart
