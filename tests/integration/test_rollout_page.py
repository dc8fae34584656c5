# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a rollout in a real browser: nothing is loaded, nothing complains, everybody can read it. Look at build/pages."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.page import page as page_of
from tests.lab.images import REPOSITORY
from tests.unit.plugins.plugin_utils import rollouts

CHROMIUM = "/usr/bin/chromium"
FOLDER = REPOSITORY / "build/pages"
ROLLOUTS: dict[str, t.Callable[[], rollouts.Told]] = {
    "good": rollouts.good,
    "bad": rollouts.bad,
    "fleet": rollouts.fleet,
    # As the fleet's, and small enough for axe to look at everything in it.
    "sixty": lambda: rollouts.fleet(60),
    "hostile": rollouts.hostile,
}
# Width, height, colours.
SCREENS: dict[str, tuple[int, int, t.Literal["light", "dark"]]] = {
    "desktop": (1280, 900, "light"),
    "phone": (360, 740, "light"),
    "dark": (1280, 900, "dark"),
}
SHOWN = [
    *(("bad", screen) for screen in SCREENS),
    ("good", "desktop"),
    ("good", "dark"),
    ("sixty", "phone"),
    ("hostile", "phone"),
]


class Opened(t.NamedTuple):
    """A page, and what the browser has complained of or has wanted to load."""

    page: Page
    complaints: list[str]
    requests: list[str]


@pytest.fixture(scope="module")
def browser() -> t.Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root has no sandbox, and what is shown is our own.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def pages() -> dict[str, Path]:
    """The files, as the callback writes them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, told in ROLLOUTS.items():
        (FOLDER / f"{name}.html").write_text(page_of(*told().seen()))
    return {name: FOLDER / f"{name}.html" for name in ROLLOUTS}


@pytest.fixture
def open_page(browser: Browser, pages: dict[str, Path]) -> t.Iterator[t.Callable[[str, str], Opened]]:
    opened: list[Page] = []

    def show(name: str, screen: str) -> Opened:
        width, height, scheme = SCREENS[screen]
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        opened.append(page)
        found = Opened(page, [], [])
        page.on("console", lambda message: found.complaints.append(message.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("request", lambda request: found.requests.append(request.url))
        page.goto(pages[name].as_uri())
        return found

    yield show
    for page in opened:
        page.close()


def broken_rules(page: Page) -> list[str]:
    """What axe-core finds, each rule with the first element that breaks it."""
    found = Axe().run(page)
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found.response["violations"]]


@pytest.mark.parametrize(("name", "screen"), SHOWN)
def test_everybody_can_read_it(open_page: t.Callable[[str, str], Opened], name: str, screen: str) -> None:
    page, complaints, requests = open_page(name, screen)
    page.screenshot(path=FOLDER / f"{name}-{screen}.png", full_page=True)
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert broken_rules(page) == []


def test_a_fleet_opens_at_once(open_page: t.Callable[[str, str], Opened]) -> None:
    for screen in ("desktop", "phone"):
        page, complaints, __ = open_page("fleet", screen)
        page.screenshot(path=FOLDER / f"fleet-{screen}.png")
        assert complaints == []
        assert page.locator("table.hosts:visible").count() == 0


def test_a_link_opens_what_is_closed(open_page: t.Callable[[str, str], Opened]) -> None:
    page = open_page("fleet", "phone").page
    page.locator("details.batch > summary").nth(2).click()
    page.get_by_role("link", name="hv0500").click()
    assert page.get_by_text("make_before_break is possible").count() == 0
    assert page.locator(page.url[page.url.index("#") :]).get_by_text("3.5.0 → 4.0.0").is_visible()


def test_the_headline_and_what_to_do_are_seen_without_scrolling(
    open_page: t.Callable[[str, str], Opened],
) -> None:
    page = open_page("bad", "desktop").page
    for words in (
        "Stopped: 2 of 6 hosts failed",
        "71 of 33,600 of established flows",
        "keep the new version:",
    ):
        box = page.get_by_text(words).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 900


def test_hostile_texts_run_nothing(open_page: t.Callable[[str, str], Opened]) -> None:
    page = open_page("hostile", "desktop").page
    assert page.evaluate("document.scripts.length") == 0
    assert page.locator("text=<script>alert(1)</script>").first.is_visible()
