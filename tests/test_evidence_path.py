"""What was said of a strategy on each live day: the same as asking on that day, in every kind of world; and the curve's band."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trade_telemetry.config import Settings
from trade_telemetry.dashboard.answers import state_schema
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import dashboard_state
from trade_telemetry.judgement.alert_rules import AlertRules, case_of
from trade_telemetry.judgement.evidence_path import path_of
from trade_telemetry.judgement.health import health_of_case
from trade_telemetry.judgement.strategy_page import curve_of, strategy_page
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.store import TraceStore
from trade_telemetry.testing import START, simulate_columns, simulate_run, write_run

check_against = import_module("jsonschema").validate  # it brings no types

NOW = datetime(2027, 1, 1, tzinfo=UTC)
BEFORE = START - timedelta(days=364)
World = tuple[TraceColumns, TraceColumns, AlertRules]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bars")


def live(days: int, a_day: float, precision: float, seed: int, after: int = 0, version: str = "", **planted: Any) -> TraceColumns:  # fmt: skip
    "Live trades from `after` days behind the start on."
    start = START + timedelta(days=after)
    rows = simulate_columns(days, a_day, precision, seed=seed, start=start, mode="live", **planted)
    return replace(rows, versions=[version]) if version else rows


def past(days: int = 150, a_day: float = 6, version: str = "", **planted: Any) -> TraceColumns:
    rows = simulate_columns(days, a_day, 0.56, seed=1, start=BEFORE, **{"fees_pct": 0.02, **planted})
    return replace(rows, versions=[version]) if version else rows


def later_known_fees() -> TraceColumns:
    rows = live(50, 6, 0.56, 4, fees_pct=0.06)
    fees = rows.fees_pct.copy()
    fees[: len(rows) // 4] = np.nan
    return replace(rows, fees_pct=fees)


def break_at(day: int, precision: float) -> dict[str, Any]:
    return {"loss_of_skill_on_day": day, "precision_after": precision}


WORLDS: dict[str, Callable[[], World]] = {
    "few trades": lambda: (live(90, 0.7, 0.56, 3, fees_pct=0.02, **break_at(30, 0.3)), past(), AlertRules()),
    "fees are recorded from some day on": lambda: (later_known_fees(), past(), AlertRules()),
    "no backtest": lambda: (live(70, 6, 0.56, 5, **break_at(45, 0.3)), past().take(slice(0)), AlertRules()),
    "symbols with alarms of their own": lambda: (live(45, 16, 0.56, 6, **break_at(25, 0.42)), past(a_day=16, fees_pct=0.0), AlertRules()),
    "one budget for the desk": lambda: (
        TraceColumns.concat([live(50, 6, 0.56, 7, fees_pct=0.02, **break_at(20, 0.38)), live(20, 6, 0.56, 8, 42, strategies=("other",))]),
        TraceColumns.concat([past(), past(strategies=("other",))]), AlertRules(desk_wide=True),
    ),
    "broken and recovered": lambda: (
        TraceColumns.concat([live(45, 8, 0.56, 9, fees_pct=0.02, **break_at(15, 0.3)), live(45, 8, 0.63, 10, 63, fees_pct=0.02)]),
        past(), AlertRules(),
    ),
    "more and more trades": lambda: (
        TraceColumns.concat([live(20, 1.2, 0.5, 9, fees_pct=0.02), live(20, 5, 0.5, 10, 28, fees_pct=0.02), live(15, 14, 0.45, 11, 56, fees_pct=0.02)]),
        past(), AlertRules(variants_tried=6),
    ),
    "several versions": lambda: (
        TraceColumns.concat([live(12, 6, 0.56, 12), live(25, 6, 0.42, 13, 21, "a"), live(25, 6, 0.56, 14, 56, "b")]),
        TraceColumns.concat([past(version="a", fees_pct=0.0), past(60, version="c", fees_pct=0.0)]), AlertRules(),
    ),
}  # fmt: skip


def said_on(day: str, world: World, folder: Path) -> tuple[str, float | None, str, str]:
    "What the health says where the trades end with a day: day, chance, how bad, by which score."
    rows, beside, rules = world
    end = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
    seen = rows.take(rows.exit_us < int(end.timestamp() * 1e6))
    health = health_of_case(case_of(seen, beside, "UTC", rules, now=NOW), folder=folder)["intraday"]
    bad = health.state if health.state in ("watch", "degraded") else "quiet"
    return health.as_of, health.chance if health.chance == health.chance else None, bad, health.carrier


@pytest.mark.parametrize("name", WORLDS)
def test_each_day_says_what_would_have_been_said_on_it(name: str, folder: Path, counts: Callable[[int, int], int]) -> None:  # fmt: skip
    world = WORLDS[name]()
    found = path_of(case_of(world[0], world[1], "UTC", world[2], now=NOW), "intraday", folder=folder)
    assert found is not None
    path = found[0]
    days, level = path["days"], path["level"]
    changes = [k for k in range(1, len(days)) if level[k] != level[k - 1]]
    looks = np.unique(np.linspace(0, len(days) - 1, counts(6, 10_000)).astype(int)).tolist()
    for k in sorted({*looks, *changes[: counts(2, 10_000)], *(c - 1 for c in changes[: counts(2, 10_000)])}):
        day, chance, bad, carrier = said_on(days[k], world, folder)
        now = path["chance"][k]
        assert (day, bad) == (days[k], level[k])
        assert (now is None) if chance is None else now == pytest.approx(chance, rel=1e-4)
        if bad != "quiet":
            assert carrier == path["carrier"][k], days[k]
    assert set(level) != {"quiet"} or name == "more and more trades"  # something is told apart


def test_a_longer_path_begins_like_the_shorter_one(folder: Path) -> None:
    rows = live(60, 6, 0.56, 21, fees_pct=0.02, **break_at(30, 0.3))
    paths = []
    for days in (40, 60):
        some = rows.take(rows.exit_us < int((START + timedelta(days=7 * days / 5)).timestamp() * 1e6))
        found = path_of(case_of(some, past(), "UTC", AlertRules(), now=NOW), "intraday", folder=folder)
        assert found is not None
        paths.append(found[0])
    short, long = paths
    n = len(short["days"])
    assert n < len(long["days"])
    for key in ("days", "level"):
        assert short[key] == long[key][:n]  # type: ignore[literal-required]
    assert short["chance"] == pytest.approx(long["chance"][:n], rel=1e-4)


def test_a_sample_with_its_ledger_has_the_path_of_all_trades(tmp_path: Path) -> None:
    runs = simulate_run(120, 8, 0.56, seed=1, start=BEFORE), simulate_run(60, 8, 0.56, seed=2, mode="live", **break_at(35, 0.34))  # fmt: skip
    pages = []
    for rate in (1.0, 0.05):
        base = tmp_path / str(rate)
        for name, traces in zip(("backtest_1", "live"), runs, strict=True):
            write_run(base / name, traces, sample_rate=rate)
        settings = Settings.load(telemetry_storage_path=base)
        state = dashboard_state(TraceStore(base), settings, Query(strategy="intraday"))
        check_against(json.loads(json.dumps(state, allow_nan=False)), state_schema())
        assert state["strategy"] is not None
        pages.append(state["strategy"])
    every, some = pages
    assert every["path"] is not None
    assert some["path"] is not None
    assert every["path"]["days"] == some["path"]["days"]
    assert every["path"]["scores"]["right"] == some["path"]["scores"]["right"]
    assert (every["title"], every["state"]) == (some["title"], some["state"])
    assert every["state"] == "degraded"
    assert every["curve"] is not None
    assert some["curve"] is not None
    assert every["curve"]["cumulative_pct"] == pytest.approx(some["curve"]["cumulative_pct"], abs=1e-3)
    assert every["table"] == some["table"]


def test_live_days_like_those_of_the_backtest_end_inside_the_band(counts: Callable[[int, int], int]) -> None:
    """Nine of ten, also where live is as long as the backtest; 99 % of samples of this size lie within the bounds."""
    n, inside = counts(60, 600), 0
    for seed in range(n):
        before = simulate_columns(60, 4, 0.56, seed=2 * seed + 1, start=BEFORE)
        now = simulate_columns(60, 4, 0.56, seed=2 * seed + 2, mode="live")
        curve = curve_of(case_of(now, before, "UTC", AlertRules(), now=NOW), "intraday")
        assert curve is not None
        inside += curve["low"][-1] <= curve["cumulative_pct"][-1] <= curve["high"][-1]
    assert abs(inside / n - 0.9) < 2.58 * (0.09 / n) ** 0.5 + 0.01


HOSTILE = [
    '<img src=x onerror="window.hacked=1">', "__ipecharts_jsfn__::alert(1)", "{a|b}{c}", "x" * 70,
    "\u202egnp.exe\x00\n", "策略-Ω é", "a\tb", "",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_spelled_as_given_and_reach_no_label(name: str, folder: Path) -> None:
    rows = TraceColumns.concat([live(25, 6, 0.56, 1, 0, f"v{name}", strategies=(name,)), live(10, 6, 0.56, 2, 42, f"w{name}", strategies=(name,))])  # fmt: skip
    case = case_of(rows, past(strategies=(name,)), "UTC", AlertRules(), now=NOW)
    page = strategy_page(case, name, draw=False, folder=folder)
    assert page["path"] is not None
    assert (page["name"], page["path"]["strategy"], len(page["path"]["days"])) == (name, name, 35)
    texts = [
        page["title"],
        page["sentence"],
        page["figures"],
        *page["notes"],
        *(m["text"] for m in page["marks"]),
    ]
    assert all(text.isprintable() for text in texts)
    assert json.loads(json.dumps(page, allow_nan=False)) == page


def test_two_years_are_drawn_and_what_is_older_is_counted(folder: Path) -> None:
    case = case_of(live(560, 1, 0.56, 1), past(), "UTC", AlertRules(), now=datetime(2030, 1, 1, tzinfo=UTC))
    found = path_of(case, "intraday", draw=False, folder=folder)
    assert found is not None
    assert (len(found[0]["days"]), found[0]["days_before"]) == (520, 40)
    curve = curve_of(case, "intraday")
    assert curve is not None
    assert len(curve["days"]) == 520
    assert "40 days after the start" in curve["note"]
