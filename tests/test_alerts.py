"""Alerts against brute force, against scipy, and in simulated live trading."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from freqtrade_logs import load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trade_telemetry.alert_sentences import PrecisionEvidence
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.config import Settings
from trade_telemetry.judgement.alert_rules import Alert, AlertReport, AlertRules
from trade_telemetry.judgement.alerts import alert_report, current_alerts
from trade_telemetry.judgement.precision_rule import (
    below_since,
    chance_below,
    effective_sample_size,
    precision_path,
)
from trade_telemetry.metrics.intervals import wilson_interval
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.runs import RunInfo, WriterInfo
from trade_telemetry.store.store import TraceStore
from trade_telemetry.store.view import View, select_view
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
    worth = effective_sample_size(right, day)
    assert 0 <= worth <= len(rows)
    assert worth == pytest.approx(effective_sample_size(right[::-1], day[::-1]))


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
    evidence = alert.facts.evidence
    assert isinstance(evidence, PrecisionEvidence)
    assert (evidence.observed, evidence.signals) == (np.mean(right), 641)
    assert f"{100 * np.mean(right):.1f} %" in alert.evidence
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
        worth = effective_sample_size(right, day)
        found += wilson_interval(right.mean() * worth, worth)[1] < 0.55  # type: ignore[arg-type]
    assert found <= stats.binom.ppf(0.999, times, 0.035)


# --- what was on and has cleared ---

DAY = 86_400_000_000


def made(
    mode: str, phases: list[tuple[int, float]], rng: np.random.Generator, per_day: int = 10
) -> TraceColumns:
    """Two symbols of one strategy, calls through the day; each phase has a number of days and a skill."""
    template = TraceColumns.from_traces(
        [
            PredictionTrace(datetime(2024, 1, 1, 9, tzinfo=UTC), symbol, "swing", "LONG", actual, 0.6, 1.0, 1.0, 0, earned, mode=mode)
            for symbol in "XY" for actual, earned in (("LONG", 1.0), ("SHORT", -1.0), ("NOOP", 0.0))
        ],
        mode,
    )  # fmt: skip
    skill = np.repeat([s for _, s in phases], [d * per_day for d, _ in phases])
    n, number = len(skill), np.arange(len(skill))
    outcome = np.where(rng.random(n) < 0.1, 2, np.where(rng.random(n) < skill, 0, 1))
    rows = template.take(3 * rng.integers(0, 2, n) + outcome)
    later = number // per_day * DAY + number % per_day * 3_600_000_000
    return replace(
        rows, extras=None, exit_us=rows.exit_us + later, entry_us=rows.entry_us + later,
        trace_id=(ids := rng.integers(0, 2**64, n, dtype=np.uint64)), position_id=ids, confidence=np.where(rng.random(n) < 0.8, 0.6, np.nan),
    )  # fmt: skip


def view_of_columns(live: TraceColumns, backtest: TraceColumns) -> View:
    live = replace(live, exit_us=live.exit_us + 400 * DAY)
    live_info, past_info = (
        RunInfo(mode, mode, len(c), ("swing",)) for mode, c in (("live", live), ("backtest", backtest))
    )
    return View("live", live, backtest, [live_info], [past_info], "live")


PHASES = [(60, 0.62), (50, 0.38), (120, 0.68), (30, 0.4)]
FOREVER = AlertRules(remembered_days=10_000)


@pytest.mark.parametrize("window", [None, 60])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_on_at_any_time_is_what_the_report_of_today_says(seed: int, window: int | None) -> None:
    rng = np.random.default_rng(seed)
    backtest, live = made("backtest", [(150, 0.62)], rng), made("live", PHASES, rng)
    rules = FOREVER.changed(window=window)
    whole = alert_report(view_of_columns(live, backtest), Settings(), rules=rules)
    assert {"lost_skill", "precision_below_threshold", "drawdown"} <= {a.rule for a in whole.cleared}
    start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=400)
    for day in [*range(20, 260, 13), 260]:
        midnight = start + timedelta(days=day)
        then = alert_report(
            view_of_columns(live.take(slice(10 * day)), backtest), Settings(), rules=rules, now=midnight
        )
        on = {
            (a.rule, a.symbol, a.since)
            for a in (*whole.current, *whole.cleared)
            if a.since < midnight.isoformat() <= (a.cleared_at or "9")
        }
        assert {(a.rule, a.symbol, a.since) for a in then.current} == on, day
        over = [a for a in whole.cleared if (a.cleared_at or "") < midnight.isoformat()]
        assert then.cleared == over, day


def test_rules_that_see_days_do_not_change_their_mind_within_a_day() -> None:
    rng = np.random.default_rng(7)
    backtest, live = made("backtest", [(150, 0.62)], rng), made("live", PHASES, rng)
    for day in (60, 72, 75, 110, 125, 240):
        now = datetime(2024, 1, 1, 23, tzinfo=UTC) + timedelta(days=400 + day)
        looks = [
            alert_report(view_of_columns(live.take(slice(10 * day + k)), backtest), Settings(), rules=FOREVER, now=now)
            for k in range(11)
        ]  # fmt: skip
        seen = [
            [[(a.rule, a.symbol, a.since) for a in part if a.rule != "precision_below_threshold"] for part in (look.current, look.cleared)]
            for look in looks
        ]  # fmt: skip
        assert seen == seen[:1] * 11


def test_the_precision_rule_goes_on_below_its_line_and_off_two_points_above_it_and_not_between() -> None:
    rng = np.random.default_rng(3)
    live = made("live", [(80, 0.55)], rng)  # a strategy that lives at the line
    right = np.cumsum(live.predicted == live.actual) / np.arange(1, len(live) + 1)
    on, states = False, []
    for k, share in enumerate(right):
        on = k >= 29 and (share < 0.55 or (on and share < 0.57))
        states.append(on)
    changes = [k for k in range(1, len(states)) if states[k] != states[k - 1]]
    empty = live.take(slice(0))
    found = alert_report(view_of_columns(live, empty), Settings(), rules=FOREVER)
    edges = sorted({a.since for a in (*found.current, *found.cleared)} | {a.cleared_at or "" for a in found.cleared})  # fmt: skip
    moments = [
        datetime.fromtimestamp((live.exit_us[k] + 400 * DAY) / 1e6, UTC).isoformat(timespec="seconds")
        for k in changes
    ]
    assert edges == moments
    crossings = int(np.count_nonzero(np.diff((right[29:] < 0.55).astype(int))))
    assert 0 < len(changes) < crossings  # a rule without hysteresis flickers more


def test_row_order_and_a_million_times_the_same_question_change_nothing() -> None:
    rng = np.random.default_rng(11)
    backtest, live = made("backtest", [(150, 0.62)], rng), made("live", PHASES, rng)
    shuffled = [part.take(rng.permutation(len(part))) for part in (live, backtest)]
    first = alert_report(view_of_columns(live, backtest), Settings(), rules=FOREVER)
    assert alert_report(view_of_columns(*shuffled), Settings(), rules=FOREVER) == first
    assert json.loads(json.dumps([a.to_dict() for a in first.cleared], allow_nan=False))


# --- samples and their ledger ---


@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_a_tenth_of_the_rows_with_their_ledger_alarms_like_all_rows(tmp_path: Path, rate: float) -> None:
    rng = np.random.default_rng(5)
    backtest, live = made("backtest", [(150, 0.62)], rng), made("live", [(60, 0.62), (40, 0.38)], rng)
    reports = []
    for name, kept in (("all", 1.0), ("some", rate)):
        for folder, part in (("backtest_20240101_000000", backtest), ("live", live)):
            mode = folder.split("_", maxsplit=1)[0]
            with TelemetryWriter(tmp_path / name / folder, mode=mode, sample_rate=kept) as writer:
                for trace in part.to_traces():
                    days = timedelta(days=400 * (mode == "live"))
                    exit_at = None if trace.exit_timestamp is None else trace.exit_timestamp + days
                    writer.write_trace(
                        replace(trace, timestamp=trace.timestamp + days, exit_timestamp=exit_at, metadata={})
                    )
        store = TraceStore(tmp_path / name)
        store.refresh()
        view = select_view(store.columns, store.runs())
        assert len(view.figure) <= 2 * kept * len(live)
        reports.append(alert_report(view, Settings(), rules=FOREVER))
    every, some = reports
    exact = {"lost_skill", "quiet_market", "drawdown"}
    assert {"lost_skill", "drawdown"} <= {a.rule for a in every.current}
    for part, other in ((every.current, some.current), (every.cleared, some.cleared)):
        facts = [
            [(a.rule, a.symbol, a.severity, a.n, a.evidence, a.error_rate, a.since[:10]) for a in own if a.rule in exact]
            for own in (part, other)
        ]  # fmt: skip
        assert facts[0] == facts[1]
    precision = [
        next(a for a in report.current if a.rule.startswith("precision")) for report in (every, some)
    ]
    assert precision[0].evidence == precision[1].evidence
    assert some.judged == every.judged == {"swing": 1000}


def test_sampled_rows_without_a_ledger_are_judged_as_they_are_and_not_by_their_drawdown() -> None:
    rng = np.random.default_rng(5)
    backtest, live = made("backtest", [(150, 0.62)], rng), made("live", [(60, 0.62), (60, 0.3)], rng)
    assert "drawdown" in {a.rule for a in current_alerts(view_of_columns(live, backtest), Settings())}
    thin = replace(live.take(slice(None, None, 4)), sample_rate=np.full(300, 0.25))
    rules = {a.rule for a in current_alerts(view_of_columns(thin, backtest), Settings())}
    assert "lost_skill" in rules
    assert "drawdown" not in rules


# --- writers ---


def test_an_old_crash_with_a_restart_is_no_alarm_and_two_heartbeats_missed_are_one(tmp_path: Path) -> None:
    folder, now = tmp_path / "live", datetime.now(UTC)
    with TelemetryWriter(folder, mode="live") as writer:
        for trace in made("live", [(4, 1.0)], np.random.default_rng(1)).to_traces():
            writer.write_trace(trace)
    (path,) = folder.glob("run_*.json")
    record = json.loads(path.read_text())
    path.unlink()

    def reported(**writers: dict[str, object]) -> AlertReport:
        for name, facts in writers.items():
            open_end = record | {"ended_at": None, "end_reason": None, "heartbeat_seconds": 60}
            (folder / f"run_{name}.json").write_text(json.dumps(open_end | facts))
        store = TraceStore(tmp_path)
        store.refresh()
        view = select_view(store.columns, store.runs())
        return alert_report(view, Settings(), rules=FOREVER)

    def at(minutes: float) -> str:
        return (now - timedelta(minutes=minutes)).isoformat()

    crashed = {"started_at": at(300), "heartbeat_at": at(200)}
    alone = reported(a=crashed)
    assert [(a.rule, a.since[:16]) for a in alone.current] == [("writer_silent", at(200)[:16])]
    again = reported(b={"started_at": at(100), "heartbeat_at": at(0.5)})
    assert again.current == []
    assert [(a.since[:16], (a.cleared_at or "")[:16]) for a in again.cleared] == [
        (at(200)[:16], at(100)[:16])
    ]
    assert reported(b={"started_at": at(100), "heartbeat_at": at(1.9)}).current == []  # late, not dead
    dead = reported(b={"started_at": at(100), "heartbeat_at": at(3)})
    assert [a.since[:16] for a in dead.current] == [at(3)[:16]]
    assert reported(b={"started_at": at(100), "heartbeat_at": at(3), "ended_at": at(3)}).current == []


def test_a_writer_that_died_before_its_first_row_is_found_where_all_runs_are_given() -> None:
    writer = WriterInfo("w", "ended uncleanly", mode="live", started_at=1.7e9, heartbeat_at=1.7e9)
    run = RunInfo("live", "live", 0, records=(writer,))
    nothing = select_view(TraceColumns.from_traces([]), [run])
    assert [a.rule for a in alert_report(nothing, Settings(), runs=[run]).current] == ["writer_silent"]
    off = AlertRules(disabled=("writer_silent",))
    assert alert_report(nothing, Settings(), runs=[run], rules=off).current == []


def test_alerts_need_numpy_only() -> None:
    """The dashboard asks for them before its first picture."""
    code = (
        "import sys, numpy as np\n"
        "from trade_telemetry import config\n"
        "from trade_telemetry.judgement import alerts\n"
        "from trade_telemetry.judgement.alert_rules import AlertRules\n"
        "from trade_telemetry.store.columns import TraceColumns\n"
        "from trade_telemetry.store.runs import RunInfo\n"
        "from trade_telemetry.store.view import View\n"
        "from trade_telemetry.trace import PredictionTrace\n"
        "from datetime import datetime, timedelta, UTC\n"
        "def part(mode, skill, start):\n"
        "    return TraceColumns.from_traces([PredictionTrace(start + timedelta(hours=k), 'X', 's', 'LONG',\n"
        "        'LONG' if k % 10 < skill else 'SHORT', 0.6, 1.0, 1.0, 5, 1.0 if k % 10 < skill else -1.0, mode=mode)\n"
        "        for k in range(2400)], mode)\n"
        "live, past = part('live', 2, datetime(2025, 6, 1, tzinfo=UTC)), part('backtest', 7, datetime(2025, 1, 1, tzinfo=UTC))\n"
        "runs = [RunInfo(m, m, 2400, ('s',)) for m in ('live', 'backtest')]\n"
        "view = View('live', live, past, runs[:1], runs[1:], 'live')\n"
        "found = {a.rule for a in alerts.alert_report(view, config.Settings(), rules=AlertRules()).current}\n"
        "assert found == {'precision_below_threshold', 'lost_skill', 'drawdown', 'calibration_drift'}, found\n"
        "print([m for m in ('scipy', 'pandas', 'matplotlib', 'sklearn', 'pyarrow') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert (done.stderr, done.stdout) == ("", "[]\n")


def test_a_strategy_without_a_backtest_is_held_to_its_first_days() -> None:
    rng = np.random.default_rng(2)
    live = made("live", [(70, 0.64), (60, 0.3)], rng)
    nothing = live.take(slice(0))
    on = alert_report(view_of_columns(live, nothing), Settings(), rules=FOREVER).current
    assert "its first 40 days" in next(a.evidence for a in on if a.rule == "lost_skill")
    early = alert_report(view_of_columns(live.take(slice(400)), nothing), Settings(), rules=FOREVER)
    assert {a.rule for a in (*early.current, *early.cleared)} <= {"precision_below_threshold"}
    assert "drawdown" not in {a.rule for a in on}  # which needs a backtest


def test_healthy_strategies_without_a_backtest_keep_the_budget(counts: Callable[[int, int], int]) -> None:
    times, alarms = counts(30, 400), 0
    only = AlertRules(disabled=("precision_below_threshold",), remembered_days=10_000)
    for seed in range(times):
        live = made("live", [(252, 0.6)], np.random.default_rng([seed, 3]))
        report = alert_report(view_of_columns(live, live.take(slice(0))), Settings(), rules=only)
        alarms += bool(report.current or report.cleared)
    assert alarms <= stats.binom.ppf(0.999, times, 0.05), f"{alarms} of {times}"
