"""The table of many strategies without a browser: from files to rows, from rows to what is sent."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from trade_telemetry.config import Settings
from trade_telemetry.dashboard.answers import State, state_schema
from trade_telemetry.dashboard.cache import PageCache
from trade_telemetry.dashboard.cards import cards_html
from trade_telemetry.dashboard.desk_widget import DeskTable
from trade_telemetry.dashboard.query import Query, choices_text, kept_choices
from trade_telemetry.dashboard.state import StateSource, dashboard_state
from trade_telemetry.dashboard.tables import confusion_html
from trade_telemetry.judgement.desk_table import desk_table
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.runs import RunInfo
from trade_telemetry.store.store import TraceStore
from trade_telemetry.store.view import View
from trade_telemetry.testing import START, simulate_columns, simulate_run, write_run

EVIL = '<img src=x onerror="window.hacked=1">'
LONG = "a_rather_long_name_" + "x" * 51
NAMES = ("s00", "s01", "s02", "s03", "s04", "s05", "s06", "s07", "s08", LONG, EVIL, "Öl-策略 ✓")
BROKEN = ("s04", EVIL)
LOST_ON, LIVE_DAYS = 30, 60


def write_world(folder: Path, names: tuple[str, ...] = NAMES, broken: tuple[str, ...] = BROKEN) -> Path:
    """One backtest for all, so that one alarm bar is drawn, and one without much luck; the broken ones lose half of their skill after six weeks."""
    past = simulate_run(120, 6, 0.62, strategies=("one",), seed=9, fees_pct=0.02)
    monday = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(
        weeks=LIVE_DAYS // 5
    )
    monday -= timedelta(days=monday.weekday())
    lost = {"loss_of_skill_on_day": LOST_ON, "precision_after": 0.33}
    live = []
    for k, name in enumerate(names):
        write_run(
            folder / f"backtest_20250106_0000{k:02}",
            [replace(trade, strategy=name, trace_id=f"{k} {i}") for i, trade in enumerate(past)],
        )
        plan: dict[str, Any] = {"mode": "live", "start": monday, "seed": 70 + k, "fees_pct": 0.02}
        live += simulate_run(
            LIVE_DAYS, 6, 0.62, strategies=(name,), **plan, **(lost if name in broken else {})
        )
    write_run(folder / "live", sorted(live, key=lambda t: t.exit_timestamp or t.timestamp), mode="live")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("desk") / "analytics")


@pytest.fixture(scope="module")
def source(world: Path) -> StateSource:
    found = StateSource(Settings(telemetry_storage_path=world, timezone="UTC"))
    found.read(Query())  # what takes long is known from here on
    return found


def read(source: StateSource, **asked: Any) -> State:
    state = source.read(Query(**asked))
    Draft202012Validator(state_schema()).validate(json.loads(json.dumps(state, allow_nan=False)))
    return state


def test_two_broken_of_twelve_head_the_table_with_date_and_sentence(source: StateSource) -> None:
    state = read(source)
    desk = state["desk"]
    assert desk is not None
    first, planted = desk["rows"][:2], datetime.now(UTC) - timedelta(days=7 * (LIVE_DAYS - LOST_ON) // 5)
    assert {row["name"] for row in first} == set(BROKEN)
    for row in first:
        assert row["state"] == "degraded"
        assert row["near"] == 1
        assert "lost its edge" in row["sentence"]
        assert abs(datetime.fromisoformat(f"{row['since']}T00:00+00:00") - planted) < timedelta(days=21)
        assert row["precision"] is not None
        assert row["precision_promised"] is not None
        assert row["precision"] < row["precision_promised"] - 0.05
    assert {row["name"] for row in desk["rows"]} == set(NAMES)  # spelled as given
    assert desk["states"]["degraded"] <= 3  # one in twenty healthy ones a year
    assert desk["line"].startswith(f"{desk['states']['degraded']} degraded, ")
    assert "0.60 false alarms a year" in desk["alarms"]
    others = [row for row in desk["rows"][2:] if row["curve"] is not None]
    inside = [row["curve"]["low"][-1] < row["total_pct"] < row["curve"]["high"][-1] for row in others]  # type: ignore[index,operator]
    assert sum(inside) >= 7  # 9 of 10 expected


def test_beside_the_table_no_card_and_at_most_eight_curves_are_drawn(source: StateSource) -> None:
    state = read(source)
    assert (state["strategies"], cards_html(state), confusion_html(state)) == ({}, "", "")
    drawn = list(state["curve"]["cumulative_return_pct"])
    assert len(drawn) == 8
    assert set(drawn[:2]) == set(BROKEN)
    pinned = read(source, pinned=("s08", "nobody"))
    assert next(iter(pinned["curve"]["cumulative_return_pct"])) == "s08"
    assert pinned["desk"] is not None
    assert (pinned["desk"]["pinned"], len(pinned["desk"]["drawn"])) == (["s08"], 8)


def test_a_row_leads_to_its_strategy_and_the_other_questions_are_about_all(source: StateSource) -> None:
    one = read(source, strategy=EVIL, hurry=True)
    assert (one["desk"], list(one["strategies"]), one["opened"]) == (None, [EVIL], EVIL)
    assert read(source, tab="when", hurry=True)["desk"] is None
    cards = read(source, desk=False, hurry=True)
    assert (cards["desk"], len(cards["strategies"])) == (None, 12)
    shared = kept_choices(Query(), cards, choices_text(Query(strategy=LONG, tab="earn")))
    assert read(source, strategy=shared.strategy, tab=shared.tab, hurry=True)["opened"] == LONG


def test_up_to_three_strategies_are_shown_one_by_one(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b", "c", "d")):
        write_run(
            tmp_path / f"live_{k}",
            simulate_run(5, 3, 0.6, strategies=(name,), seed=k, mode="live"),
            mode="live",
        )
        store, settings = TraceStore(tmp_path), Settings(telemetry_storage_path=tmp_path)
        state = dashboard_state(store, settings, Query(hurry=True))
        assert (state["desk"] is None, len(state["strategies"])) == ((True, k + 1) if k < 3 else (False, 0))
    asked = dashboard_state(store, settings, Query(desk=True, group_by="bot", hurry=True))["desk"]
    assert asked is not None
    assert [(row["name"], row["strategies"]) for row in asked["rows"]] == [
        (f"live_{k}", [name]) for k, name in enumerate("abcd")
    ]


def brute_force(side: TraceColumns, name: str) -> dict[str, float]:
    """The same by pandas, from the trades."""
    frame = pd.DataFrame({
        "strategy": np.array(side.strategies, dtype=object)[side.strategy], "day": pd.to_datetime(side.exit_us, unit="us"),
        "earned": side.return_pct, "right": side.predicted == side.actual, "cost": np.nan_to_num(side.fees_pct) + np.nan_to_num(side.slippage_pct),
        "known": np.isfinite(side.fees_pct) | np.isfinite(side.slippage_pct),
    })  # fmt: skip
    own = frame[frame["strategy"] == name]
    total = own.set_index("day")["earned"].resample("B").sum().cumsum()
    fall = total - total.cummax().clip(lower=0)
    return {
        "trades": len(own), "precision": own["right"].mean(), "return_pct": own["earned"].mean(), "cost_pct": own.loc[own["known"], "cost"].mean(),
        "total_pct": total.iloc[-1], "drawdown_pct": fall.iloc[-1], "deepest_pct": fall.min(),
    }  # fmt: skip


def test_the_figures_of_a_row_are_those_of_pandas(tmp_path: Path) -> None:
    names = ("one", "two", "three")
    live = simulate_columns(
        37, 3.5, 0.55, mode="live", strategies=names, seed=3, fees_pct=0.04, slippage_pct=0.05
    )
    unknown = np.random.default_rng(1).random(len(live)) < 0.2  # of every fifth trade nobody knows the costs
    live = replace(
        live,
        fees_pct=np.where(unknown, np.nan, live.fees_pct),
        slippage_pct=np.where(unknown, np.nan, live.slippage_pct),
    )
    past = simulate_columns(80, 5, 0.6, strategies=names, seed=4, fees_pct=0.03)
    for row in desk_table(View("live", live, past, [], []), {})["rows"]:
        facts: dict[str, Any] = dict(row)
        now, then = brute_force(live, row["name"]), brute_force(past, row["name"])
        assert {key: facts[key] for key in now} == pytest.approx(now, abs=2e-2 if "cost" in now else 1e-4)
        assert facts["cost_pct"] == pytest.approx(now["cost_pct"], rel=0.02)
        promised = [
            facts[f"{key}_promised{'_pct' * (key != 'precision')}"] for key in ("precision", "return", "cost")
        ]
        assert promised == pytest.approx([then["precision"], then["return_pct"], then["cost_pct"]], abs=1e-4)


def test_a_refresh_of_500_strategies_sends_less_than_100_kilobytes_and_only_what_changed() -> None:
    names = [f"strategy_{k:03}_of_a_large_desk" for k in range(500)]
    past = simulate_columns(60, 2, 0.6, strategies=names, seed=1)
    live = simulate_columns(
        40, 2, 0.6, mode="live", strategies=names, seed=2, start=START + timedelta(weeks=20)
    )
    said = {
        name: {"state": "healthy", "since": None, "chance": 0.9123, "near": 0.2, "sentence": f"{name} is healthy: a lasting loss of 10 points that began over 21 days ago is excluded at 95 %."}
        for name in names
    }  # fmt: skip
    running = RunInfo("live", "live", len(live), tuple(names), state="running", heartbeat_at=1.75e9)
    table = DeskTable()

    def show(columns: TraceColumns) -> bytes:
        before = table.widget.version
        desk = desk_table(View("live", columns, past, [running], []), said)
        table.update(shown(desk))
        return table.since(before, table.widget.version)

    def shown(desk: Any) -> State:
        more = {"alarms": "", "pinned": [], "drawn": names[:8]}
        return {
            "desk": {**desk, **more},
            "generated_at": "2026-01-05T10:00:00+00:00",
            "as_of": None,
            "clock": None,
        }  # type: ignore[typeddict-item]

    first, again = show(live), show(live)
    grown = show(
        TraceColumns.concat(
            [
                live,
                simulate_columns(
                    1, 2, 0.6, mode="live", strategies=names, seed=9, start=START + timedelta(weeks=28)
                ),
            ]
        )
    )
    one = show(
        TraceColumns.concat(
            [
                live,
                simulate_columns(
                    2, 2, 0.6, mode="live", strategies=names[:1], seed=9, start=START + timedelta(weeks=29)
                ),
            ]
        )
    )
    sent = [len(json.loads(zlib.decompress(part))["rows"]) for part in (first, again, grown, one)]
    assert sent == [500, 0, 500, 500]
    assert max(map(len, (first, grown, one))) < 100_000, [*map(len, (first, grown, one))]
    assert len(again) < 5_000


def test_rows_and_their_writers_are_asked_anew_while_sums_are_kept(
    source: StateSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source.settings is not None
    cache = PageCache()
    dashboard_state(source.store, source.settings, Query(hurry=True), cache)
    monkeypatch.setattr("trade_telemetry.dashboard.desk.desk_table", None)
    again = dashboard_state(source.store, source.settings, Query(hurry=True, days=7), cache)["desk"]
    assert again is not None
    assert {row["writer"] for row in again["rows"]} == {"ended"}
