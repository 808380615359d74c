"""The whole page, and its web server."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from countgen.app.arguments import Demo
from countgen.app.demo import LOOPBACKS
from countgen.app.demo.about_page import about_page
from countgen.app.demo.api import Api
from countgen.app.demo.count_page import CountPage
from countgen.app.demo.generate_page import QUIET, GeneratePage
from countgen.app.demo.jobs import Jobs
from countgen.app.demo.limits import Limits
from countgen.app.demo.results import Session
from countgen.app.demo.security import MAX_FILE_BYTES, CheckedBlocks, GuardedApp, private_folder
from countgen.app.demo.tokens_page import TokensPage
from countgen.app.demo.worker import Worker

_HERE = Path(__file__).parent
TITLE = "# countgen\nImages with the number of objects that the prompt asks for."
SECONDS_KEPT = 3600
"""How long the server keeps a visitor's images and tokens after their last use."""

# The key of the visitor's session, which only this tab of the browser holds.
_KEY = """(kept, _) => {
  try { return [kept, sessionStorage.countgen ||= crypto.getRandomValues(new Uint32Array(4)).join("-")]; }
  catch { return [kept, ""]; }  // the browser keeps nothing
}"""


def build(limits: Limits, worker: Worker | None = None) -> gr.Blocks:
    """Return the page, not yet served; `worker` may hold models that are loaded already."""
    private_folder()
    jobs = Jobs(limits, worker or Worker(limits))
    sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()
    cleaning = 60, SECONDS_KEPT  # how often files are looked at, and how old they get
    with CheckedBlocks(title="countgen", analytics_enabled=False, fill_width=True, delete_cache=cleaning) as page:
        Api(jobs)
        session = gr.State(Session(), time_to_live=SECONDS_KEPT)
        kept, key = gr.BrowserState("", storage_key="countgen", secret="countgen"), gr.Textbox("", visible=False)
        gr.Markdown(TITLE, elem_id="title")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Generate", id="generate"):
                generate = GeneratePage(jobs, session)
            with gr.Tab("Count", id="count"):
                CountPage(jobs)
            with gr.Tab("Tokens", id="tokens"):
                TokensPage(jobs, session, generate, tabs)
            with gr.Tab("About", id="about"):
                about_page(limits)

        def resume(form: str, name: str, own: Session) -> list[Any]:
            """Return the visitor's session of before a reload, with its view and the form that the browser kept."""
            session = sessions.setdefault(name, own) if name and len(name) >= 16 else own
            return [session, *generate.resumed(form, session)]

        page.load(resume, [kept, key, session], [session, *generate.view, *generate.form], js=_KEY, **QUIET)
        stored = {"inputs": generate.form, "outputs": kept, "js": "(...form) => JSON.stringify(form)"}
        gr.on([generate.go.click, generate.prompt.submit], None, **stored, **QUIET)
    page.queue(max_size=4 * limits.max_jobs, default_concurrency_limit=None, api_open=False)
    return page


def serve(command: Demo, auth: tuple[str, str] | None) -> None:
    """Serve the page until interrupted; `auth` is user and password, and the options are checked."""
    limits = Limits(backbones=tuple(command.model)) if command.model else Limits()
    worker = Worker(limits, **command.detector_options, **command.load_options)
    if command.critic or command.judge:  # missing weights are reported before the page is served
        worker.load(limits.backbones[0])
    page = build(limits, worker)
    url = launch(page, host=command.host, port=command.port, auth=auth, share=command.share)
    print(f"the demo is at {page.share_url or url} (Ctrl-C ends it)", flush=True)
    worker.warm_up(limits.backbones[0])
    page.block_thread()


def launch(
    page: gr.Blocks,
    *,
    host: str = LOOPBACKS[0],
    port: int | None = None,
    auth: tuple[str, str] | None = None,
    share: bool = False,
    public: bool = False,
) -> str:
    """Serve a page in the background and return its address.

    Other addresses than the loopback's need a password, unless the page is `public`.
    """
    if not (auth or public) and (share or host not in LOOPBACKS):
        raise ValueError("a public link and an address that other machines can reach need a user and a password")
    app = GuardedApp()
    app.hosts = frozenset((*LOOPBACKS, "[::1]")) if host in LOOPBACKS and not share else None
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        auth=auth,
        share=share,
        quiet=True,
        theme=theme(),
        css_paths=_HERE / "style.css",
        js=(_HERE / "page.js").read_text(encoding="utf-8"),
        _app=app,
        max_file_size=MAX_FILE_BYTES,
        allowed_paths=[],
        state_session_capacity=100,
        enable_monitoring=False,
        num_workers=0,  # Gradio's workers, which an environment variable can start, would bypass the guard
        footer_links=[],
        run_history=False,
        mcp_server=False,
        ssr_mode=False,
        prevent_thread_lock=True,
    )
    return str(url)


def theme() -> Any:
    """Return a grey theme with red accents; it loads no font from another host."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.red,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=("Inter", "system-ui", "Segoe UI", "Roboto", "sans-serif"),
    ).set(
        button_primary_background_fill="#b3261e",
        button_primary_background_fill_dark="#c7372f",
        button_primary_text_color="white",
        color_accent="#b3261e",
        input_border_width="1px",
        input_border_color="#a8a29e",
        input_border_color_dark="#57534e",
    )
