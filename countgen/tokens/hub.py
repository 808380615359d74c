"""Count tokens on the hub: one repository per token, with a model card."""

from __future__ import annotations

from pathlib import Path

from countgen.learning.hub import downloaded, loading_arguments, upload
from countgen.prompts.plurals import counted
from countgen.tokens.file import CountToken, load_token, save_token

FILE_NAME = "learned_embeds.safetensors"
"""The name of the file that diffusers loads from a repository of a textual inversion."""

_CARD = """\
---
license: {licence}
library_name: countgen
pipeline_tag: text-to-image
tags: [textual-inversion, counting]
---

# {placeholder}

A count token: it replaces the number **{count}** in a prompt, and was trained so that {base} generates that many.

- objects it was trained on: {objects}
- critics it was trained with: {critic}
- right counts by a judge that it was not trained with: {accuracy}
- {vectors} vector(s) for each of: {encoders}
- settings {config}, vectors {sha}

```python
import torch
from countgen import backbones
from countgen.images import to_pil
from countgen.tokens.textual_inversion import encode_prompt
from countgen.tokens.hub import from_pretrained

backbone = backbones.load({load}
token = from_pretrained({repository!r})
with torch.no_grad():
    embeds = encode_prompt(backbone, {prompt!r}, token)
    image = backbone.render(backbone.initial_latents([0]), embeds, [0])[0]
to_pil(image).save("image.png")
```

`{file}` is a textual inversion that diffusers, A1111/Forge and ComfyUI also read.
"""


def model_card(token: CountToken, repository: str) -> str:
    """Return the README of a token's repository, Markdown with the hub's front matter.

    Args:
        token: token in the repository.
        repository: repository that the card's example reads, OWNER/NAME or a folder.
    """
    accuracy = "not measured" if token.accuracy is None else f"{100 * token.accuracy:.0f} %"
    return _CARD.format(
        licence=token.licence.lower(),
        placeholder=token.placeholder_token,
        count=token.target_count,
        base=token.base_model,
        load=loading_arguments(token.base_model),
        repository=repository,
        prompt=f"a photo of {token.placeholder_token} {counted(token.object_names[0], token.target_count)}",
        objects=", ".join(token.object_names),
        critic=token.critic,
        accuracy=accuracy,
        vectors=len(next(iter(token.vectors.values()))),
        encoders=", ".join(token.vectors),
        config=token.config_hash,
        sha=token.sha256[:16],
        file=FILE_NAME,
    )


def save_pretrained(token: CountToken, folder: str | Path, *, repository: str | None = None) -> Path:
    """Write a token and its model card into a folder, which is created if it does not exist.

    Args:
        token: token to write.
        folder: folder to write to.
        repository: OWNER/NAME of the repository for the card's example, which reads the folder by default.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_token(token, folder / FILE_NAME, overwrite=True)
    (folder / "README.md").write_text(model_card(token, repository or str(folder)), encoding="utf-8")
    return folder


def push_to_hub(token: CountToken, repository: str, *, private: bool = False) -> str:
    """Upload a token and its card to OWNER/NAME, which is created if it does not exist, and return the commit's URL.

    Raises:
        huggingface_hub.errors.HfHubHTTPError: the user is not logged in, or has no permission.
    """
    return upload(
        lambda folder: save_pretrained(token, folder, repository=repository),
        repository,
        f"Add {token.name}",
        private=private,
    )


def from_pretrained(repository: str | Path, *, revision: str | None = None) -> CountToken:
    """Read a token from a folder, the hub's cache or the hub.

    Args:
        repository: a folder that `save_pretrained` wrote, or OWNER/NAME.
        revision: branch, tag or commit; pin a commit of repositories that are not yours.

    Raises:
        TokenFileError: the repository holds no valid token.
        OSError: it is neither a folder nor in the cache, and could not be downloaded (from huggingface_hub).
    """
    return load_token(downloaded(repository, FILE_NAME, revision))
