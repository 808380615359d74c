"""Gradio's page and its web server, with the demo's checks around each call."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
from gradio.routes import App

from app.demo.html import sentence
from app.demo.limits import RefusedError
from app.demo.request_bodies import check_inputs
from app.demo.responses import REFUSALS, line
from app.demo.route_allow_list import RouteAllowList

_LOG = logging.getLogger(__name__)


class CheckedBlocks(gr.Blocks):  # type: ignore[misc, unused-ignore]
    """A page whose functions take plain values, and whose refusals are one line each in the log."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """The inputs of a function as its components read them.

        Raises:
            gr.Error: they hold a file, are too few, or are refused by a component; without a traceback in the log.
        """
        try:
            # By whatever route they came: what follows fetches addresses and opens paths.
            check_inputs(inputs)
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except RefusedError as error:
            raise gr.Error(sentence(error), print_exception=False) from None
        except gr.Error as error:
            raise gr.Error(sentence(error.message), print_exception=False) from None
        except Exception:
            raise gr.Error("These inputs do not fit this function.", print_exception=False) from None

    async def process_api(self, block_fn: Any, *inputs: Any, **options: Any) -> dict[str, Any]:
        """Run a function once, or its next step."""
        try:
            return await super().process_api(block_fn, *inputs, **options)
        except gr.Error as error:
            _LOG.warning("refused %s: %s", block_fn.api_name, line(error.message))
            request = getattr(options.get("request"), "request", None)
            if request is not None:
                request.scope.get(REFUSALS, []).append(str(error.message))
            raise


class ClosedApp(App):  # type: ignore[misc, unused-ignore]
    """Gradio's web application behind the demo's checks, its own layer for other origins included.

    Args:
        page: the page to serve.
        hosts: as `RouteAllowList` takes them.
    """

    def __init__(self, page: gr.Blocks, hosts: frozenset[str] | None) -> None:
        super().__init__(docs_url=None, redoc_url=None, openapi_url=None)
        self._page, self._hosts = page, hosts

    def build_middleware_stack(self) -> Any:
        """The layers that a request goes through; middleware that Gradio is given would lie inside its own."""
        return RouteAllowList(super().build_middleware_stack(), self._page, self._hosts)
