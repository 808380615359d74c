"""Audit the demo in Chromium: `python -m countgen.app.demo.audit --runs FOLDER --out images`.

Visits every state of the page on a desktop, on a phone and in dark mode, and takes a screenshot of each. Prints the
time to the first paint and the first preview, horizontal overflow, and the violations that axe-core reports.
axe-core is installed with `countgen[test]`.
"""

from __future__ import annotations

import argparse
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

VIEWS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}
OF_COLOURS = ("color-contrast", "link-in-text-block")
"""Rules of axe-core that depend on colours; dark mode changes nothing else."""
LABELLED = 3
"""Number of images that are labelled before the comparison with the judges."""

# Excluded because Gradio nests the close button of a message inside another button.
_RUN_AXE = """async ([source, rules]) => {
  if (!window.axe) (0, eval)(source);
  const only = rules ? {runOnly: {type: "rule", values: rules}} : {};
  const found = await axe.run({exclude: [".toast-header"]}, {resultTypes: ["violations"], ...only});
  return found.violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].target.join(" ")]);
}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if axe reports a serious violation or a page overflows sideways."""
    parser = argparse.ArgumentParser(prog="python -m countgen.app.demo.audit", description=__doc__)
    parser.add_argument("--runs", type=Path, help="a folder of runs for the last tab; labels are written into it")
    parser.add_argument("--out", type=Path, default=Path("demo-images"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", category=DeprecationWarning)

    from playwright.sync_api import sync_playwright

    import countgen
    from countgen.app.demo.limits import Limits
    from countgen.app.demo.model_cache import ModelCache
    from countgen.app.demo.page import build, launch

    page = build(Limits(), options.runs, ModelCache({"miniature": countgen.load("miniature")}))
    url = launch(page, quiet=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    wrong = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--headless=new"])
        for name, view in VIEWS.items():
            context = browser.new_context(**view)
            opened = context.new_page()
            opened.set_default_timeout(120_000)
            print(f"{name}: {_first_seconds(opened, url)}", flush=True)
            for number, state in enumerate(states(opened, labelling=options.runs is not None, labeller=name)):
                opened.wait_for_timeout(700)  # until animations have ended
                opened.screenshot(path=options.out / f"{name}-{number:02}-{state}.png", full_page=True)
                wrong += _report(opened, state)
            context.close()
        browser.close()
    page.close(verbose=False)
    return 1 if wrong else 0


def states(page: Any, *, labelling: bool = True, labeller: str = "Ada") -> Iterator[str]:
    """Visit every state of an open page; yield the name of each state while it is shown.

    Args:
        page: a Playwright page with the demo loaded.
        labelling: whether to label images of the newest run.
        labeller: name of the labeller.
    """
    from countgen.app.demo import example

    page.locator("#go").wait_for()
    yield "example"
    page.locator("#prompt textarea").fill("a photo of three apples")
    page.locator("#go").click()
    page.locator("#stage .running img").or_(page.locator("#pictures li")).first.wait_for()  # the example is done, too
    yield "generating"
    page.locator("#pictures li").wait_for()
    yield "generated"
    page.locator(".show-slider").check()
    yield "one-over-the-other"
    page.locator(".show-slider").uncheck()
    page.locator("#stage .after button.canvas").click()
    page.locator("dialog.zoomed").wait_for()
    yield "enlarged"
    page.keyboard.press("Escape")
    page.get_by_text("Negative prompt, steps, guidance, method").click()
    page.locator("[data-name='num_searches']").wait_for()
    yield "more-options"
    page.locator("#prompt textarea").fill("some apples")
    page.locator("#parsed .refused").wait_for()
    page.locator("#prompt textarea").press("Enter")
    page.get_by_test_id("toast-body").first.wait_for()
    yield "refused"
    page.get_by_role("tab", name="Edit").click()
    page.locator("#editing .start").wait_for()
    yield "edit"
    page.wait_for_function("document.querySelector('#slider input[type=range]').max > 6")  # the range is loaded
    page.locator("#slider input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#editing .done").wait_for()
    yield "moved"
    page.locator("#one-more").click()
    page.locator("#editing .running img").or_(page.locator("#editing .facts")).first.wait_for()
    yield "editing"
    page.locator("#editing .facts").wait_for()
    yield "edited"
    page.get_by_role("tab", name="Count").click()
    page.locator("#photo").wait_for()
    yield "count"
    page.locator("#count-names textarea, #count-names input").first.fill("apple")
    page.set_input_files("#photo", {"name": "a.png", "mimeType": "image/png", "buffer": example.load().png})
    page.locator("#counted .counted").wait_for()
    yield "counted"
    page.get_by_role("tab", name="Tokens").click()
    page.locator("#learning .empty").wait_for()
    yield "learn"
    page.locator("#count input").fill("2")
    page.locator("#learning-seconds input").click()
    page.get_by_role("option").first.click()
    page.locator("#learn").click()
    page.locator("#learning .running img").wait_for()
    yield "learning"
    page.locator("#learning .learned").wait_for()
    yield "learned"
    page.get_by_role("tab", name="Benchmark").click()
    page.locator("#overview table").wait_for()
    yield "benchmark"
    page.get_by_role("tab", name="Label").click()
    page.locator("#question").wait_for()
    yield "label"
    if not labelling:
        return
    page.get_by_label("Your name").fill(labeller)
    page.locator("#start-counting").click()
    page.locator("#question .stage").wait_for()
    yield "question"
    for _ in range(LABELLED):
        progress = page.locator("#question .hint").inner_text()
        page.locator("#answer textarea, #answer input").first.fill("3")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "(before) => document.querySelector('#question .hint').innerText !== before", arg=progress
        )
    page.locator("#compare").click()
    page.locator("#agreement table").wait_for()
    yield "agreement"


def accessibility(page: Any, rules: Sequence[str] | None = None) -> list[tuple[str, str, int, str]]:
    """Return the violations that axe-core reports: impact, rule, number of elements, one of the elements.

    Args:
        page: a Playwright page.
        rules: names of rules of axe-core; all by default.
    """
    import axe_playwright_python

    source = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    return [tuple(one) for one in page.evaluate(_RUN_AXE, [source, rules and list(rules)])]


def serious(found: Sequence[tuple[str, str, int, str]]) -> list[tuple[str, str, int, str]]:
    """Return the violations of serious or critical impact."""
    return [one for one in found if one[0] in ("serious", "critical")]


def _first_seconds(page: Any, url: str) -> str:
    """Open the page, generate one image, and return the times."""
    started = time.perf_counter()
    page.goto(url)
    page.locator("#go").wait_for()
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
    usable = time.perf_counter() - started
    page.locator("#go").click()
    begun = time.perf_counter()
    page.locator("#stage .running img").or_(page.locator("#pictures li")).first.wait_for()
    preview = time.perf_counter() - begun
    page.locator("#pictures li").wait_for()
    page.evaluate("sessionStorage.clear()")  # the states begin with a new visitor
    page.reload()
    return f"first paint {painted:.2f} s, usable {usable:.2f} s, preview {preview:.2f} s"


def _report(page: Any, state: str) -> int:
    """Print the violations of a state; return the number of serious ones, plus one for overflow."""
    over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    found = accessibility(page)
    print(f"  {state}: {over} px overflow, axe: {len(serious(found))} serious of {len(found)}", flush=True)
    for impact, rule, number, where in found:
        print(f"    {impact} {rule}: {number} x, for example {where}")
    return len(serious(found)) + (over > 0)


if __name__ == "__main__":
    raise SystemExit(main())
