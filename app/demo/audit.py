"""Look at the demo in Chromium: `python -m app.demo.audit --axe axe.min.js --out pictures`.

Prints the time to the first paint and the first preview, what hangs over sideways, and what axe-core finds on every
tab, wide, on a phone and in the dark; photographs each. axe-core is no part of this project: `npm pack axe-core`.
"""

from __future__ import annotations

import argparse
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VIEWS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}
TABS = {"Generate": "#stage .done", "Learn a token": "#learning .empty", "Benchmark": "#overview", "Label": "#question"}
_RUN_AXE = """async (source) => {
  if (!window.axe) (0, eval)(source);
  const found = await axe.run(document, {resultTypes: ["violations"]});
  return found.violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].target.join(" ")]);
}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where axe finds something serious or a page hangs over sideways."""
    parser = argparse.ArgumentParser(prog="python -m app.demo.audit", description=__doc__)
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    parser.add_argument("--runs", type=Path, help="a folder of runs, so that the last two tabs show some")
    parser.add_argument("--out", type=Path, default=Path("demo-pictures"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", category=DeprecationWarning)

    from playwright.sync_api import sync_playwright

    import countgen
    from app.demo.limits import Limits
    from app.demo.page import build, launch
    from app.demo.shelf import Shelf

    page = build(Limits(), options.runs, Shelf({"miniature": countgen.load("miniature")}))
    url = launch(page, quiet=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    wrong = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--headless=new"])
        for name, view in VIEWS.items():
            context = browser.new_context(**view)
            wrong += look(context.new_page(), url, name, options.out, options.axe and options.axe.read_text())
            context.close()
        browser.close()
    page.close(verbose=False)
    return 1 if wrong else 0


def look(page: Any, url: str, name: str, out: Path, axe: str | None) -> int:
    """Every tab in one view; the number of serious findings."""
    started = time.perf_counter()
    page.goto(url)
    page.locator("#go").wait_for()
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
    usable = time.perf_counter() - started
    page.locator("#go").click()
    begun = time.perf_counter()
    page.locator("#stage .canvas img").first.wait_for()
    print(f"{name}: first paint {painted:.2f} s, usable {usable:.2f} s, preview {time.perf_counter() - begun:.2f} s")
    wrong = 0
    for tab, ready in TABS.items():
        page.get_by_role("tab", name=tab).click()
        page.locator(ready).first.wait_for()
        page.wait_for_timeout(700)  # the heartbeat keeps the network busy for ever
        page.screenshot(path=out / f"{name}-{tab.lower().replace(' ', '-')}.png", full_page=True)
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        found = page.evaluate(_RUN_AXE, axe) if axe else []
        serious = [one for one in found if one[0] in ("serious", "critical")]
        wrong += len(serious) + (over > 0)
        print(f"  {tab}: {over} px over, " + (f"axe: {len(serious)} serious of {len(found)}" if axe else "axe not run"))
        for impact, rule, number, where in found:
            print(f"    {impact} {rule}: {number} x, for example {where}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
