"""Tabs by question in a browser: pictures that lead to their trades, a list that keeps what is typed, names that stay text."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pages import (
    CONTRAST,
    EVIL,
    LIMIT,
    NOTEBOOK,
    Server,
    make_traces,
    needs_browser,
    serving,
    shoot,
    viewing,
    write,
)
from playwright.sync_api import Browser, Download, Page, expect

from trade_telemetry.config import Settings
from trade_telemetry.dashboard.answers import state_schema
from trade_telemetry.dashboard.page import Dashboard
from trade_telemetry.dashboard.picture_wall import PictureWall
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.trace import PredictionTrace

FORMULA = "=1+1"
READY = "document.querySelector('.tt-clock').dataset.waiting === 'false'"


def told(seed: int, n: int, **more: Any) -> list[PredictionTrace]:
    "Trades that say why they were opened and closed and how far they went; some names are hostile."
    dice, found = random.Random(seed), []
    for trade in make_traces(
        "intraday", n, 0.55, symbols=("SPY", EVIL, FORMULA, "x" * 70), seed=seed, **more
    ):
        minutes = dice.lognormvariate(3.5, 1)
        reason, tag = dice.choice(["stop_loss", "take_profit"]), dice.choice(["gap", EVIL, ""])
        depth = {"mae_pct": -abs(dice.gauss(0.3, 0.2)), "mfe_pct": abs(dice.gauss(0.4, 0.2))}
        told_too = {"exit_reason": reason, "entry_tag": tag, "predicted_confidence": dice.uniform(0.5, 0.9)}
        found.append(replace(trade, exit_timestamp=None, holding_period_minutes=minutes, **depth, **told_too))
    return found


def desk_of_two(base: Path, n: int = 400) -> Path:
    past = datetime.now(UTC) - timedelta(days=150)
    write(base / "backtest_20250112_143022", told(1, n, mode="backtest", days=120, ending=past))
    write(base / "live", told(2, n, days=70), make_traces("swing", 120, 0.6, days=70, seed=3))
    return base


# ------------------------------------------------------------------------------------------ without a browser


def wall_of(base: Path) -> tuple[Dashboard, PictureWall]:
    source, wall = StateSource(Settings.load(telemetry_storage_path=base)), PictureWall()
    return Dashboard(source.read, [wall]), wall


def opened(page: Dashboard, tab: str) -> None:
    "Open a tab, and let the page's clock fetch what was left out in a hurry."
    page.ask("tab", tab)
    beat = page.clock.beat
    while page.clock.more:
        beat += 1
        page.clock.beat = beat


def test_every_question_has_pictures_of_the_schema_that_fit_into_fifty_kilobytes(tmp_path: Path) -> None:
    from jsonschema import Draft202012Validator

    page, wall = wall_of(desk_of_two(tmp_path, 2000))
    names = {}
    for tab in ("earn", "when", "trades"):
        opened(page, tab)
        assert page.shown is not None
        Draft202012Validator(state_schema()).validate(json.loads(json.dumps(page.shown, allow_nan=False)))
        faces = json.loads(wall.view.pictures)
        names[tab] = [face["name"] for face in faces]
        charts = [wall.charts[name].widget.option for name in names[tab] if name in wall.charts]
        assert len(wall.view.pictures.encode()) + len(json.dumps(charts).encode()) < 50_000, tab
        assert all(face["title"] and (face["rows"] or face["kind"] == "words") for face in faces)
        assert all(len(row) == len(face["header"]) for face in faces for row in face["rows"])
    assert {"by_strategy", "by_symbol", "by_entry_tag", "by_exit_reason", "distribution", "months", "correlation"} <= set(names["earn"])  # fmt: skip
    assert {"calendar", "hours", "streaks", "holding"} <= set(names["when"])
    assert names["trades"] == ["excursions"]
    opened(page, "working")
    assert (wall.view.pictures, wall.widget.children) == ("[]", ())


def test_pictures_are_of_the_strategy_that_is_opened_and_a_point_leads_to_its_trade(tmp_path: Path) -> None:
    page, wall = wall_of(desk_of_two(tmp_path))
    wall.listen(page.ask)
    opened(page, "when")
    all_days = json.loads(wall.view.pictures)[0]["rows"]
    page.ask("strategy", "swing")
    opened(page, "when")
    own = json.loads(wall.view.pictures)[0]["rows"]
    assert sum(int(row[2]) for row in own) == 120 < sum(int(row[2]) for row in all_days)
    points = wall.drawn["holding"]["data"]["series"][0]
    wall.open("holding", {"seriesId": "s0", "dataIndex": 7, "value": points["points"][7]})
    listed = (page.shown or {}).get("trades")
    assert listed is not None and (page.query.tab, listed["total"]) == ("trades", 1)
    assert listed["rows"][0]["trace_id"] == points["ids"][7]
    assert round(listed["rows"][0]["return_pct"] or 0.0, 3) == round(points["points"][7][1], 3)


# ---------------------------------------------------------------------------------- real Voilà, real Chromium


@pytest.fixture(scope="module")
def tabs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        NOTEBOOK, desk_of_two(tmp_path_factory.mktemp("tabs")), DASHBOARD_REFRESH_INTERVAL="60"
    ) as started:
        yield started


def open_tab(page: Page, name: str) -> None:
    page.locator(f"[role=tab][data-value={name}]").click()
    page.wait_for_function(
        f"document.querySelector('.tt-app').dataset.tab === '{name}' && {READY} && !document.querySelector('.tt-pictures')?.innerText.includes('Drawing')",
        timeout=LIMIT,
    )


def text_of(download: Download) -> str:
    return Path(download.path()).read_text(encoding="utf-8")


@needs_browser
def test_a_day_leads_to_its_trades_and_what_is_looked_for_can_be_typed_taken_away_and_reloaded(
    browser: Browser, tabs: Server
) -> None:
    with viewing(browser, tabs, viewport={"width": 1440, "height": 1000}) as (page, seen):
        open_tab(page, "when")
        day = page.locator(".tt-month button").last
        expect(day).to_have_attribute(
            "tabindex", "0"
        )  # one place of the calendar takes part in the keyboard's order
        assert page.locator('.tt-month button[tabindex="0"]').count() == 1
        day.focus()
        page.keyboard.press("ArrowUp")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        count = label.rsplit(", ", 1)[1].split()[0]
        shoot(page, "tab_when")
        page.keyboard.press("Enter")
        expect(page.locator(".tt-trades .tt-note").first).to_contain_text(f"{count} trade")
        chip = page.locator(".tt-taken").first
        expect(chip).to_have_text(f"Closed {label[:10]}×")
        chip.click()
        expect(page.locator(".tt-trades h2")).to_have_text("All trades")
        field = page.get_by_label("Filter Return")
        field.fill("< 0")
        expect(page.locator(".tt-trades h2")).to_have_text("Trades that you look for")
        assert field.evaluate("node => node === document.activeElement")
        page.locator(".tt-all th", has_text="Return").get_by_role("button").click()
        expect(page.locator(".tt-all th", has_text="Return")).to_have_attribute("aria-sort", "descending")
        first = page.locator(".tt-all tbody tr").first.locator("b")
        expect(first).to_have_class("tt-loss")
        page.locator(".tt-all th", has_text="Return").get_by_role("button").click()
        expect(page.locator(".tt-all th", has_text="Return")).to_have_attribute("aria-sort", "ascending")
        worst = first.inner_text()
        with page.expect_download() as download:
            page.locator(".tt-trades .tt-save").click()
        rows = list(csv.DictReader(text_of(download.value).splitlines()))
        assert "_filtered.csv" in download.value.suggested_filename
        assert f"{min(float(row['return_pct']) for row in rows):.2f}".replace("-", "−") in worst
        page.reload(wait_until="commit")
        expect(page.get_by_label("Filter Return")).to_have_value("< 0", timeout=LIMIT)
        expect(page.locator(".tt-all tbody tr").first.locator("b")).to_have_text(worst)
        page.get_by_label("Filter Return").fill("lots")
        expect(page.locator(".tt-problem")).to_have_text("Return: not a number: lots")
        expect(page.get_by_label("Filter Return")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Filter Return").press("Escape")
        expect(page.locator(".tt-problem")).to_be_hidden()
        assert page.evaluate("document.querySelector('.tt-app').dataset.tab") == "trades"
        shoot(page, "tab_trades")
        assert seen.complaints == []


@needs_browser
def test_a_table_is_sorted_here_its_names_are_text_and_its_rows_can_be_saved(
    browser: Browser, tabs: Server
) -> None:
    with viewing(browser, tabs, viewport={"width": 1440, "height": 1000}) as (page, seen):
        open_tab(page, "earn")
        card = page.locator(".tt-picture").filter(has=page.locator("h2", has_text="By symbol"))
        names = card.locator("tbody td:first-child")
        assert set(names.all_inner_texts()) >= {EVIL, FORMULA, "SPY"}
        assert page.locator("img").count() == 0
        beat = page.get_attribute(".tt-clock", "data-beat")
        card.locator("th").nth(1).get_by_role("button").click()
        trades = [
            int(text.replace(",", "")) for text in card.locator("tbody td:nth-child(2)").all_inner_texts()
        ]
        assert trades == sorted(trades, reverse=True)
        assert page.get_attribute(".tt-clock", "data-beat") == beat  # nobody asked the kernel
        with page.expect_download() as download:
            card.get_by_role("button", name="Save as CSV").click()
        saved = list(csv.reader(text_of(download.value).splitlines()))
        assert len(saved) == len(trades) + 1
        assert f"'{FORMULA}" in [row[0] for row in saved]
        whole = page.locator(".tt-picture").filter(has=page.locator("summary")).first
        whole.locator("summary").click()
        expect(whole.locator("details table")).to_be_visible()
        shoot(page, "tab_earn")
        card.get_by_role("button", name=f"Trades of {EVIL}").click()
        expect(page.locator(".tt-taken").first).to_have_text(f"Symbol = {EVIL}×")
        expect(page.locator(".tt-all tbody td:nth-child(2)").first).to_contain_text("<img")
        assert page.evaluate("window.hacked") is None
        chart = page.locator(".tt-picture").filter(has_text="worst move against")
        chart.scroll_into_view_if_needed()
        place = chart.locator("svg path[fill='var(--tt-good)']").first.bounding_box()
        assert place is not None
        for _ in range(20):  # the chart learns that clicks are wanted after it is drawn
            page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
            with suppress(AssertionError):
                expect(page.locator(".tt-taken").first).to_have_text(
                    re.compile("^Id = [0-9a-f]{16}×$"), timeout=500
                )
                break
        expect(page.locator(".tt-all tbody tr")).to_have_count(1)
        assert seen.complaints == []


RATIOS = (
    f"() => {{\n{CONTRAST}"
    "  return [...document.querySelectorAll(SELECTOR)].map((node) => [node.textContent, ratio(node)]).filter(([, found]) => found < 4.5);\n}"
)
WORDS = ".tt-picture :is(h2, p, td, th, caption span, summary, button), .tt-trades :is(h2, td, th, button:not(:disabled), .tt-note)"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_light_and_dark_all_can_be_read_and_nothing_stands_out_sideways(
    browser: Browser, tabs: Server, scheme: Any
) -> None:
    with viewing(browser, tabs, viewport={"width": 430, "height": 1400}, color_scheme=scheme) as (page, seen):
        for tab in ("when", "earn", "trades"):
            open_tab(page, tab)
            outside = "[...document.querySelectorAll('.tt-app *')].filter(e => !e.closest('.tt-wide > *') && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1).length"
            page.wait_for_function(f"{outside} === 0", timeout=LIMIT)
            assert page.evaluate("document.documentElement.scrollWidth") <= 430
            assert page.locator(WORDS).count() > 60
            assert page.evaluate(RATIOS.replace("SELECTOR", json.dumps(WORDS))) == []
            shoot(page, f"phone_{tab}_{scheme}")
        assert seen.complaints == []
