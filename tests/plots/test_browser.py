"""The page in a real browser: it opens from disk, answers, plays, asks for nothing, and is kept in check by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from attnlens.plots.tokens import read_tokens

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def opened_page(page: Path) -> Iterator[tuple[Page, list[str], list[str]]]:
    """Open the report of the run; gives the page, what it complained of and what it asked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        told: list[str] = []
        asked: list[str] = []
        opened.on("console", lambda message: told.append(message.text))
        opened.on("pageerror", lambda error: told.append(str(error)))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(page.as_uri())
        opened.wait_for_selector("#x-tokens button[aria-pressed=true]")
        yield opened, told, asked
        browser.close()


def shares(page: Page) -> dict[str, str]:
    cells: Any = page.eval_on_selector_all(
        "#shares tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    return {row[0]: row[2] for row in cells}


def test_numbers_shown_are_those_that_were_measured(
    opened_page: tuple[Page, list[str], list[str]], folder: Path
) -> None:
    opened, _, _ = opened_page
    tokens = read_tokens(folder)
    for control in ("mismatched-pairs", "none"):
        detail = tokens[f"item-{control}"].detail
        opened.select_option("#x-variant", f"item-{control}")
        opened.wait_for_timeout(100)
        for layer, head in ((-1, -1), (1, -1), (1, 2)):
            opened.select_option("#x-layer", str(layer))
            opened.select_option("#x-head", str(head))
            for token in (0, 3):
                opened.click(f"#x-tokens button >> nth={token}")
                part = detail.weights.isel(token=token)
                part = part.mean("layer") if layer < 0 else part.isel(layer=layer)
                part = part.mean("head") if head < 0 else part.isel(head=head)
                expected = {
                    str(label): f"{100 * float(part.values[detail.key_label.values == label].sum()):.2f} %"
                    for label in np.unique(detail.key_label.values)
                }
                assert shares(opened) == expected


def test_it_is_worked_by_keys(opened_page: tuple[Page, list[str], list[str]]) -> None:
    opened, _, _ = opened_page
    opened.focus("#x-tokens button >> nth=0")
    opened.keyboard.press("ArrowRight")
    assert opened.get_attribute("#x-tokens button >> nth=1", "aria-pressed") == "true"
    opened.focus("canvas >> nth=0")
    opened.keyboard.press("ArrowRight")
    assert opened.get_attribute("canvas >> nth=0", "aria-valuenow") == "1"
    assert "0.20 s: " in (opened.get_attribute("canvas >> nth=0", "aria-valuetext") or "")


def test_audio_plays_from_the_moment_that_is_clicked(opened_page: tuple[Page, list[str], list[str]]) -> None:
    opened, _, _ = opened_page
    opened.eval_on_selector("audio", "one => { one.muted = true; }")
    opened.focus("canvas >> nth=0")
    for _ in range(3):
        opened.keyboard.press("ArrowRight")
    opened.keyboard.press("Enter")
    opened.wait_for_timeout(250)
    assert opened.eval_on_selector("audio", "one => one.readyState") >= 2
    assert opened.eval_on_selector("audio", "one => one.currentTime") > 0.4
    assert opened.eval_on_selector("audio", "one => one.duration") == pytest.approx(1.0, abs=0.05)


def test_tables_sort_by_value(opened_page: tuple[Page, list[str], list[str]]) -> None:
    opened, _, _ = opened_page
    opened.click("table.sortable >> nth=0 >> th:has-text('cer') >> button >> nth=0")
    head = opened.locator("table.sortable >> nth=0 >> th[aria-sort=ascending]")
    assert head.count() == 1
    first = opened.locator("table.sortable >> nth=0 >> tbody tr >> nth=0")
    assert "micl" in first.inner_text()


def test_a_click_answers_at_once(opened_page: tuple[Page, list[str], list[str]]) -> None:
    opened, _, _ = opened_page
    clicks = """buttons => [0, 1, 2, 3, 0].map(place => {
        const start = performance.now();
        buttons[place].click();
        document.body.offsetHeight;
        return performance.now() - start;
    })"""
    assert float(np.median(opened.eval_on_selector_all("#x-tokens button", clicks))) < 100


def test_it_fits_a_telephone_and_the_dark(opened_page: tuple[Page, list[str], list[str]]) -> None:
    opened, _, _ = opened_page
    opened.set_viewport_size({"width": 400, "height": 800})
    opened.emulate_media(color_scheme="dark")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 27)"
    opened.click("#theme")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened.set_viewport_size({"width": 1280, "height": 900})


def test_it_asked_for_nothing_and_complained_of_nothing(opened_page: tuple[Page, list[str], list[str]]) -> None:
    _, told, asked = opened_page
    assert told == []
    assert {one.split(":")[0] for one in asked} <= {"file", "data", "blob"}
    assert sum(one.startswith("file:") for one in asked) == 1
