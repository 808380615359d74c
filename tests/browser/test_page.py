"""Use of the demo in a browser."""

import base64
import json
import re
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

import countgen
from countgen.app.demo.audit import OF_COLOURS, accessibility, serious, states
from countgen.app.demo.example import SEED
from countgen.app.demo.run_folders import STUDY
from countgen.images import read_recipe
from countgen.tokens.file import decoded
from tests.browser.conftest import LIMITS, served

pytestmark = [
    # Gradio's own use of pandas, and loops that its server threads leave to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*"),
    pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning"),
]
LONG = ("a photo of fifteen strawberries", "miniature", "auto", "none", 0, 20, "critic", 1, "", "", "", "", "none")
PHONE = {"width": 390, "height": 844}


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"{field} input").first.click()
    page.get_by_role("option", name=option, exact=True).click()


def content(page: Page, link: str) -> bytes:
    """Return the content of a download link."""
    return base64.b64decode(str(page.locator(link).first.get_attribute("href")).partition(",")[2])


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def test_a_prompt_becomes_an_image_with_the_right_count(open_page, tmp_path: Path) -> None:
    page = open_page()
    page.locator("#prompt textarea").fill("a photo of three apples")
    expect(page.locator("#parsed")).to_have_text("3 × apple")
    page.locator("#go").click()
    expect(page.locator("#pictures li")).to_have_count(1)
    expect(page.locator("#stage .verdict")).to_have_text("The judge counts 3 of 3 apples.")
    expect(page.locator("#stage .after svg .number")).to_have_count(3)
    (tmp_path / "image.png").write_bytes(content(page, "#stage a[download]"))
    recipe = read_recipe(tmp_path / "image.png")
    assert (recipe["prompt"], recipe["judge_counts"]) == ("a photo of three apples", [3])
    page.locator("#stage .show-slider").check()
    page.locator("#stage .at input").focus()
    page.keyboard.press("Home")
    assert page.locator("#stage .stage").get_attribute("style") == "--at: 0%;"


def test_a_prompt_without_a_count_is_refused_with_a_message(open_page) -> None:
    page = open_page()
    page.locator("#prompt textarea").fill("some apples <img src=x onerror=alert(1)> ${1+1} {{1}}")
    expect(page.locator("#parsed .refused")).to_contain_text("'some' is not a number")
    expect(page.locator("#go")).to_be_disabled()
    page.locator("#prompt textarea").press("Enter")
    expect(page.get_by_test_id("toast-body")).to_contain_text("'some' is not a number")
    assert page.locator("img[src=x]").count() == 0


def test_stop_keeps_the_best_image(open_page) -> None:
    page = open_page()
    page.locator("#prompt textarea").fill("a photo of fifteen strawberries")
    choose(page, "#seconds", "20 seconds")
    page.locator("#go").click()
    page.locator("#stage .running img").wait_for()
    page.locator("#stop").click()
    expect(page.locator("#stage .verdict")).to_contain_text("Stopped by you: this is the best image so far.")
    expect(page.locator("#stage .verdict")).to_have_text(re.compile(r"^The judge counts \d+ of 15 strawberries\."))
    assert page.locator("#stop").is_hidden()


def test_an_image_is_edited_on_its_seed_and_moved_by_the_slider(open_page) -> None:
    page = open_page()
    page.locator("#change").click()  # of the example
    page.locator("#editing .start").wait_for()
    page.wait_for_function("document.querySelector('#slider input[type=range]').max > 6")  # the range is loaded
    page.locator("#slider input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#editing .verdict")).to_contain_text("Moved by +0.5: the judge counts")
    expect(page.locator("#editing .before figcaption")).to_have_text(f"Original: 7 apples seed {SEED}")
    page.locator("#one-more").click()
    page.locator("#editing .facts").wait_for()
    expect(page.locator("#editing .before figcaption")).to_have_text(f"Original: 7 apples seed {SEED}")
    expect(page.locator("#editing .after figcaption")).to_contain_text(f" of 8 apples seed {SEED}")
    assert page.locator("#editing .after .same").count() > 3
    expect(page.locator("#pictures li span")).to_have_text(["8 × apple"])
    expect(page.locator("#slider input[type=range]")).to_have_value("0")


def test_seeds_next_steps_and_settings_are_filled_in(open_page, tmp_path: Path) -> None:
    page = open_page()
    page.locator("#prompt textarea").fill("two apples")
    expect(page.locator("#parsed")).to_have_text("2 × apple")
    choose(page, "#images", "2")
    page.get_by_text("Negative prompt, steps, guidance, method").click()
    page.locator("[data-name='num_searches']").fill("3")
    page.locator("#go").click()
    expect(page.locator("#pictures li")).to_have_count(2)
    expect(page.locator("#stage")).to_contain_text("of 2 images have the right count")
    recipe = recipe_of(page, tmp_path)
    assert recipe["settings"]["num_searches"] == 3
    page.get_by_role("button", name="Reuse", exact=True).click()
    expect(page.locator("#seed input")).to_have_value(str(recipe["seed"]))
    page.get_by_role("button", name="Random").click()
    expect(page.locator("#seed input")).to_have_value("-1")
    page.set_input_files("#restore-file", tmp_path / "image.png")
    expect(page.locator("#restored")).to_contain_text(f"two apples, seed {recipe['seed']}")
    expect(page.locator("#seed input")).to_have_value(str(recipe["seed"]))
    expect(page.locator("[data-name='num_searches']")).to_have_value("3")
    page.get_by_role("button", name="Until the judge agrees").click()
    expect(page.locator("#pictures li")).to_have_count(3)
    assert recipe_of(page, tmp_path)["until"] == "judge"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save all as zip").click()
    with zipfile.ZipFile(saved.value.path()) as archive:
        assert len(archive.namelist()) == 3


def test_a_reload_keeps_settings_and_images(open_page) -> None:
    page = open_page()
    page.locator("#prompt textarea").fill("one cat")
    page.locator("#seed input").fill("7")
    choose(page, "#seconds", "2 seconds")
    page.get_by_text("Negative prompt, steps, guidance, method").click()
    page.locator("#method").get_by_text("Search").click()
    page.locator("[data-name='batch_size']").fill("3")
    page.locator("#go").click()
    page.locator("#pictures li").wait_for()
    for reload in (True, False):
        kept = page.evaluate("localStorage['countgen.form']")
        chosen = {"prompt": "one cat", "seed": 7, "seconds": 2, "settings": "batch_size=3"}
        assert chosen.items() <= json.loads(kept).items()
        if not reload:  # what another tab of the same origin may have written is checked
            page.evaluate("localStorage['countgen.form'] = '[' + '{\"seed\": -9}'.repeat(9)")
        page.reload()
        expect(page.locator("#pictures li span")).to_have_text(["1 × cat"])
        expect(page.locator("#stage .verdict")).to_contain_text("The judge counts")
        expect(page.locator("#seed input")).to_have_value("7" if reload else "-1")
        expect(page.locator("#parsed")).to_have_text("1 × cat" if reload else "7 × apple")
    page.evaluate("sessionStorage.clear()")
    page.reload()
    expect(page.locator("#stage")).to_contain_text("An example")
    assert page.locator("#pictures li").count() == 0
    open_page.errors.clear()  # Gradio's script reports connections that a reload ends


def test_an_image_is_enlarged_with_the_keyboard(open_page) -> None:
    page = open_page()
    shown = page.locator("#stage .after button.canvas")
    small = shown.bounding_box()
    shown.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog.zoomed img").bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 2 * small["width"]
    assert large["height"] <= 900
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(shown).to_be_focused()


def test_a_file_dropped_beside_its_field_is_read(open_page) -> None:
    page = open_page()
    page.evaluate(
        """(uri) => {
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob(uri.split(",")[1]), (letter) => letter.charCodeAt());
          data.items.add(new File([bytes], "a.png", {type: "image/png"}));
          document.querySelector("#prompt").dispatchEvent(
            new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        page.locator("#stage a[download]").get_attribute("href"),
    )
    expect(page.locator("#restored")).to_contain_text(f"a photo of seven apples, seed {SEED}")


def test_objects_in_an_uploaded_photograph_are_counted(open_page) -> None:
    from ultralytics.utils import ASSETS

    page = open_page()
    page.get_by_role("tab", name="Count").click()
    page.locator("#count-names textarea, #count-names input").first.fill("people, bus")
    page.set_input_files("#photo", ASSETS / "bus.jpg")
    expect(page.locator("#counted .verdict")).to_have_text("nanodet counts 4 people and 1 bus.")
    page.locator("#count-names textarea, #count-names input").first.fill("unicorns")
    page.locator(".again").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("This model cannot count unicorns.")


def test_a_token_is_learned_downloaded_and_uploaded_again(open_page, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Tokens").click()
    page.locator("#count input").fill("2")
    choose(page, "#learning-seconds", "2 seconds")
    page.locator("#learn").click()
    page.locator(".learned").wait_for()
    token = content(page, ".learned a[download]")
    assert decoded(token, "download").target_count == 2
    page.locator("#use-token").click()
    expect(page.locator("#parsed")).to_have_text("2 × apple")
    assert page.locator("#token input").input_value() == "count-2, learned"
    page.locator("#go").click()
    page.locator("#pictures li").wait_for()
    assert "count-2" in json.dumps(recipe_of(page, tmp_path)["token"])
    page.get_by_role("tab", name="Tokens").click()
    page.set_input_files("#token-file", {"name": "a.safetensors", "mimeType": "", "buffer": token})
    expect(page.locator("#handed-in")).to_have_text("Available in Generate: count-2, from a file.")


def recipe_of(page: Page, folder: Path) -> dict:
    (folder / "image.png").write_bytes(content(page, "#stage a[download]"))
    return read_recipe(folder / "image.png")


def test_a_run_opens_with_tables_plots_and_failures(open_page) -> None:
    page = open_page()
    page.get_by_role("tab", name="Benchmark").click()
    page.locator(".plots img").first.wait_for()
    expect(page.locator("#run input")).to_have_value(STUDY)
    assert page.locator("table.figures tbody tr").count() == 11
    choose(page, "#run", "first")
    expect(page.locator("#overview .facts dd").first).to_have_text("test")  # the run is loaded
    choose(page, "#failing-method", "plain")
    expect(page.locator("#failing h2")).to_have_text("Failures of plain: 3 of 6")
    expect(page.locator(".failures b").first).to_have_text("2 of 4 balls")
    assert page.locator("table.figures tbody tr").count() == 2


def test_ten_images_are_labelled_with_the_keyboard(open_page, runs: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Label").click()
    expect(page.locator("#label-run input")).not_to_have_value("")  # the list is loaded
    choose(page, "#label-run", "to-label")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_role("button", name="Start counting").click()
    for done in range(10):
        expect(page.locator("#question .hint")).to_have_text(f"{done} of 12 labelled")
        page.locator("#question b").click()  # remove the focus: typing a digit must focus the answer
        page.keyboard.press("3")
        page.keyboard.press("Enter")
    expect(page.locator("#question .hint")).to_have_text("10 of 12 labelled")
    assert "target" not in page.locator("#question").inner_text()
    page.get_by_role("button", name="Compare with the judges").click()
    expect(page.locator("#agreement caption")).to_have_text("You and the judges on 10 images")
    assert len((runs / "to-label" / "labels.jsonl").read_text().splitlines()) == 10


def test_two_visitors_see_only_their_own_images(open_page) -> None:
    first, second = open_page(), open_page()
    for page, prompt in ((first, "one cat"), (second, "two balls")):
        page.locator("#prompt textarea").fill(prompt)
        expect(page.locator("#parsed")).to_contain_text("×")
        page.locator("#go").click()
    for page, title in ((first, "1 × cat"), (second, "2 × ball")):
        expect(page.locator("#pictures li span")).to_have_text([title])
        page.locator("#pictures button").click()
        assert title in str(page.locator("#stage .after img").get_attribute("alt"))


def test_no_horizontal_overflow_on_a_phone(open_page, screenshots: Path) -> None:
    page = open_page(PHONE)
    assert overflow(page) == 0
    page.get_by_role("button", name="five cats and three dogs").click()
    page.locator("#pictures li").wait_for()
    assert overflow(page) == 0
    page.screenshot(path=screenshots / "phone-Generate.png", full_page=True)
    for tab in ("Edit", "Count", "Tokens", "Benchmark", "Label"):
        page.get_by_role("tab", name=tab).click()
        page.locator("#overview table").wait_for() if tab == "Benchmark" else page.wait_for_load_state()
        assert overflow(page) == 0, tab
        page.screenshot(path=screenshots / f"phone-{tab}.png", full_page=True)


def test_the_page_loads_nothing_from_other_hosts(open_page, demo: str) -> None:
    page = open_page()
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.reload()
    page.locator("#go").wait_for()
    assert urls
    assert all(url.startswith((demo, "data:", "blob:")) for url in urls)


def test_no_serious_accessibility_violation_in_any_state(open_page) -> None:
    page = open_page()
    page.emulate_media(reduced_motion="reduce")  # check final colours, not transitions
    found = []
    for state in states(page):
        page.wait_for_timeout(300)  # until loading animations have ended
        for mode, rules in (("light", None), ("dark", OF_COLOURS)):
            page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", mode == "dark")
            found += [(state, mode, *one) for one in serious(accessibility(page, rules))]
    assert found == []
    assert state == "agreement"


def test_enter_generates(open_page) -> None:
    page = open_page()
    page.locator("#prompt textarea").fill("one cat")
    page.keyboard.press("Enter")
    page.locator("#pictures li").wait_for()
    assert page.locator("#prompt textarea").input_value() == "one cat"


def test_a_queued_visitor_is_informed_and_can_leave(open_page, demo: str, api: Client) -> None:
    page = open_page()  # before the other jobs start
    working = Client(demo, verbose=False)
    job = working.submit(*LONG, api_name="/generate_view")
    next(iter(job))
    open_page.refusals = 1
    page.locator("#go").click()
    expect(page.locator("#stage")).to_contain_text("Waiting in the queue: 1 job before yours")
    expect(page.locator("#stop")).to_be_hidden()
    page.locator("#leave").click()
    expect(page.locator("#stage")).to_contain_text("An example, made before")
    expect(page.locator("#leave")).to_be_hidden()
    # The place in the queue is free again: the queue can be filled, and the next visitor sees its length.
    waiting = [api.submit(*LONG, api_name="/generate_view") for _ in range(LIMITS.max_waiting)]
    page.wait_for_timeout(500)
    page.locator("#go").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("3 jobs are in the queue already")
    expect(page.locator("#parsed")).not_to_contain_text("Error", use_inner_text=True)  # the message states the error
    expect(page.locator("#stage")).to_contain_text("An example, made before")
    for one in (*waiting, job):
        one.cancel()
    working.close()


def test_without_a_run_the_label_tab_explains_how_to_add_one(models: countgen.Models, chromium: Browser) -> None:
    with served(models) as url:
        page = chromium.new_page()
        page.goto(url)
        page.get_by_role("tab", name="Label").click()
        expect(page.locator("#question")).to_contain_text("countgen demo --runs FOLDER")
        expect(page.locator("#start-counting")).to_be_disabled()
        expect(page.locator("#compare")).to_be_disabled()
        assert serious(accessibility(page)) == []
        page.close()
