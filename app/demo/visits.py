"""What survives a reload of the page: settings in the browser, a visitor's images and tokens on the server."""

from __future__ import annotations

import secrets
from dataclasses import fields
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from countgen.app.demo.gallery import gallery
from countgen.app.demo.generate_form import GenerateForm, kept_form
from countgen.app.demo.generate_tab import EXAMPLE, GenerateTab
from countgen.app.demo.job_queue import QUIET
from countgen.app.demo.session import Session

_NAMES = ", ".join(field.name for field in fields(GenerateForm))
# The page's fields report changes while it is built, before the kept values are read.
_KEEP_FORM = f"""({_NAMES}) => {{
  if (document.documentElement.dataset.resumed) localStorage.setItem("countgen.form", JSON.stringify({{{_NAMES}}}));
}}"""
_READ = """() => {
  try { return [localStorage.getItem("countgen.form") || "", sessionStorage.getItem("countgen.visit") || "", null]; }
  catch { return ["", "", null]; }  // the browser keeps nothing
}"""
_KEEP_KEY = """(key) => {
  try { sessionStorage.setItem("countgen.visit", key); document.documentElement.dataset.resumed = "yes"; } catch {}
}"""


class Visits:
    """Restores a reloaded page.

    The settings are in the browser's local storage, and are checked like any input when they come back. Images and
    tokens stay on the server, which keeps a closed page's session for a while; the page finds it by a random key that
    only its own tab holds.
    """

    def __init__(self, page: gr.Blocks, session: gr.State, generate_tab: GenerateTab) -> None:
        self.generate_tab = generate_tab
        self._sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()
        form, key = gr.Textbox("", visible="hidden"), gr.Textbox("", visible="hidden")
        shown = [generate_tab.stage, generate_tab.pictures]
        resumed = page.load(
            self.resume,
            inputs=[form, key, session],
            outputs=[session, key, *shown, *generate_tab.filled],
            js=_READ,
            **QUIET,
        )
        resumed.then(None, inputs=key, js=_KEEP_KEY, **QUIET)
        gr.on([field.change for field in generate_tab.form], None, inputs=generate_tab.form, js=_KEEP_FORM, **QUIET)

    def resume(self, form: str, key: str, session: Session) -> list[Any]:
        """Return the session of a key, or this one, and the view, the images and the settings of the page."""
        session = self._sessions.get(key, session)
        session.key = session.key or secrets.token_urlsafe(16)
        self._sessions[session.key] = session
        kept = kept_form(form, self.generate_tab.limits, session)
        filled = self.generate_tab.fill(kept, session) if kept else [gr.skip()] * len(self.generate_tab.filled)
        return [session, session.key, (session.shown or EXAMPLE).view, gallery(session.gallery), *filled]
