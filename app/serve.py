"""`countgen demo`: serve the web page."""

from dataclasses import dataclass
from typing import ClassVar

from countgen.app.demo import LOOPBACKS, serve, user_and_password
from countgen.app.exit_codes import OK
from countgen.app.options import MODEL_NAMES, Command, Detectors, Loading, bounded, flag, option


@dataclass(frozen=True, kw_only=True)
class Demo(Command, Detectors, Loading):
    """Serve a web page to generate images, change their counts, count objects and use count tokens.

    Only this machine can reach it by default; --host changes that and needs a password.
    """

    panel: ClassVar = "Options"
    host: str = option(LOOPBACKS[0], "ADDRESS", "the address to listen on; others need --auth")
    port: int | None = bounded(None, "the port", most=65535, if_none="the first free port from 7860")
    auth: str | None = option(None, "USER:PASSWORD", "require a login", "the value of COUNTGEN_DEMO_AUTH")
    share: bool = flag("share", "create a public link through Gradio's servers; needs --auth")
    model: list[str] | None = option(
        None, MODEL_NAMES, "a model that visitors may choose; repeatable", "the embedded ones"
    )

    def run(self) -> int:
        serve(
            models=self.model or (),
            host=self.host,
            port=self.port,
            auth=user_and_password(self.auth) if self.auth is not None else None,
            share=self.share,
            critics=self.critic,
            judge=self.judge,
            trust_checkpoint=self.trust_checkpoint,
            **self.asked_of_load,
        )
        return OK
