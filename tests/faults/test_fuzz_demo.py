import random

import pytest

from tests.faults.fuzz_demo import fuzz_demo_routes


@pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_random_requests_find_the_demo_closed() -> None:
    assert fuzz_demo_routes(random.Random(1), 150) == []
