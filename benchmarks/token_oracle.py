"""How far any token can go on a one-step generator: `python -m benchmarks.token_oracle`.

Three questions, on objects, counts and seeds of their own. Do pictures agree on where a token should go (the cosine
between their gradients)? Can a token that is learned for one picture alone make it right? Does a token that is learned
for one object and count alone beat the one that all objects share, on new seeds?
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import countgen
from benchmarks.statistics import rate
from benchmarks.tokens import LEARNED, SETTINGS
from countgen.backbones import PromptEmbeds
from countgen.number_words import number_word
from countgen.placeholders import placeholder_of
from countgen.plurals import plural
from countgen.prompts import Target
from countgen.spliced import encode_prompt, encoders_of, spliced
from countgen.token import learn_token
from countgen.token_library import available_tokens
from countgen.verdict import PLAIN, examine
from critics.losses import LOSSES

FIRST_SEED = 780_000

Vectors = dict[str, Tensor]


def word_vectors(models: countgen.Models, count: int) -> Vectors:
    """The number's word as a token, with gradient."""
    text = number_word(count)
    encoders = encoders_of(models.backbone)
    return {key: e.vectors_of(text, 1, models.backbone).requires_grad_(True) for key, e in encoders.items()}


def embeds_of(models: countgen.Models, target: Target, vectors: Vectors) -> PromptEmbeds:
    """The plain prompt, its number said by the vectors."""
    placeholder = placeholder_of(target.target_count)
    with spliced(models.backbone, {placeholder: vectors}) as encode:
        return encode(f"a photo of {placeholder} {plural(target.object_name)}")


def gradient(models: countgen.Models, target: Target, seed: int) -> Tensor:
    """Direction in which one picture's count loss falls fastest, one vector of norm 1 (0 where the loss is flat)."""
    vectors = word_vectors(models, target.target_count)
    backbone = models.backbone
    images = backbone.render(backbone.initial_latents([seed]), embeds_of(models, target, vectors), [seed])
    loss = examine(images, (target,), models.critics, PLAIN, LOSSES["l1"]).loss.sum()
    flat = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(vectors.values()))])
    return torch.nn.functional.normalize(flat, dim=0)


def agreement(gradients: Tensor) -> tuple[float, float]:
    """Mean cosine between different rows, and its standard deviation if they were random directions.

    Args:
        gradients: (n, D), rows of norm 1.
    """
    number, dims = gradients.shape
    pairs = number * (number - 1)
    mean = float(gradients.sum(0).square().sum() - gradients.square().sum()) / pairs
    return mean, math.sqrt(2 / (pairs * dims))


def one_picture(models: countgen.Models, target: Target, seed: int, steps: int, learning_rate: float) -> bool:
    """Learn a token for one picture until its critics are content; True where the judge counts N then."""
    vectors = word_vectors(models, target.target_count)
    optimizer = torch.optim.Adam(vectors.values(), lr=learning_rate)
    backbone = models.backbone
    latents = backbone.initial_latents([seed])
    best, picture = -math.inf, None
    for _ in range(steps):
        images = backbone.render(latents, embeds_of(models, target, vectors), [seed])
        verdict = examine(images, (target,), models.critics, PLAIN, LOSSES["margin"])
        if float(verdict.margin) > best:
            best, picture = float(verdict.margin), images.detach()
        if best >= 1:
            break
        optimizer.zero_grad()
        verdict.loss.sum().backward()
        optimizer.step()
    assert picture is not None
    return right(models, target, picture)[0]


def right(models: countgen.Models, target: Target, images: Tensor) -> list[bool]:
    """Whether the judge counts N, for each picture."""
    return (models.judge.counts(images, [target.object_name])[:, 0] == target.target_count).tolist()


@torch.no_grad()
def drawn(models: countgen.Models, embeds: PromptEmbeds, seeds: Sequence[int]) -> Tensor:
    """Pictures of some seeds."""
    return models.backbone.render(models.backbone.initial_latents(seeds), embeds, seeds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.token_oracle", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 7, 10])
    parser.add_argument("--gradients", type=int, default=48, help="pictures per count that are asked for a direction")
    parser.add_argument(
        "--pictures", type=int, default=6, help="wrong pictures per count, each with a token of its own"
    )
    parser.add_argument("--objects", type=int, default=1, help="kinds per count, each with a token of its own")
    parser.add_argument("--seeds", type=int, default=32, help="new seeds on which such a token is judged")
    parser.add_argument("--steps", type=int, default=15, help="for a token of one picture")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    models = countgen.load("miniature")
    print(
        "| count | cosine between pictures' gradients | if random | wrong pictures right with a token of their own % |"
    )
    print("| --- | --- | --- | --- |")
    for count in options.counts:
        targets = [Target(name, count) for name in LEARNED]
        first = FIRST_SEED + 1000 * count
        found = [gradient(models, targets[k % len(targets)], first + k) for k in range(options.gradients)]
        mean, spread = agreement(torch.stack([one for one in found if one.any()]))
        hits: list[bool] = []
        for k in range(100 * options.pictures):
            target, seed = targets[k % len(targets)], first + 500 + k
            plain = drawn(models, embeds_of(models, target, word_vectors(models, count)), [seed])
            if len(hits) < options.pictures and not right(models, target, plain)[0]:
                hits.append(one_picture(models, target, seed, options.steps, 0.01))
            if len(hits) == options.pictures:
                break
        print(f"| {count} | {mean:+.3f} | +-{spread:.3f} | {rate(hits)} |", flush=True)
    print("\n| count | object | plain % | shared token % | token of its own % |\n| --- | --- | --- | --- | --- |")
    shared = available_tokens(models.backbone.name)
    for count in options.counts:
        for name in LEARNED[: options.objects]:
            target, seeds = (
                Target(name, count),
                range(FIRST_SEED + 1000 * count, FIRST_SEED + 1000 * count + options.seeds),
            )
            own = learn_token(models, count, (name,), replace(SETTINGS, validation_pictures=options.seeds))
            for _ in own:
                pass
            prompt = f"a photo of {number_word(count)} {plural(name)}"
            cells = []
            for token in (None, shared.get(f"count-{count}"), own.token):
                with torch.no_grad():
                    embeds = encode_prompt(models.backbone, prompt, token)
                cells.append(rate(right(models, target, drawn(models, embeds, seeds))))
            print(f"| {count} | {name} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
