"""Requests and answers of the OpenAI images interface, with the fields that countgen adds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from countgen.files.printable import printable

MAX_BODY_BYTES = 2**16
MAX_IMAGES = 10
MAX_PROMPT_LENGTH = 4000
MAX_INFERENCE_STEPS = 50


class ImagesRequest(BaseModel):
    """The body of `POST /v1/images/generations`.

    Attributes:
        size: "auto", the model's own, or "WIDTHxHEIGHT" with at most as many pixels.
        seed: of the first image, the next ones have the next seeds; random where None.
        sure, method, max_evaluations: as of `countgen.Options`.
        strict: answer 422 rather than with an image whose count is not confirmed.
        quality, style, background, moderation, output_compression, user: of OpenAI's models; without effect here.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_LENGTH)
    model: str | None = None
    n: int = Field(1, ge=1, le=MAX_IMAGES)
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{0,3}x[1-9]\d{0,3})$")
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png"] = "png"
    stream: Literal[False] = False
    seed: int | None = Field(None, ge=0, lt=2**63)
    negative_prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_LENGTH)] | None = None
    num_inference_steps: int | None = Field(None, ge=1, le=MAX_INFERENCE_STEPS)
    guidance_scale: float | None = Field(None, ge=0, le=30, allow_inf_nan=False)
    sure: float | None = Field(None, gt=0, lt=1)
    method: str = "auto"
    max_evaluations: int | None = Field(None, ge=1)
    strict: bool = False
    quality: str | None = None
    style: str | None = None
    background: str | None = None
    moderation: str | None = None
    output_compression: int | None = None
    user: str | None = None


class RequestError(Exception):
    """An answer in OpenAI's schema of errors.

    Attributes:
        status: of HTTP.
        message, param, code: what is wrong, in which field, and its short name.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, **headers: str):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {
            "error": {"message": printable(self.message, 500), "type": kind, "param": self.param, "code": self.code}
        }
