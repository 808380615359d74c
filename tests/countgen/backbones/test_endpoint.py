"""Models behind a server: ordinary servers, slow and hostile ones, and what is kept secret."""

from __future__ import annotations

import base64
import io
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from PIL import Image

import countgen
from countgen import methods, recipe
from countgen.app.cli import main
from countgen.backbones import endpoint
from countgen.backbones.images_client import KEY_VARIABLE
from countgen.backbones.sources import find_source
from countgen.editing import edit
from countgen.errors import EndpointError, RecipeError
from countgen.images import to_pil
from countgen.number_slider.measurement import CalibrationSettings, measure, new_calibration

PROMPT = "a photo of two apples"
TOO_MANY = "a photo of sixteen cats"  # no seed has as many
DETECTORS: dict[str, Any] = {"critics": "miniature-yolo", "judge": "miniature-fcos"}
Answer = tuple[int, dict[str, str], bytes]


def png(width: int = 128, height: int = 128) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def answer(image: bytes) -> Answer:
    data = {"created": 1, "data": [{"b64_json": base64.b64encode(image).decode()}]}
    return 200, {"content-type": "application/json"}, json.dumps(data).encode()


def refusal(status: int, message: str, param: str | None = None, **headers: str) -> Answer:
    error = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}
    return status, headers, json.dumps(error).encode()


class Server:
    """Answers requests by a function of their path and JSON body, and keeps both."""

    def __init__(self) -> None:
        self.answer: Callable[[str, dict[str, Any]], Answer] = lambda path, body: answer(png())
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
                server.bodies.append(body)
                self.do_GET(body)

            def do_GET(self, body: dict[str, Any] | None = None) -> None:
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.paths.append(self.path)
                status, headers, content = server.answer(self.path, body or {})
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                with suppress(OSError):  # the client left, which some tests want
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "MAX_TRIES", 3)
    monkeypatch.setattr(endpoint, "MAX_WAIT", 0.0)
    monkeypatch.setattr(endpoint.random, "uniform", lambda low, high: 0.0)  # no pause between tries
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def embedded() -> countgen.Models:
    return countgen.load("miniature", **DETECTORS)


def rendering(models: countgen.Models) -> Callable[[str, dict[str, Any]], Answer]:
    lock = threading.Lock()

    def rendered(_: str, body: dict[str, Any]) -> Answer:
        backbone, file = models.backbone, io.BytesIO()
        with lock, torch.no_grad():
            embeds = backbone.encode_prompt(body["prompt"])
            to_pil(backbone.render(backbone.initial_latents([body["seed"]]), embeds)[0]).save(file, "PNG")
        return answer(file.getvalue())

    return rendered


def load(server: Server, **options: Any) -> countgen.Models:
    return countgen.load(f"endpoint:{server.url}#mini", **(DETECTORS | {"height": 128, "width": 128} | options))


def image_of(server: Server, seed: int = 5, **options: Any) -> torch.Tensor:
    backbone = load(server, **options).backbone
    with torch.no_grad():
        return backbone.render(backbone.initial_latents([seed]), backbone.encode_prompt(PROMPT))[0]


@pytest.mark.parametrize("method", methods.seeds_only())
def test_methods_without_gradient_find_what_they_find_on_the_model_itself(
    server: Server, embedded: countgen.Models, method: str
) -> None:
    server.answer = rendering(embedded)
    options: dict[str, Any] = {"method": method, "seed": 2, "max_evaluations": 6}
    if method == "image_select":
        options["settings"] = methods.load(method).settings_class(num_seeds=3)  # type: ignore[call-arg]
    there = countgen.generate(PROMPT, load(server), **options)
    direct = "search" if method == "auto" else method
    here = countgen.generate(PROMPT, embedded, **options | {"method": direct})
    assert (there.counts, there.judge_counts, there.recipe["candidate_seed"]) == (
        here.counts,
        here.judge_counts,
        here.recipe["candidate_seed"],
    )
    assert (there.image - here.image).abs().max() <= 0.5 / 255 + 1e-6
    assert {body["prompt"] for body in server.bodies} == {PROMPT}


def test_a_method_with_gradient_names_those_that_work(server: Server) -> None:
    models = load(server)
    for method in set(methods.available()) - set(methods.seeds_only()):
        with pytest.raises(ValueError, match="auto, best_of_n, image_select, plain, search"):
            countgen.Run(PROMPT, models, method=method)
    assert not server.bodies


def test_a_request_has_the_fields_of_the_interface(server: Server) -> None:
    image_of(server)
    assert server.paths == ["/v1/images/generations"]
    asked = {"model": "mini", "prompt": PROMPT, "n": 1, "size": "128x128", "seed": 5, "response_format": "b64_json"}
    assert server.bodies == [asked]
    image_of(server, num_inference_steps=4, guidance_scale=3.5)
    assert server.bodies[1] == asked | {"num_inference_steps": 4, "guidance_scale": 3.5}
    countgen.generate(PROMPT, load(server), method="plain", negative_prompt="blurry")
    assert server.bodies[2]["negative_prompt"] == "blurry"


def test_an_image_is_generated_again_from_its_recipe(server: Server, embedded: countgen.Models) -> None:
    server.answer = rendering(embedded)
    result = countgen.generate(PROMPT, load(server), method="search", max_evaluations=4)
    checked = recipe.check(result.recipe, model=f"endpoint:{server.url}#mini")
    assert not checked.sources
    assert torch.equal(recipe.regenerate(result.recipe, checked.load("cpu")), result.image)
    assert "127.0.0.1" not in json.dumps(result.recipe)
    with pytest.raises(RecipeError, match="give model="):
        recipe.check(result.recipe)


def test_an_edit_is_an_error_before_any_method_runs(server: Server, embedded: countgen.Models) -> None:
    server.answer = rendering(embedded)
    models = load(server)
    result = countgen.generate(PROMPT, models, method="plain")
    with pytest.raises(ValueError, match="needs latents and gradient"):
        edit(result, models, counts={"apple": 3})


def test_a_field_that_a_server_does_not_know_is_left_out(server: Server) -> None:
    def without_seed(_: str, body: dict[str, Any]) -> Answer:
        for field in ("seed", "response_format"):
            if field in body:
                return refusal(400, f"Unknown parameter: '{field}'.", field)
        return answer(png())

    server.answer = without_seed
    result = countgen.generate(PROMPT, load(server), method="plain")
    assert result.recipe["changed_parts"] == ["seed"]
    with pytest.raises(RecipeError, match="takes no seed"):
        recipe.check(result.recipe, model=f"endpoint:{server.url}#mini")


def test_the_key_is_in_the_header_and_nowhere_else(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    result = countgen.generate(PROMPT, load(server), method="plain")
    assert server.headers[0]["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in json.dumps(result.to_dict())
    server.answer = lambda *_: refusal(401, "Incorrect key: sk-secret")
    with pytest.raises(EndpointError, match=r"answered 401: Incorrect key: \.\.\.$"):
        image_of(server)
    monkeypatch.setenv(KEY_VARIABLE, "sk-\nsecret")
    with pytest.raises(ValueError, match="holds characters that no key has") as error:
        image_of(server)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    answers = [refusal(status, "later", Retry_After="1"), refusal(status, "later"), answer(png())]
    server.answer = lambda *_: answers.pop(0)
    assert image_of(server).shape == (3, 128, 128)
    server.answer = lambda *_: refusal(status, "later")
    with pytest.raises(EndpointError, match=f"answered {status}: later"):
        image_of(server)
    assert len(server.bodies) == 6


def test_several_servers_share_the_load_and_stand_in_for_each_other(server: Server) -> None:
    other = Server()
    both = f"endpoint:{server.url}+{other.url}#mini"
    backbone = countgen.load(both, height=128, width=128, **DETECTORS).backbone
    embeds = backbone.encode_prompt(PROMPT)
    assert backbone.render(backbone.initial_latents(range(4)), embeds).shape == (4, 3, 128, 128)
    assert sorted(body["seed"] for body in server.bodies) == [0, 2]
    other.close()
    assert backbone.render(backbone.initial_latents([1]), embeds).shape == (1, 3, 128, 128)
    assert server.bodies[-1]["seed"] == 1


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    side = 50_000
    header = chunk(b"IHDR", side.to_bytes(4) * 2 + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**7), 9)) + chunk(b"IEND", b"")


HOSTILE: dict[str, tuple[Answer, str]] = {
    "HTML": ((200, {"content-type": "text/html"}, b"<html>hello</html>"), "is not of the images interface"),
    "nothing": ((200, {}, b""), "is not of the images interface"),
    "no image": ((200, {}, b'{"data": []}'), "is not of the images interface"),
    "no field": ((200, {}, b'{"data": [{}]}'), "holds no image"),
    "broken base64": ((200, {}, b'{"data": [{"b64_json": "###"}]}'), "asked for an image"),
    "broken PNG": (answer(png()[:60]), "damaged"),
    "no PNG": (answer(b"hello"), "is not an image"),
    "a bomb": (answer(bomb()), "has 50000 x 50000 pixels"),
    "smaller": (answer(png(64, 64)), "the image has 64 x 64 pixels"),
    "longer than announced": ((200, {"content-length": "99999"}, b"{"), "no answer from the server"),
    "too long": ((200, {}, bytes(2**24)), "more than"),
    "a redirect": ((302, {"location": "http://example.com/"}, b""), "answered 302"),
    "a file": ((200, {}, b'{"data": [{"url": "file:///etc/passwd"}]}'), "elsewhere, which is not fetched"),
    "another host": ((200, {}, b'{"data": [{"url": "http://example.com/a.png"}]}'), "elsewhere, which is not fetched"),
    "another port": ((200, {}, b'{"data": [{"url": "http://127.0.0.1:1/a.png"}]}'), "elsewhere, which is not fetched"),
    "a terminal's escape": (refusal(400, "\x1b[31mred"), r"\\x1b\[31mred"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_that_is_no_image_is_one_clear_error(server: Server, name: str) -> None:
    hostile, message = HOSTILE[name]
    server.answer = lambda *_: hostile
    with pytest.raises(EndpointError, match=message):
        image_of(server)


def test_an_image_behind_an_address_of_the_same_server_is_fetched(server: Server) -> None:
    file = (200, {"content-type": "image/png"}, png())
    server.answer = lambda path, _: file if path == "/a.png" else (200, {}, b'{"data": [{"url": "/a.png"}]}')
    assert image_of(server).shape == (3, 128, 128)
    server.answer = lambda path, _: (
        (302, {"location": "http://example.com"}, b"")
        if path == "/a.png"
        else (200, {}, b'{"data": [{"url": "/a.png"}]}')
    )
    with pytest.raises(EndpointError, match="address answered 302"):
        image_of(server)


def test_a_silent_server_ends_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SECONDS", 0.2)
    released = threading.Event()
    server.answer = lambda *_: (released.wait(20), answer(png()))[1]
    with pytest.raises(EndpointError, match=r"no image within 0.2 s"):
        image_of(server)
    released.set()


def test_a_stop_does_not_wait_for_the_server(server: Server, embedded: countgen.Models) -> None:
    released = threading.Event()
    first, rendered = [True], rendering(embedded)

    def answered(path: str, body: dict[str, Any]) -> Answer:
        if not first:
            run.stop()
            released.wait(20)
        first.clear()
        return rendered(path, body)

    server.answer = answered
    run = countgen.Run(TOO_MANY, load(server), method="search")
    for _ in run:
        assert not released.is_set()
    assert run.result().evaluations == 1
    assert len(server.bodies) > 1
    released.set()


def test_a_server_that_fails_later_leaves_the_best_image_so_far(server: Server, embedded: countgen.Models) -> None:
    rendered = rendering(embedded)
    server.answer = lambda path, body: rendered(path, body) if len(server.bodies) < 3 else refusal(403, "no credit")
    result = countgen.generate(TOO_MANY, load(server), method="best_of_n")
    assert result.stopped is not None
    assert "403: no credit" in result.stopped


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("endpoint:127.0.0.1:8000#m", "is endpoint:URL#MODEL"),
        ("endpoint:file:///etc/passwd#m", "is endpoint:URL#MODEL"),
        ("endpoint:http://host/v1", "is endpoint:URL#MODEL"),
        ("endpoint:http://user:secret@host/v1#m", "never in the address"),
    ],
)
def test_an_address_of_another_form_is_an_error(model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        find_source(model)
    assert "secret" not in str(error.value)


def test_a_setting_that_a_server_does_not_take_is_an_error(server: Server) -> None:
    with pytest.raises(ValueError, match="got scheduler; leave that out"):
        load(server, scheduler="DDIMScheduler")
    with pytest.raises(ValueError, match="no tiny decoder"):
        load(server, draft=True)


def test_a_calibration_measures_number_words_alone(server: Server, embedded: countgen.Models) -> None:
    server.answer = rendering(embedded)
    models = load(server)
    settings = CalibrationSettings(images=2, max_number=3)
    *_, calibration = measure(models, new_calibration(models, ["apple"], settings))
    assert [(point.number, point.offset) for point in calibration.points] == [(1, 0), (2, 0), (3, 0)]
    assert calibration.acceptance is not None
    calibration.check(models.backbone)
    assert countgen.generate(PROMPT, models, method="plain", calibration=calibration).counts
    with pytest.raises(ValueError, match="no prompt embeddings"):
        countgen.generate(PROMPT, models, method="plain", calibration=calibration, number_offset=-0.5)


def test_commands_take_a_server_as_their_model(
    server: Server, embedded: countgen.Models, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = rendering(embedded)
    model = ["--model", f"endpoint:{server.url}#mini", "--size", "128", "--judge", "miniature-fcos"]
    model += ["--critic", "miniature-yolo"]
    out = tmp_path / "images"
    assert main(["generate", "a photo of one apple", *model, "--max-evaluations", "8", "--out", str(out)]) in (0, 1)
    assert "endpoint:mini: the server's own settings" in capsys.readouterr().out
    assert len(list(out.glob("*.png"))) == 2
    suite = tmp_path / "suite.txt"
    suite.write_text(PROMPT)
    assert main(["eval", "--suite", str(suite), *model, "--methods", "plain", "--out", str(tmp_path / "run")]) == 0
    assert server.url not in (tmp_path / "run" / "records.jsonl").read_text()
