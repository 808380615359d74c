"""How well judges count the golden set, for `countgen doctor --judge`."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from countgen.app.arguments import Doctor
from countgen.app.options import announce_downloads
from countgen.app.terminal import fitted
from countgen.benchmarks.evaluation import golden
from countgen.benchmarks.evaluation.consensus import MAJORITY
from countgen.models import check_detectors, load_critic, parts_of
from countgen.progress import counted_progress, loading


def print_scores(command: Doctor, names: Sequence[str]) -> None:
    """Let judges count the golden set, and print how often they count the same as its reader."""
    device = command.available_device()
    announce_downloads(check_detectors(names), shown=command.text)
    images = golden.golden_images()
    answers = {name: _answers(command, name, images, device) for name in dict.fromkeys(names)}
    if len(answers) > 2:
        answers[MAJORITY] = golden.majority_answers(list(answers.values()))
    scores = {name: golden.rows(images, given) for name, given in answers.items()}
    if command.json:
        print(json.dumps({"judges": {name: [asdict(row) for row in rows] for name, rows in scores.items()}}))
        return
    for name, rows in scores.items():
        print(fitted(f"{name}: {len(answers[name])} of {len(images)} images of the golden set"))
        print("\n".join(golden.table(rows)))
        steered = sum(not set(parts_of(name)).isdisjoint(image.critics) for image in images)
        if steered:
            print(fitted(f"{name} steered {steered} of these images; what it counts there is biased"))
        print()
    print(fitted("The set's reader is an AI model."))


def _answers(command: Doctor, name: str, images: Sequence[golden.GoldenImage], device: str) -> golden.Answers:
    """Return the answers of one judge, which is out of memory before the next one is loaded."""
    with loading(name, shown=command.text):
        judge = load_critic(name, device, trust_checkpoint=command.trust_checkpoint)
    known = golden.known_images(judge, images)
    return dict(counted_progress(golden.answers(judge, known, device), len(known), shown=command.text))
