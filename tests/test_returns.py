"""Returns on real trades and under transformations that must not matter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import empyrical
import numpy as np
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import given, settings
from hypothesis import strategies as st

import trade_telemetry.metrics.returns as tt
from trade_telemetry.metrics.intervals import mean_interval
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.trace import position_return_pct

DAY = 86_400_000_000
amounts = st.floats(-50, 50).map(lambda x: round(x, 3))
trades = st.lists(st.tuples(st.integers(0, 30 * DAY), st.integers(0, 2**64 - 1), amounts), max_size=60)


def arrays(rows: list[tuple[int, int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.uint64),
        np.array([row[2] for row in rows], dtype=np.float64),
    )


def brute_drawdown(returns: np.ndarray) -> float:
    path = [0.0]
    for r in returns.tolist():
        path.append(path[-1] + r)
    return min(path[t] - path[s] for t in range(len(path)) for s in range(t + 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_daily_figures_equal_empyrical_on_real_trades(name: str, timezone: str) -> None:
    columns = TraceColumns.from_traces(load_log(name))
    zone = ZoneInfo(timezone)
    by_day: dict[int, float] = {}
    for us, r in zip(columns.exit_us.tolist(), columns.return_pct.tolist(), strict=True):
        day = datetime.fromtimestamp(us / 1e6, UTC).astimezone(zone).date().toordinal()
        by_day[day] = by_day.get(day, 0.0) + r
    series = np.array([by_day.get(day, 0.0) for day in range(min(by_day), max(by_day) + 1)])
    days, daily = tt.daily_returns(columns.exit_us, columns.return_pct, timezone)
    assert tt.days_per_year(days) == 365  # crypto trades on weekends
    np.testing.assert_allclose(daily, series, rtol=0, atol=1e-9)
    sharpe = tt.sharpe_ratio(columns.exit_us, columns.return_pct, timezone)
    assert sharpe == pytest.approx(empyrical.sharpe_ratio(series / 100, annualization=365), abs=1e-9)
    sortino = tt.sortino_of_days(daily, 365)
    assert sortino == pytest.approx(empyrical.sortino_ratio(series / 100, annualization=365), abs=1e-9)
    slots = len(
        columns.symbols
    )  # an account with one slot per symbol; the full stake on each can lose 255 % a day
    compounded = tt.max_drawdown_compounded(daily / slots)
    assert compounded == pytest.approx(100 * empyrical.max_drawdown(series / slots / 100), abs=1e-9)
    assert compounded < -1


@pytest.mark.parametrize("name", NAMES[1:])
def test_drawdown_equals_brute_force_on_real_trades(name: str) -> None:
    columns = TraceColumns.from_traces(load_log(name))
    order, path = tt.curve(columns.exit_us, columns.trace_id, columns.return_pct)
    in_order = columns.return_pct[order]
    assert (np.diff(columns.exit_us[order]) >= 0).all()
    assert tt.max_drawdown(in_order) == pytest.approx(brute_drawdown(in_order), abs=1e-9)
    assert path[-1] == pytest.approx(tt.cumulative_return(columns.return_pct), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_real_position_earns_its_move_times_leverage_less_costs(name: str) -> None:
    for trace in load_log(name):
        move = (trace.exit_price / trace.entry_price - 1) * 100
        expected = position_return_pct(
            trace.predicted_direction, move, trace.fees_pct or 0.0, trace.metadata["leverage"]
        )
        expected += trace.metadata["funding_pct"]
        assert trace.realized_return_pct == pytest.approx(expected, abs=0.002 * (1 + abs(move)))


@settings(deadline=None)
@given(trades, st.randoms(use_true_random=False))
def test_row_order_never_changes_a_figure(rows: list[tuple[int, int, float]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    here, there = arrays(rows), arrays(shuffled)
    np.testing.assert_array_equal(tt.curve(*here)[1], tt.curve(*there)[1])
    first, second = here[2][tt.exit_order(*here)], there[2][tt.exit_order(*there)]
    assert tt.max_drawdown(first) == tt.max_drawdown(second)
    assert tt.max_drawdown_compounded(first) == tt.max_drawdown_compounded(second)
    np.testing.assert_allclose(
        tt.daily_returns(here[0], here[2])[1], tt.daily_returns(there[0], there[2])[1], atol=1e-9
    )
    for figure in (tt.win_rate, tt.profit_factor, tt.payoff_ratio, tt.average_return, tt.sharpe_per_trade):
        np.testing.assert_allclose(figure(here[2]), figure(there[2]), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(trades)
def test_exit_order_is_that_of_a_plain_sort(rows: list[tuple[int, int, float]]) -> None:
    columns = arrays([(us // DAY, i % 7 if us % 2 else i, r) for us, i, r in rows])  # many ties
    expected = sorted(zip(*(c.tolist() for c in columns), strict=True))
    got = list(zip(*(c[tt.exit_order(*columns)].tolist() for c in columns), strict=True))
    assert got == expected


@settings(deadline=None)
@given(st.lists(amounts, max_size=40))
def test_drawdown_equals_brute_force(returns: list[float]) -> None:
    assert tt.max_drawdown(returns) == pytest.approx(brute_drawdown(np.array(returns)), abs=1e-9)
    assert tt.max_drawdown(returns) <= 0


@settings(deadline=None)
@given(st.lists(amounts, min_size=1, max_size=40), st.floats(0.1, 10))
def test_a_larger_stake_scales_points_and_keeps_ratios(returns: list[float], stake: float) -> None:
    scaled = [stake * r for r in returns]
    assert tt.max_drawdown(scaled) == pytest.approx(stake * tt.max_drawdown(returns), rel=1e-9, abs=1e-9)
    for figure in (tt.win_rate, tt.profit_factor, tt.payoff_ratio):
        np.testing.assert_allclose(figure(scaled), figure(returns), rtol=1e-9)
    if max(returns) - min(returns) > 1e-3:
        np.testing.assert_allclose(
            tt.sharpe_of_days(scaled), tt.sharpe_of_days(returns), rtol=1e-6, atol=1e-9
        )


@settings(deadline=None)
@given(trades, st.integers(0, 60))
def test_days_of_the_parts_add_up_to_those_of_the_whole(rows: list[tuple[int, int, float]], cut: int) -> None:
    exit_us, _, returns = arrays(rows)
    days, daily = tt.daily_returns(exit_us, returns)
    total = dict(zip(days.tolist(), daily.tolist(), strict=True))
    for part in (slice(None, cut), slice(cut, None)):
        for day, value in zip(
            *(x.tolist() for x in tt.daily_returns(exit_us[part], returns[part])), strict=True
        ):
            total[day] = total.get(day, 0.0) - value
    assert all(abs(rest) < 1e-9 for rest in total.values())
    assert sum(daily.tolist()) == pytest.approx(sum(returns.tolist()), abs=1e-9)


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(0.1, 5))
def test_turning_a_long_into_a_short_turns_the_sign(move: float, leverage: float) -> None:
    long = position_return_pct("LONG", move, 0.0, leverage)
    short = position_return_pct("SHORT", move, 0.0, leverage)
    assert long == -short
    assert tt.win_rate([long]) + tt.win_rate([short]) == (1.0 if move * leverage else 0.0)


@settings(deadline=None)
@given(st.lists(amounts, max_size=40))
def test_the_run_up_of_a_mirrored_account_is_its_drawdown(returns: list[float]) -> None:
    path = np.concatenate([[0.0], np.cumsum(returns)])
    run_up = max((path[t] - path[s] for t in range(len(path)) for s in range(t + 1)), default=0.0)
    assert tt.max_drawdown([-r for r in returns]) == pytest.approx(-run_up, abs=1e-9)


daily_lists = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), max_size=40)


@settings(deadline=None)
@given(daily_lists, st.floats(0.1, 10))
def test_a_larger_stake_changes_no_ratio_of_days(daily: list[float], factor: float) -> None:
    for ratio in (tt.sortino_of_days, tt.calmar_of_days, tt.probabilistic_sharpe_ratio):
        np.testing.assert_allclose(ratio([factor * d for d in daily]), ratio(daily), rtol=1e-6, atol=1e-9)


@settings(deadline=None)
@given(daily_lists)
def test_sortino_is_empyricals_wherever_a_day_lost(daily: list[float]) -> None:
    ours = tt.sortino_of_days(daily)
    if len(daily) > 1 and min(daily) < 0:
        theirs = empyrical.sortino_ratio(np.array(daily) / 100)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    else:
        assert np.isnan(ours)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-5, 5)), max_size=40), st.randoms())
def test_the_interval_of_the_mean_does_not_depend_on_the_order_of_trades(
    trades: list[tuple[int, float]], random: Any
) -> None:
    def interval(some: list[tuple[int, float]]) -> tuple[float, float]:
        days = np.array([d for d, _ in some], dtype=np.int64)
        return mean_interval(days, [r for _, r in some], np.ones(len(some)), draws=99)

    shuffled = random.sample(trades, len(trades))
    np.testing.assert_allclose(interval(shuffled), interval(trades), rtol=1e-9, atol=1e-9)
