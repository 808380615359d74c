"""Whether the hub answers, before something is downloaded from it, and how to fetch what is missing without it."""

from __future__ import annotations

SECONDS = 5.0
"""How long an answer of the hub is waited for; its library would try for 23 seconds, for every file again."""


def unreachable() -> str:
    """Return why nothing can be downloaded from the hub, such as no answer; empty where it can."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # of the hub's HTTP library, which is another one in other versions
        return f"{constants.ENDPOINT} does not answer ({str(error) or type(error).__name__})"
    return ""


def check_answers(missing: str, repository: str, revision: str | None = None) -> None:
    """Refuse a download where the hub is switched off or does not answer.

    Args:
        missing: what is not in the hub's cache, for the message.
        repository: hub id.
        revision: branch, tag or commit.

    Raises:
        OSError: the message says what to fetch, with which command, and where it belongs.
    """
    from huggingface_hub import constants

    if not (reason := unreachable()):
        return
    command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    folder = f"models--{repository.replace('/', '--')}"
    raise OSError(
        f"{missing} is not in the hub's cache, and {reason}; where there is a network, run `{command}` and bring the "
        f"folder {folder} to {constants.HF_HUB_CACHE}, or give the folder of a pipeline as the model"
    )
