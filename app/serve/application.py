"""The web application: routes, keys, and errors in OpenAI's schema."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Collection, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException

from countgen.app.demo.limits import BusyError
from countgen.app.request_guard import body_refusal, is_foreign, pass_on
from countgen.app.serve.gateway import Gateway, Image
from countgen.app.serve.interface import MAX_BODY_BYTES, ImagesRequest, RequestError
from countgen.errors import EndpointError
from countgen.files.printable import printable

MAX_HEADERS, SECONDS_FOR_A_BODY = 100, 10.0


def application(gateway: Gateway, keys: Sequence[str] = (), hosts: Collection[str] | None = None) -> Any:
    """Return the application behind its guard.

    Args:
        gateway: makes the images.
        keys: of clients; none for a server that any program of this machine may use.
        hosts: as of `countgen.app.request_guard.is_foreign`.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics(gateway)

    @app.post("/v1/images/generations")
    async def generations(request: Request, asked: ImagesRequest) -> Any:
        images = await _made(gateway, request, asked)
        if images is None:
            return Response(status_code=499)  # nobody reads it
        for image in images:
            metrics.evaluations.inc(image["evaluations"])
            outcome = "confirmed" if image["confirmed"] else "unconfirmed"
            metrics.images.labels("passed_on" if image["reason"] else outcome).inc()
        return JSONResponse({"created": int(time.time()), "data": images, "output_format": "png"})

    @app.get("/v1/models")
    async def models() -> Any:
        return {
            "object": "list",
            "data": [{"id": gateway.name, "object": "model", "created": 0, "owned_by": "countgen"}],
        }

    @app.get("/health")
    async def health() -> Any:
        return {"status": "ok", "jobs": len(gateway.worker.jobs)}

    @app.get("/metrics")
    async def measured() -> Any:
        return PlainTextResponse(generate_latest(metrics.registry))

    async def refused(_: Request, error: Exception) -> Any:
        answer = _answer_to(error, gateway)
        return JSONResponse(answer.body, answer.status, answer.headers)

    for kind in (RequestError, RequestValidationError, HTTPException, EndpointError, ValueError):
        app.add_exception_handler(kind, refused)
    return Guard(app, metrics, keys, hosts)


def _answer_to(error: Exception, gateway: Gateway) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, BusyError):
        later = str(max(1, round(gateway.seconds_per_job)))
        return RequestError(429, str(error), code="queue_full", Retry_After=later)
    if isinstance(error, HTTPException):
        return RequestError(error.status_code, error.detail)
    if isinstance(error, EndpointError):
        return RequestError(502, str(error), code="endpoint_failed")
    if not isinstance(error, RequestValidationError):
        return RequestError(400, str(error))
    first = error.errors()[0]
    field = ".".join(part for part in first["loc"][1:] if isinstance(part, str))
    return RequestError(400, f"{field}: {first['msg']}".removeprefix(": "), printable(field, 60))


async def _made(gateway: Gateway, request: Request, asked: ImagesRequest) -> list[Image] | None:
    """Return the images of a request; None if its client left, whose place in the queue is then free."""
    job = gateway.job(request.scope["client_key"], asked)

    async def collected() -> list[Image]:
        return [
            image async for image in gateway.worker.run(job, gateway.images(asked, job)) if not isinstance(image, str)
        ]

    work, left = asyncio.create_task(collected()), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        work.cancel()
        left.cancel()


class Metrics:
    """Numbers for Prometheus."""

    def __init__(self, gateway: Gateway) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("countgen_requests", "answers by status", ["status"], registry=registry)
        self.images = Counter("countgen_images", "images by outcome", ["outcome"], registry=registry)
        self.evaluations = Counter("countgen_evaluations", "model evaluations", registry=registry)
        self.seconds = Histogram("countgen_request_seconds", "time to the answer", registry=registry)
        jobs = Gauge("countgen_jobs", "requests that wait or run", registry=registry)
        jobs.set_function(lambda: len(gateway.worker.jobs))


class Guard:
    """ASGI middleware that answers requests without a key, of other pages, and with unusual bodies by itself."""

    def __init__(self, app: Any, metrics: Metrics, keys: Sequence[str], hosts: Collection[str] | None) -> None:
        self.app, self.metrics, self.hosts = app, metrics, hosts
        self.keys = [key.encode() for key in keys]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request, begun = Request(scope), time.perf_counter()

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(str(message["status"])).inc()
                if request.method == "POST":
                    self.metrics.seconds.observe(time.perf_counter() - begun)
            await send(message)

        try:
            scope["client_key"] = self._client(request)
        except RequestError as error:
            return await JSONResponse(error.body, error.status, error.headers)(scope, receive, counted)
        headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
        await pass_on(self.app, scope, receive, counted, seconds=SECONDS_FOR_A_BODY, headers=headers)

    def _client(self, request: Request) -> str:
        """Return whose request it is, by its key; a RequestError if it is not passed on."""
        if is_foreign(request, self.hosts):
            raise RequestError(403, "This host name or origin is not allowed.")
        if len(request.headers.raw) > MAX_HEADERS:
            raise RequestError(431, "There are too many headers.")
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        client = [str(number) for number, key in enumerate(self.keys) if hmac.compare_digest(key, given)]
        if self.keys and not client and request.url.path != "/health":
            raise RequestError(401, "Give a key of this server as a bearer token.", code="invalid_api_key")
        if request.method == "POST" and (refusal := body_refusal(request, MAX_BODY_BYTES)):
            raise RequestError(*refusal)
        return client[0] if client else ""
