"""Count tokens on the hub: one repository per token, with a model card."""

from __future__ import annotations

from pathlib import Path

from countgen.backbones.registry import presets
from countgen.learning.hub import downloaded, loading_arguments, upload
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.tokens.direction import KEY
from countgen.tokens.file import CountToken, load_token, save_token

FILE_NAME = "learned_embeds.safetensors"
"""The name of the file that diffusers loads from a repository of a textual inversion."""

_CARD = """\
---
license: {licence}
library_name: countgen
pipeline_tag: text-to-image
tags: [{tags}]
---

# {placeholder}

A count token: it replaces the number **{count}** in a prompt, and was made so that {base} generates that many.

- objects it was trained on: {objects}
- critics it was trained with: {critic}
- right counts by a judge that it was not trained with: {accuracy}
- {content}
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

{elsewhere}
"""

_TEXTUAL_INVERSION = "`{file}` is a textual inversion that diffusers, A1111/Forge and ComfyUI also read."

_DIRECTION = """\
`{file}` is no textual inversion, and programs that read those refuse it: it moves the output of the text encoders for
the word {word} to a count that no number word of this model reaches.
"""

_DIFFUSERS = """\
In diffusers:

```python
import torch
from countgen import backbones
from safetensors.torch import load_file

pipe = backbones.load({load}.pipeline  # a stock diffusers pipeline
token = {{key.removeprefix({key!r}): tensor for key, tensor in load_file({file!r}).items()}}
prompt = {prompt!r}
word = pipe.tokenizer({word!r}, add_special_tokens=False).input_ids
place = pipe.tokenizer(prompt).input_ids.index(word[0])
with torch.no_grad():
    {encoded} = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
step = token["offset"] * token["prompt_embeds"]
prompt_embeds[:, place : place + len(word)] += step[0]
prompt_embeds[:, place + len(word) :] += step[1]
{pooled}image = pipe(
    prompt_embeds=prompt_embeds,
    {extra},
    {sampling},
    generator=torch.Generator().manual_seed(0),
).images[0]
image.save("diffusers.png")
```
"""

_FAMILIES = {
    "stable_diffusion_xl": (
        "prompt_embeds, _, pooled, _",
        'pooled += token["offset"] * token["pooled_prompt_embeds"]\n',
        "pooled_prompt_embeds=pooled",
    ),
    "pixart": (
        "prompt_embeds, mask, _, _",
        "",
        "prompt_attention_mask=mask, negative_prompt=None, use_resolution_binning=False",
    ),
}
"""What each family's `encode_prompt` returns, how a pooled vector is moved, and what its pipeline takes."""


def model_card(token: CountToken, repository: str) -> str:
    """Return the README of a token's repository, Markdown with the hub's front matter.

    Args:
        token: token in the repository.
        repository: repository that the card's example reads, OWNER/NAME or a folder.
    """
    accuracy = "not measured" if token.accuracy is None else f"{100 * token.accuracy:.0f} %"
    load, comment = loading_arguments(token.base_model)
    content = f"{len(next(iter(token.vectors.values())))} vector(s) for each of: {', '.join(token.vectors)}"
    if token.direction is not None:
        start = number_word(token.direction.start_number)
        content = f"{start} moved by {token.direction.offset:g} objects along the number axis of the prompt embeddings"
    return _CARD.format(
        licence=token.licence.lower(),
        tags="counting" if token.direction else "textual-inversion, counting",
        placeholder=token.placeholder_token,
        count=token.target_count,
        base=token.base_model,
        load=f"{load}{comment}",
        repository=repository,
        prompt=f"a photo of {token.placeholder_token} {counted(token.object_names[0], token.target_count)}",
        objects=", ".join(token.object_names),
        critic=token.critic,
        accuracy=accuracy,
        content=content,
        config=token.config_hash,
        sha=token.sha256[:16],
        elsewhere=_elsewhere(token, load),
    )


def _elsewhere(token: CountToken, load: str) -> str:
    """Return what other programs do with the file, and an example of a direction in diffusers.

    Args:
        token: token in the repository.
        load: arguments of `backbones.load`, with the closing parenthesis.
    """
    if token.direction is None:
        return _TEXTUAL_INVERSION.format(file=FILE_NAME)
    number = token.direction.start_number
    word = number_word(number)
    family, preset = presets().get(token.base_model.partition(":")[0], ("", None))
    text = _DIRECTION.format(file=FILE_NAME, word=word)
    if preset is None or family not in _FAMILIES:
        return text
    encoded, pooled, extra = _FAMILIES[family]
    names = ("num_inference_steps", "guidance_scale", "height", "width")
    sampling = ", ".join(f"{name}={getattr(preset, name)}" for name in names)
    if preset.timesteps is not None:
        sampling += f", timesteps={list(preset.timesteps)}"
    example = _DIFFUSERS.format(
        load=load,
        key=KEY,
        file=FILE_NAME,
        prompt=f"a photo of {word} {counted(token.object_names[0], number)}",
        word=word,
        encoded=encoded,
        pooled=pooled,
        extra=extra,
        sampling=sampling,
    )
    return f"{text}\n{example}"


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
