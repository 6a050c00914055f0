"""The dashboard: its parts without a kernel, its clock against a stand-in kernel, and the whole in a real Voilà and a real Chromium.

Screenshots of the states of the page are left in `.tmp/screenshots`.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pages import (
    ALL_PANELS,
    EVIL,
    LIMIT,
    NOTEBOOK,
    ROOT,
    Server,
    append,
    luminance,
    make_traces,
    needs_browser,
    rows,
    sample_traces,
    serving,
    shoot,
    until,
    viewing,
    write,
)
from playwright.sync_api import Browser, Page, expect

from trade_telemetry.config import Settings
from trade_telemetry.dashboard.alert_list import alerts_html
from trade_telemetry.dashboard.answers import state_schema
from trade_telemetry.dashboard.cards import cards_html, header_html
from trade_telemetry.dashboard.chart import ReturnCurve
from trade_telemetry.dashboard.controls import HtmlPanel, Panel
from trade_telemetry.dashboard.page import Dashboard
from trade_telemetry.dashboard.reconcile import reconcile_html, reconciled
from trade_telemetry.dashboard.state import StateSource, dashboard_state
from trade_telemetry.dashboard.tables import confusion_html
from trade_telemetry.dashboard.trade_table import TradeTable
from trade_telemetry.judgement.live_vs_backtest import live_vs_backtest
from trade_telemetry.judgement.reconcile import reconcile
from trade_telemetry.store.store import TraceStore
from trade_telemetry.store.view import select_view

check_against = import_module("jsonschema").validate  # it brings no types

SHIPPED = [
    p for folder in ("share", "static") for p in (ROOT / "trade_telemetry" / folder).rglob("*") if p.is_file()
]


# ------------------------------------------------------------------------------------------------ traces


@pytest.fixture(scope="module")
def analytics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_traces(tmp_path_factory.mktemp("analytics"))


# ------------------------------------------------------------------------------- without kernel or browser


def make_page(base: Path) -> tuple[Dashboard, dict[str, Any]]:
    "The dashboard as the notebook makes it, on traces below `base`."
    parts: dict[str, Any] = {
        "header": HtmlPanel("tt-title", header_html),
        "cards": HtmlPanel("tt-cards", cards_html),
        "curve": ReturnCurve(),
        "alerts": HtmlPanel("tt-alerts", alerts_html),
        "confusion": HtmlPanel("tt-confusion", confusion_html),
        "trades": TradeTable(),
    }
    source = StateSource(Settings.load(telemetry_storage_path=base))
    panels: list[Panel] = list(parts.values())
    return Dashboard(source.read, panels, trades_csv=source.trades_csv), parts


def test_a_beat_reads_what_was_appended_and_is_answered(tmp_path: Path) -> None:
    write(tmp_path / "live", make_traces("intraday", 100, 0.6))
    page, parts = make_page(tmp_path)
    assert page.clock.rows == 100
    append(tmp_path / "live" / "traces_intraday_0.csv", make_traces("intraday", 5, 0.6, days=0.01, seed=9))
    page.clock.beat = 1
    assert (page.clock.ack, page.clock.rows) == (1, 105)
    assert "105 closed trades" in parts["cards"].widget.value


def test_the_symbol_of_the_drop_down_governs_every_panel(analytics: Path) -> None:
    page, parts = make_page(analytics)
    page.filters.symbol.widget.value = "BAC"
    assert page.shown is not None
    assert page.shown["symbol"] == "BAC"
    bac = [t for t in make_traces("intraday", 1600, 0.5, seed=3) if t.symbol == "BAC"]
    assert f"{len(bac)} closed trades" in parts["cards"].widget.value
    assert sum(map(sum, page.shown["strategies"]["intraday"]["confusion"]["counts"])) == len(bac)
    assert "BAC" in parts["alerts"].widget.value


def test_a_symbol_shortens_the_list_of_alerts_and_spends_no_budget_of_its_own(tmp_path: Path) -> None:
    past, symbols = datetime.now(UTC) - timedelta(days=200), tuple(f"S{i:02}" for i in range(12))
    for folder, skill, seed, end in (("backtest_20250112_143022", 0.7, 1, past), ("live", 0.1, 3, None)):
        common: dict[str, Any] = {"mode": folder.split("_")[0], "days": 120.0, "ending": end}
        good = make_traces("intraday", 2200, 0.7, symbols=symbols[1:], seed=seed, **common)
        write(tmp_path / folder, good, make_traces("intraday", 400, skill, symbols=("S00",), seed=seed + 1, **common))  # fmt: skip
    page, parts = make_page(tmp_path)
    assert page.shown is not None
    everything, listed = page.shown["alerts"], {}
    for symbol in symbols:
        page.filters.symbol.widget.value = symbol
        listed[symbol] = page.shown["alerts"]
        assert page.shown["watched"]["judged"] == {"intraday": 2600}
        assert f"{symbol} and whole strategies" in parts["alerts"].widget.value
        assert "tt-low" not in parts["cards"].widget.value
    assert [(a["rule"], a["symbol"]) for a in everything if a["symbol"]] == [("lost_skill", "S00")]
    assert listed["S00"] == everything
    assert all(listed[name] == [a for a in everything if not a["symbol"]] for name in symbols[1:])


def test_an_empty_a_missing_and_a_broken_directory_are_drawn_and_heal(tmp_path: Path) -> None:
    page, parts = make_page(tmp_path / "later")
    assert (page.clock.mode, page.clock.rows) == ("empty", 0)
    assert "does not exist yet" in parts["cards"].widget.value
    assert "—" in parts["cards"].widget.value
    assert "0.0" not in parts["cards"].widget.value
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "traces_intraday_0.csv").write_bytes(b"timestamp,symbol\n\xff\xfe,\n")
    page.clock.beat = 1
    assert (page.clock.ack, page.clock.mode) == (1, "empty")
    write(tmp_path / "later" / "live", make_traces("intraday", 1, 0.6))
    page.clock.beat = 2
    assert (page.clock.mode, page.clock.rows) == ("live", 1)
    assert "1 closed trade" in parts["cards"].widget.value
    assert not parts["curve"].chart.option["title"][0]["show"]


def test_a_replay_is_never_called_live(tmp_path: Path) -> None:
    write(tmp_path / "replay_20260101_000000", make_traces("intraday", 60, 0.4, mode="replay"))
    page, parts = make_page(tmp_path)
    assert (page.clock.state, page.clock.mode, page.clock.title) == ("historical", "replay", "Replay")
    assert "Alerts judge live trades only" in parts["alerts"].widget.value


def test_a_precision_below_the_threshold_raises_an_alert_and_colors_the_figure(analytics: Path) -> None:
    page, parts = make_page(analytics)
    assert page.shown is not None
    assert {alert["strategy"] for alert in page.shown["alerts"]} == {"intraday"}
    assert parts["cards"].widget.value.count("tt-low") == 1
    assert "intraday · Precision below 55" in parts["alerts"].widget.value


def test_direction_run_and_mode_narrow_every_panel_and_stay_over_beats(analytics: Path) -> None:
    page, _ = make_page(analytics)
    page.filters.direction.widget.value = "SHORT"
    assert page.shown is not None
    short = [t for t in make_traces("intraday", 1600, 0.5, seed=3) if t.predicted_direction == "SHORT"]
    assert page.shown["strategies"]["intraday"]["trades"] == len(short)
    page.filters.run.widget.value = "run backtest_20250112_143022"
    page.filters.symbol.widget.value = "SPY"
    page.clock.beat = 1
    assert (page.shown["mode"], page.shown["direction"], page.shown["symbol"]) == (
        "historical",
        "SHORT",
        "SPY",
    )
    past = make_traces("intraday", 900, 0.72, mode="backtest", seed=1)
    wanted = [t for t in past if (t.predicted_direction, t.symbol) == ("SHORT", "SPY")]
    assert page.shown["strategies"]["intraday"]["trades"] == len(wanted)
    page.filters.run.widget.value = "mode live"
    assert (page.shown["mode"], page.shown["run"], page.shown["run_mode"]) == ("live", None, "live")


def test_the_csv_holds_the_trades_behind_the_page(analytics: Path) -> None:
    page, _ = make_page(analytics)
    sent: list[dict[str, Any]] = []
    page.clock.send = sent.append
    page.filters.symbol.widget.value = "BAC"
    page.ask("cell", "0 1 0")
    page._on_message(page.clock, {"type": "export", "name": "csv"}, [])
    found = list(csv.DictReader(sent[0]["text"].splitlines()))
    assert page.shown is not None
    assert len(found) == page.shown["trades"]["total"] > 50
    assert {(r["symbol"], r["strategy"], r["actual"], r["predicted"]) for r in found} == {
        ("BAC", "intraday", "SHORT", "LONG")
    }
    assert [r["trace_id"] for r in found[:20]] == [t["trace_id"] for t in page.shown["trades"]["rows"]]


def test_a_sample_with_its_ledger_shows_the_figures_and_the_curve_of_all_closes(tmp_path: Path) -> None:
    groups = make_traces("intraday", 1600, 0.55, seed=3), make_traces("swing", 400, 0.7, seed=4)
    past = make_traces(
        "intraday", 900, 0.6, mode="backtest", seed=1, ending=datetime.now(UTC) - timedelta(90)
    )
    shown = {}
    for rate in (1.0, 0.1):
        base = tmp_path / str(rate)
        write(base / "backtest_20250112_143022", past)
        write(base / "live", *groups, sample_rate=rate)
        shown[rate], parts = make_page(base)
    every, some = (page.shown for page in shown.values())
    assert every is not None
    assert some is not None
    assert some["rows"]["shown"] < 300 < every["rows"]["shown"] == 2000
    known = ("trades", "precision", "recall", "f1", "win_rate", "mean_return_pct", "daily_return_pct", "sharpe_ratio", "cumulative_return_pct", "confusion", "average_holding_minutes")  # fmt: skip
    for name, figures in some["strategies"].items():
        assert figures["source"] == "ledger"
        for key in known:
            assert json.dumps(figures[key]) == json.dumps(every["strategies"][name][key]) or figures[key] == pytest.approx(every["strategies"][name][key])  # fmt: skip
    for group in groups:
        name, days = group[0].strategy, dict[int, float]()
        for trace in group:
            assert trace.exit_timestamp is not None
            day = int(trace.exit_timestamp.timestamp() // 86_400)
            days[day] = days.get(day, 0.0) + trace.realized_return_pct
        drawn = some["curve"]["cumulative_return_pct"][name]
        ends = [round(at / 86_400_000) - 1 for at in some["curve"]["time_ms"]]
        rises = {ends[i]: drawn[i] - drawn[i - 1] for i in range(1, len(ends))}
        assert len(rises) >= 30
        assert all(rise == pytest.approx(days.get(day, 0.0), abs=0.02) for day, rise in rises.items())
    assert f"rows {some['rows']['shown']:,} of 2,000 closes; figures from the ledger" in parts["header"].widget.value  # fmt: skip
    assert "sampled" not in parts["cards"].widget.value
    page = shown[0.1]
    page.ask("cell", "0 0 0")
    assert page.shown is not None
    assert page.shown["trades"]["closes"] > 5 * page.shown["trades"]["total"] > 0
    for name in ("ledger_", "run_"):
        for path in (tmp_path / "0.1" / "live").glob(f"{name}*"):
            path.unlink()
    lonely, parts = make_page(tmp_path / "0.1")
    assert parts["cards"].widget.value.count("— (sampled)") == 6
    assert lonely.shown is not None
    assert lonely.shown["curve"]["left_out"] == ["intraday", "swing"]


def test_the_card_says_what_the_comparison_and_the_report_say(tmp_path: Path) -> None:
    analytics = sample_traces(tmp_path)
    page, parts = make_page(analytics)
    assert page.shown is not None
    assert not page.shown["complete"]  # first the picture …
    assert "comparing …" in parts["cards"].widget.value
    assert page.clock.more
    page.clock.beat = 1
    assert page.clock.more  # … for which somebody waits …
    page.clock.beat = 2
    assert page.shown["complete"]  # … then what takes longest
    assert not page.clock.more
    store = TraceStore(analytics)
    store.refresh()
    answer = live_vs_backtest(select_view(store.columns, store.runs()))
    for name, own in page.shown["strategies"].items():
        assert own["against"]["verdict"] == answer["strategies"][name]["verdict"]
        gap = answer["strategies"][name]["measures"]["precision"]["difference"]
        assert own["against"]["precision"]["low"] == gap["low"]
    assert "Worse than the backtest: " in parts["cards"].widget.value
    assert "p\N{NO-BREAK SPACE}&lt;\N{NO-BREAK SPACE}0.001" in parts["cards"].widget.value
    assert "0.000)" not in parts["cards"].widget.value
    append(analytics / "live" / "traces_swing_0.csv", make_traces("swing", 1, 0.7, days=0.01, seed=77))
    page.clock.beat = 3
    assert not page.shown["complete"]  # new rows at once, beside the words of a moment ago
    assert "comparing …" not in parts["cards"].widget.value
    page.clock.beat = 4
    assert page.shown["complete"]


def test_a_beat_that_finds_nothing_new_computes_nothing(
    analytics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = make_page(analytics)
    page.clock.beat = 1
    page.clock.beat = 2
    for name in ("figures.measure", "figures.live_vs_backtest", "state_parts.alert_report", "state.steps_of"):
        monkeypatch.setattr(f"trade_telemetry.dashboard.{name}", None)
    page.clock.beat = 3
    assert page.shown is not None
    assert (page.clock.ack, page.shown["errors"]) == (3, [])


def test_choices_that_a_page_kept_are_taken_by_its_next_kernel(analytics: Path) -> None:
    page, _ = make_page(analytics)
    page.filters.symbol.widget.value = "BAC"
    page.filters.direction.widget.value = "LONG"
    page.ask("days", "90")
    page.ask("tab", "trades")
    kept = page.clock.choices
    again, _ = make_page(analytics)
    again._on_message(again.clock, {"type": "ask", "name": "choices", "value": kept}, [])
    assert again.query == page.query
    assert [c.value for c in (again.filters.symbol, again.filters.direction)] == ["BAC", "LONG"]
    again.filters.run.widget.value = "mode live"  # the drop-downs agree with what was taken
    assert (again.query.symbol, again.query.days) == ("BAC", 90)
    before = again.query
    for nonsense in ("{", "[1]", '{"symbol": 7, "days": [30]}', "x" * 5000):
        again._on_message(again.clock, {"type": "ask", "name": "choices", "value": nonsense}, [])
    assert again.query.symbol in (None, before.symbol)


def test_one_of_two_thousand_symbols_is_found_by_typing(tmp_path: Path) -> None:
    symbols = tuple(f"S{i:04}" for i in range(2000))
    write(tmp_path / "live", make_traces("intraday", 2000, 0.6, symbols=symbols))
    page, parts = make_page(tmp_path)
    box = page.filters.symbol.widget
    assert page.filters.search.layout.display != "none"
    assert len(box.options) == 201
    page.filters.search.value = "s1987"
    assert [label for label, _ in box.options] == ["All", "S1987"]
    box.value = "S1987"
    assert "1 closed trade" in parts["cards"].widget.value
    page.filters.search.value = ""
    assert box.value == "S1987"


def test_a_cell_opens_its_trades_and_pages_through_all_of_them(analytics: Path) -> None:
    page, parts = make_page(analytics)
    assert parts["trades"].widget.table == "null"
    page._on_message(page.clock, {"type": "ask", "name": "cell", "value": "0 1 0"}, [])
    assert page.shown is not None
    live = make_traces("intraday", 1600, 0.5, seed=3)
    wanted = [t for t in live if (t.actual_direction, t.predicted_direction) == ("SHORT", "LONG")]
    assert page.shown["trades"]["total"] == len(wanted)
    listed = []
    for number in range(page.shown["trades"]["pages"]):
        page.ask("page", str(number))
        listed += page.shown["trades"]["rows"]
    assert [t["return_pct"] for t in listed] == [t.realized_return_pct for t in reversed(wanted)]
    check_against(json.loads(json.dumps(page.shown)), state_schema())
    page.ask("cell", "0 1 0")  # the second click closes the list
    assert (page.shown["trades"], parts["trades"].widget.table) == (None, "null")


def test_hostile_names_reach_no_widget_as_html_or_code(tmp_path: Path) -> None:
    names = (EVIL, "__ipecharts_jsfn__::WyJhbGVydCgxKSJd", "IPY_MODEL_1234")
    for i, name in enumerate(names):
        write(tmp_path / EVIL.replace("/", ""), make_traces(name, 3, 0.5, seed=i, symbols=(name,)))
    page, parts = make_page(tmp_path)
    assert page.shown is not None
    assert set(page.shown["strategies"]) == set(names)
    page.ask("cell", "0 0 0")
    page.ask("cell", "0 1 1")
    for part in ("header", "cards", "alerts", "confusion"):
        assert "<img" not in parts[part].widget.value
    cells = json.loads(parts["trades"].widget.table)["rows"][0]["cells"]  # words that are set as text
    assert not any(str(cell).startswith(("__ipecharts", "IPY_MODEL")) for cell in cells)
    option = parts["curve"].chart.option
    drawn = json.dumps([option["series"], option["legend"]])
    assert "__ipecharts_jsfn__" not in drawn
    assert "IPY_MODEL_" not in drawn
    offered = {label for label, _ in page.filters.symbol.widget.options}
    assert offered == {"All", EVIL, "WyJhbGVydCgxKSJd", "1234"}


def test_only_literals_and_templates_become_html() -> None:
    """Whatever else is put into HTML goes through a hole, and a hole escapes: nobody has to remember it."""
    trusted = []
    for path in sorted((ROOT / "trade_telemetry" / "dashboard").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Markup":
                trusted += [] if all(isinstance(a, ast.Constant) for a in node.args) else [path.stem]
            elif isinstance(node, ast.Constant) and re.search(r"\|\s*safe|autoescape", str(node.value)):
                trusted.append(path.stem)
    # what a panel's template made and its widget holds, what a template made, and what `html_text` escaped
    assert trusted == ["first_paint", "markup", "markup"]


def test_the_export_is_what_is_shown_and_obeys_the_schema(analytics: Path) -> None:
    page, _ = make_page(analytics)
    sent: list[dict[str, Any]] = []
    page.clock.send = sent.append
    page.filters.symbol.widget.value = "SPY"
    page._on_message(page.clock, {"type": "export"}, [])
    exported = json.loads(sent[0]["text"])
    check_against(exported, state_schema())
    again = json.loads(
        json.dumps(
            dashboard_state(TraceStore(analytics), Settings.load(telemetry_storage_path=analytics), "SPY")
        )
    )
    assert {**exported, "generated_at": ""} == {**again, "generated_at": ""}


def weight(widget: Any) -> int:
    """Characters that a refresh sends for a panel, its boxes included; scripts and styles travel once."""
    inner = sum(weight(part) for part in getattr(widget, "children", ()))
    own = set(widget.keys) - {"layout", "style", "children", "_esm", "_css", "look", "_dom_classes"}
    return inner + sum(len(str(getattr(widget, name))) for name in own if not name.startswith("_"))


def test_a_refresh_of_2000_traces_fits_into_50_kilobytes(analytics: Path) -> None:
    page, parts = make_page(analytics)
    html = sum(weight(part.widget) for name, part in parts.items() if name != "curve")
    assert page.clock.rows == 3200
    assert html + len(json.dumps(parts["curve"].chart.option, separators=(",", ":"))) < 50_000


def test_the_first_paint_imports_no_pandas_scipy_seaborn_or_matplotlib(analytics: Path) -> None:
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    source = "\n".join("".join(c["source"]) for c in cells)
    script = (
        f"{source}\nimport sys\nassert dashboard.clock.rows == 3200\n"
        "late = {'pandas', 'scipy', 'seaborn', 'matplotlib', 'trade_telemetry.judgement.reconcile'}\n"
        "print(sorted(late & set(sys.modules)))"
    )
    env = {**os.environ, "TELEMETRY_STORAGE_PATH": str(analytics)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_notebook_has_at_most_eight_code_cells_no_function_and_no_output() -> None:
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert len(cells) <= 8
    assert not any(c["outputs"] for c in cells)
    assert not re.search(r"^\s*(def|class) ", "\n".join("".join(c["source"]) for c in cells), re.M)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "projector"])
def test_every_text_is_readable_on_every_ground_that_it_stands_on(theme: int) -> None:
    css = next(p for p in SHIPPED if p.name == "app.css").read_text(encoding="utf-8")
    color = dict(
        re.findall(
            r"--tt-([\w-]+): (#[0-9a-f]{6});", css.split("/* the page")[0].split("data-tt-theme")[theme]
        )
    )
    pairs = [(text, ground) for text in ("ink", "soft", "muted") for ground in ("panel", "ground", "sunk", "warn-bg", "bad-bg")]  # fmt: skip
    pairs += [(tone, f"{tone}-bg") for tone in ("good", "warn", "bad", "idle")]
    pairs += [(tone, ground) for tone in ("good", "bad") for ground in ("panel", "sunk")]
    for text, ground in pairs:
        bright, dim = sorted((luminance(color[text]), luminance(color[ground])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (text, ground)


def test_both_copies_of_the_server_settings_are_the_same() -> None:
    packaged = ROOT / "trade_telemetry" / "static" / "voila.json"
    assert packaged.read_bytes() == (ROOT / "voila.json").read_bytes()


def test_what_is_shipped_with_the_page_links_to_no_other_host() -> None:
    allowed = ("http://www.w3.org/2000/svg", "https://json-schema.org/draft/2020-12/schema")
    assert len(SHIPPED) >= 7
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        for known in allowed:
            text = text.replace(known, "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), path


# --------------------------------------------------------------- the clock against a stand-in for the kernel


MODEL = """
window.model = {
  values: {beat: 0, ack: 0, interval_seconds: 30, state: "live", mode: "live", title: "Live", words: "7 rows", rows: 7, alerts: 0, newest_ms: null},
  heard: {}, saved: 0, sent: [],
  get(name) { return this.values[name]; },
  set(name, value) { this.values[name] = value; },
  save_changes() { this.saved += 1; },
  send(message) { this.sent.push(message); },
  on(events, heard) { for (const e of events.split(" ")) (this.heard[e] ??= []).push(heard); },
  off() {},
  tell(name, value) { this.values[name] = value; for (const heard of this.heard["change:" + name] ?? []) heard(); },
  answer() { this.tell("ack", this.values.beat); },
};
"""


BODY = '<div class="tt-app"><div id="clock"></div></div>'


def start_clock(page: Page) -> None:
    script = (ROOT / "trade_telemetry" / "static" / "clock.js").read_text(encoding="utf-8")
    script = script.replace("export default { render };", "window.render = render;")
    page.evaluate(MODEL)
    page.add_script_tag(type="module", content=script)
    page.wait_for_function("typeof window.render === 'function'", polling=20, timeout=LIMIT)
    page.evaluate("void render({model, el: document.getElementById('clock')})")


@pytest.fixture
def clock(browser: Browser) -> Iterator[Page]:
    "The clock's script in an empty page, its time in our hands."
    page = browser.new_page()
    page.clock.install(time=0)
    page.set_content(BODY)
    start_clock(page)
    yield page
    page.close()


@needs_browser
@pytest.mark.parametrize(("kernel", "state"), [("busy", "live"), ("idle", "lost"), ("", "lost")])
def test_a_kernel_that_is_idle_or_gone_is_announced_before_two_beats_a_busy_one_is_only_slow(
    browser: Browser, kernel: str, state: str
) -> None:
    page = browser.new_page()
    config = '<script id="jupyter-config-data">{"baseUrl": "/", "kernelId": "k"}</script>'
    answer = {"status": 200 if kernel else 404, "json": {"execution_state": kernel}}
    page.route("http://page.test/", lambda route: route.fulfill(content_type="text/html", body=config + BODY))
    page.route("http://page.test/api/kernels/k", lambda route: route.fulfill(**answer))
    page.clock.install(time=0)
    page.goto("http://page.test/")
    start_clock(page)
    for _ in range(12):
        page.clock.run_for(1000)
        page.evaluate(
            "fetch('/api/kernels/k').then(answer => answer.text())"
        )  # let its own question be answered
    assert values(page)[:2] == (1, state)
    page.close()


def values(clock: Page) -> tuple[int, str, str]:
    "Beats so far, the clock's state, its words."
    return (
        clock.evaluate("model.values.beat"),
        clock.evaluate("document.getElementById('clock').dataset.state"),
        clock.evaluate("document.querySelector('.tt-words').textContent"),
    )


@needs_browser
def test_the_clock_beats_at_once_and_then_once_an_interval(clock: Page) -> None:
    assert values(clock) == (1, "live", "7 rows · refreshing …")
    clock.evaluate("model.answer()")
    clock.clock.run_for(29_000)
    assert values(clock)[0] == 1
    clock.clock.run_for(2_000)
    assert values(clock)[0] == 2


@needs_browser
def test_a_slow_refresh_is_never_queued_and_two_silent_beats_are_called_a_loss(clock: Page) -> None:
    clock.clock.run_for(58_000)
    assert values(clock)[:2] == (1, "live")  # no second beat before the first is answered
    clock.clock.run_for(4_000)
    assert values(clock) == (1, "lost", "nothing is updating")
    assert clock.evaluate("document.querySelector('.tt-app').dataset.state") == "lost"
    clock.evaluate("model.answer()")  # it was only slow
    assert values(clock)[1] == "live"
    clock.clock.run_for(2_000)
    assert values(clock)[0] == 2  # overdue by now, and only one


@needs_browser
def test_a_page_that_was_hidden_catches_up_when_it_is_shown(clock: Page) -> None:
    clock.evaluate("model.answer()")
    clock.clock.pause_at(3600)  # an hour in which no timer fired
    clock.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert values(clock)[0] == 2


@needs_browser
def test_an_error_leaves_the_age_of_the_last_good_data_in_sight(clock: Page) -> None:
    clock.evaluate("model.answer()")
    clock.clock.run_for(31_000)
    clock.evaluate("model.tell('title', 'Refresh error'); model.tell('state', 'error'); model.answer()")
    clock.clock.run_for(9_000)
    assert values(clock)[1:] == ("error", "7 rows · data 40 s old")


@needs_browser
def test_what_was_left_out_is_asked_for_at_once_and_choices_are_kept(clock: Page) -> None:
    clock.evaluate("model.values.more = true; model.answer()")
    assert values(clock)[0] == 2
    clock.evaluate("model.values.more = false; model.answer()")
    assert values(clock)[0] == 2
    clock.evaluate("model.tell('more', true)")  # a symbol was chosen: nobody waits for the next beat
    assert values(clock)[0] == 3


@needs_browser
def test_what_the_kernel_says_is_shown_as_text(clock: Page) -> None:
    clock.evaluate("text => { model.tell('title', text); model.tell('words', text); }", EVIL)
    assert EVIL in values(clock)[2]
    assert clock.locator("img").count() == 0
    clock.locator(".tt-export").click()
    assert clock.evaluate("model.sent") == [{"type": "export"}]


# ------------------------------------------------------------------------------- real Voilà, real Chromium


@pytest.fixture(scope="module")
def server(analytics: Path) -> Iterator[Server]:
    with serving(NOTEBOOK, analytics) as started:
        yield started


@needs_browser
def test_dashboard_loads_cached_data(browser: Browser, server: Server, analytics: Path) -> None:
    """FR-7: sample telemetry, launch, all panels without errors, no network call: neither by the page nor by its kernel."""
    with viewing(browser, server) as (page, seen):
        assert (page.get_attribute(".tt-clock", "data-state"), rows(page)) == ("historical", 3200)
        assert page.get_attribute(".tt-clock", "data-mode") == "live"
        cards = page.locator(".tt-card")
        assert [card.locator("h2").inner_text() for card in cards.all()] == ["intraday", "swing"]
        text = (analytics / "live" / "traces_intraday_0.csv").read_text(encoding="utf-8")
        live = list(csv.DictReader(text.splitlines()))
        right = sum(row["predicted_direction"] == row["actual_direction"] for row in live)
        moved = sum(row["actual_direction"] != "NOOP" for row in live)
        figures = [100 * right / len(live), 100 * right / moved, 100 * 2 * right / (len(live) + moved)]
        assert cards.first.locator(".tt-big").all_inner_texts() == [f"{figure:.1f}%" for figure in figures]
        assert f"n {len(live):,}" in cards.first.inner_text()
        hits = [
            cell.inner_text().split()[-1]
            for cell in page.locator(".tt-confusion table").first.locator(".tt-hit").all()
        ]
        assert sum(int(hit.replace(",", "")) for hit in hits) == right
        assert page.locator(".tt-confusion table").count() == 2
        assert page.locator(".tt-curve svg path").count() > 4
        expect(page.locator(".tt-alerts")).to_contain_text("intraday · Precision below 55")
        expect(page.locator(".tt-title")).to_contain_text("reference backtest_20250112_143022")
        shoot(page, "light")
        assert seen.off_host() == []
        assert len(seen.requests) > 10
        assert server.connections() <= {"127.0.0.1"}
        assert seen.complaints == []


@needs_browser
def test_appended_rows_appear_within_one_interval_and_in_place(
    browser: Browser, server: Server, analytics: Path
) -> None:
    with viewing(browser, server) as (page, seen):
        before, beat = rows(page), int(page.get_attribute(".tt-clock", "data-beat") or 0)
        page.evaluate("window.mark = document.querySelector('.tt-curve svg')")
        append(
            analytics / "live" / "traces_swing_0.csv",
            make_traces("swing", 7, 0.7, days=0.01, seed=beat + before),
        )
        page.wait_for_function(
            f"document.querySelector('.tt-clock').dataset.rows == {before + 7}", timeout=LIMIT
        )
        # the next beat brings them, or the one after it where one came while they were written
        assert beat < int(page.get_attribute(".tt-clock", "data-beat") or 0) <= beat + 2
        assert page.evaluate(
            "window.mark === document.querySelector('.tt-curve svg')"
        )  # the chart was not made anew
        assert seen.complaints == []


@needs_browser
def test_symbol_theme_and_export_do_what_they_say(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as (page, seen):
        page.select_option(".tt-symbol select", label="BAC")
        expect(page.locator(".tt-alerts")).to_contain_text("BAC")
        with page.expect_download() as download:
            page.click(".tt-export")
        exported = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
        check_against(exported, state_schema())
        assert (exported["symbol"], exported["rows"]["loaded"]) == ("BAC", rows(page))
        with page.expect_download() as download:
            page.click(".tt-export-csv")
        saved = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
        assert len(saved) == exported["rows"]["shown"]
        shown = page.locator(".tt-card .tt-big").first.inner_text()
        assert shown == f"{100 * exported['strategies']['intraday']['precision']['value']:.1f}%"
        page.select_option(".tt-direction select", label="LONG")
        page.select_option(".tt-run select", label="Mode: backtest")
        expect(page.locator(".tt-clock")).to_have_attribute("data-mode", "historical")
        page.click(".tt-refresh")
        page.wait_for_function("document.querySelector('.tt-clock').dataset.waiting === 'false'")
        chosen = "[...document.querySelectorAll('.tt-filters select')].map(s => s.selectedOptions[0].textContent.replaceAll('\u00a0', ' '))"
        assert page.evaluate(chosen) == ["BAC", "LONG", "Mode: backtest"]
        ground = page.evaluate("getComputedStyle(document.querySelector('.tt-app')).backgroundColor")
        page.click(".tt-theme")
        page.mouse.move(420, 560)  # the chart's read-out
        shoot(page, "dark")
        assert page.evaluate("getComputedStyle(document.querySelector('.tt-app')).backgroundColor") != ground
        page.reload(wait_until="commit")
        page.wait_for_function(ALL_PANELS, polling="raf")
        assert page.evaluate("document.documentElement.dataset.ttTheme") == "dark"
        assert seen.complaints == []


@needs_browser
def test_a_cell_of_a_confusion_matrix_opens_its_trades_by_mouse_and_by_keyboard(
    browser: Browser, server: Server
) -> None:
    with viewing(browser, server) as (page, seen):
        cell = page.locator(".tt-confusion table").first.locator("td button").first
        count = cell.locator("span").inner_text()
        cell.click()
        expect(page.locator(".tt-trades h2")).to_have_text("intraday · actual LONG, predicted LONG")
        expect(page.locator(".tt-trades .tt-note").first).to_contain_text(f"{count} trades")
        assert page.locator(".tt-trades tbody tr").count() == 20
        first = page.locator(".tt-trades tbody td").first.inner_text()
        page.locator(".tt-trades [data-ask=page]").last.press("Enter")
        expect(page.locator(".tt-trades .tt-buttons .tt-note")).to_contain_text("2 / ")
        assert page.locator(".tt-trades tbody td").first.inner_text() <= first
        focused = "document.activeElement.dataset.ask + document.activeElement.textContent"
        assert page.evaluate(focused).startswith("page")  # the redrawn list has kept the keyboard's place
        shoot(page, "trades")
        page.locator(".tt-confusion table").last.locator("td button").last.focus()
        page.keyboard.press("Space")
        expect(page.locator(".tt-trades h2")).to_contain_text("swing")
        assert page.evaluate("document.activeElement.dataset.ask") == "cell"
        page.get_by_label("Close the list of trades").click()
        expect(page.locator(".tt-trades section")).to_have_count(0)
        assert seen.complaints == []


@needs_browser
def test_tabs_show_calibration_exits_and_all_trades(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as (page, seen):
        page.get_by_role("tab", name="Can I trust the confidence?").click()
        expect(page.locator(".tt-details .tt-calibration")).to_have_count(2)
        page.get_by_role("tab", name="Where does it earn?").click()
        expect(page.locator(".tt-exits tbody tr")).to_have_count(2)
        page.get_by_role("tab", name="Which trades?").click()
        expect(page.locator(".tt-trades h2")).to_have_text("All trades")
        expect(page.locator(".tt-curve")).to_be_hidden()
        shoot(page, "details")
        page.get_by_role("tab", name="Is it working?").click()
        expect(page.locator(":is(.tt-details, .tt-trades) section")).to_have_count(0)
        expect(page.locator(".tt-curve svg").first).to_be_visible()
        assert seen.complaints == []


def same_days(base: Path) -> Path:
    "A backtest, and live over its days: later by moments, at worse prices, and without every tenth trade; one name is hostile."
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0) - timedelta(days=1)
    drawn = make_traces("intraday", 600, 0.6, mode="backtest", symbols=(EVIL, "SPY"), seed=5, ending=noon)
    promised = [replace(trade, quantity=10.0) for trade in drawn]
    lived = []
    for trade in (trade for k, trade in enumerate(promised) if k % 10):
        worse = 5e-4 if trade.predicted_direction == "LONG" else -5e-4
        late = {"timestamp": trade.timestamp + timedelta(seconds=2), "mode": "live"}
        price, earned = trade.entry_price * (1 + worse), trade.realized_return_pct - 0.05
        lived.append(replace(trade, **late, entry_price=price, realized_return_pct=earned))
    write(base / "backtest_20250112_143022", promised)
    write(base / "live", lived)
    return base


def test_the_third_tab_is_reconciled_when_it_is_opened_and_again_when_its_rows_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*asked: Any) -> Any:
        made.append(asked)
        return reconciled(*asked)

    monkeypatch.setattr("trade_telemetry.dashboard.state.reconciled", counted)
    page, _ = make_page(same_days(tmp_path))
    panel = HtmlPanel("tt-reconcile", reconcile_html)
    page.panels = [*page.panels, panel]
    page.clock.beat = 1
    page.clock.beat = 2
    assert (made, page.clock.more, panel.widget.value) == ([], False, "")
    page.ask("tab", "reconcile")  # the viewer is not kept waiting: the page asks again at once
    assert (made, page.clock.more, page.clock.tab) == ([], True, "reconcile")
    assert "reconciling …" in panel.widget.value
    for beat in (3, 4, 5):
        page.clock.beat = beat
    assert (len(made), page.clock.more) == (1, False)
    assert page.shown is not None
    found, alone = page.shown["reconciliation"], reconcile(tmp_path, tmp_path).to_dict()
    same = ("live", "period", "gap", "causes", "classes", "worst", "notes", "missing_trades")
    assert [found["facts"][key] for key in same] == [json.loads(json.dumps(alone[key])) for key in same]
    assert found["facts"]["classes"]["missing"] == 60
    check_against(json.loads(json.dumps(page.shown)), state_schema())
    assert "<img" not in panel.widget.value
    assert "&lt;img" in panel.widget.value
    append(tmp_path / "live" / "traces_intraday_0.csv", make_traces("intraday", 1, 0.6, days=0.01, seed=9))
    for beat in (6, 7, 8):
        page.clock.beat = beat
    assert len(made) == 2
    page.ask("tab", "working")
    assert (page.shown["reconciliation"], panel.widget.value, page.clock.more) == (None, "", False)


@needs_browser
def test_the_third_tab_shows_why_live_differed(browser: Browser, tmp_path: Path) -> None:
    with serving(NOTEBOOK, same_days(tmp_path)) as server:
        for name, options in (
            ("light", {}),
            ("dark", {"color_scheme": "dark"}),
            ("mobile", {"viewport": {"width": 430, "height": 1800}}),
        ):
            with viewing(browser, server, **options) as (page, seen):
                page.get_by_role("tab", name="Live against backtest").click()
                panel = page.locator(".tt-reconcile")
                expect(panel.locator(".tt-said")).to_contain_text("less than its backtest")
                expect(panel.locator(".tt-said")).to_contain_text("Clear of chance: entry price")
                expect(panel.locator(".tt-waterfall [role=row]").last).to_contain_text("live − backtest")
                assert panel.locator(".tt-waterfall [role=row]").count() > 2
                expect(panel.locator("table")).to_have_count(3)
                alone = panel.locator("[data-sortable^='Trades without a partner']")
                alone.locator("th", has_text="result").get_by_role("button").click()
                expect(alone.locator("th", has_text="result")).to_have_attribute("aria-sort", "descending")
                results = [
                    text.replace("−", "-") for text in alone.locator("td:nth-child(7)").all_inner_texts()
                ]
                assert [float(text.split()[0]) for text in results] == sorted((float(text.split()[0]) for text in results), reverse=True)  # fmt: skip
                expect(page.locator(".tt-curve")).to_be_hidden()
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                shoot(page, f"reconcile_{name}")
                page.get_by_role("tab", name="Is it working?").click()
                expect(panel.locator("section")).to_have_count(0)
                expect(page.locator(".tt-curve svg").first).to_be_visible()
                assert page.evaluate("window.hacked") is None
                assert seen.complaints == []


@needs_browser
def test_without_a_common_period_the_third_tab_says_so(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as (page, seen):
        page.get_by_role("tab", name="Live against backtest").click()
        expect(page.locator(".tt-reconcile")).to_contain_text("no common period: live covers")
        expect(page.locator(".tt-reconcile .tt-waterfall")).to_have_count(0)
        shoot(page, "reconcile_none")
        assert seen.complaints == []


@needs_browser
def test_the_range_is_chosen_and_the_zoom_is_kept_over_refreshes(browser: Browser, server: Server) -> None:
    with viewing(browser, server) as (page, seen):
        expect(page.locator(".tt-curve h2")).to_contain_text("last 30 days")
        page.get_by_label("Last 7 days").click()
        expect(page.locator(".tt-curve h2")).to_contain_text("last 7 days")
        expect(page.get_by_label("Last 7 days")).to_have_attribute("aria-pressed", "true")
        labels = "[...document.querySelectorAll('.tt-curve svg text')].map(e => e.textContent).join(' ')"
        week = page.evaluate(labels)
        box = page.locator(".tt-curve svg").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 300, box["y"] + 100)
        page.keyboard.down("Shift")
        for _ in range(4):
            page.mouse.wheel(0, -300)
        page.keyboard.up("Shift")
        page.wait_for_function(f"{labels} !== {json.dumps(week)}")
        expect(page.locator(".tt-curve")).to_contain_text("precision")  # the read-out beside the cross-hair
        shoot(page, "zoomed")
        zoomed = page.evaluate(labels)
        beat = int(page.get_attribute(".tt-clock", "data-beat") or 0)
        page.click(".tt-refresh")
        page.wait_for_function(f"document.querySelector('.tt-clock').dataset.ack > {beat}")
        assert page.evaluate(labels) == zoomed
        assert seen.complaints == []


@needs_browser
def test_choices_survive_a_reload_and_nothing_else_is_shown_before_them(
    browser: Browser, server: Server
) -> None:
    with viewing(browser, server) as (page, seen):
        page.select_option(".tt-symbol select", label="BAC")
        page.select_option(".tt-direction select", label="SHORT")
        page.get_by_label("Last 90 days").click()
        expect(page.locator(".tt-curve h2")).to_contain_text("last 90 days")
        figure = page.locator(".tt-card .tt-big").first.inner_text()
        page.add_init_script(
            """new MutationObserver(() => {
              const big = document.querySelector('.tt-card .tt-big');
              if (big && big.checkVisibility({visibilityProperty: true})) (window.figures ??= new Set()).add(big.textContent);
            }).observe(document, {childList: true, subtree: true, attributes: true, characterData: true})"""
        )
        page.reload(wait_until="commit")
        page.wait_for_function(ALL_PANELS, polling="raf")
        expect(page.locator(".tt-alerts .tt-note").first).to_contain_text("BAC")
        expect(page.locator(".tt-curve h2")).to_contain_text("last 90 days")
        expect(page.locator(".tt-card .tt-big").first).to_be_visible()
        chosen = (
            "[...document.querySelectorAll('.tt-filters select')].map(s => s.selectedOptions[0].textContent)"
        )
        assert page.evaluate(chosen)[:2] == ["BAC", "SHORT"]
        assert page.evaluate("[...window.figures]") == [figure]
        assert seen.complaints == []


@needs_browser
def test_a_phone_shows_every_panel_without_sideways_scrolling(browser: Browser, server: Server) -> None:
    with viewing(browser, server, viewport={"width": 430, "height": 2100}, color_scheme="dark") as (page, _):
        wide = "[...document.querySelectorAll('.tt-app *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
        assert page.evaluate(wide) == 0
        assert page.evaluate("document.querySelector('.tt-curve svg').getBoundingClientRect().width") > 300
        shoot(page, "mobile")


@needs_browser
def test_the_header_needs_two_lines_and_a_projector_is_filled(browser: Browser, server: Server) -> None:
    with viewing(browser, server, viewport={"width": 1280, "height": 1080}) as (page, _):
        middles = """[...document.querySelectorAll('.tt-clock > *, .tt-tabs button, .tt-choice')].filter(e => e.checkVisibility())
          .map(e => e.getBoundingClientRect()).map(r => Math.round((r.top + r.bottom) / 2))"""
        filled = "document.querySelector('.tt-cards').getBoundingClientRect().width"
        for width in (1280, 1920):
            page.set_viewport_size({"width": width, "height": 1080})
            page.wait_for_function(f"innerWidth === {width}", timeout=LIMIT)
            lines = sorted(set(page.evaluate(middles)))
            assert lines[-1] - lines[0] < 70, width
            assert all(min(line - lines[0], lines[-1] - line) < 6 for line in lines), (width, lines)
            assert page.evaluate(filled) > 0.88 * width
            shoot(page, f"wide_{width}")


@needs_browser
def test_the_layout_goes_by_the_room_that_it_has_and_not_by_the_window(
    browser: Browser, server: Server
) -> None:
    """In JupyterLab the page shares the window with side bars."""
    edges = "['.tt-curve svg', '.tt-curve'].map(e => document.querySelector(e).getBoundingClientRect().right)"
    cut = "[...document.querySelectorAll('.tt-tabs button')].filter(e => e.scrollWidth > e.clientWidth || e.offsetHeight > 30).length"
    columns = "getComputedStyle(document.querySelector('.tt-middle')).gridTemplateColumns.split(' ').length"
    with viewing(browser, server, viewport={"width": 1400, "height": 1080}) as (page, _):
        for width in (1070, 800, 430):
            page.evaluate(f"document.querySelector('.tt-app').parentElement.style.width = '{width}px'")
            wide = f"[...document.querySelectorAll('.tt-app *')].filter(e => e.getBoundingClientRect().right > {width} + 1).length"
            page.wait_for_function(f"{wide} === 0", timeout=LIMIT)
            page.wait_for_function(
                f"{edges}.every((x, i, all) => x <= all[1])", timeout=LIMIT
            )  # the chart follows
            assert page.evaluate(cut) == 0, width
            assert page.evaluate(columns) == (2 if width > 900 else 1)
            shoot(page, f"room_{width}")


@needs_browser
def test_reload_and_close_leave_no_kernel_and_two_viewers_have_one_each(
    browser: Browser, server: Server
) -> None:
    with viewing(browser, server) as (page, _):
        with viewing(browser, server) as (other, _):
            assert until(
                lambda: server.kernels() == 3, page
            )  # one each, and one that waits for the next viewer
            other.select_option(".tt-symbol select", label="SPY")
            expect(other.locator(".tt-alerts")).to_contain_text("SPY")
            expect(page.locator(".tt-alerts")).to_contain_text("all symbols")
        assert until(lambda: server.kernels() == 2, page)
        page.reload(wait_until="commit")
        page.wait_for_function(ALL_PANELS, polling="raf")
        assert until(lambda: server.kernels() == 2, page)
    idle = browser.new_page()
    assert until(lambda: server.kernels() == 1, idle)
    idle.close()


@needs_browser
def test_nothing_but_the_page_is_served(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    for path in ("voila/files/dashboard.ipynb", "voila/files/../pyproject.toml", "voila/files/index.ipynb"):
        answer = page.request.get(server.url + path)
        assert answer.status in (403, 404), path
    page.close()


def with_a_fault_switch(folder: Path) -> Path:
    "The dashboard notebook with a refresh that fails while the file `fault` is there."
    notebook = json.loads(NOTEBOOK.read_text())
    place = next(i for i, c in enumerate(notebook["cells"]) if c["id"] == "dashboard")
    switch = [
        "import pathlib\n",
        "read = dashboard.read\n",
        f"fault = pathlib.Path({str(folder / 'fault')!r})\n",
        "dashboard.read = lambda query: open(fault.read_text()) if fault.exists() else read(query)\n",
    ]
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "switch",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": switch,
    }
    notebook["cells"].insert(place + 1, cell)
    path = folder / "dashboard.ipynb"
    path.write_text(json.dumps(notebook))
    return path


@needs_browser
def test_an_empty_page_fills_survives_hostile_rows_and_errors_and_announces_the_end(
    browser: Browser, tmp_path: Path
) -> None:
    base = tmp_path / "analytics"
    with serving(with_a_fault_switch(tmp_path), base) as server, viewing(browser, server) as (page, seen):
        assert (page.get_attribute(".tt-clock", "data-mode"), rows(page)) == ("empty", 0)
        expect(page.locator(".tt-cards")).to_contain_text("does not exist yet")
        expect(page.locator(".tt-cards .tt-big").first).to_have_text("—")
        shoot(page, "empty")

        write(
            base / "live", make_traces("intraday", 50, 0.6), make_traces(EVIL, 20, 0.6, symbols=("SPY", EVIL))
        )
        page.click(".tt-refresh")
        expect(page.locator(".tt-card")).to_have_count(2)
        expect(page.locator(".tt-cards")).to_contain_text(EVIL)
        page.select_option(".tt-symbol select", label=EVIL)
        expect(page.locator(".tt-card")).to_have_count(1)  # one of the two strategies trades it
        expect(page.locator(".tt-alerts")).to_contain_text(EVIL)
        assert page.locator(".tt-app img").count() == 0
        assert page.evaluate("window.hacked") is None
        shoot(page, "hostile")

        (tmp_path / "fault").write_text(str(tmp_path / EVIL.replace("/", "")))
        page.click(".tt-refresh")
        expect(page.locator(".tt-clock")).to_have_attribute("data-state", "error")
        expect(page.locator(".tt-alerts")).to_contain_text("Refresh failed")
        assert page.locator(".tt-card").count() == 1  # the last good figures are still there
        shoot(page, "error")
        (tmp_path / "fault").unlink()
        page.click(".tt-refresh")
        expect(page.locator(".tt-clock")).not_to_have_attribute("data-state", "error")
        assert "Refresh failed" not in page.locator(".tt-alerts").inner_text()
        assert page.evaluate("window.hacked") is None
        assert (seen.off_host(), seen.complaints) == ([], [])

        server.stop()
        page.wait_for_function("document.querySelector('.tt-clock').dataset.state == 'lost'", timeout=LIMIT)
        expect(page.locator(".tt-words")).to_contain_text("old")
        expect(page.locator(".tt-reload")).to_be_visible()
        assert page.locator(".tt-card").count() == 1
        shoot(page, "lost")
