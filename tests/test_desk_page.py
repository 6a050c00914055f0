"""The table of many strategies in a real browser: its script alone with five hundred rows, and the page with twelve."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pages import LIMIT, NOTEBOOK, ROOT, needs_browser, serving, shoot
from playwright.sync_api import Browser, Page, expect
from test_desk_rows import BROKEN, EVIL, LONG, NAMES, write_world

from trade_telemetry.dashboard.desk_widget import DeskTable

CSS = ROOT / "trade_telemetry/share/jupyter/voila/templates/trade_telemetry/app.css"
MODEL = """
(whole) => { window.model = {
  values: {whole: Uint8Array.from(atob(whole), c => c.charCodeAt(0)), version: 1, is_open: true}, heard: {}, sent: [],
  get(name) { return this.values[name]; },
  send(message) { this.sent.push(message); },
  on(events, heard) { for (const e of events.split(" ")) (this.heard[e] ??= []).push(heard); },
  off() {},
  tell(name, value) { this.values[name] = value; for (const heard of this.heard["change:" + name] ?? []) heard(); },
}; window.asked = []; document.addEventListener("tt-ask", (e) => window.asked.push(e.detail)); }
"""
FIRST = "[...document.querySelectorAll('.tt-desk tbody .tt-desk-name')].map(e => e.textContent)"


def crowd() -> list[dict[str, Any]]:
    """Five hundred rows, three of them hostile or hard to spell."""
    rng, rows = np.random.default_rng(1), []
    names = [f"strategy_{k:03}" for k in range(497)] + [LONG, EVIL, "Öl-策略 ✓"]
    for k, name in enumerate(names):
        state = "degraded" if k in (3, 498) else "watch" if k == 7 else "healthy"
        path = rng.normal(0, 1, 40).cumsum().tolist()
        rows.append({
            "name": name, "strategies": [name], "state": state, "since": "2025-05-04" if state == "degraded" else None, "sentence": f"{name} is {state}.",
            "chance": rng.random(), "near": 1.0 if state == "degraded" else rng.random() / 2, "trades": int(rng.integers(1, 9999)), "precision": rng.random(),
            "precision_promised": 0.6, "return_pct": rng.normal(), "return_promised_pct": 0.1, "cost_pct": None, "cost_promised_pct": None, "total_pct": path[-1],
            "drawdown_pct": -5.0, "deepest_pct": -6.0, "usual_drawdown_pct": [-2.0, -4.0], "last_trace_at": "2026-01-05T09:00:00+00:00",
            "writer": "silent" if k == 9 else "running", "writer_at": "2026-01-05T09:59:30+00:00",
            "curve": {"day": list(range(1, 41)), "return_pct": path, "low": [v - 1 for v in path], "high": [v + 1 for v in path]},
        })  # fmt: skip
    order = ["degraded", "watch", "healthy"]
    return sorted(rows, key=lambda row: order.index(row["state"]))


def state_of(rows: list[dict[str, Any]]) -> Any:
    states = {
        name: sum(row["state"] == name for row in rows) for name in ("degraded", "watch", "healthy")
    } | {"silent": 1}
    more = {
        "group_by": "strategy",
        "states": states,
        "line": "",
        "note": "",
        "alarms": "25 false alarms a year",
        "pinned": [],
        "drawn": [],
    }
    return {
        "desk": {**more, "rows": rows},
        "generated_at": "2026-01-05T10:00:00+00:00",
        "as_of": None,
        "clock": None,
    }


@contextmanager
def script_alone(
    browser: Browser, rows: list[dict[str, Any]], **options: Any
) -> Iterator[tuple[Page, DeskTable]]:
    table, page = DeskTable(), browser.new_page(**options)
    table.update(state_of(rows))
    script = (ROOT / "trade_telemetry/static/desk.js").read_text(encoding="utf-8")
    page.set_content(
        f'<style>{CSS.read_text(encoding="utf-8")}</style><div class="tt-app" data-place="desk"><div id="desk" class="tt-desk"></div></div>'
    )
    page.evaluate(MODEL, base64.b64encode(table.widget.whole).decode())
    page.add_script_tag(
        type="module", content=script.replace("export default { render };", "window.render = render;")
    )
    page.wait_for_function("typeof window.render === 'function'", polling=20, timeout=LIMIT)
    page.evaluate("void render({model, el: document.getElementById('desk')})")
    page.wait_for_function("document.querySelectorAll('.tt-desk tbody tr').length > 0", timeout=LIMIT)
    yield page, table
    page.close()


@needs_browser
def test_500_rows_are_sorted_searched_and_filtered_without_the_kernel(browser: Browser) -> None:
    rows = crowd()
    with script_alone(browser, rows, viewport={"width": 1440, "height": 900}) as (page, _):
        assert page.evaluate(FIRST)[:2] == [row["name"] for row in rows[:2]]
        head = page.locator("th[data-key=trades]")
        head.locator("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", "descending")
        trades = sorted((row["trades"] for row in rows), reverse=True)
        shown = page.locator("td[data-key=trades]").all_inner_texts()
        assert [int(text.replace(",", "")) for text in shown[:60]] == trades[:60]
        head.locator("button").click()
        expect(head).to_have_attribute("aria-sort", "ascending")
        assert page.locator("td[data-key=trades]").first.inner_text() == str(trades[-1])
        assert page.evaluate("document.activeElement.closest('th').dataset.key") == "trades"
        page.get_by_role("button", name="degraded").click()
        assert page.locator("tbody tr").count() == 2
        page.get_by_role("button", name="1 silent").click()
        assert page.evaluate(FIRST) == ["strategy_009"]
        page.get_by_role("button", name="500 all").click()
        for name in (LONG, EVIL, "Öl-策略 ✓"):
            page.get_by_role("searchbox").fill(name[:12])
            assert page.evaluate(FIRST) == [name]
        page.get_by_role("searchbox").fill("no such row")
        expect(page.locator(".tt-calm")).to_be_visible()
        page.get_by_role("searchbox").fill("")
        quick = "(() => { const t = performance.now(); document.querySelector('th[data-key=precision] button').click(); return performance.now() - t })()"
        assert page.evaluate(quick) < 2000  # a blink here, 50 ms where nothing else runs
        assert page.evaluate("[window.hacked, model.sent.length, asked.length]") == [None, 0, 0]
        assert page.locator("table").get_attribute("aria-rowcount") == "501"
        shoot(page, "desk_500")


@needs_browser
def test_only_changed_rows_are_asked_for_and_the_keyboard_keeps_its_place(browser: Browser) -> None:
    rows = crowd()
    with script_alone(browser, rows) as (page, table):
        link = page.locator("a.tt-desk-name").nth(2)
        link.focus()
        page.keyboard.press("ArrowDown")
        name = page.evaluate("document.activeElement.textContent")
        assert name == rows[3]["name"]
        rows[3] = rows[3] | {"trades": 77_777}
        table.is_known = True
        table.update(state_of(rows))
        page.evaluate("model.tell('version', 2)")
        assert page.evaluate("model.sent") == [{"type": "since", "version": 1}]
        answer = base64.b64encode(table.since(1, 2)).decode()
        page.evaluate(
            "(text) => { const data = Uint8Array.from(atob(text), c => c.charCodeAt(0)); for (const heard of model.heard['msg:custom']) heard({type: 'rows'}, [new DataView(data.buffer)]); }",
            answer,
        )
        expect(page.locator("tbody tr").nth(3).locator("td[data-key=trades]")).to_have_text("77,777")
        assert page.evaluate("document.activeElement.textContent") == name
        page.get_by_label(f"Draw the curve of {name}").check()
        page.get_by_label("A row is a").select_option("account")
        assert page.evaluate("asked") == [{"name": "pin", "value": name}, {"name": "by", "value": "account"}]


@needs_browser
def test_a_narrow_screen_shows_cards_and_nothing_sticks_out(browser: Browser) -> None:
    with script_alone(browser, crowd(), viewport={"width": 430, "height": 900}) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= 430
        row = page.locator("tbody tr").first
        expect(row.locator("[data-key=health]")).to_contain_text("since 4 May")
        expect(row.locator(".tt-desk-said")).to_be_visible()
        for cell in row.locator("td").all():  # a figure that a wide screen shows is there
            expect(cell).to_be_visible()
        expect(page.locator("thead")).not_to_be_in_viewport()
        page.get_by_label("Sort").select_option("trades")
        assert (
            page.locator("td[data-key=trades]").first.text_content()
            == f"{max(row['trades'] for row in crowd()):,}"
        )
        shoot(page, "desk_narrow")


@needs_browser
def test_the_page_of_twelve_leads_to_a_strategy_and_back_and_its_address_can_be_shared(
    browser: Browser, tmp_path: Path
) -> None:
    base = write_world(tmp_path / "analytics")
    place = "document.querySelector('.tt-app')?.dataset.place"
    with serving(NOTEBOOK, base) as server:
        page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
        page.set_default_timeout(LIMIT)
        complaints: list[str] = []
        page.on(
            "console",
            lambda m: complaints.append(m.text) if m.type == "error" else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url, wait_until="commit")
        page.wait_for_function(
            "document.querySelectorAll('.tt-desk tbody tr').length === 12", timeout=2 * LIMIT
        )
        page.wait_for_function(
            "document.querySelectorAll('tr[data-state=degraded]').length >= 2", timeout=2 * LIMIT
        )
        for name in BROKEN:
            row = page.locator("tbody tr", has=page.get_by_role("link", name=name, exact=True))
            assert row.evaluate("e => [...e.parentElement.children].indexOf(e)") < 3
            expect(row.locator("[data-key=health]")).to_contain_text("since")
            expect(row.locator(".tt-desk-said")).to_contain_text("lost its edge")
            assert row.evaluate("e => e.getBoundingClientRect().bottom") < 900
        assert page.locator(".tt-alerts .tt-head").evaluate("e => e.getBoundingClientRect().bottom") < 900
        assert set(page.evaluate(FIRST)) == set(NAMES)
        expect(page.locator(".tt-cards .tt-card")).to_have_count(0)
        shoot(page, "desk_12")
        page.get_by_role("link", name=EVIL).press("Enter")
        page.wait_for_function(f"{place} === 'strategy'")
        expect(page.locator(".tt-crumb h2")).to_have_text(EVIL)
        assert "#strategy=%3Cimg" in page.url
        shared = page.url
        page.get_by_role("tab", name="Is it working?").press("ArrowRight")
        page.wait_for_function("document.querySelector('.tt-app').dataset.tab === 'earn'")
        assert page.url == f"{shared}&tab=earn"
        expect(page.get_by_role("tab", name="Where does it earn?")).to_be_focused()
        page.go_back()
        page.wait_for_function("document.querySelector('.tt-app').dataset.tab === 'working'")
        assert page.url == shared
        page.keyboard.press("Escape")
        page.wait_for_function(f"{place} === 'desk'")
        expect(page.get_by_role("link", name=EVIL)).to_be_focused()
        assert page.evaluate("[location.hash, window.hacked]") == ["", None]
        page.go_back()
        page.wait_for_function(f"{place} === 'strategy'")
        page.evaluate(
            "location.hash = 'strategy=' + encodeURIComponent('<b>nobody</b>') + '&tab=%E0%A4&__proto__=x'"
        )
        page.wait_for_function(f"{place} === 'desk'")
        assert complaints == []
        page.close()
