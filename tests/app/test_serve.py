"""The gateway: the real `openai` client, a gateway behind a gateway, a full queue, and hostile clients."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
import torch
import uvicorn

import countgen
from countgen import recipe
from countgen.app.cli import main
from countgen.app.commands import parse
from countgen.app.demo.worker import Job, Worker
from countgen.app.serve import KEY_VARIABLE
from countgen.app.serve import application as applications
from countgen.app.serve.application import application
from countgen.app.serve.gateway import Gateway
from countgen.files.image_file import decode_image
from countgen.images import read_recipe, to_pil

PATH = "/v1/images/generations"
PROMPT = "a photo of three apples"
TOO_MANY = "a photo of forty cats"
HOSTS = frozenset({"127.0.0.1"})


class Served:
    """A gateway that is served."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.port, self.url = gateway, port, f"http://127.0.0.1:{port}"

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0} | options)

    def ask(self, **fields: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{PATH}", json={"prompt": PROMPT} | fields, timeout=60)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the thread of the models from starting anything."""
        released = threading.Event()
        self.gateway.worker._thread.submit(released.wait, 60)
        try:
            yield
        finally:
            released.set()

    def wait_for_jobs(self, number: int) -> None:
        for _ in range(2000):
            if httpx.get(f"{self.url}/health").json()["jobs"] == number:
                return
        pytest.fail(f"there are never {number} jobs")


@contextmanager
def served(models: countgen.Models, keys: tuple[str, ...] = (), queue: int = 16) -> Iterator[Served]:
    command: Any = parse(["serve", "--max-evaluations", "20", "--queue", str(queue)])
    gateway = Gateway(models, command)
    config = uvicorn.Config(application(gateway, keys, HOSTS), http="h11", log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Served(gateway, listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def models() -> countgen.Models:
    return countgen.load("miniature")


@pytest.fixture(scope="module")
def server(models: countgen.Models) -> Iterator[Served]:
    with served(models) as server:
        yield server


def png_of(image: Any) -> bytes:
    return base64.b64decode(image.b64_json if hasattr(image, "b64_json") else image["b64_json"])


def test_the_openai_client_gets_what_generate_gives_for_the_same_seeds(server: Served, models: countgen.Models) -> None:
    answer = server.client().images.generate(
        model="miniature", prompt=PROMPT, n=2, size="128x128", extra_body={"seed": 5, "method": "search"}
    )
    assert answer.data is not None
    for number, image in enumerate(answer.data):
        result = countgen.generate(PROMPT, models, seed=5 + number, method="search", max_evaluations=20)
        png = png_of(image)
        assert decode_image(png).tobytes() == to_pil(result.image).tobytes()
        told: Any = image
        assert told.counts == {"apple": result.judge_counts[0]}
        assert (told.confirmed, told.verified, told.seed) == (result.confirmed, result.verified, 5 + number)
        assert told.probability == pytest.approx(result.probability, abs=1e-4)
        written = read_recipe(io.BytesIO(png))
        assert torch.equal(recipe.regenerate(written, models.backbone), result.image)


def test_a_prompt_that_counts_nothing_is_passed_on_untouched(server: Served, models: countgen.Models) -> None:
    for prompt in ("stormy weather", "stormy weather, " * 60):
        image = server.ask(prompt=prompt, seed=7).raise_for_status().json()["data"][0]
        backbone = models.backbone
        with torch.no_grad():
            plain = backbone.render(backbone.initial_latents([7]), backbone.encode_prompt(prompt))[0]
        assert decode_image(png_of(image)).tobytes() == to_pil(plain).tobytes()
        assert (image["counts"], image["confirmed"], image["evaluations"]) == (None, False, 1)
        assert image["reason"]


def test_strict_is_an_error_in_place_of_an_image_that_is_not_confirmed(server: Served) -> None:
    strict = {"strict": True, "max_evaluations": 2}
    with pytest.raises(openai.UnprocessableEntityError, match="not confirmed: the judge counts"):
        server.client().images.generate(prompt=TOO_MANY, extra_body=strict)
    with pytest.raises(openai.UnprocessableEntityError, match="not confirmed"):
        server.client().images.generate(prompt="stormy weather", extra_body=strict)
    assert server.ask(prompt=TOO_MANY, max_evaluations=2).json()["data"][0]["confirmed"] is False


def test_a_gateway_serves_a_gateway(server: Served) -> None:
    behind = countgen.load(
        f"endpoint:{server.url}/v1#miniature", critics="miniature-yolo", judge="miniature-fcos", height=128, width=128
    )
    with served(behind) as outer, ThreadPoolExecutor(8) as pool:
        names = ["apple", "orange", "banana", "donut", "apple", "orange", "banana", "donut"]
        client, quick = outer.client(max_retries=5), {"max_evaluations": 2}
        prompts = [f"a photo of two {name}s" for name in names]
        answers = list(pool.map(lambda prompt: client.images.generate(prompt=prompt, extra_body=quick), prompts))
        for answer, name in zip(answers, names, strict=True):
            assert answer.data is not None
            (image,) = answer.data
            assert list(image.counts) == [name]  # type: ignore[attr-defined]
            assert decode_image(png_of(image)).size == (128, 128)
    assert server.gateway.worker.jobs == []


def test_an_unreachable_server_behind_the_gateway_is_502(monkeypatch: pytest.MonkeyPatch) -> None:
    from countgen.backbones import endpoint

    monkeypatch.setattr(endpoint, "MAX_TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    behind = countgen.load(
        f"endpoint:http://127.0.0.1:{port}/v1#m", critics="miniature-yolo", judge=None, height=128, width=128
    )
    with served(behind) as outer:
        answer = outer.ask()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "endpoint_failed")


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "an unknown field": ({"colour": "red"}, 400, "colour"),
    "no text": ({"prompt": ""}, 400, "prompt"),
    "half a surrogate": ({"prompt": "\ud800"}, 400, "prompt"),
    "a number": ({"prompt": 7}, 400, "prompt"),
    "too many images": ({"n": 11}, 400, "n"),
    "no image": ({"n": 0}, 400, "n"),
    "too large": ({"size": "1024x1024"}, 400, "size"),
    "an odd size": ({"size": "101x101"}, 400, "multiples of"),
    "no size": ({"size": "big"}, 400, "size"),
    "an address": ({"response_format": "url"}, 400, "response_format"),
    "a stream": ({"stream": True}, 400, "stream"),
    "another model": ({"model": "gpt-image-1"}, 404, "model"),
    "no method": ({"method": "../x"}, 400, "unknown method"),
    "no probability": ({"sure": 1.0}, 400, "sure"),
    "too long a search": ({"max_evaluations": 21}, 400, "max_evaluations"),
    "no guidance": ({"negative_prompt": "blurry"}, 400, "needs guidance"),
    "not finite": ({"guidance_scale": 1e999}, 400, "guidance_scale"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_field_is_an_error_in_openais_schema(server: Served, name: str) -> None:
    fields, status, told = WRONG[name]
    body = json.dumps({"prompt": PROMPT} | fields)
    answer = httpx.post(f"{server.url}{PATH}", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert told in (error["param"] or "") or told in error["message"]


def test_other_sizes_steps_and_fields_of_openai_are_taken(server: Served) -> None:
    fields = {"size": "64x128", "num_inference_steps": 2, "quality": "high", "user": "me", "output_format": "png"}
    image = server.ask(**fields, method="plain").raise_for_status().json()["data"][0]
    assert decode_image(png_of(image)).size == (64, 128)
    assert read_recipe(io.BytesIO(png_of(image)))["num_inference_steps"] == 2


def test_a_full_queue_says_when_to_try_again(models: countgen.Models) -> None:
    with served(models, queue=2) as server, ThreadPoolExecutor(2) as pool:
        with server.busy():
            waiting = [pool.submit(server.ask) for _ in range(2)]
            server.wait_for_jobs(2)
            answer = server.ask()
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
            assert int(answer.headers["retry-after"]) >= 1
        assert [one.result().status_code for one in waiting] == [200, 200]


def head(server: Served, length: int, *, more: str = "") -> bytes:
    kind = "Content-Type: application/json\r\n"
    return f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}Content-Length: {length}\r\n{more}\r\n".encode()


def test_a_client_that_leaves_frees_its_place(models: countgen.Models) -> None:
    with served(models, queue=2) as server:
        body = json.dumps({"prompt": TOO_MANY}).encode()
        with server.busy():
            clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
            for client in clients:
                client.sendall(head(server, len(body)) + body)
            server.wait_for_jobs(2)
            for client in clients:
                client.close()
            server.wait_for_jobs(0)
        assert server.ask().status_code == 200


def test_a_shutdown_lets_images_in_progress_end(models: countgen.Models) -> None:
    with ThreadPoolExecutor(1) as pool:
        with served(models) as server, server.busy():
            waiting = pool.submit(server.ask)
            server.wait_for_jobs(1)
        assert waiting.result().status_code == 200


def test_clients_take_turns() -> None:
    worker = Worker.__new__(Worker)
    worker.jobs = []
    for client in ("a", "a", "a", "b", "c", "b"):
        worker._join(Job(client))
    assert "".join(job.client for job in worker.jobs) == "abcaba"


def test_keys_are_asked_for_except_by_health(models: countgen.Models) -> None:
    with served(models, keys=("first-key", "second-key")) as server:
        assert httpx.get(f"{server.url}/health").status_code == 200
        for path in ("/v1/models", "/metrics", "/nothing"):
            assert httpx.get(f"{server.url}{path}").status_code == 401
        with pytest.raises(openai.AuthenticationError):
            server.client(api_key="wrong").images.generate(prompt=PROMPT)
        for key in ("first-key", "second-key"):
            assert [model.id for model in server.client(api_key=key).models.list()] == ["miniature"]
            assert server.client(api_key=key).images.generate(prompt=PROMPT).data
        measured = httpx.get(f"{server.url}/metrics", headers={"authorization": "Bearer first-key"}).text
        assert 'countgen_requests_total{status="200"}' in measured
        assert 'countgen_images_total{outcome="confirmed"}' in measured
        assert "-key" not in measured


def test_other_machines_need_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert KEY_VARIABLE in capsys.readouterr().err
    monkeypatch.setenv(KEY_VARIABLE, "short")
    assert main(["serve"]) == 2
    assert "at least 8 characters" in capsys.readouterr().err


def test_unusual_requests_are_not_read(server: Served) -> None:
    url, as_json = f"{server.url}{PATH}", {"content-type": "application/json"}
    assert httpx.post(url, content=bytes(2**17), headers=as_json).status_code == 413
    assert httpx.post(url, content=iter([b"{}"]), headers=as_json).status_code == 411
    assert httpx.post(url, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    for content in (b"{", b"[]", b"[" * 60_000, b"\xff", b"null"):
        assert httpx.post(url, content=content, headers=as_json).status_code == 400, content[:9]
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 403
    assert httpx.get(f"{server.url}/docs").json()["error"]["message"] == "Not Found"


def answer_to(server: Served, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(20)
        client.sendall(sent)
        return client.recv(12)


def test_a_body_without_end_and_endless_headers_end(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "SECONDS_FOR_A_BODY", 0.2)
    assert answer_to(server, head(server, 1000) + b"{").endswith(b"408")
    assert answer_to(server, head(server, 100 * 2**20)).endswith(b"413")
    many = "".join(f"x-{number}: a\r\n" for number in range(10_000))
    assert answer_to(server, head(server, 2, more=many)).endswith(b"431")
    assert server.gateway.worker.jobs == []
