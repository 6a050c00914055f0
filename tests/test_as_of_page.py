"""Looking back in a browser: the control against a stand-in for the kernel, and once against the page itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pages import LIMIT, NOTEBOOK, ROOT, needs_browser, serving, shoot, viewing
from playwright.sync_api import Browser, Page

from trade_telemetry.testing import START, simulate_run, write_run

CHROME = (
    ROOT / "trade_telemetry" / "share" / "jupyter" / "voila" / "templates" / "trade_telemetry" / "app.css"
)

MODEL = """
window.model = {
  values: {span: '{"first": "2025-01-01", "last": "2025-12-31"}', shown: "", said: "", told: "[]", step: 0, ack: 0},
  heard: {}, sent: [],
  get(name) { return this.values[name]; },
  set(name, value) { this.values[name] = value; },
  save_changes() {},
  send(message) { this.sent.push(message); },
  on(events, heard) { for (const e of events.split(" ")) (this.heard[e] ??= []).push(heard); },
  off() {},
  tell(name, value) { this.values[name] = value; for (const heard of this.heard["change:" + name] ?? []) heard(); },
  answer() { const last = this.sent.filter((m) => m.step).at(-1); this.tell("shown", last.value); this.tell("ack", this.values.step); },
};
"""


@pytest.fixture
def control(browser: Browser) -> Iterator[Page]:
    "The control's script in an empty page, its time in our hands."
    page = browser.new_page(viewport={"width": 1000, "height": 400})
    page.clock.install(time=0)
    page.set_content(f"<style>{CHROME.read_text()}</style><div class=tt-app><button class=tt-back>back</button><div id=control></div></div>")  # fmt: skip
    script = (ROOT / "trade_telemetry" / "static" / "as_of.js").read_text(encoding="utf-8")
    page.evaluate(MODEL)
    page.add_script_tag(type="module", content=script.replace("export default { render };", "window.render = render;"))  # fmt: skip
    page.wait_for_function("typeof window.render === 'function'", polling=20, timeout=LIMIT)
    page.evaluate("void render({model, el: document.getElementById('control')})")
    page.clock.run_for(100)
    page.evaluate("document.querySelector('.tt-app').dispatchEvent(new CustomEvent('tt-look-back'))")
    yield page
    page.close()


def asked(page: Page) -> list[tuple[str, str]]:
    sent: list[dict[str, Any]] = page.evaluate("model.sent.filter((m) => m.step)")
    return [(message["type"], message["value"]) for message in sent]


def pick(page: Page, day: str) -> None:
    page.fill(".tt-asof input[type=date]", day)


@needs_browser
def test_the_control_is_hidden_until_it_is_asked_for_and_the_band_until_somebody_looks_back(control: Page) -> None:  # fmt: skip
    assert control.is_visible(".tt-asof-bar") and not control.is_visible(".tt-asof-band")
    pick(control, "2025-03-12")
    control.evaluate("model.answer()")
    assert control.inner_text(".tt-asof-band b") == "Shown as of 2025-03-12. Not the present."
    control.click(".tt-asof-now")
    control.evaluate("model.answer()")
    assert asked(control) == [("as_of", "2025-03-12"), ("as_of", "")]
    assert not control.is_visible(".tt-asof")
    assert control.evaluate("document.activeElement.className") == "tt-back"


@needs_browser
def test_a_year_plays_in_a_minute_each_day_waits_for_its_answer_and_a_slow_kernel_skips_days(control: Page) -> None:  # fmt: skip
    control.evaluate("document.querySelector('[type=range]').value = 0")
    control.click(".tt-asof-play")
    assert asked(control) == [("play", "2025-01-01")]
    control.clock.run_for(10_000)
    assert len(asked(control)) == 1  # no answer, no question
    control.evaluate("model.answer()")
    control.clock.run_for(300)
    (_, day) = asked(control)[-1]
    passed = (date.fromisoformat(day) - date(2025, 1, 1)).days
    assert 60 <= passed <= 64  # ten seconds of a minute are two months
    for _ in range(400):
        control.evaluate("model.answer()")
        control.clock.run_for(250)
        if control.get_attribute(".tt-asof", "data-playing") == "false":
            break
    days = [value for kind, value in asked(control) if kind == "play"]
    assert days == sorted(set(days)) and days[-1] == "2025-12-31"
    assert asked(control)[-1] == ("as_of", "2025-12-31")  # at the end with all that takes longer
    assert 100 <= len(days) <= 260
    assert control.evaluate("performance.now()") < 75_000


@needs_browser
def test_what_is_picked_while_an_answer_is_awaited_waits_and_only_the_last_is_asked_for(control: Page) -> None:  # fmt: skip
    for day in ("2025-03-12", "2025-03-13", "2025-03-14"):
        pick(control, day)
    assert asked(control) == [("as_of", "2025-03-12")]
    control.evaluate("model.answer()")
    assert asked(control) == [("as_of", "2025-03-12"), ("as_of", "2025-03-14")]


@needs_browser
def test_the_keyboard_moves_plays_stops_and_leaves(control: Page) -> None:
    control.focus(".tt-asof input[type=range]")
    control.keyboard.press("ArrowLeft")
    control.evaluate("model.answer()")
    assert asked(control)[-1] == ("as_of", "2025-12-30")
    assert control.get_attribute("[type=range]", "aria-valuetext") == "2025-12-30"
    control.keyboard.press("Home")
    control.evaluate("model.answer()")
    control.keyboard.press("Shift+Tab")
    control.keyboard.press("Space")
    assert (control.get_attribute(".tt-asof", "data-playing"), asked(control)[-1]) == ("true", ("play", "2025-01-01"))  # fmt: skip
    control.keyboard.press("Escape")
    assert control.get_attribute(".tt-asof", "data-playing") == "false"
    control.evaluate("model.answer()")
    control.evaluate("model.answer()")
    control.keyboard.press("Escape")
    control.evaluate("model.answer()")
    assert asked(control)[-1] == ("as_of", "") and not control.is_visible(".tt-asof")


@needs_browser
def test_marks_stand_under_the_slider_and_hostile_names_are_text(control: Page) -> None:
    evil = "<img src=x onerror=window.evil=1>"
    told = [
        {"strategy": evil, "state": "watch", "on": "2025-07-02", "words": "on watch from 2025-07-02 on"},
        {
            "strategy": "swing",
            "state": "degraded",
            "on": "2025-12-31",
            "words": "degraded from 2025-12-31 on",
        },
    ]
    control.evaluate("told => model.tell('told', told)", json.dumps(told))
    assert control.locator(".tt-asof-told li").all_inner_texts() == [f"{evil} on watch from 2025-07-02 on", "swing degraded from 2025-12-31 on"]  # fmt: skip
    left = control.evaluate("[...document.querySelectorAll('.tt-asof-ticks i')].map((i) => parseFloat(i.style.left))")  # fmt: skip
    assert (round(left[0]), left[1]) == (50, 100)
    assert control.evaluate("window.evil") is None
    for odd in ("", "{", "null", "[]"):
        control.evaluate("odd => { model.tell('told', odd); model.tell('span', odd); }", odd)
    assert control.locator(".tt-asof-told li").count() == 0


@needs_browser
def test_somebody_who_looks_back_on_the_page_sees_the_day_and_plays_on_to_where_it_broke(
    browser: Browser, tmp_path: Path
) -> None:
    gone = {"loss_of_skill_on_day": 15, "precision_after": 0.15}
    start = START
    live = simulate_run(
        45, 8, 0.6, mode="live", start=start, strategies=("gap_fade", "trend"), seed=5, **gone
    )
    kept = [t for t in live if t.strategy == "gap_fade" or t.timestamp < start + timedelta(days=20)]
    kept += [t for t in simulate_run(45, 8, 0.6, mode="live", start=start, strategies=("trend",), seed=6) if t.timestamp >= start + timedelta(days=20)]  # fmt: skip
    write_run(tmp_path / "live", sorted(kept, key=lambda t: t.exit_timestamp or t.timestamp), mode="live")
    write_run(tmp_path / "backtest_20241230_080000", simulate_run(200, 8, 0.6, strategies=("gap_fade", "trend"), seed=1, start=START - timedelta(weeks=52)))  # fmt: skip
    day = (start + timedelta(days=16)).date()
    with serving(NOTEBOOK, tmp_path) as server, viewing(browser, server) as (page, seen):
        whole = page.get_attribute(".tt-clock", "data-rows")
        page.goto(f"{server.url}#asof={day}", wait_until="commit")
        page.reload()
        page.wait_for_function(
            f"document.querySelector('.tt-asof')?.dataset.shown === '{day}'", timeout=LIMIT
        )
        assert "Not the present" in page.inner_text(".tt-asof-band")
        assert f"As of {day}" in page.inner_text(".tt-pill")
        assert int(page.get_attribute(".tt-clock", "data-rows") or 0) < int(whole or 0)
        page.click(".tt-asof-play")
        page.wait_for_function("document.querySelector('.tt-asof-told').innerText.includes('gap_fade degraded from')", timeout=LIMIT)  # fmt: skip
        page.click(".tt-asof-play")
        assert "trend degraded" not in page.inner_text(".tt-asof-told")
        shoot(page, "as_of")
        page.click(".tt-asof-now")
        page.wait_for_function(
            f"document.querySelector('.tt-clock').dataset.rows === '{whole}'", timeout=LIMIT
        )
        assert "asof" not in page.url
        assert (seen.off_host(), seen.complaints) == ([], [])
