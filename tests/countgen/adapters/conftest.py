import pytest

from countgen.adapters import NoiseAdapter
from tests.countgen.adapters.tiny_adapter import tiny_adapter


@pytest.fixture(scope="session")
def adapter() -> NoiseAdapter:
    return tiny_adapter()
