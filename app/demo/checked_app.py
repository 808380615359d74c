"""Gradio's page and its web application, with the demo's checks around each call."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.routes import App

from countgen.app.demo.html import sentence
from countgen.app.demo.limits import RefusedError
from countgen.app.demo.request_bodies import check_inputs
from countgen.app.demo.responses import REFUSALS, log_line
from countgen.app.demo.route_allow_list import RouteAllowList

_LOG = logging.getLogger(__name__)


class CheckedBlocks(gr.Blocks):  # type: ignore[misc, unused-ignore]
    """A page whose functions accept plain values only, and which logs each refusal as one line."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Return the inputs of a function after preprocessing by its components.

        Raises:
            gr.Error: the inputs hold a file, are too few, or are refused by a component; no traceback is logged.
        """
        try:
            # Checked here for every route, because the preprocessing below fetches addresses and opens paths.
            check_inputs(inputs)
            # Programs may leave out the last inputs, which have defaults; Gradio fills them in for its own client only.
            left_out = block_fn.inputs[len(inputs) :]
            if left_out and all(isinstance(component, Api) for component in left_out):
                inputs = [*inputs, *(component.value for component in left_out)]
            for component, value in zip(block_fn.inputs, inputs, strict=False):
                if isinstance(component, gr.Textbox) and not isinstance(value, str | None):
                    # Gradio would turn a list into the text that Python writes for it.
                    raise RefusedError(f"A text field takes text, got {type(value).__name__}.")
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except RefusedError as error:
            raise gr.Error(sentence(error), print_exception=False) from None
        except gr.Error as error:
            raise gr.Error(sentence(error.message), print_exception=False) from None
        except Exception:
            raise gr.Error("These inputs do not fit this function.", print_exception=False) from None

    async def process_api(self, block_fn: Any, *inputs: Any, **options: Any) -> dict[str, Any]:
        """Run a function, or the next step of a generator, and log its refusal."""
        try:
            return await super().process_api(block_fn, *inputs, **options)
        except gr.Error as error:
            _LOG.warning("refused %s: %s", block_fn.api_name, log_line(error.message))
            request = getattr(options.get("request"), "request", None)
            if request is not None:
                request.scope.get(REFUSALS, []).append(str(error.message))
            raise


class CheckedApp(App):  # type: ignore[misc, unused-ignore]
    """Gradio's web application, its own CORS middleware included, behind the route allow-list.

    Args:
        page: the page to serve.
        hosts: as in `RouteAllowList`.
    """

    def __init__(self, page: gr.Blocks, hosts: frozenset[str] | None) -> None:
        super().__init__(docs_url=None, redoc_url=None, openapi_url=None)
        self._page, self._hosts = page, hosts

    def build_middleware_stack(self) -> Any:
        """Return the middleware stack with the allow-list outermost, outside Gradio's own middleware."""
        return RouteAllowList(super().build_middleware_stack(), self._page, self._hosts)
