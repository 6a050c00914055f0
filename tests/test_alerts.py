"""Alerts against brute force, against scipy, and in simulated live trading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from freqtrade_logs import load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trade_telemetry.alerts import (
    Alert,
    below_since,
    chance_below,
    current_alerts,
    effective_calls,
    precision_path,
)
from trade_telemetry.classification import wilson_interval
from trade_telemetry.config import Settings
from trade_telemetry.store import RunInfo, TraceColumns, View, select_view
from trade_telemetry.trace import PredictionTrace

hits = st.lists(st.booleans(), max_size=80)


@settings(deadline=None)
@given(hits, st.one_of(st.none(), st.integers(1, 20)), st.floats(0.05, 0.95), st.integers(1, 40))
def test_the_beginning_of_a_low_stay_equals_a_walk_by_hand(
    calls: list[bool], window: int | None, line: float, minimum: int
) -> None:
    began = None
    for k in range(len(calls)):
        seen = calls[max(0, k + 1 - window) : k + 1] if window else calls[: k + 1]
        low = k + 1 >= minimum and sum(seen) / len(seen) < line
        began = (k if began is None else began) if low else None
    assert below_since(precision_path(calls, window), line, minimum) == began


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 400), st.floats(0.05, 0.95), st.integers(0, 300), st.integers(0, 300))
def test_the_chance_of_a_low_look_equals_scipy(n: int, line: float, right: int, wrong: int) -> None:
    below = np.ceil(line * n - 1e-9) - 1
    exact = stats.betabinom.cdf(below, n, right + 0.5, wrong + 0.5)
    assert chance_below(n, line, right, right + wrong) == pytest.approx(exact, abs=1e-8)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_calls_are_never_worth_more_than_their_number(rows: list[tuple[bool, int]]) -> None:
    right, day = [r for r, _ in rows], [d for _, d in rows]
    worth = effective_calls(right, day)
    assert 0 <= worth <= len(rows)
    assert worth == pytest.approx(effective_calls(right[::-1], day[::-1]))


# --- the rule on a view ---


def live_view(traces: list[PredictionTrace], mode: str = "live") -> View:
    columns = TraceColumns.from_traces([replace(t, mode=mode) for t in traces], mode)
    return select_view(columns, [RunInfo(mode, mode, len(traces), tuple(columns.strategies))])


def test_a_real_log_below_the_line_is_a_critical_alert_with_its_own_figures() -> None:
    traces = load_log("freqtrade_futures_15m_long_short")
    (alert,) = current_alerts(live_view(traces), Settings())
    right = [t.predicted_direction == t.actual_direction for t in traces]
    assert isinstance(alert, Alert)
    assert (alert.n, alert.severity, alert.strategy) == (641, "critical", "freqtrade")
    assert f"{np.mean(right):.1%} of 641 calls" in alert.evidence
    assert alert.since.endswith("+00:00")
    assert current_alerts(live_view(traces), Settings(dashboard_alert_precision_threshold=0.2)) == []


@pytest.mark.parametrize("mode", ["backtest", "replay"])
def test_history_and_replays_are_not_judged_unless_asked(mode: str) -> None:
    view = live_view(load_log("freqtrade_futures_15m_long_short"), mode)
    assert current_alerts(view, Settings()) == []
    asked = current_alerts(view, Settings(), judge_replay=True)
    assert [a.title.split(":")[0] for a in asked] == (["Replay"] if mode == "replay" else [])


def test_an_alert_is_about_one_strategy_and_the_worst_comes_first() -> None:
    traces = load_log("freqtrade_futures_15m_long_short")
    right = [t for t in traces if t.predicted_direction == t.actual_direction]
    wrong = [t for t in traces if t.predicted_direction != t.actual_direction]
    mixed = [
        *(replace(t, strategy="a fair one", trace_id="") for t in [*right[:16], *wrong[:16]]),
        *(replace(t, strategy="bad", trace_id="") for t in wrong[:60]),
        *(replace(t, strategy="good", trace_id="") for t in right[:60]),
    ]
    found = current_alerts(live_view(mixed), Settings())
    assert [(a.strategy, a.severity) for a in found] == [("bad", "critical"), ("a fair one", "warning")]


def test_critical_alerts_are_rare_for_a_strategy_exactly_at_the_line(
    counts: Callable[[int, int], int],
) -> None:
    """At one look, with eight calls a day that share the day's luck, at most about 2.5 % of the looks are critical."""
    times, found, day = counts(800, 20_000), 0, np.repeat(np.arange(40), 8)
    rng = np.random.default_rng(5)
    for _ in range(times):
        chance = rng.beta(0.55 * 4, 0.45 * 4, 40)  # correlation within a day 1 / (4 + 1) = 0.2
        right = rng.random(320) < chance[day]
        worth = effective_calls(right, day)
        found += wilson_interval(right.mean() * worth, worth)[1] < 0.55  # type: ignore[arg-type]
    assert found <= stats.binom.ppf(0.999, times, 0.035)
