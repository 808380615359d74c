"""Device choice for commands that load models."""

from __future__ import annotations


def available_device(name: str | None) -> str:
    """Return a device that can be used: the named one, otherwise CUDA if available, otherwise the CPU.

    Raises:
        ValueError: the device name is unknown, or the device is missing or cannot compute.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # The device "meta" holds shapes without values; only `item` fails on it.
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]  # torch appends a list of all device types
        raise ValueError(f"no device {name!r} here: {reason}; use --device cpu") from error
    return name
