"""The whole page: header, tabs, theme and web server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Set before Gradio is imported, which would send usage statistics otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from countgen.app.demo.api import Api
from countgen.app.demo.benchmark_tab import BenchmarkTab
from countgen.app.demo.checked_app import CheckedApp, CheckedBlocks
from countgen.app.demo.count_tab import CountTab
from countgen.app.demo.edit_tab import EditTab
from countgen.app.demo.generate_tab import GenerateTab
from countgen.app.demo.job_queue import JobQueue
from countgen.app.demo.label_tab import LabelTab
from countgen.app.demo.learn_tab import LearnTab
from countgen.app.demo.limits import Limits
from countgen.app.demo.loopback import LOOPBACKS
from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.run_folders import RunFolders
from countgen.app.demo.session import Session
from countgen.app.demo.visits import Visits

_HERE = Path(__file__).parent
HEADER = """
<header class="masthead">
  <span class="mark" aria-hidden="true"><i></i><i></i><i></i></span>
  <div><h1>countgen</h1><p>Images with the number of objects that the prompt asks for.</p></div>
</header>
"""
_FONTS = ("Inter", "system-ui", "Segoe UI", "Roboto", "sans-serif")
_LOOPBACK_HOSTS = frozenset((*LOOPBACKS, "[::1]"))
"""Loopback host names as the Host header spells them."""

SECONDS_KEPT = 3600
"""How long the server keeps a visitor's images and tokens after their last use."""


def build(limits: Limits, runs: Path | None = None, model_cache: ModelCache | None = None) -> gr.Blocks:
    """Return the page, not yet served.

    Args:
        limits: on what visitors may request.
        runs: a folder of run folders to show and label; none by default.
        model_cache: with models that are loaded already; an empty one by default.
    """
    model_cache, folders = model_cache or ModelCache(), RunFolders(runs)
    with CheckedBlocks(title="countgen", analytics_enabled=False, fill_width=True) as page:
        session = gr.State(Session(), time_to_live=SECONDS_KEPT)
        gr.HTML(HEADER)
        # Rows of tabs: a menu of those that do not fit would hide some on a phone, depending on its font.
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Generate", id="generate"):
                generate_tab = GenerateTab(limits, model_cache, session, JobQueue(page, model_cache))
            with gr.Tab("Edit", id="edit") as opened:
                edit_tab = EditTab(limits, model_cache, session, generate_tab, tabs, opened)
            with gr.Tab("Count", id="count"):
                count_tab = CountTab(limits, model_cache)
            with gr.Tab("Tokens", id="learn"):
                LearnTab(limits, model_cache, session, generate_tab, tabs)
            with gr.Tab("Benchmark", id="benchmark") as opened:
                BenchmarkTab(folders, opened)
            with gr.Tab("Label", id="label") as opened:
                LabelTab(limits, folders, opened, session)
        Api(limits, generate_tab, edit_tab, count_tab)
        Visits(page, session, generate_tab)
    # With api_open, requests to Gradio's /run/NAME would bypass the queue.
    page.queue(max_size=limits.max_waiting, default_concurrency_limit=4, api_open=False)
    return page


def launch(
    page: gr.Blocks,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: tuple[str, str] | None = None,
    share: bool = False,
    quiet: bool = False,
) -> str:
    """Serve a page in the background and return its address.

    Raises:
        ValueError: other machines could reach the page without a password.
        OSError: the port is taken.
    """
    if not auth and (share or host not in LOOPBACKS):
        raise ValueError("a public link and an address that other machines can reach need a user and a password")
    hosts = _LOOPBACK_HOSTS if host in LOOPBACKS and not share else None
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        auth=auth,
        share=share,
        quiet=quiet,
        theme=theme(),
        css_paths=_HERE / "style.css",
        js=(_HERE / "page.js").read_text(),
        _app=CheckedApp(page, hosts),
        max_file_size=1,
        allowed_paths=[],
        state_session_capacity=100,
        show_error=False,
        enable_monitoring=False,
        num_workers=0,  # Gradio's workers, which an environment variable can start, would bypass the checks
        footer_links=[],
        run_history=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        prevent_thread_lock=True,
    )
    return str(url)


def theme() -> Any:
    """Return a grey theme with red accents; it loads no font from another host."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.red,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        font=_FONTS,
        font_mono=("ui-monospace", "monospace"),
    ).set(
        button_primary_background_fill="#b3261e",
        button_primary_background_fill_hover="#8c1d18",
        button_primary_background_fill_dark="#c7372f",
        button_primary_background_fill_hover_dark="#b3261e",
        button_primary_text_color="white",
        color_accent="#b3261e",
        color_accent_soft="#f3dedc",
        checkbox_background_color_selected="#b3261e",
        checkbox_border_color_selected="#b3261e",
        block_label_text_color="#44403c",
        block_title_text_color="#44403c",
        block_title_text_color_dark="#d6d3d1",
        block_label_text_color_dark="#d6d3d1",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        input_border_width="1px",
        input_border_color="#a8a29e",
        input_border_color_dark="#57534e",
        input_background_fill="white",
        input_background_fill_dark="#1c1917",
    )


def serve(
    limits: Limits,
    runs: Path | None,
    model_cache: ModelCache,
    *,
    host: str,
    port: int | None,
    auth: tuple[str, str] | None,
    share: bool,
) -> None:
    """Serve the page until interrupted."""
    page = build(limits, runs, model_cache)
    url = launch(page, host=host, port=port, auth=auth, share=share, quiet=True)
    print(f"the demo is at {page.share_url or url} (Ctrl-C ends it)", flush=True)
    model_cache.warm_up(limits.backbones[0])
    page.block_thread()
