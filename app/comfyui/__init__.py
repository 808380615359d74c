"""ComfyUI loads this folder from its `custom_nodes`; the nodes come from the installed package."""

from countgen.app.comfyui.nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
