"""The sequential rules: the recursion by brute force, the budget and the power in simulated years."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trade_telemetry.config import Settings
from trade_telemetry.judgement.alert_rules import AlertRules
from trade_telemetry.judgement.alerts import current_alerts
from trade_telemetry.judgement.other_rules import drawdown_range, sequential_alerts
from trade_telemetry.judgement.sequential import YEAR, bet_factors, evidence_path, watch_share
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.runs import RunInfo
from trade_telemetry.store.view import select_view
from trade_telemetry.trace import PredictionTrace

Floats = npt.NDArray[np.float64]
DAY = 86_400_000_000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=40),
    st.floats(0.05, 0.95),
    st.floats(0, 1),
)
def test_the_evidence_equals_a_recursion_and_a_sum_over_all_beginnings(
    days: list[tuple[int, int]], bound: float, correlation: float
) -> None:
    counts = np.array([float(max(r, c)) for r, c in days])
    factors = bet_factors(np.array([float(r) for r, _ in days]), counts, bound, correlation)
    assert factors.min() > 0
    money = [0.5 if d == 0 else 0.5 / YEAR for d in range(len(days))]
    wealth = np.zeros(len(factors))
    for d, own in enumerate(money):
        wealth = (wealth + own) * factors[:, d]
    summed = sum(own * factors[:, d:].prod(axis=1) for d, own in enumerate(money))
    assert np.exp(evidence_path(factors)[-1]) == pytest.approx(wealth.mean(), rel=1e-9)
    assert wealth == pytest.approx(summed, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.floats(0.05, 0.95), st.floats(0, 1))
def test_a_fair_day_at_the_bound_leaves_the_money_as_it_is_on_average(
    calls: int, bound: float, correlation: float
) -> None:
    right = np.arange(calls + 1.0)
    factors = bet_factors(right, np.full(calls + 1, float(calls)), bound, correlation)
    chances = stats.binom.pmf(right, calls, bound)
    assert factors @ chances == pytest.approx(np.ones(len(factors)), abs=1e-9)


def days_of(rng: np.random.Generator, days: int, skill: float, correlation: float) -> tuple[Floats, Floats]:
    counts = 1.0 + rng.poisson(6, days)
    a = 1 / correlation - 1
    return rng.binomial(counts.astype(int), rng.beta(skill * a, (1 - skill) * a, days)).astype(float), counts


@pytest.mark.parametrize("correlation", [0.02, 0.2, 0.5])
@pytest.mark.parametrize("backtest_days", [20, 120])
def test_a_healthy_year_keeps_the_budget_with_an_estimated_baseline_and_clustered_calls(
    backtest_days: int, correlation: float, counts: Callable[[int, int], int]
) -> None:
    times, alarms = counts(200, 5000), 0
    for k in range(times):
        rng = np.random.default_rng([k, backtest_days])
        reference = days_of(rng, backtest_days, 0.6, correlation)
        watch = watch_share(*days_of(rng, YEAR, 0.6, correlation), *reference, budget=0.05)
        assert watch is not None
        alarms += bool(watch.on.any())
    assert alarms <= stats.binom.ppf(0.999, times, 0.05), f"{alarms} of {times}"


def test_a_planted_loss_is_found_and_clears_when_the_skill_comes_back(
    counts: Callable[[int, int], int],
) -> None:
    times, found, cleared = counts(40, 500), 0, 0
    for k in range(times):
        rng = np.random.default_rng([k, 77])
        parts = [days_of(rng, days, skill, 0.1) for days, skill in ((60, 0.62), (80, 0.38), (200, 0.66))]
        live = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        watch = watch_share(*live, *days_of(rng, 250, 0.62, 0.1))
        assert watch is not None
        found += bool(watch.on[60:140].any())
        cleared += bool(watch.on[139]) and not watch.on[-1]
    assert found > 0.9 * times
    assert cleared > 0.5 * times


def world(rng: np.random.Generator, mode: str, days: int, skill: float, weeks: int) -> TraceColumns:
    """Two strategies on three symbols; calls of a day share its luck across symbols."""
    template = [
        PredictionTrace(datetime(2024, 1, 1, 15, tzinfo=UTC), symbol, strategy, "LONG", actual, 0.6, 1.0, 1.0, 5, earned, mode=mode)
        for strategy in "ab" for symbol in "XYZ" for actual, earned in (("LONG", 1.0), ("SHORT", -1.0))
    ]  # fmt: skip
    rows = TraceColumns.from_traces(template, mode)
    day = np.repeat(np.arange(days), 12)
    luck = rng.beta(4 * skill, 4 * (1 - skill), days)[day]
    pick = 2 * rng.integers(0, 6, len(day)) + (rng.random(len(day)) >= luck)
    moved = (weeks * 7 + day // 5 * 7 + day % 5) * DAY + rng.integers(0, 10**9, len(day))
    picked = rows.take(pick)
    return replace(
        picked,
        exit_us=picked.exit_us + moved,
        trace_id=(ids := rng.integers(0, 2**63, len(day)).astype(np.uint64)),
        position_id=ids,
    )


def test_all_strategies_and_symbols_share_one_budget(counts: Callable[[int, int], int]) -> None:
    times, alarms, found = counts(40, 1000), 0, 0
    for k in range(times):
        rng = np.random.default_rng([k, 9])
        reference = world(rng, "backtest", 120, 0.6, 0)
        alarms += bool(sequential_alerts(world(rng, "live", 150, 0.6, 60), reference, "UTC", AlertRules()))
        lost = sequential_alerts(world(rng, "live", 150, 0.35, 60), reference, "UTC", AlertRules())
        found += {a.strategy for a in lost if a.rule == "lost_skill"} == {"a", "b"}
    assert alarms <= stats.binom.ppf(0.999, times, 0.05), f"{alarms} of {times}"
    assert found > 0.8 * times


def test_each_rule_can_be_switched_off_and_the_rest_gets_its_budget() -> None:
    rng = np.random.default_rng(5)
    parts = world(rng, "backtest", 120, 0.6, 0), world(rng, "live", 120, 0.3, 60)
    view = select_view(
        TraceColumns.concat(parts),
        [RunInfo(p.runs[0], p.modes[0], len(p), tuple(p.strategies)) for p in parts],
    )
    everything = current_alerts(view, Settings())
    assert {"lost_skill", "precision_below_threshold", "drawdown", "calibration_drift"} <= {
        a.rule for a in everything
    }
    for rule in {a.rule for a in everything}:
        left = current_alerts(view, Settings(), rules=AlertRules(disabled=(rule,)))
        assert rule not in {a.rule for a in left}
    only = AlertRules(disabled=("quiet_market", "calibration_drift", "precision_below_threshold", "drawdown"))
    budgets = [a.false_alarm or 0.0 for a in current_alerts(view, Settings(), rules=only)]
    assert sum(budgets) <= 0.05 + 1e-12
    assert max(budgets) == pytest.approx(0.05 / 2 / 2)


@pytest.mark.parametrize("mood", [0.0, 0.2, 0.3])
def test_a_healthy_year_stays_within_the_drawdown_range(
    mood: float, counts: Callable[[int, int], int]
) -> None:
    """Fat tails, and days that follow the day before."""

    def returns(rng: np.random.Generator, days: int) -> Floats:
        x = rng.standard_t(4, days)
        for d in range(1, days):
            x[d] = mood * x[d - 1] + (1 - mood**2) ** 0.5 * x[d]
        return x + 0.1

    times, deeper = counts(200, 2000), 0
    for k in range(times):
        rng = np.random.default_rng([k, 4])
        line = drawdown_range(returns(rng, 200), 0.05, seed=k)
        path = np.cumsum(returns(rng, YEAR))
        deeper += bool((path - np.maximum(np.maximum.accumulate(path), 0)).min() < line)
    assert deeper <= stats.binom.ppf(0.999, times, 0.06), f"{deeper} of {times}"


def test_moods_of_the_market_do_not_break_the_budget(counts: Callable[[int, int], int]) -> None:
    """The luck of a day follows that of the day before, live as in the backtest."""

    def moody(rng: np.random.Generator, days: int, mood: float) -> tuple[Floats, Floats]:
        z = rng.normal(size=days)
        for d in range(1, days):
            z[d] = mood * z[d - 1] + (1 - mood**2) ** 0.5 * z[d]
        luck = stats.beta.ppf(stats.norm.cdf(z), 2.4, 1.6)
        return rng.binomial(12, luck).astype(float), np.full(days, 12.0)

    times = counts(60, 1000)
    for mood in (0.2, 0.4, 0.6):
        alarms = 0
        for k in range(times):
            rng = np.random.default_rng([k, int(10 * mood), 6])
            watch = watch_share(*moody(rng, YEAR, mood), *moody(rng, 150, mood), budget=0.05)
            assert watch is not None
            alarms += bool(watch.on.any())
        assert alarms <= stats.binom.ppf(0.999, times, 0.05), f"{mood}: {alarms} of {times}"
