"""Violations of accessibility rules, by axe-core, which `countgen[test]` installs."""

from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Page

# Excluded because Gradio nests the close button of a message inside another button.
_RUN = """async (source) => {
  if (!window.axe) (0, eval)(source);
  const found = await axe.run({exclude: [".toast-header"]}, {resultTypes: ["violations"]});
  return found.violations.map((v) => [v.impact, v.id, v.nodes[0].target.join(" ")]);
}"""


def serious_violations(page: Page) -> list[list[str]]:
    """Return impact, rule and one element of each violation of serious or critical impact."""
    source = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    return [found for found in page.evaluate(_RUN, source) if found[0] in ("serious", "critical")]
