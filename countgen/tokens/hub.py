"""Count tokens on the hub: one repository per token, with a model card."""

from __future__ import annotations

import tempfile
from pathlib import Path

from countgen.prompts.plurals import counted
from countgen.tokens.file import CountToken, load_token, save_token

FILE_NAME = "learned_embeds.safetensors"
"""The name of the file that diffusers loads from a repository of a textual inversion."""


def model_card(token: CountToken, repository: str) -> str:
    """Return the README of a token's repository OWNER/NAME or folder, Markdown with the hub's front matter."""
    preset, colon, checkpoint = token.base_model.partition(":")
    load = f"{preset!r}, repository={checkpoint!r})" if colon else f"{preset!r})"
    comment = "  # the path of that checkpoint" if colon and "/" not in checkpoint else ""
    accuracy = "not measured" if token.accuracy is None else f"{100 * token.accuracy:.0f} %"
    content = f"{len(next(iter(token.vectors.values())))} vector(s) for each of: {', '.join(token.vectors)}"
    prompt = f"a photo of {token.placeholder_token} {counted(token.object_names[0], token.target_count)}"
    return f"""\
---
license: {token.licence.lower()}
library_name: countgen
pipeline_tag: text-to-image
tags: [textual-inversion, counting]
---

# {token.placeholder_token}

A count token: it replaces the number **{token.target_count}** in a prompt, and was made so that {token.base_model}
generates that many.

- objects it was trained on: {", ".join(token.object_names)}
- critics it was trained with: {token.critic}
- right counts by a judge that it was not trained with: {accuracy}
- {content}
- settings {token.config_hash}, vectors {token.sha256[:16]}

```python
import torch
from countgen import backbones
from countgen.images import to_pil
from countgen.tokens.textual_inversion import encode_prompt
from countgen.tokens.hub import from_pretrained

backbone = backbones.load({load}{comment}
token = from_pretrained({repository!r})
with torch.no_grad():
    embeds = encode_prompt(backbone, {prompt!r}, token)
    image = backbone.render(backbone.initial_latents([0]), embeds, [0])[0]
to_pil(image).save("image.png")
```

`{FILE_NAME}` is a textual inversion that diffusers, A1111/Forge and ComfyUI also read.
"""


def save_pretrained(token: CountToken, folder: str | Path, *, repository: str | None = None) -> Path:
    """Write a token and its model card into a folder, which is created if it does not exist.

    The card's example reads `repository`, OWNER/NAME, or by default the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_token(token, folder / FILE_NAME, overwrite=True)
    (folder / "README.md").write_text(model_card(token, repository or str(folder)), encoding="utf-8")
    return folder


def push_to_hub(token: CountToken, repository: str, *, private: bool = False) -> str:
    """Upload a token and its card to OWNER/NAME and return the commit's URL; the repository is created if necessary.

    Raises:
        huggingface_hub.errors.HfHubHTTPError: the user is not logged in, or has no permission.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(token, folder, repository=repository)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Add {token.name}")
    return str(commit.commit_url)


def from_pretrained(repository: str | Path, *, revision: str | None = None) -> CountToken:
    """Read a token from a folder, the hub's cache or the hub.

    Args:
        repository: a folder that `save_pretrained` wrote, or OWNER/NAME.
        revision: branch, tag or commit; pin a commit of repositories that are not yours.

    Raises:
        TokenFileError: the repository holds no valid token.
        OSError: it is neither a folder nor in the cache, and could not be downloaded (from huggingface_hub).
    """
    folder = Path(repository)
    if folder.is_dir():
        return load_token(folder / FILE_NAME)
    from huggingface_hub import hf_hub_download

    return load_token(hf_hub_download(str(repository), FILE_NAME, revision=revision))
