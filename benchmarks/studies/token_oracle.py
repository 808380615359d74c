"""How far any token can go on a one-step generator: `python -m benchmarks.studies.token_oracle`.

Two questions, on images of their own. Do they agree on where a token should go (the cosine between their gradients)?
What is fitted to k of them, by Adam on the count loss with the best kept, right on those and on new ones? Fitted are
the vectors of a token, and once also one offset to everything that the denoiser reads of any prompt: no word, however
long, can do more than that for all objects alike. Last, the token may serve one object class alone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import countgen
from benchmarks.evaluation.statistics import rate
from benchmarks.studies.tokens import LEARNED
from countgen.backbones import PromptEmbeds
from countgen.methods.objective import PLAIN_VIEW, Objective
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.placeholders import placeholder_of
from countgen.prompts.plurals import counted
from countgen.tokens.textual_inversion import encoders_of, injected

ALONE = ("apple", "cat", "car", "flower")
"""Object classes that a token is fitted to, each for itself."""
FIRST_SEED = 940_000
"""A count has 1000 seeds: the first to fit, those from 500 on to judge what was fitted."""

Vectors = dict[str, Tensor]
Case = tuple[Target, int]
"""A target and a seed."""


def word_vectors(models: countgen.Models, count: int) -> Vectors:
    """Return the number's word as a token, with gradient."""
    text = number_word(count)
    encoders = encoders_of(models.backbone)
    return {key: e.vectors_of(text, 1, models.backbone).requires_grad_(True) for key, e in encoders.items()}


def embeds_of(models: countgen.Models, target: Target, vectors: Vectors) -> PromptEmbeds:
    """Return the embeddings of the plain prompt, its number replaced by the vectors."""
    placeholder = placeholder_of(target.target_count)
    with injected(models.backbone, {placeholder: vectors}) as encode:
        return encode(f"a photo of {placeholder} {counted(target.object_name, target.target_count)}")


def count_loss(models: countgen.Models, target: Target, images: Tensor) -> Tensor:
    """Return the summed l1 loss of the critics on the images as they are, with gradient."""
    return Objective(models.critics, (target,), PLAIN_VIEW, "l1").evaluate(images).loss.sum()


def gradient(models: countgen.Models, target: Target, seed: int) -> Tensor:
    """Return the direction in which one image's count loss falls fastest, of norm 1 (0 where the loss is flat)."""
    vectors = word_vectors(models, target.target_count)
    backbone = models.backbone
    images = backbone.render(backbone.initial_latents([seed]), embeds_of(models, target, vectors), [seed])
    loss = count_loss(models, target, images)
    flat = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(vectors.values()))])
    return torch.nn.functional.normalize(flat, dim=0)


def agreement(gradients: Tensor) -> tuple[float, float]:
    """Return the mean cosine between different rows, and its standard deviation if they were random directions.

    Args:
        gradients: (n, D), rows of norm 1.
    """
    number, dims = gradients.shape
    pairs = number * (number - 1)
    mean = float(gradients.sum(0).square().sum() - gradients.square().sum()) / pairs
    return mean, math.sqrt(2 / (pairs * dims))


@dataclass(frozen=True)
class Fitted:
    """Something trained that stands for a number in a prompt.

    Attributes:
        parameters: that are trained.
        embeds: the embeddings of a target with them, with gradient.
    """

    parameters: Sequence[Tensor]
    embeds: Callable[[Target], PromptEmbeds]


def token_of(models: countgen.Models, count: int) -> Fitted:
    """Return the number's word as a token to fit."""
    vectors = word_vectors(models, count)
    return Fitted(list(vectors.values()), lambda target: embeds_of(models, target, vectors))


def offset_of(models: countgen.Models, count: int) -> Fitted:
    """Return one offset to fit, at first 0, to the embeddings of any plain prompt."""
    vectors = word_vectors(models, count)
    with torch.no_grad():
        shape = embeds_of(models, Target(LEARNED[0], count), vectors)
    offsets: list[Tensor] = []

    def started(tensor: Tensor) -> Tensor:
        offsets.append(torch.zeros_like(tensor, requires_grad=True))
        return tensor

    shape.map(started)

    def embeds(target: Target) -> PromptEmbeds:
        rest = iter(offsets)
        with torch.no_grad():
            plain = embeds_of(models, target, vectors)
        return plain.map(lambda tensor: tensor + next(rest))

    return Fitted(offsets, embeds)


def fit(models: countgen.Models, fitted: Fitted, cases: Sequence[Case], steps: int, learning_rate: float) -> None:
    """Descend on the count loss of these images; the parameters of the lowest loss are kept."""
    backbone = models.backbone
    optimizer = torch.optim.Adam(fitted.parameters, lr=learning_rate)
    lowest, best = math.inf, [parameter.detach().clone() for parameter in fitted.parameters]
    for _ in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for target, seed in cases:
            images = backbone.render(backbone.initial_latents([seed]), fitted.embeds(target), [seed])
            loss = count_loss(models, target, images) / len(cases)
            loss.backward()
            total += loss.item()
        if total < lowest:
            lowest, best = total, [parameter.detach().clone() for parameter in fitted.parameters]
        optimizer.step()
    with torch.no_grad():
        for parameter, value in zip(fitted.parameters, best, strict=True):
            parameter.copy_(value)


@torch.no_grad()
def hits(models: countgen.Models, fitted: Fitted, cases: Sequence[Case]) -> list[bool]:
    """Return whether the judge counts N, image by image."""
    return [right(models, target, drawn(models, fitted.embeds(target), [seed]))[0] for target, seed in cases]


def right(models: countgen.Models, target: Target, images: Tensor) -> list[bool]:
    """Return whether the judge counts N, for each image."""
    return (models.judge.counts(images, [target.object_name])[:, 0] == target.target_count).tolist()


@torch.no_grad()
def drawn(models: countgen.Models, embeds: PromptEmbeds, seeds: Sequence[int]) -> Tensor:
    """Return the images of some seeds."""
    return models.backbone.render(models.backbone.initial_latents(seeds), embeds, seeds)


def mixed(count: int, k: int, options: argparse.Namespace) -> Iterator[tuple[list[Case], list[Case]]]:
    """Yield groups of k images, all object classes in turn; the first with new ones that its fit is judged on."""
    targets, first = [Target(name, count) for name in LEARNED], FIRST_SEED + 1000 * count
    new = [(targets[at % len(targets)], first + 500 + at) for at in range(options.new)]
    for group in range(max(1, options.at_least // k)):
        yield [(targets[at % len(targets)], first + at) for at in range(group * k, (group + 1) * k)], new
        new = []


def alone(count: int, k: int, options: argparse.Namespace) -> Iterator[tuple[list[Case], list[Case]]]:
    """Yield a group of k images for each of a few object classes, with new images of that class."""
    first, new = FIRST_SEED + 1000 * count, -(-options.new // len(ALONE))
    for place, target in enumerate(Target(name, count) for name in ALONE):
        cases = [(target, first + place * k + at) for at in range(k)]
        yield cases, [(target, first + 500 + place * new + at) for at in range(new)]


def fits(models: countgen.Models, count: int, options: argparse.Namespace) -> Iterator[str]:
    """Yield a row for each fit; every group of images is fitted alone."""
    plain = token_of(models, count)
    kinds = [("token", k, token_of, mixed) for k in options.images]
    kinds += [("offset", k, offset_of, mixed) for k in options.offset]
    kinds += [("token for one object class", k, token_of, alone) for k in options.alone]
    for kind, k, made, groups in kinds:
        before, after, seen, others = [], [], [], []
        for cases, new in groups(count, k, options):
            fitted = made(models, count)
            before += hits(models, plain, cases)
            seen += hits(models, plain, new)
            fit(models, fitted, cases, options.steps, options.learning_rate)
            after += hits(models, fitted, cases)
            others += hits(models, fitted, new)
        cells = (rate(before), rate(after), rate(seen), rate(others))
        yield f"| {count} | {kind} | {k} | {len(before)} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.token_oracle", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 7, 10])
    parser.add_argument("--gradients", type=int, default=32, help="images per count whose gradients are compared")
    parser.add_argument("--images", type=int, nargs="*", default=[1, 4, 16], help="that a token is fitted to")
    parser.add_argument("--offset", type=int, nargs="*", default=[16], help="images that an offset is fitted to")
    parser.add_argument(
        "--alone",
        type=int,
        nargs="*",
        default=[16],
        help=f"images of one object class: {', '.join(ALONE)}, each for itself",
    )
    parser.add_argument("--at-least", type=int, default=8, help="images a row, in groups that are fitted alone")
    parser.add_argument("--new", type=int, default=48, help="images that a fit is judged on besides, about")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    sizes = [options.gradients - 1, options.at_least, options.new, options.steps]
    sizes += [*options.images, *options.offset, *options.alone]
    if min(*sizes, *options.counts) < 1 or not options.learning_rate > 0:
        parser.error("counts, images, steps and rate must be above 0, gradients above 1")
    if max(*sizes, len(ALONE) * max(options.alone, default=0)) > 500:
        parser.error(f"a count has 500 images to fit to; {len(ALONE)} object classes share them with --alone")
    torch.set_num_threads(options.threads)
    models = countgen.load("miniature")
    print("| count | n | cosine between images' gradients | if random |")
    print("| --- | --- | --- | --- |")
    for count in options.counts:
        targets = [Target(name, count) for name in LEARNED]
        first = FIRST_SEED + 1000 * count
        found = [gradient(models, targets[k % len(targets)], first + k) for k in range(options.gradients)]
        steep = [one for one in found if one.any()]
        mean, spread = agreement(torch.stack(steep)) if len(steep) > 1 else (math.nan, math.nan)
        print(f"| {count} | {len(steep)} | {mean:+.3f} | +-{spread:.3f} |", flush=True)
    print(
        "\n| count | fitted | k | n | those images: word % | fitted % | new images: word % | fitted % |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for count in options.counts:
        for row in fits(models, count, options):
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
