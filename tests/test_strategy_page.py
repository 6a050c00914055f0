"""A strategy's own page: opened from its card or by its address, in a real Voilà and a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pages import EVIL, NOTEBOOK, Server, needs_browser, serving, shoot, viewing
from playwright.sync_api import Browser, expect
from test_dashboard import make_page

from trade_telemetry.dashboard.strategy_panel import BandPanel, StrategyPanel
from trade_telemetry.testing import simulate_run, write_run
from trade_telemetry.trace import PredictionTrace


def monday(days_ago: int) -> datetime:
    "A Monday, as simulated runs begin."
    at = (datetime.now(UTC) - timedelta(days=days_ago)).replace(hour=14, minute=35, second=0, microsecond=0)
    return at - timedelta(days=at.weekday())


def versioned(traces: list[PredictionTrace], version: str) -> list[PredictionTrace]:
    for trace in traces:
        trace.version = version
    return traces


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "gap_fade breaks on its fiftieth live day; a hostile name goes on in two versions, the second on a quieter market."
    base = tmp_path_factory.mktemp("desk")
    both = ("gap_fade", EVIL)
    write_run(
        base / "backtest_20250106_000000",
        simulate_run(150, 8, 0.56, seed=1, start=monday(600), strategies=both),
    )
    start = monday(112)
    broken = simulate_run(75, 8, 0.56, seed=2, mode="live", start=start, strategies=both[:1], loss_of_skill_on_day=50, precision_after=0.3)  # fmt: skip
    first = versioned(
        simulate_run(30, 8, 0.56, seed=3, mode="live", start=start, strategies=both[1:]), "1 <b>"
    )
    second = versioned(
        simulate_run(
            45,
            8,
            0.56,
            seed=4,
            mode="live",
            start=start + timedelta(days=42),
            strategies=both[1:],
            noop_share=0.35,
        ),
        "2",
    )
    write_run(base / "live", broken + first + second)
    return base


@pytest.fixture(scope="module")
def server(desk: Path) -> Iterator[Server]:
    with serving(NOTEBOOK, desk) as started:
        yield started


def test_a_strategy_is_opened_from_its_card_answered_once_and_closed_again(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trade_telemetry.dashboard.state as room

    made: list[bool] = []
    real = room.opened_page
    monkeypatch.setattr(room, "opened_page", lambda *given: made.append(given[-1]) or real(*given))
    page, parts = make_page(desk)
    panels = StrategyPanel(), BandPanel()
    page.panels = [*page.panels, *panels]
    assert 'data-ask="strategy" data-value="gap_fade"' in parts["cards"].widget.value
    page.ask("strategy", "gap_fade")
    assert page.shown is not None
    assert page.shown["strategy"] is not None
    assert page.shown["strategy"]["title"].startswith("Right calls fell from")
    assert "data-ask" not in parts["cards"].widget.value
    upper, lower = (panel.chart.chart for panel in panels)
    assert [line["id"] for line in upper.option["series"]][-2:] == ["watch", "chance"]
    for beat in (2, 3, 4):
        page.clock.beat = beat
    assert made in ([True], [False, True])  # at once, and thoroughly where bars had to be drawn
    assert upper is panels[0].chart.chart
    page.ask("tab", "trades")
    assert (page.shown["strategy"], len(panels[0].widget.children)) == (None, 0)
    page.ask("tab", "working")
    page.ask("strategy", "")
    assert (page.shown["strategy"], panels[0].chart.chart, panels[1].chart.chart) == (None, None, None)
    assert lower is not None
    assert len(made) <= 2


def test_a_hostile_name_opens_its_own_page_and_is_inert(desk: Path) -> None:
    page, _ = make_page(desk)
    panels = StrategyPanel(), BandPanel()
    page.panels = [*page.panels, *panels]
    page.ask("strategy", EVIL)
    assert page.shown is not None
    assert page.shown["opened"] == EVIL
    assert page.shown["strategy"] is not None
    assert [mark["text"] for mark in page.shown["strategy"]["marks"]] == ["version 2"]
    html = "".join(
        part.value for part in (panels[0].head, panels[0].below, panels[0].periods, panels[1].head)
    )
    assert "<img" not in html
    assert "<b>" not in html
    assert "&lt;img" in html


@needs_browser
def test_the_page_of_a_strategy_shows_since_when_and_how_sure(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as (page, seen):
        page.get_by_role("button", name="How sure? Open gap_fade").click()
        upper = page.locator(".tt-path")
        expect(upper.locator("h2")).to_have_text(
            re.compile(r"^Right calls fell from \d\d % to \d\d % around .*; said on .*")
        )
        expect(upper.locator(".tt-state")).to_have_text("degraded")
        expect(upper.locator("svg").first).to_be_visible()
        expect(page.locator(".tt-band svg").first).to_be_visible()
        expect(page.locator(".tt-curve")).to_be_hidden()
        expect(page.locator(".tt-periods thead th")).to_have_count(4)
        expect(page.locator(".tt-card")).to_have_count(1)
        upper.locator("summary").click()
        assert upper.locator("tbody tr").count() > 10  # the chart for those who cannot see it
        assert page.evaluate("location.hash").startswith("#strategy=gap_fade")
        shoot(page, "strategy")
        page.reload()
        expect(upper.locator("h2")).to_have_text(re.compile("^Right calls fell"))
        page.keyboard.press("Escape")
        expect(page.locator(".tt-card")).to_have_count(2)
        expect(upper).to_have_count(0)
        expect(page.locator(".tt-curve")).to_be_visible()
        assert seen.complaints == []
        assert seen.off_host() == []


@needs_browser
def test_on_a_telephone_in_the_dark_a_hostile_strategy_is_legible(browser: Browser, server: Server) -> None:
    look = {"viewport": {"width": 430, "height": 900}, "color_scheme": "dark"}
    with viewing(browser, server, **look) as (page, seen):
        page.locator(".tt-card").filter(has_text="<img").get_by_role("button").first.click()
        expect(page.locator(".tt-path h2")).to_have_text(
            re.compile("^Calls where the market moved may have fallen")
        )
        expect(page.locator(".tt-path svg").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("window.hacked") is None
        shoot(page, "strategy_mobile")
        assert seen.complaints == []
