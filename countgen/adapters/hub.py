"""Noise adapters on the hub: one repository per adapter, with a model card."""

from __future__ import annotations

from pathlib import Path

from countgen.adapters.adapter import NoiseAdapter
from countgen.adapters.file import load_adapter, save_adapter
from countgen.learning.hub import downloaded, loading_arguments, upload
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted

FILE_NAME = "noise_adapter.safetensors"
"""The name of the file in a repository."""

_CARD = """\
---
license: {licence}
library_name: countgen
pipeline_tag: text-to-image
tags: [counting, noise]
---

# A noise adapter for {base}

A small network that moves the initial noise of a prompt so that {base} generates the number of objects that the prompt
asks for more often. It is used with countgen; the prompt and the model stay as they are.

- counts it was trained on: {smallest} to {largest}, prompts of one object class
- object classes it was trained on: {objects}
- critics it was trained with: {critic}
- right counts by a judge that it was not trained with: {accuracy}
- latents of the shape {shape} (channels, height, width){cost}
- settings {config}, weights {sha}

```python
import torch
from countgen import Target, backbones
from countgen.adapters.hub import from_pretrained
from countgen.images import to_pil

backbone = backbones.load({load}
adapter = from_pretrained({repository!r})
with torch.no_grad():
    embeds = backbone.encode_prompt({prompt!r})
    latents = backbone.initial_latents([0])
    latents = adapter.move(backbone, latents, [Target({object!r}, {count})], embeds, [0])
    image = backbone.render(latents, embeds, [0])[0]
to_pil(image).save("image.png")
```
"""


def model_card(adapter: NoiseAdapter, repository: str) -> str:
    """Return the README of an adapter's repository, Markdown with the hub's front matter.

    Args:
        adapter: adapter in the repository.
        repository: repository that the card's example reads, OWNER/NAME or a folder.
    """
    accuracy = "not measured"
    if adapter.accuracy is not None and adapter.plain_accuracy is not None:
        accuracy = f"{100 * adapter.accuracy:.0f} %, without it {100 * adapter.plain_accuracy:.0f} %"
    smallest, largest = adapter.config.counts
    name = adapter.object_names[0]
    return _CARD.format(
        licence=adapter.licence.lower(),
        base=adapter.base_model,
        smallest=smallest,
        largest=largest,
        objects=", ".join(adapter.object_names),
        critic=adapter.critic,
        accuracy=accuracy,
        shape=adapter.config.latent_shape,
        cost="; moving a latent takes one evaluation" if adapter.cost else "",
        config=adapter.config_hash,
        sha=adapter.sha256[:16],
        load="".join(loading_arguments(adapter.base_model)),
        repository=repository,
        prompt=f"a photo of {number_word(largest)} {counted(name, largest)}",
        object=name,
        count=largest,
    )


def save_pretrained(adapter: NoiseAdapter, folder: str | Path, *, repository: str | None = None) -> Path:
    """Write an adapter and its model card into a folder, which is created if it does not exist.

    Args:
        adapter: adapter to write.
        folder: folder to write to.
        repository: OWNER/NAME of the repository for the card's example, which reads the folder by default.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_adapter(adapter, folder / FILE_NAME, overwrite=True)
    (folder / "README.md").write_text(model_card(adapter, repository or str(folder)), encoding="utf-8")
    return folder


def push_to_hub(adapter: NoiseAdapter, repository: str, *, private: bool = False) -> str:
    """Upload an adapter and its card to OWNER/NAME, which is created if it does not exist, and return the commit's URL.

    Raises:
        huggingface_hub.errors.HfHubHTTPError: the user is not logged in, or has no permission.
    """
    return upload(
        lambda folder: save_pretrained(adapter, folder, repository=repository),
        repository,
        f"Add a noise adapter for {adapter.base_model}",
        private=private,
    )


def from_pretrained(repository: str | Path, *, revision: str | None = None) -> NoiseAdapter:
    """Read an adapter from a folder, the hub's cache or the hub.

    Args:
        repository: a folder that `save_pretrained` wrote, or OWNER/NAME.
        revision: branch, tag or commit; pin a commit of repositories that are not yours.

    Raises:
        AdapterFileError: the repository holds no valid adapter.
        OSError: it is neither a folder nor in the cache, and could not be downloaded (from huggingface_hub).
    """
    return load_adapter(downloaded(repository, FILE_NAME, revision))
