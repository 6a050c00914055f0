"""Where a strategy has several versions, every judgement is about the newest one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trade_telemetry.config import Settings
from trade_telemetry.judgement.alert_rules import AlertRules
from trade_telemetry.judgement.alerts import alert_report
from trade_telemetry.judgement.comparison import VerdictRule
from trade_telemetry.judgement.health import health_of
from trade_telemetry.judgement.live_vs_backtest import live_vs_backtest
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.runs import RunInfo
from trade_telemetry.store.store import TraceStore
from trade_telemetry.store.view import View, select_view
from trade_telemetry.testing import simulate_columns, write_run

RULE = VerdictRule(draws=199)
RULES = AlertRules(remembered_days=0, precision_threshold=0.5)
STARTS = datetime(2026, 1, 6, 14, tzinfo=UTC), datetime(2026, 4, 7, 14, tzinfo=UTC)
NOW = datetime(2026, 9, 1, tzinfo=UTC)
GOOD, BROKEN = 0.62, 0.36


def part(version: str, precision: float, place: int, days: int = 60, seed: int = 0) -> TraceColumns:
    """Sixty days of one version; `place`: does it begin first or second?"""
    rows = simulate_columns(
        days, 10, precision, mode="live", start=STARTS[place], seed=100 * seed + 10 + place, slippage_pct=0.02
    )
    return replace(rows, versions=[version], runs=["live"])


def past(*versions: str) -> TraceColumns:
    sides = [
        replace(simulate_columns(150, 10, GOOD, seed=k, slippage_pct=0.02), versions=[version])
        for k, version in enumerate(versions)
    ]
    return TraceColumns.concat(sides)


def view(live: TraceColumns, backtest: TraceColumns) -> View:
    infos = [
        RunInfo(mode, mode, len(c), ("intraday",)) for mode, c in (("live", live), ("backtest", backtest))
    ]
    return View("live", live, backtest, infos[:1], infos[1:], "live")


def told(seen: View) -> dict[str, Any]:
    """What the three judges say, by strategy."""
    comparison = live_vs_backtest(seen, rule=RULE)
    alerts = alert_report(seen, Settings(), rules=RULES, now=NOW, draw=False).current
    return {
        "health": health_of(seen, Settings(), RULES, NOW, draw=False)["intraday"],
        "against": comparison.strategies["intraday"],
        "alerts": [a for a in alerts if a.rule == "precision_below_threshold"],
    }


@pytest.mark.parametrize("promised", [("",), ("1", "2")])
def test_what_a_broken_version_lost_says_nothing_of_the_healthy_one_after_it(
    promised: tuple[str, ...],
) -> None:
    both = TraceColumns.concat([part("1", BROKEN, 0), part("2", GOOD, 1)])
    found = told(view(both, past(*promised)))
    assert (found["health"].state, found["health"].version) == ("healthy", "2")
    assert found["against"].status in {"held", "no difference"}
    assert found["against"].live_trades == len(part("2", GOOD, 1)) == found["health"].trades
    assert found["alerts"] == []
    note = found["against"].to_dict()["notes"][0]
    assert note.startswith("Judged: version 2 since 2026-04-07 (")
    pooled = replace(both, version=np.zeros(len(both), dtype=np.int32), versions=["2"])
    assert told(view(pooled, past("")))["against"].status == "worse"  # so it stood there before


@pytest.mark.parametrize("promised", [("",), ("1", "2")])
def test_what_a_healthy_version_earned_does_not_hide_the_broken_one_after_it(
    promised: tuple[str, ...],
) -> None:
    both = TraceColumns.concat([part("1", GOOD, 0), part("2", BROKEN, 1)])
    found = told(view(both, past(*promised)))
    assert (found["health"].state, found["health"].version) == ("degraded", "2")
    assert found["against"].status == "worse"
    (alert,) = found["alerts"]
    assert alert.severity == "critical" and "days of version 2" in alert.evidence
    assert alert.n == len(part("2", BROKEN, 1)) and alert.since >= STARTS[1].isoformat()


def test_the_new_version_is_judged_as_if_nothing_had_been_before() -> None:
    both = TraceColumns.concat([part("1", BROKEN, 0), part("2", 0.5, 1)])
    here, alone = told(view(both, past(""))), told(view(part("2", 0.5, 1), past("")))
    ours, theirs = (side["against"].to_dict() for side in (here, alone))
    assert ours.pop("notes")[1:] == theirs.pop("notes")
    assert repr(ours) == repr(theirs)
    assert [a.n for a in here["alerts"]] == [a.n for a in alone["alerts"]]
    assert [a.error_rate for a in here["alerts"]] == [a.error_rate for a in alone["alerts"]]


@pytest.mark.parametrize("precision", [GOOD, BROKEN])
def test_one_version_is_judged_like_a_strategy_without_any(precision: float) -> None:
    named, bare = (told(view(part(version, precision, 0), past(version))) for version in ("2", ""))
    assert repr(named["against"].to_dict()) == repr(bare["against"].to_dict())
    assert [a.to_dict() for a in named["alerts"]] == [a.to_dict() for a in bare["alerts"]]
    assert bool(named["alerts"]) == (precision == BROKEN)


def test_until_its_first_day_is_over_a_new_version_does_not_replace_the_old_one() -> None:
    fresh = part("2", GOOD, 1, days=5)
    first = fresh.take(fresh.exit_us < fresh.exit_us.min() + 3 * 3_600_000_000)
    seen = view(TraceColumns.concat([part("1", BROKEN, 0), first]), past(""))
    rules = [alert_report(seen, Settings(), rules=RULES, now=now, draw=False) for now in (STARTS[1], NOW)]
    kept, gone = ([a for a in r.current if a.rule == "precision_below_threshold"] for r in rules)
    assert [a.n for a in kept] == [len(part("1", BROKEN, 0))] and "version 1" in kept[0].evidence
    assert gone == []


@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_a_sample_with_its_ledger_is_judged_like_the_whole_run(tmp_path: Path, rate: float) -> None:
    both = TraceColumns.concat([part("1", GOOD, 0), part("2", BROKEN, 1)])
    found = []
    for folder, kept in (("sample", rate), ("whole", 1.0)):
        write_run(tmp_path / folder / "live", both.to_traces(), mode="live", sample_rate=kept)
        write_run(tmp_path / folder / "backtest_20250101_000000", past("1", "2").to_traces(), mode="backtest")
        store = TraceStore(tmp_path / folder)
        store.refresh()
        found.append(told(select_view(store.columns, store.runs())))
    sample, whole = (side["against"] for side in found)
    assert (sample.status, sample.live_trades, sample.live_days) == (
        "worse",
        whole.live_trades,
        whole.live_days,
    )
    assert sample.look == whole.look and sample.live_rows < 0.2 * whole.live_rows
    assert (
        sample.to_dict()["notes"][:2] == whole.to_dict()["notes"][:2]
    )  # the version of live, that of the backtest
    for name in ("precision", "expectancy", "daily_return", "directional", "holding"):
        ours, theirs = sample.measures[name], whole.measures[name]
        assert ours.live == pytest.approx(theirs.live, rel=1e-9)
        for end in ("estimate", "low", "high", "p_value"):
            here, there = (getattr(one.difference, end) for one in (ours, theirs))
            assert here == pytest.approx(there, rel=1e-7, abs=1e-9)
    (thin,), (full,) = (side["alerts"] for side in found)
    assert thin.facts.evidence == full.facts.evidence
    assert (thin.n, thin.error_rate, thin.severity) == (full.n, full.error_rate, full.severity)
