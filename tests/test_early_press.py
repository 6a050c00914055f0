"""Clicks and keys that come while the page is waking, or while an answer is on its way, are acted on and not lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pages import (
    ALL_PANELS,
    LIMIT,
    NOTEBOOK,
    Server,
    make_traces,
    needs_browser,
    serving,
    until,
    viewing,
    write,
)
from playwright.sync_api import Browser, Page, Route, expect

PRESS = "dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))"
AT_THE_FIRST_SIGHT = f"""
new MutationObserver((_, watcher) => {{
  if (!document.querySelector(".tt-path h2")) return;
  watcher.disconnect();
  window.placeAtPress = document.querySelector(".tt-app").dataset.place;
  document.body.{PRESS};
}}).observe(document, {{ childList: true, subtree: true }});
"""
BEFORE_ANY_WIDGET = f"""
document.addEventListener("DOMContentLoaded", () => {{
  window.appAtPress = document.querySelector(".tt-clock") !== null;
  document.body.{PRESS};
}});
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("early")
    write(base / "backtest_20250112_143022", make_traces("gap_fade", 300, 0.7, mode="backtest", days=700))
    write(base / "live", make_traces("gap_fade", 200, 0.5, seed=3), make_traces("swing", 200, 0.7, seed=4))
    with serving(NOTEBOOK, base) as started:
        yield started


def slowed(page: Page, times: int) -> None:
    "Make the browser's processor slower by a factor."
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": times})


@needs_browser
@pytest.mark.parametrize(
    ("script", "witness"),
    [(AT_THE_FIRST_SIGHT, "placeAtPress === 'page'"), (BEFORE_ANY_WIDGET, "appAtPress === false")],
    ids=["with-the-first-panel", "before-the-widgets"],
)
def test_escape_leads_back_however_early_it_comes(
    browser: Browser, server: Server, script: str, witness: str
) -> None:
    "A shared address opens a strategy; the panels come one after the other, and the page's place last."
    with viewing(browser, server) as (page, seen):
        page.get_by_role("button", name="How sure? Open gap_fade").click()
        expect(page.locator(".tt-path h2")).to_be_visible()
        page.add_init_script(script)
        slowed(page, 4)
        page.reload(wait_until="commit")
        page.wait_for_function(f"window.{witness}", timeout=LIMIT)  # it came that early
        page.wait_for_function("location.hash === ''", timeout=LIMIT)
        expect(page.locator(".tt-path")).to_have_count(0)
        expect(page.locator(".tt-card")).to_have_count(2)
        assert seen.complaints == []


@needs_browser
def test_a_click_into_the_first_picture_is_answered_when_the_kernel_wakes(
    browser: Browser, server: Server
) -> None:
    idle = browser.new_page()
    assert until(lambda: server.kernels() >= 1, idle)
    idle.close()
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()

    def late(route: Route) -> None:
        page.wait_for_timeout(1000)
        route.continue_()

    page.route(re.compile(r"/voila/static/voila\.js"), late)
    page.goto(server.url, wait_until="commit")
    tab = page.locator("#tt-first [data-ask=tab][data-value=trades]")
    tab.wait_for(timeout=LIMIT)
    box = tab.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "tt-asked" in (tab.get_attribute("class") or "")
    page.wait_for_function(ALL_PANELS.split("&&")[0], timeout=LIMIT)
    expect(page.locator(".tt-trades table").first).to_be_visible(timeout=LIMIT)
    assert page.evaluate("location.hash") == "#tab=trades"
    page.close(run_before_unload=True)
    context.close()
