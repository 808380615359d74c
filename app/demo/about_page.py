"""The page that says what countgen is: version, models, licences, paper, source and documents."""

from __future__ import annotations

from importlib.metadata import version

import gradio as gr

from countgen.app.demo.limits import Limits
from countgen.backbones.registry import presets
from countgen.miniature.world import OBJECT_NAMES

TEXT = """
## countgen {version}

Text-to-image models cannot count. countgen evaluates their images with detectors, changes the noise until the number
is right, and lets a judge, a detector that did not steer, count the result.

| model of this page | size | licence |
| --- | --- | --- |
{models}

`miniature` is a small model inside countgen: it knows {objects} object classes and runs without a GPU. It shows how
counting works, not how good images look.

**Licences.** Our code is [Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0). One of the detectors is built on
[Ultralytics](https://github.com/ultralytics/ultralytics), which is [AGPL-3.0](https://www.gnu.org/licenses/agpl-3.0.html):
who offers this page to others must offer them its source.

**Source.** The Python files of the package `countgen`, as they are installed; whoever runs this page has them.

**Commands.** Learning tokens: `countgen tokens learn`. Comparing methods: `countgen eval` and `countgen report`.
Counting images of a run by hand: `countgen label`. Files of images: `countgen generate`, `edit`, `count`, `reproduce`.

**Papers.** Detectors as critics: [D2D](https://arxiv.org/abs/2510.19278). The count token:
[2408.11721](https://arxiv.org/abs/2408.11721). Noise optimisation: [ReNO](https://arxiv.org/abs/2406.04312).

**Help.** `countgen --help`, and the folder `docs` of the source: `index.md` lists the documents, `demo.md` describes
this page and its functions for programs, `troubleshooting.md` says what to do when something is in the way.
"""


def about_page(limits: Limits) -> None:
    """Lay out the page."""
    rows = []
    for name in limits.backbones:
        preset = presets()[name][1] if name in presets() else None
        size = f"{preset.width} × {preset.height}" if preset else "as loaded"
        rows.append(f"| {name} | {size} | {preset.licence if preset else 'its own'} |")
    gr.Markdown(TEXT.format(version=version("countgen"), models="\n".join(rows), objects=len(OBJECT_NAMES)))
