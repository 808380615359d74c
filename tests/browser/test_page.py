"""Use of the demo in a browser, on a desktop and on a phone."""

import base64
import re
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Locator, Page, expect

from countgen.app.demo.jobs import EXAMPLE_FILE
from countgen.images import read_recipe
from countgen.tokens.library import FOLDER

PHONE = {"width": 360, "height": 780}
DROP = """([selector, name, data]) => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt())], name));
  const dropped = {dataTransfer: files, bubbles: true, cancelable: true};
  document.querySelector(selector).dispatchEvent(new DragEvent("drop", dropped));
}"""


FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# Excluded because Gradio nests the close button of a message inside another button.
AXE = """async () => (await axe.run({exclude: [".toast-header"]}, {resultTypes: ["violations"]})).violations
  .filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => [v.id, v.nodes[0].target.join(" ")])"""


def reveal(page: Page, opener: Locator, field: str) -> None:
    """Open a tab or an accordion and wait until its fields keep what is written into them.

    Gradio mounts them when they are opened, and sets their initial values again in the next frame. Nobody types that
    fast, but Playwright does.
    """
    opener.click()
    page.locator(field).wait_for()
    page.evaluate(FRAMES)


def reveal_options(page: Page) -> None:
    reveal(page, page.get_by_text("More options"), "#seconds")


def ask(page: Page, prompt: str, targets: str) -> None:
    page.locator("#prompt textarea").fill(prompt)
    expect(page.locator("#parsed")).to_have_text(f"Counted: {targets}")
    page.locator("#go").click()


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"{field} input").first.click()
    page.get_by_role("option", name=option, exact=True).click()


def drop(page: Page, content: bytes, name: str) -> None:
    page.evaluate(DROP, ["#prompt", name, base64.b64encode(content).decode()])


def in_view(page: Page, selector: str) -> bool:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


def saved_recipe(page: Page, folder: Path) -> dict:
    with page.expect_download() as saved:
        page.locator("#download").click()
    saved.value.save_as(folder / saved.value.suggested_filename)
    return read_recipe(folder / saved.value.suggested_filename)


def check_layout(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


@pytest.mark.parametrize("size", [{}, PHONE], ids=["wide", "phone"])
def test_a_prompt_becomes_an_image_with_the_right_count(open_page, tmp_path: Path, size: dict) -> None:
    page = open_page(**size)
    ask(page, "a photo of three apples", "3 × apple")
    expect(page.locator("#gallery button.thumbnail-item")).to_have_count(1)
    expect(page.locator("#status .verdict")).to_contain_text("The judge counts 3 of 3 apples")
    recipe = saved_recipe(page, tmp_path)
    assert (recipe["prompt"], recipe["judge_counts"]) == ("a photo of three apples", [3])
    expect(page.locator("#gallery")).to_contain_text(f"seed {recipe['candidate_seed']}: 3 × apple")
    expect(page.locator("#facts")).to_contain_text(f"Seed {recipe['candidate_seed']}")
    expect(page.locator("#facts")).to_contain_text("almost certainly right (9")
    assert in_view(page, "#image")
    reveal(page, page.get_by_text("The same in Python"), "#same-python textarea")
    expect(page.locator("#same-python textarea")).to_have_value(re.compile("'a photo of three apples', models, seed="))
    expect(page.locator("#same-recipe textarea")).to_have_value(
        re.compile(f'"candidate_seed": {recipe["candidate_seed"]}')
    )
    check_layout(page)


def test_the_number_of_an_image_is_changed_in_place_and_back_on_a_phone(open_page, tmp_path: Path) -> None:
    page = open_page(**PHONE)
    page.locator("#new-count input").fill("8")  # of the example, which shows seven
    page.locator("#edit").click()
    expect(page.locator("#undo")).to_be_visible()
    expect(page.locator("#status .verdict")).to_contain_text("of 8 apples")
    expect(page.locator("#before label")).to_have_text("Before")
    expect(page.locator("#facts")).to_contain_text("of the objects kept")
    assert in_view(page, "#image")
    assert saved_recipe(page, tmp_path)["candidate_seed"] == read_recipe(EXAMPLE_FILE)["candidate_seed"]
    page.locator("#undo").click()
    expect(page.locator("#status .verdict")).to_have_text("The judge counts 7 of 7 apples.")
    expect(page.locator("#undo")).to_be_hidden()
    expect(page.locator("#new-count input")).to_have_value("7")
    check_layout(page)


def test_objects_in_a_photograph_are_counted(open_page) -> None:
    from ultralytics.utils import ASSETS

    page = open_page()
    reveal(page, page.get_by_role("tab", name="Count"), "#count-names")
    page.locator("#count-names textarea").fill("people, bus")
    page.set_input_files("#photo input[type=file]", ASSETS / "bus.jpg")
    expect(page.locator("#count-status .verdict")).to_have_text("nanodet counts 4 people and 1 bus.")
    expect(page.locator("#counted img")).to_be_visible()
    page.locator("#count-names textarea").fill("unicorns")
    page.locator("#count-go").click()
    expect(page.locator("#count-status")).to_contain_text("has no class for 'unicorn'")
    check_layout(page)


def test_a_png_dropped_on_the_page_is_opened_and_another_file_gets_an_answer(open_page) -> None:
    page = open_page()
    drop(page, b"\x89PNG\r\n\x1a\n no image", "photo.png")
    expect(page.locator("#status .wrong")).to_contain_text("This file holds no recipe.")
    drop(page, EXAMPLE_FILE.read_bytes(), "apples.png")
    expect(page.locator("#status .verdict")).to_have_text("Opened: 7 × apple. The judge counts 7 of 7 apples.")
    expect(page.locator("#seed input")).to_have_value(str(read_recipe(EXAMPLE_FILE)["seed"]))
    expect(page.locator("#method input")).to_have_value("Edit: keep the image of the seed")
    check_layout(page)


def test_stop_keeps_the_best_image_in_view_of_a_phone(open_page) -> None:
    page = open_page(**PHONE)
    reveal_options(page)
    choose(page, "#seconds", "20 seconds")
    ask(page, "a photo of sixteen strawberries", "16 × strawberry")
    page.locator("#status .live").wait_for()
    assert in_view(page, "#image")
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("You stopped it: this is the best image so far.")
    expect(page.locator("#status .verdict")).to_have_text(re.compile(r"^The judge counts \d+ of 16 strawberries"))
    expect(page.locator("#stop")).to_be_hidden()
    assert in_view(page, "#image")


def test_the_form_offers_only_what_can_be_generated(open_page) -> None:
    page = open_page()
    reveal_options(page)
    expect(page.locator("#negative-prompt")).to_be_hidden()
    reveal(page, page.get_by_text("For experts"), "#guidance")
    page.locator("#guidance input, #guidance textarea").first.fill("3")
    expect(page.locator("#negative-prompt")).to_be_visible()
    page.locator("#prompt textarea").fill("some apples <img src=x onerror=alert(1)> ${1+1} {{1}}")
    expect(page.locator("#parsed")).to_contain_text("'some' is not a number")
    expect(page.locator("#go")).to_be_disabled()
    page.locator("#prompt textarea").press("Enter")
    expect(page.get_by_test_id("toast-body")).to_contain_text("'some' is not a number")
    assert page.locator("img[src=x]").count() == 0


def test_a_reload_keeps_settings_and_images(open_page) -> None:
    page = open_page()
    page.locator("#seed input").fill("7")
    choose(page, "#method", "Search: the best of many seeds")
    choose(page, "#images", "2")
    ask(page, "one cat", "1 × cat")
    expect(page.locator("#gallery button.thumbnail-item")).to_have_count(2)
    expect(page.locator("#status")).to_contain_text("of 2 images have a confirmed count")
    page.reload()
    expect(page.locator("#gallery button.thumbnail-item")).to_have_count(2)
    expect(page.locator("#prompt textarea")).to_have_value("one cat")
    expect(page.locator("#seed input")).to_have_value("7")
    page.locator("#gallery button.thumbnail-item").last.click()
    expect(page.locator("#facts")).to_have_text(re.compile(r"Seed (7|\d+ \(the search began at 7\)) "))
    page.evaluate("sessionStorage.clear()")
    page.reload()
    expect(page.locator("#status")).to_contain_text("An example, made before.")
    expect(page.locator("#gallery")).to_be_hidden()
    open_page.errors.clear()  # Gradio's script reports connections that a reload ends


def test_two_visitors_see_only_their_own_images(open_page) -> None:
    first, second = open_page(), open_page()
    ask(first, "one cat", "1 × cat")
    ask(second, "two balls", "2 × ball")
    for page, title in ((first, "1 × cat"), (second, "2 × ball")):
        expect(page.locator("#gallery button.thumbnail-item")).to_have_count(1)
        expect(page.locator("#gallery")).to_contain_text(title)


def test_a_token_is_put_to_use_and_shown(open_page) -> None:
    page = open_page()
    reveal(page, page.get_by_role("tab", name="Tokens"), "#token-choice")
    expect(page.locator("#token-table")).to_contain_text("count-9")
    choose(page, "#token-choice", "count-4")
    page.locator("#use-token").click()
    expect(page.locator("#parsed")).to_have_text(re.compile("Counted: 4 × "))
    page.locator("#go").click()
    expect(page.locator("#facts")).to_contain_text("Token: count-4")
    page.get_by_role("tab", name="Tokens").click()
    page.set_input_files("input:has(+ #token-file)", {"name": "a.safetensors", "mimeType": "", "buffer": b"no token"})
    expect(page.locator("#token-status .wrong")).to_be_visible()
    page.set_input_files("input:has(+ #token-file)", FOLDER / "miniature" / "count-5.safetensors")
    expect(page.locator("#parsed")).to_have_text(re.compile("Counted: 5 × "))
    reveal_options(page)
    expect(page.locator("#token input")).to_have_value("count-5, from a file")


def open_tab(page, name: str) -> None:
    """Open a page of the demo; on a narrow screen some are in the menu behind the tabs."""
    tab = page.get_by_role("tab", name=name)
    if tab.is_visible():
        tab.click()
    else:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown").get_by_text(name).click()


@pytest.mark.parametrize(("size", "scheme"), [({}, "light"), (PHONE, "dark")], ids=["wide-light", "phone-dark"])
def test_no_serious_accessibility_violation_on_any_page(open_page, size: dict, scheme: str) -> None:
    page = open_page(**size, scheme=scheme)
    page.emulate_media(reduced_motion="reduce")  # final colours, not transitions
    ask(page, "two apples", "2 × apple")
    page.locator("#gallery button.thumbnail-item").wait_for()
    reveal_options(page)
    page.get_by_text("For experts").click()
    reveal(page, page.get_by_text("The same in Python"), "#same-python textarea")
    page.add_script_tag(path=Path(axe_playwright_python.__file__).parent / "axe.min.js")
    for tab in ("Generate", "Count", "Tokens", "About"):
        open_tab(page, tab)
        page.wait_for_timeout(300)  # until Gradio's animations have ended
        check_layout(page)
        assert page.evaluate(AXE) == [], tab
