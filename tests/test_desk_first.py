"""The table of many strategies stands in the page that the server sends, as the browser draws it a moment later."""

from __future__ import annotations

import re
from pathlib import Path

from pages import LIMIT, NOTEBOOK, needs_browser, serving, shoot
from playwright.sync_api import Browser, Route
from test_desk_rows import BROKEN, EVIL, write_world

ROWS = """(of) => [...document.querySelectorAll(of + ' .tt-desk tbody tr')].map((tr) =>
  ['.tt-desk-name', '.tt-desk-badge', '[data-key=trades]', '[data-key=precision]', '[data-key=return_pct]', '[data-key=cost_pct]', '[data-key=drawdown]'].map((one) => tr.querySelector(one).innerText.trim()))"""
BESIDE = """(() => {
  const [curve, alerts] = ['.tt-curve', '.tt-alerts'].map((one) => document.querySelector('#tt-first ' + one).getBoundingClientRect());
  return [Math.round(alerts.top - curve.top), alerts.left >= curve.right, document.querySelectorAll('#tt-first .tt-alerts li').length];
})()"""
THERE = "document.querySelector('.tt-app .tt-desk tbody tr') && !document.querySelector('#tt-first')"


@needs_browser
def test_the_rows_of_the_desk_are_there_before_any_script(browser: Browser, tmp_path: Path) -> None:
    write_world(tmp_path)
    with serving(NOTEBOOK, tmp_path) as server:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()

        def late(route: Route) -> None:
            page.wait_for_timeout(1500)
            route.continue_()

        page.route(re.compile(r"/voila/static/voila\.js"), late)
        page.goto(server.url, wait_until="commit")
        page.wait_for_selector("#tt-first .tt-desk tbody tr", timeout=LIMIT)
        before = page.evaluate(ROWS, "#tt-first")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("window.hacked") is None
        shoot(page, "desk_first")
        lower, beside, alerts = page.evaluate(BESIDE)  # no empty panel stands in the place of the alerts
        assert (lower, beside) == (0, True) and alerts > 0
        page.wait_for_function(THERE, polling="raf", timeout=LIMIT)
        assert before == page.evaluate(ROWS, ".tt-app")
        assert {row[0] for row in before[:2]} == {*BROKEN} and EVIL in {row[0] for row in before}
        page.close(run_before_unload=True)
        context.close()
