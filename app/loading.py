"""What commands that load models do first."""

from __future__ import annotations


def available_device(name: str | None) -> str:
    """A device that is there and holds numbers; CUDA where there is one, otherwise the CPU, if none is named.

    Raises:
        ValueError: torch does not know the name, this machine has no such device, or nothing can be computed on it.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # "meta" has shapes and no numbers; `item` is what fails there.
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]  # torch goes on with a list of all it knows
        raise ValueError(f"no device {name!r} here: {reason}; use --device cpu") from error
    return name


def hide_loading_bars() -> None:
    """Keep diffusers and transformers quiet while they read weights."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
