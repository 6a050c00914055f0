"""Live against backtest: a planted degradation is found, and where there is none it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from freqtrade_logs import load_log
from scipy import stats

from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.cli.main import main
from trade_telemetry.judgement.clustered_means import clustered_mean, day_difference
from trade_telemetry.judgement.comparison import VerdictRule
from trade_telemetry.judgement.gee import gee_difference
from trade_telemetry.judgement.live_vs_backtest import compare_strategy, live_vs_backtest
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.runs import RunInfo
from trade_telemetry.store.store import TraceStore
from trade_telemetry.store.view import View, select_view
from trade_telemetry.testing import simulate_columns, write_run
from trade_telemetry.trace import PredictionTrace

START = datetime(2025, 1, 6, 15, tzinfo=UTC)
DAY = 86_400_000_000
RULE = VerdictRule(draws=199)


def side(
    rng: np.random.Generator,
    mode: str,
    days: int,
    skill: float,
    weeks: int = 0,
    per_day: int = 5,
    payoff: float = 1.0,
) -> TraceColumns:
    """Trades whose calls of a day agree (correlation 0.2); a right call wins `payoff` times what a wrong one loses."""
    right = PredictionTrace(START, "X", "s", "LONG", "LONG", 0.6, 100.0, 101.0, 30, payoff, mode=mode)
    wrong = PredictionTrace(START, "X", "s", "LONG", "SHORT", 0.6, 100.0, 99.0, 30, -1.0, mode=mode)
    rows = TraceColumns.from_traces([right, wrong], mode)
    day = np.repeat(np.arange(days), per_day)
    missed = rng.random(len(day)) >= rng.beta(4 * skill, 4 * (1 - skill), days)[day]
    shift = (weeks * 7 + day // 5 * 7 + day % 5) * DAY + rng.integers(0, 10**9, len(day))
    picked = rows.take(missed.astype(np.int64))
    ids = rng.integers(0, 2**63, len(day)).astype(np.uint64)
    noisy = picked.return_pct + rng.normal(0, 0.1, len(day))
    return replace(picked, exit_us=picked.exit_us + shift, trace_id=ids, position_id=ids, return_pct=noisy)


def view(*parts: TraceColumns) -> View:
    return select_view(
        TraceColumns.concat(parts),
        [RunInfo(p.runs[0], p.modes[0], len(p), tuple(p.strategies)) for p in parts],
    )


def statuses(times: int, days: int, live_skill: float, payoff: float = 1.0, seed: int = 0) -> list[str]:
    found = []
    for k in range(times):
        rng = np.random.default_rng([seed, k])
        world = view(
            side(rng, "backtest", 150, 0.6, payoff=payoff),
            side(rng, "live", days, live_skill, weeks=40, payoff=payoff),
        )
        found.append(live_vs_backtest(world, rule=RULE)["strategies"]["s"]["status"])
    return found


@pytest.mark.parametrize("payoff", [1.0, 8.0])
@pytest.mark.parametrize("days", [10, 30])
def test_nothing_is_found_above_five_percent_where_nothing_changed(
    days: int, payoff: float, counts: Callable[[int, int], int]
) -> None:
    times = counts(100, 3000)
    named = [s for s in statuses(times, days, 0.6, payoff) if s in {"worse", "better"}]
    assert len(named) <= stats.binom.ppf(0.999, times, 0.05), f"{len(named)} of {times}"


def test_a_planted_degradation_is_found(counts: Callable[[int, int], int]) -> None:
    times = counts(60, 1000)
    assert statuses(times, 40, 0.40, seed=1).count("worse") > 0.85 * times
    assert statuses(times, 40, 0.78, seed=2).count("better") > 0.75 * times


def test_the_interval_of_a_difference_covers_it(counts: Callable[[int, int], int]) -> None:
    times, covered = counts(300, 4000), 0
    for k in range(times):
        rng = np.random.default_rng([7, k])
        live, reference = (
            clustered_mean(
                side(rng, "live", days, skill).predicted == side(rng, "live", days, skill).actual,
                np.ones(days * 5),
                np.arange(days * 5) // 5,
                True,
            )
            for days, skill in ((20, 0.5), (120, 0.6))
        )
        answer = day_difference(live, reference, draws=199, seed=k)
        covered += answer.low <= -0.1 <= answer.high
    assert covered >= stats.binom.ppf(0.001, times, 0.95)


def test_a_real_log_against_itself_is_no_degradation_and_against_shifted_returns_it_is() -> None:
    traces = load_log("freqtrade_futures_15m_long_short")
    base = TraceColumns.from_traces([replace(t, mode="backtest") for t in traces], "backtest_1")
    shift = timedelta(days=365)
    later = [
        replace(
            t,
            mode="live",
            trace_id="",
            timestamp=t.timestamp + shift,
            exit_timestamp=(t.exit_timestamp or t.timestamp) + shift,
        )
        for t in traces
    ]
    live = TraceColumns.from_traces(later, "live")
    same = live_vs_backtest(view(base, live))
    assert same["degraded"] == []
    assert same["strategies"]["freqtrade"]["measures"]["precision"]["difference"]["estimate"] == 0.0
    worse = replace(live, return_pct=live.return_pct - 1.0)
    answer = live_vs_backtest(view(base, worse)).strategies["freqtrade"]
    assert answer.status == "worse"
    assert answer["measures"]["expectancy"]["difference"]["estimate"] == pytest.approx(-1.0)
    assert "precision" not in {shift.measure for shift in answer.verdict.shifts}
    assert "precision" not in answer["verdict"]


def test_thinned_live_rows_do_not_look_like_a_loss() -> None:
    rng = np.random.default_rng(3)
    full = side(rng, "live", 60, 0.6, weeks=40, per_day=40, payoff=1.5)
    kept = rng.random(len(full)) < 0.1
    thin = replace(full.take(kept), sample_rate=np.full(int(kept.sum()), 0.1))
    reference = side(rng, "backtest", 200, 0.6, per_day=40, payoff=1.5)
    answer = live_vs_backtest(view(reference, thin), rule=RULE)["strategies"]["s"]
    assert answer["status"] in {"held", "no difference"}
    daily = answer["measures"]["daily_return"]
    assert daily["live"] == pytest.approx(daily["reference"], rel=0.5)


COUNTED = ("precision", "expectancy", "daily_return", "directional", "holding")


@pytest.mark.parametrize("rate", [0.1, 0.0])
@pytest.mark.parametrize("skill", [0.6, 0.35])
def test_a_sampled_live_run_and_its_ledger_are_judged_like_the_whole_run(
    tmp_path: Path, rate: float, skill: float
) -> None:
    rng = np.random.default_rng(6)
    live = side(rng, "live", 60, skill, weeks=40, per_day=20)
    live = replace(live, id_stored=np.ones(len(live), dtype=np.bool_), entry_us=live.exit_us)
    for folder, kept in (("tenth", rate), ("whole", 1.0)):
        with TelemetryWriter(tmp_path / folder / "live", mode="live", sample_rate=kept) as writer:
            for trace in live.to_traces():
                writer.write_trace(trace)
        with TelemetryWriter(tmp_path / folder / "backtest_20250101_000000", mode="backtest") as writer:
            for trace in side(np.random.default_rng(7), "backtest", 150, 0.6, per_day=20).to_traces():
                writer.write_trace(trace)
    answers = []
    for folder in ("tenth", "whole"):
        store = TraceStore(tmp_path / folder)
        store.refresh()
        answers.append(
            live_vs_backtest(select_view(store.columns, store.runs()), rule=RULE)["strategies"]["s"]
        )
    tenth, whole = answers
    assert (tenth["status"], whole["status"]) == (("worse",) * 2 if skill < 0.5 else (whole["status"],) * 2)
    assert (tenth["live_trades"], tenth["live_days"]) == (1200, whole["live_days"])
    assert tenth["live_rows"] < 400
    assert "1,200 live trades counted by the ledger" in tenth["notes"][0]
    assert whole["notes"] == []
    assert tenth["needed"] == whole["needed"]
    for name in COUNTED:
        ours, theirs = tenth["measures"][name], whole["measures"][name]
        assert ours["live"] == pytest.approx(theirs["live"], rel=1e-9)
        for part in ("estimate", "low", "high", "p_value"):
            assert ours["difference"][part] == pytest.approx(theirs["difference"][part], rel=1e-7, abs=1e-9)
    for name in ("precision", "expectancy", "daily_return"):
        assert tenth["measures"][name]["p_holm"] == pytest.approx(whole["measures"][name]["p_holm"], rel=1e-7)


def test_a_sample_without_a_ledger_says_that_its_daily_return_is_an_estimate() -> None:
    rng = np.random.default_rng(8)
    full = side(rng, "live", 30, 0.6, weeks=40, per_day=20)
    thin = replace(full.take(slice(None, None, 10)), sample_rate=np.full(len(full) // 10, 0.1))
    answer = live_vs_backtest(view(side(rng, "backtest", 150, 0.6), thin), rule=RULE).strategies["s"]
    assert [note.code for note in answer.notes] == ["incomplete sample", "daily split"]
    assert "The daily return is an estimate." in answer["notes"][0]


def test_a_new_symbol_and_a_missing_side_are_told() -> None:
    rng = np.random.default_rng(4)
    base, live = side(rng, "backtest", 50, 0.6), side(rng, "live", 20, 0.6, weeks=20)
    other = replace(live, symbols=["NEW"])
    assert "NEW" in live_vs_backtest(view(base, other), rule=RULE)["strategies"]["s"]["notes"][0]
    assert (
        live_vs_backtest(view(base), rule=RULE)["strategies"]["s"]["verdict"]
        == "Not comparable: no live trades."
    )


LATER = datetime(2026, 1, 6, 14, tzinfo=UTC)
HALFWAY = {"loss_of_skill_on_day": 30}
WORLDS = {"independent": {}, "correlated": {"day_correlation": 0.05}}


def looks(times: int, world: str, seed: int, live: dict[str, Any], past: int = 120) -> list[str]:
    """Verdicts after sixty live days beside a backtest at 52 % right, ten trades a day."""
    told: dict[str, Any] = {"slippage_pct": 0.02, "fees_pct": 0.01, **WORLDS[world]}
    plan = {"precision": 0.52, "days": 60, "trades_a_day": 10.0} | live
    found = []
    for k in range(times):
        base = simulate_columns(past, 10, 0.52, seed=10_000 * seed + k, **told)
        figure = simulate_columns(mode="live", start=LATER, seed=10_000 * seed + 5_000 + k, **plan, **told)
        found.append(compare_strategy(figure, base, rule=RULE).status)
    return found


@pytest.mark.parametrize(("world", "least"), [("independent", 0.85), ("correlated", 0.75)])
def test_thirty_good_days_do_not_hide_thirty_bad_ones(
    world: str, least: float, counts: Callable[[int, int], int]
) -> None:
    times = counts(60, 2000)
    found = looks(times, world, 1, HALFWAY | {"precision_after": 0.40})
    assert found.count("worse") >= stats.binom.ppf(0.001, times, least), found.count("worse")
    assert found.count("better") == 0


@pytest.mark.parametrize("world", WORLDS)
def test_a_strategy_that_stays_as_it_was_is_seldom_called_worse_or_better(
    world: str, counts: Callable[[int, int], int]
) -> None:
    times = counts(100, 2000)
    found = looks(times, world, 2, {})
    assert found.count("worse") <= stats.binom.ppf(0.999, times, 0.04), found.count("worse")
    assert found.count("better") <= stats.binom.ppf(0.999, times, 0.01), found.count("better")


def test_thirty_bad_days_do_not_hide_thirty_good_ones(counts: Callable[[int, int], int]) -> None:
    times = counts(40, 1000)
    found = looks(times, "independent", 3, HALFWAY | {"precision_after": 0.68})
    assert found.count("better") >= 0.6 * times and found.count("worse") == 0


def test_more_trades_a_day_alone_are_never_better(counts: Callable[[int, int], int]) -> None:
    times = counts(30, 1000)
    found = looks(times, "correlated", 4, {"trades_a_day": 30.0})
    assert found.count("better") <= stats.binom.ppf(0.999, times, 0.01), found.count("better")


def test_the_day_of_a_change_is_told_and_the_present_begins_there() -> None:
    told = {"slippage_pct": 0.02, "fees_pct": 0.01}
    figure = simulate_columns(
        80,
        20,
        0.55,
        mode="live",
        start=LATER,
        seed=3,
        loss_of_skill_on_day=40,
        precision_after=0.35,
        **told,
    )
    answer = compare_strategy(figure, simulate_columns(250, 20, 0.55, seed=4, **told), rule=RULE)
    assert answer.status == "worse" and answer.recent is not None and answer.recent.since is not None
    assert 25 <= answer.recent.days <= 45
    assert answer.recent.measures["precision"].live < answer.measures["precision"].live - 0.05
    assert answer.verdict.since == answer.recent.since
    facts = answer.to_dict()
    assert facts["recent"]["since"]["day"] in facts["verdict"]
    assert facts["look"]["direction"] == "worse"


@pytest.mark.parametrize(("mood", "most"), [(0.0, 0.05), (0.5, 0.08)])
def test_a_pooled_difference_holds_its_five_percent(
    mood: float, most: float, counts: Callable[[int, int], int]
) -> None:
    """Ten trades a day that agree (correlation 0.05), and days of which each is like the day before."""
    times, named = counts(300, 4000), 0
    for k in range(times):
        rng = np.random.default_rng([9, k])
        sides = []
        for days in (60, 120):
            luck = rng.standard_normal(days)
            for day in range(1, days):
                luck[day] = mood * luck[day - 1] + np.sqrt(1 - mood**2) * luck[day]
            m = np.maximum(rng.poisson(10, days), 1)
            right = rng.binomial(m, np.clip(0.52 + np.sqrt(0.05 * 0.25) * luck, 0.001, 0.999))
            sides.append(clustered_mean(right, m, np.arange(days), True))
        named += gee_difference(sides[0], sides[1]).p_value < 0.05
    assert named <= stats.binom.ppf(0.999, times, most), f"{named} of {times}"


def test_the_rules_of_the_directory_say_among_how_many_variants_a_backtest_was_picked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "backtest_20250101_000000", simulate_columns(120, 10, 0.58, seed=1).to_traces())
    live = simulate_columns(60, 10, 0.52, mode="live", start=LATER, seed=2)
    write_run(tmp_path / "live", live.to_traces(), mode="live")
    words = ["compare", "--live-vs-backtest", "--format", "json", "--telemetry-dir", str(tmp_path)]
    answers = []
    for rules in ("variants_tried: 1", "variants_tried: {intraday: 20}", "variants_tried: {swing: 20}"):
        (tmp_path / "alerts.yaml").write_text(rules)
        main(words)
        answers.append(json.loads(capsys.readouterr().out)["strategies"]["intraday"])
    one, picked, other = answers
    assert one == other and one["look"]["p_worse"] < picked["look"]["p_worse"]
    assert one["look"]["p_better"] == picked["look"]["p_better"]
    assert picked["notes"][-1] == "The look reads the backtest lower, as the best of 20 variants."
    assert one["measures"]["precision"]["difference"] == picked["measures"]["precision"]["difference"]
    (tmp_path / "alerts.yaml").write_text("variants_tried: 0")
    assert main(words) != 0
    assert "variants_tried" in capsys.readouterr().err
