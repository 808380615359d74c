"""The Space that `app/space` holds, with Hugging Face's own package `spaces`, whose decorator has no effect here."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import countgen
from countgen.app.demo import check_address
from countgen.images import to_pil

APP = Path(countgen.__file__).parent / "app/space/app.py"


def test_the_function_for_a_lent_gpu_generates_an_image(models: countgen.Models) -> None:
    from countgen.app.space import app

    before, image, text = app.generate("a photo of two apples", 0.0, "miniature")
    expected = countgen.generate("a photo of two apples", models, seed=0, max_seconds=app.SECONDS)
    assert image.tobytes() == to_pil(expected.image).tobytes()
    assert before.size == image.size == (128, 128)
    assert text == f"{expected.judge_counts[0]} of 2 apples"


def test_the_demo_is_served_without_a_password(tmp_path: Path) -> None:
    port = 17860 + os.getpid() % 1000
    check_address("127.0.0.1", port)
    environment = {**os.environ, "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(APP.parents[3])}
    with subprocess.Popen([sys.executable, str(APP)], env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith("serving ")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                assert "countgen" in answer.read().decode()
        finally:
            server.terminate()
