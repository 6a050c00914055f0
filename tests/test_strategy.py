"""Strategies carried out by the real trader: on real bars, on planted skill, and with another future."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from dataclasses import replace
from math import sqrt
from pathlib import Path
from random import Random

import numpy as np
import pytest

from trade_telemetry.trace import label_direction, market_move_pct
from trade_telemetry.trading.bar_files import load_bars
from trade_telemetry.trading.bars import Bar, Bars
from trade_telemetry.trading.simulation import PlantedSkill, simulate_bars
from trade_telemetry.trading.strategy import (
    IntradayBreakout,
    LearningStrategy,
    Signal,
    Strategy,
    SwingPullback,
    make_strategy,
)
from trade_telemetry.trading.trader import Costs, Trade, Trader

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
SHARED = ROOT.parent / "shared" / "data"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real bars beside the checkout")
FREE = Costs()


def trade(bars: Bars, strategy: Strategy, threshold_pct: float, costs: Costs = FREE) -> list[Trade]:
    trades: list[Trade] = []
    trader = Trader(strategy, bars.symbol, threshold_pct, costs, trades.append)
    for bar in bars.rows():
        trader.step(bar)
    return trades


def mix(trades: list[Trade]) -> Counter[str]:
    return Counter(t.direction for t in trades)


# --- planted skill, through the real fills ---


@pytest.mark.parametrize("session", ["NYSE", "NSE", "24H"])
@pytest.mark.parametrize("skill", [0.35, 0.6, 0.8])
def test_planted_skill_comes_back_for_each_direction(session: str, skill: float) -> None:
    bars = simulate_bars("ACME", session=session, days=60, seed=5)
    trades = trade(bars, PlantedSkill(bars, skill, horizon_bars=20, seed=1), 0.3)
    for direction in ("LONG", "SHORT"):
        right = [t.actual_direction == direction for t in trades if t.direction == direction]
        assert len(right) > 100
        assert abs(np.mean(right) - skill) < 3.3 * sqrt(skill * (1 - skill) / len(right))  # 1 in 1,000
    assert {t.exit_reason for t in trades} <= {"time", "session_close"}
    assert {t.bars_held for t in trades} == {20}


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_skill_of_nothing_and_of_everything_is_exact(skill: float) -> None:
    bars = simulate_bars("ACME", days=10, seed=2)
    trades = trade(bars, PlantedSkill(bars, skill, 15), 0.3)
    assert trades
    assert all((t.actual_direction == t.direction) == bool(skill) for t in trades)


def test_planted_skill_survives_fees_but_not_slippage() -> None:
    bars = simulate_bars("ACME", days=60, seed=3)
    plain = trade(bars, PlantedSkill(bars, 0.6, 20), 0.3)
    fees = trade(bars, PlantedSkill(bars, 0.6, 20), 0.3, Costs(fee_pct=0.1))
    slipped = trade(bars, PlantedSkill(bars, 0.6, 20), 0.3, Costs(slippage_pct=0.05))
    assert [t.actual_direction for t in fees] == [t.actual_direction for t in plain]
    assert [t.actual_direction for t in slipped] != [t.actual_direction for t in plain]


def test_planted_skill_finds_no_room_in_a_session_shorter_than_its_horizon() -> None:
    bars = simulate_bars("ACME", days=5)
    assert trade(bars, PlantedSkill(bars, 0.6, horizon_bars=390), 0.3) == []
    assert trade(bars, PlantedSkill(bars, 0.6, horizon_bars=10_000, intraday=False), 0.3) == []
    assert trade(bars, PlantedSkill(bars, 0.6, horizon_bars=500, intraday=False), 0.3) != []


def test_a_strategy_can_be_copied_and_pickled_in_the_middle_of_its_work() -> None:
    bars = simulate_bars("ACME", days=120, seed=1, minutes=5)
    half = len(bars) // 2
    for strategy in (IntradayBreakout(), SwingPullback(), PlantedSkill(bars, 0.6, 10)):
        strategy.start("ACME", 0.3)
        said = [strategy.on_bar(b) for b in bars.take(slice(0, half)).rows()]
        copies = [copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))]
        rest = [[s.on_bar(b) for b in bars.take(slice(half, None)).rows()] for s in (strategy, *copies)]
        assert any(said) and any(rest[0])
        assert rest[0] == rest[1] == rest[2]


def test_planted_skill_can_stand_in_for_either_strategy() -> None:
    bars = simulate_bars("ACME", session="24H", days=10)
    planted = PlantedSkill(bars, 0.6, 60, name="swing", intraday=False)
    assert {t.strategy for t in trade(bars, planted, 0.5)} == {"swing"}


# --- confidence ---


class TwoMoods(LearningStrategy):
    "Right in 70 % of the cases in one mood and 35 % in the other; the mood is all that the bucket tells."

    name = "moods"

    def __init__(self, bars: Bars) -> None:
        self.oracles = [PlantedSkill(bars, skill, 10, seed) for seed, skill in enumerate((0.35, 0.70))]
        self.bars = bars

    def start(self, symbol: str, threshold_pct: float) -> None:
        super().start(symbol, threshold_pct)
        for oracle in self.oracles:
            oracle.start(symbol, threshold_pct)
        self.random, self.mood, self.busy = Random(7), 0, 0

    def on_bar(self, bar: Bar) -> Signal | None:
        self.busy -= 1
        if self.busy >= 0 or (signal := self.oracles[self.mood].on_bar(bar)) is None:
            return None
        confidence = self.estimate.predict(signal.direction, self.mood)
        features, self.busy = {"bucket": float(self.mood)}, 11
        self.mood = int(self.random.random() < 0.5)
        return Signal(signal.direction, confidence, max_bars=10, features=features)


def test_confidence_is_calibrated_where_the_bucket_tells_something() -> None:
    bars = simulate_bars("ACME", session="24H", days=250, seed=4)
    trades = trade(bars, TwoMoods(bars), 0.1)
    said = np.array([t.confidence for t in trades], dtype=float)
    right = np.array([t.direction == t.actual_direction for t in trades], dtype=float)
    assert len(trades) > 2000
    for group in np.array_split(np.argsort(said), 8):
        error = sqrt(right[group].mean() * (1 - right[group].mean()) / len(group))
        assert abs(said[group].mean() - right[group].mean()) < 3.3 * error
    surprise = (right - said).sum() / sqrt((said * (1 - said)).sum())
    assert abs(surprise) < 3.3
    assert ((said - right) ** 2).mean() < 0.93 * right.var()  # it says something
    assert said[-200:].max() > 0.6 and said[-200:].min() < 0.45


@pytest.mark.parametrize("name", ["intraday", "swing"])
def test_each_confidence_is_the_record_of_the_trades_closed_before(name: str) -> None:
    bars = simulate_bars("ACME", days=400, seed=6, minutes=30)
    trades = trade(bars, make_strategy(name), 0.3)
    assert len(trades) > 30
    for t in trades:
        before = [u for u in trades if u.exit_time < t.entry_time]
        alike = [
            u for u in before if (u.direction, u.features["bucket"]) == (t.direction, t.features["bucket"])
        ]
        pooled = (sum(u.direction == u.actual_direction for u in before) + 10 / 3) / (len(before) + 10)
        hits = sum(u.direction == u.actual_direction for u in alike)
        assert t.confidence == pytest.approx((hits + 10 * pooled) / (len(alike) + 10))


@pytest.mark.parametrize(("name", "threshold_pct", "minutes"), [("intraday", 0.8, 5), ("swing", 0.5, 60)])
def test_the_bundled_strategies_know_how_often_they_are_right(
    name: str, threshold_pct: float, minutes: int
) -> None:
    trades = []
    for seed in range(4):
        bars = simulate_bars(f"STOCK{seed}", days=750, seed=seed, minutes=minutes)
        trades += trade(bars, make_strategy(name), threshold_pct)
    said = np.array([t.confidence for t in trades], dtype=float)
    right = np.array([t.direction == t.actual_direction for t in trades], dtype=float)
    assert len(trades) > 250
    assert abs((right - said).sum() / sqrt((said * (1 - said)).sum())) < 3.3
    assert ((said - right) ** 2).mean() < right.var() + 0.02  # learning from few trades costs little


# --- no look into the future ---


def _with_another_future(bars: Bars, at: int, seed: int) -> Bars:
    "Prices after bar `at` multiplied by another walk; high and low keep enclosing open and close."
    factor = np.ones(len(bars))
    factor[at:] = np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.002, len(bars) - at)))
    return replace(bars, **{c: getattr(bars, c) * factor for c in ("open", "high", "low", "close")})


@pytest.mark.parametrize("make", [IntradayBreakout, SwingPullback])
@pytest.mark.parametrize("seed", range(4))
def test_another_future_changes_no_past_signal(make: type[Strategy], seed: int) -> None:
    bars = simulate_bars("ACME", days=240, seed=seed, minutes=15)
    at = len(bars) * 2 // 3 + seed
    changed = _with_another_future(bars, at, seed)
    first, second = (
        [t for t in trade(b, make(), 0.3) if t.exit_time < bars.time[at]] for b in (bars, changed)
    )
    assert len(first) > 5
    assert first == second  # every field, confidence included
    signals: list[list[tuple[int, Signal]]] = []
    for b in (bars, changed):
        trader, seen = Trader(make(), "ACME", 0.3), []
        for bar in b.take(slice(0, at)).rows():
            trader.step(bar)
            if trader.order is not None:
                seen.append((bar.time, trader.order))
        signals.append(seen)
    assert signals[0] == signals[1]


def test_a_truncated_history_says_what_the_full_one_said() -> None:
    bars, _ = load_bars(DATA / "fx_hourly" / "EURUSD.csv", session="FX")
    for make in (IntradayBreakout, SwingPullback):
        whole = trade(bars, make(), 0.1)
        part = trade(bars.take(slice(0, 4000)), make(), 0.1)
        assert part == [t for t in whole if t.exit_time <= bars.end[3999]]
        assert len(part) > 5


def test_a_new_start_forgets_everything() -> None:
    bars = simulate_bars("ACME", days=60, seed=9)
    for strategy in (IntradayBreakout(), SwingPullback(), PlantedSkill(bars)):
        assert trade(bars, strategy, 0.3) == trade(bars, strategy, 0.3)


# --- a sensible number of trades ---


def test_a_year_of_currency_hours_gives_both_strategies_trades_in_both_directions() -> None:
    bars, _ = load_bars(DATA / "fx_hourly" / "EURUSD.csv", session="FX")
    intraday = trade(bars, IntradayBreakout(), 0.1)
    swing = trade(bars, SwingPullback(), 0.2)
    assert 100 <= len(intraday) <= 250
    assert 15 <= len(swing) <= 60
    assert min(mix(intraday).values()) > 30 and len(mix(intraday)) == 2
    assert min(mix(swing).values()) >= 5 and len(mix(swing)) == 2
    assert max(t.holding_period_minutes for t in intraday) < 1440
    assert {"stop_loss", "take_profit", "session_close"} == {t.exit_reason for t in intraday}
    assert np.median([t.holding_period_minutes for t in swing]) > 2 * 1440
    assert {"stop_loss", "take_profit", "time"} <= {t.exit_reason for t in swing}


@pytest.mark.parametrize("symbol", ["AAPL", "IBM", "MSFT"])
def test_daily_stocks_give_swings_for_years(symbol: str) -> None:
    bars, _ = load_bars(DATA / "daily" / f"{symbol}.csv")
    trades = trade(bars, SwingPullback(), 0.5)
    per_year = len(trades) / (len(bars) / 252)
    assert 10 < per_year < 60
    assert min(mix(trades).values()) > 50
    assert max(abs(t.market_move_pct) for t in trades) < 60  # no split has become a trade
    assert trade(bars, IntradayBreakout(), 0.3) == []  # a daily bar has no session to trade in


@shared
@pytest.mark.parametrize(
    ("name", "session"),
    [("SPY_2013-10", "NYSE"), ("BAC_2013-10", "NYSE"), ("AIG_2013-10", "NYSE"), ("NIFTY50_2019-01", "NSE")],
)
def test_real_minutes_give_intraday_trades_with_labels_from_their_own_prices(name: str, session: str) -> None:
    bars, _ = load_bars(SHARED / "intraday_1m" / f"{name}.csv", session=session)
    trades = trade(bars, IntradayBreakout(), 0.3)
    assert 2 <= len(trades) <= 2 * len(np.unique(bars.day))
    for t in trades:
        assert 0 < t.holding_period_minutes < bars.session.minutes
        assert t.actual_direction == label_direction(market_move_pct(t.entry_price, t.exit_price), 0.3)


@shared
@pytest.mark.parametrize("symbol", ["RELIANCE", "TCS", "INFY"])
def test_a_bonus_issue_left_in_the_prices_shows_and_a_named_one_does_not(symbol: str) -> None:
    path = SHARED / "daily" / f"{symbol}.csv"
    _, report = load_bars(path, session="NSE")
    bars, _ = load_bars(path, session="NSE", splits={j.day.isoformat(): 2.0 for j in report.jumps})
    trades = trade(bars, SwingPullback(), 0.5)
    assert len(trades) > 100
    assert max(abs(t.market_move_pct) for t in trades) < 25


# --- hostile bars ---


@pytest.mark.parametrize("name", ["intraday", "swing"])
def test_a_market_that_stands_still_says_nothing_and_breaks_nothing(name: str) -> None:
    bars = simulate_bars("ACME", days=60, minutes=30)
    flat = np.full(len(bars), 100.0)
    still = replace(bars, open=flat, high=flat, low=flat, close=flat)
    assert trade(still, make_strategy(name), 0.0) == []


@pytest.mark.parametrize("name", ["intraday", "swing"])
@pytest.mark.parametrize("volatility_pct", [0.001, 40.0])
def test_a_market_of_any_wildness_is_lived_through(name: str, volatility_pct: float) -> None:
    bars = simulate_bars("ACME", days=120, minutes=30, volatility_pct=volatility_pct, start_price=1000.0)
    for t in trade(bars, make_strategy(name), 0.0):
        assert t.confidence is not None and 0 < t.confidence < 1
        assert all(np.isfinite(v) for v in t.features.values())


@pytest.mark.parametrize("name", ["intraday", "swing"])
def test_a_day_of_a_single_bar_is_no_trouble(name: str) -> None:
    bars = simulate_bars("ACME", days=80, minutes=1, seed=2)
    lonely = bars.take((bars.day % 3 != 0) | bars.last)  # every third day has only its last bar
    assert trade(lonely, make_strategy(name), 0.3)
