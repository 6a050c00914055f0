"""Care for the page: first paint, an empty console, panels that are not lost under load, keyboard and contrast of every part, and a desk of which only what changed is judged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pytest
from pages import (
    ALL_PANELS,
    CONTRAST,
    LIMIT,
    NOTEBOOK,
    ROOT,
    Server,
    make_traces,
    needs_browser,
    sample_traces,
    serving,
    shoot,
    until,
    viewing,
    write,
)
from playwright.sync_api import Browser, Page

import trade_telemetry.judgement.health as health_room
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.judgement.alerts import alert_report
from trade_telemetry.judgement.health import health_of
from trade_telemetry.store.view import View
from trade_telemetry.testing import START, simulate_columns

TEMPLATE = ROOT / "trade_telemetry" / "share" / "jupyter" / "voila" / "templates" / "trade_telemetry"


# --------------------------------------------------------------- a desk of which only what changed is judged


def test_of_a_hundred_strategies_only_the_one_that_traded_is_judged_anew(tmp_path: Path) -> None:
    names, weeks = [f"s{k:02}" for k in range(100)], START + timedelta(weeks=20)
    past = simulate_columns(30, 2, 0.6, strategies=names)
    live = simulate_columns(15, 2, 0.6, strategies=names, mode="live", start=weeks, seed=1)
    settings, now = Settings(telemetry_storage_path=tmp_path), weeks + timedelta(days=60)
    judged: list[list[str]] = []
    real = health_room.health_of_case

    def counting(case: Any, *rest: Any) -> Any:
        judged.append(list(case.live.money.strategies))
        return real(case, *rest)

    with patch.object(health_room, "health_of_case", counting):
        first = health_of(View("live", live, past, [], []), settings, now=now, draw=False)
        assert sorted(name for some in judged for name in some) == names
        judged.clear()
        mine = live.strategies[live.strategy[-1]]
        fewer = View("live", live.take(slice(0, -1)), past, [], [])
        then = health_of(fewer, settings, now=now, draw=False)
        alert_report(fewer, settings, now=now, draw=False)  # it asks the monitor, too
        assert judged == [[mine]]
    assert {name for name in first if repr(first[name]) != repr(then[name])} == {mine}


def test_what_was_said_on_disk_is_what_judging_anew_says(tmp_path: Path) -> None:
    """A second process, of the same files: nothing is judged, and not a digit differs."""
    names = ["a", "b", "c"]
    past = simulate_columns(60, 4, 0.6, strategies=names)
    gone = {"loss_of_skill_on_day": 20, "precision_after": 0.3}
    live = simulate_columns(
        50, 4, 0.6, strategies=names, mode="live", start=START + timedelta(weeks=20), **gone
    )
    view, now = View("live", live, past, [], []), START + timedelta(weeks=60)
    settings = Settings(telemetry_storage_path=tmp_path)

    def asked() -> str:
        return repr((health_of(view, settings, now=now), alert_report(view, settings, now=now)))

    known = asked()
    from trade_telemetry.judgement.kept_answers import answers_of

    answers_of.cache_clear()  # as in a process that begins
    with patch.object(health_room, "health_of_case", None):
        assert asked() == known
    (tmp_path / ".bars" / "answers.json").write_text('{"torn": [')
    answers_of.cache_clear()
    assert asked() == known


def test_the_verdicts_of_the_page_follow_the_rules_when_nothing_else_changes(tmp_path: Path) -> None:
    base = tmp_path / "analytics"
    past = datetime.now(UTC) - timedelta(days=200)
    write(base / "backtest_1", make_traces("swing", 500, 0.72, mode="backtest", seed=1, ending=past))
    write(base / "live", make_traces("swing", 300, 0.45, seed=3))
    source = StateSource(Settings(telemetry_storage_path=base))
    before = source.read(Query())["strategies"]["swing"]["against"]
    (base / "alerts.yaml").write_text("variants_tried: 40\n")
    hasty = source.read(Query(hurry=True))
    assert hasty["complete"] is False  # the old verdict is in sight until the new one is there
    after = source.read(Query())
    assert after["complete"] and after["strategies"]["swing"]["against"] != before
    (base / "alerts.yaml").unlink()
    assert source.read(Query())["strategies"]["swing"]["against"] == before


# --------------------------------------------------------------- panels that are not lost


LATE = """
import asyncio, json, sys
from unittest.mock import patch
from jupyter_client.manager import AsyncKernelManager
from nbformat.v4 import new_code_cell, new_notebook
from voila.execute import VoilaExecutor

cells = [new_code_cell("print('panels')") for _ in range(2)]

async def run():
    executor = VoilaExecutor(new_notebook(cells=cells), km=AsyncKernelManager(kernel_name="python3"))
    async with executor.async_setup_kernel():
        channel = executor.kc.iopub_channel
        fetch = channel.get_msg

        async def late(**options):
            await asyncio.sleep(0.6)
            return await fetch(**options)

        with patch.object(channel, "get_msg", late):
            for cell, patience in zip(cells, (1, int(sys.argv[1]))):
                executor.iopub_timeout = patience
                await executor.async_execute_cell(cell, 0)
                shown.append(len(cell.outputs))  # Voilà writes the cell into the page now

shown = []
asyncio.run(run())
print(json.dumps(shown))
"""


def test_output_that_is_late_on_a_loaded_machine_is_lost_without_patience() -> None:
    """Why panels were missing: a cell's output that comes later than its reply is dropped after `iopub_timeout`, 4 s by default, without an error."""
    configured = json.loads((ROOT / "voila.json").read_text())["VoilaExecutor"]
    assert configured["iopub_timeout"] >= 60 and configured["startup_timeout"] > 60
    command = [sys.executable, "-c", LATE, str(configured["iopub_timeout"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = sample_traces(tmp_path_factory.mktemp("care") / "analytics")
    with serving(NOTEBOOK, base) as started:
        yield started


@pytest.mark.soak
@needs_browser
def test_a_page_whose_kernel_dies_while_it_is_written_gets_another_by_itself(
    browser: Browser, tmp_path: Path
) -> None:
    base = sample_traces(tmp_path / "analytics")
    with serving(NOTEBOOK, base, "--preheat_kernel=False") as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url, wait_until="commit")
        page.wait_for_selector("[cell-index='2']", state="attached", timeout=LIMIT)  # a part is there already
        for member in server.family():
            with suppress(psutil.Error):
                if "ipykernel_launcher" in " ".join(member.cmdline()):
                    member.kill()
        page.wait_for_function(ALL_PANELS, polling=100, timeout=3 * LIMIT)
        context.close()


@needs_browser
def test_many_viewers_at_once_all_get_their_panels(
    browser: Browser, server: Server, counts: Callable[[int, int], int]
) -> None:
    """One kernel waits in the pool, the others are started while the machine is busy with all of them."""
    contexts = [browser.new_context() for _ in range(counts(3, 20))]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.goto(server.url, wait_until="commit")
    for page in pages:
        page.wait_for_function(ALL_PANELS, polling=100, timeout=LIMIT * len(pages))
        page.close(run_before_unload=True)
    for context in contexts:
        context.close()


# --------------------------------------------------------------- first paint


@needs_browser
def test_the_panels_stand_in_the_page_that_the_server_sends(browser: Browser, server: Server) -> None:
    """Before any script of Voilà has run; then the kernel answers, and they give way in the same moment."""
    idle = browser.new_page()
    assert until(lambda: server.kernels() >= 1, idle)
    idle.close()
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.route(
        re.compile(r"/voila/static/voila\.js"), lambda route: (page.wait_for_timeout(1500), route.continue_())
    )
    page.goto(server.url, wait_until="commit")
    page.wait_for_selector("#tt-first .tt-cards .tt-panel h2", timeout=LIMIT)
    told = page.locator("#tt-first").inner_text()
    assert "intraday" in told and "swing" in told and "As of " in told and "Alerts" in told
    assert page.locator("#tt-first svg.tt-first-chart path").count() == 2
    assert page.evaluate("document.querySelector('#tt-first').inert")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "first_paint")
    page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
    assert page.locator("#tt-first").count() == 0 and page.locator(".tt-app").count() == 1
    assert page.locator(".tt-app").is_visible()
    page.wait_for_timeout(500)
    assert complaints == []  # no warning of a version, no error of a drawing
    page.close(run_before_unload=True)
    context.close()


# --------------------------------------------------------------- keyboard, names, contrast, width

LOOK = (
    f"() => {{\n{CONTRAST}"
    + """  const shown = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && e.getClientRects().length;
  const name = (e) => (e.getAttribute("aria-label") || [...(e.labels ?? [])].map((l) => l.textContent).join("") || e.textContent
    || document.getElementById(e.getAttribute("aria-labelledby") ?? "")?.textContent || e.title || e.placeholder || "").trim();
  const app = document.querySelector(".tt-app"), bad = [];
  for (const e of app.querySelectorAll("button, a[href], input, select, textarea, summary, [tabindex]")) {
    if (shown(e) && e.tabIndex >= 0 && !name(e)) bad.push("no name: " + e.outerHTML.slice(0, 120));
  }
  const walk = document.createTreeWalker(app, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !shown(e) || e.closest("svg, option, [disabled], [aria-hidden=true]")) continue;
    const style = getComputedStyle(e), size = parseFloat(style.fontSize);
    const enough = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if (ratio(e) < enough - 0.05) bad.push(`contrast ${ratio(e).toFixed(2)}: ${text.slice(0, 60)} (${e.className})`);
  }
  if (document.documentElement.scrollWidth > innerWidth) bad.push(`wide: ${document.documentElement.scrollWidth} of ${innerWidth}`);
  return [...new Set(bad)];
}
"""
)
REACHABLE = """
() => [...document.querySelectorAll(".tt-app :is(button, a[href], input, select, textarea, summary, [tabindex])")]
  .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length).length
"""
PASSED = "(window.passed ??= new Set()).add(document.activeElement), document.activeElement?.closest('.tt-app') ? passed.size : -passed.size"


def open_tab(page: Page, name: str) -> None:
    page.click(f'.tt-tabs [data-ask="tab"][data-value="{name}"]')
    page.wait_for_function(f"document.querySelector('.tt-app').dataset.tab === '{name}'", timeout=LIMIT)
    page.wait_for_function("document.querySelector('.tt-clock').dataset.waiting === 'false'", timeout=LIMIT)
    page.wait_for_timeout(300)


@needs_browser
@pytest.mark.parametrize("width", [1440, 430])
def test_every_tab_is_named_readable_and_fits_in_every_theme(
    browser: Browser, server: Server, width: int
) -> None:
    found = {}
    with viewing(browser, server, viewport={"width": width, "height": 900}) as (page, seen):
        tabs = page.evaluate(
            "[...document.querySelectorAll('.tt-tabs [data-ask=tab]')].map(b => b.dataset.value)"
        )
        assert len(tabs) >= 3
        for tab in tabs:
            open_tab(page, tab)
            for theme in ("light", "dark", "projector"):
                page.evaluate(f"document.documentElement.dataset.ttTheme = '{theme}'")
                page.wait_for_timeout(50)
                found |= {f"{tab} {theme}": bad} if (bad := page.evaluate(LOOK)) else {}
            shoot(page, f"care_{tab}_{width}")
        assert found == {}
        assert seen.complaints == []


@needs_browser
def test_the_theme_goes_round_and_is_kept(browser: Browser, server: Server) -> None:
    with viewing(browser, server, viewport={"width": 1440, "height": 900}) as (page, _):
        size, shown = "document.querySelector('.tt-app h1').getBoundingClientRect().height", []
        before = page.evaluate(size)
        for _ in range(3):
            page.click(".tt-theme")
            shown.append(page.evaluate("document.documentElement.dataset.ttTheme"))
            if shown[-1] == "projector":
                assert page.evaluate(size) > 1.2 * before
                shoot(page, "projector")
                page.reload(wait_until="commit")
                page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
                assert page.evaluate("document.documentElement.dataset.ttTheme") == "projector"
        assert shown == ["dark", "projector", "light"]


@needs_browser
def test_everything_that_can_be_used_is_reached_by_the_tab_key(browser: Browser, server: Server) -> None:
    with viewing(browser, server, viewport={"width": 1440, "height": 900}) as (page, _):
        page.evaluate("document.activeElement?.blur(), window.passed = new Set()")
        there, passed = page.evaluate(REACHABLE), 0
        for _ in range(there + 10):
            page.keyboard.press("Tab")
            passed = max(passed, page.evaluate(PASSED))
        assert there > 10 and passed >= there, (there, passed)
