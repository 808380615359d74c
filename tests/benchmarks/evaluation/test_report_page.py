"""The page of a report in a real browser, without a network."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from countgen.app.cli import main
from tests.benchmarks.evaluation.made_records import table_run


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The report of a small run on a phone, with what the console said in `said`."""
    folder = tmp_path_factory.mktemp("page")
    main(["report", str(table_run(folder / "run")), "--out", str(folder / "report.html")])
    context = chromium.new_context(viewport={"width": 390, "height": 800}, offline=True)
    shown = context.new_page()
    shown.said = []
    shown.on("console", lambda message: shown.said.append(message.text))
    shown.on("pageerror", lambda error: shown.said.append(str(error)))
    shown.goto((folder / "report.html").as_uri())
    yield shown
    context.close()


def test_filters_show_what_is_asked_for_and_boxes_come_by_keyboard(page: Page) -> None:
    page.select_option("[name=method]", "auto")
    page.select_option("[name=status]", "failed")
    assert page.locator("output").inner_text() == "1 of 16 shown"
    assert "made to fail" in page.locator(".filtered .card:visible").inner_text()
    page.select_option("[name=status]", "")
    page.select_option("[name=method]", "")
    assert page.locator(".filtered .card:visible").count() == 16
    page.focus("[name=boxes]")
    for shown in (True, False):
        page.keyboard.press("Space")
        assert (page.locator("rect:visible").count() > 0) is shown


def test_another_judge_can_be_chosen(page: Page) -> None:
    judges = page.locator("[name=judge] option").all_inner_texts()
    assert judges[:2] == ["detector", "counter"]
    heading = page.locator("h3:visible").first
    assert "critic" not in heading.inner_text()
    right = page.locator(".filtered .card.right").count()
    page.select_option("[name=judge]", "critic")
    assert "critic" in heading.inner_text()
    assert page.locator(".filtered .card [data-judge=critic]:visible").count() == 16
    assert page.locator(".filtered .card [data-judge=detector]:visible").count() == 0
    assert [one.input_value() for one in page.locator("[name=judge]").all()] == ["critic", "critic"]
    page.select_option(".filters [name=judge]", "detector")
    assert page.input_value("header [name=judge]") == "detector"
    assert page.locator(".filtered .card.right").count() == right


def test_a_phone_needs_no_sideways_scroll_and_nothing_is_blocked(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert all(page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth > 0)"))
    assert page.said == []
