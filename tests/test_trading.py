"""The trading machine against two others: one written to be obvious, and backtesting.py."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trade_telemetry.trace import Direction
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bar_files import find_bars, load_bars
from trade_telemetry.trading.bars import Bar
from trade_telemetry.trading.broker import Fill, LiveTrader, Order, PaperBroker
from trade_telemetry.trading.simulation import simulate_bars
from trade_telemetry.trading.strategy import Signal, Strategy, make_strategy
from trade_telemetry.trading.trader import NO_COSTS, Costs, Trade, Trader

ROOT = Path(__file__).parents[1]
MINUTE = 60_000_000


class Script(Strategy):
    "Says what it was told to say, on the bar on which it was told to."

    def __init__(self, signals: dict[int, Signal], intraday: bool) -> None:
        self.signals, self.intraday, self.name = signals, intraday, "intraday" if intraday else "swing"

    def start(self, symbol: str, threshold_pct: float) -> None:
        super().start(symbol, threshold_pct)
        self.i = -1

    def on_bar(self, bar: Bar) -> Signal | None:
        self.i += 1
        return self.signals.get(self.i)


def trade_all(
    bars: list[Bar], signals: dict[int, Signal], intraday: bool, costs: Costs = NO_COSTS
) -> tuple[list[Trade], Trader]:
    trades: list[Trade] = []
    trader = Trader(Script(signals, intraday), "ABC", 0.3, costs, trades.append)
    for bar in bars:
        trader.step(bar)
    return trades, trader


def naive(
    bars: list[Bar], signals: dict[int, Signal], intraday: bool
) -> tuple[list[tuple[object, ...]], dict[str, int]]:
    "Trade by trade instead of bar by bar: take the next signal, look for its exit in all that follows, go on there."
    trades: list[tuple[object, ...]] = []
    counts = {"rejected": 0, "expired": 0, "open": 0}
    i = 0
    while i < len(bars) - 1:
        signal, here, there = signals.get(i), bars[i], bars[i + 1]
        i += 1
        if signal is None or signal.direction == "NOOP":
            continue
        if intraday and (there.day != here.day or there.last):
            counts["expired"] += 1
            continue
        sign = 1 if signal.direction == "LONG" else -1
        stop = -np.inf if signal.stop_loss is None else sign * signal.stop_loss
        target = np.inf if signal.take_profit is None else sign * signal.take_profit
        if not stop < sign * there.open < target:
            counts["rejected"] += 1
            continue
        exit_ = naive_exit(bars, i, signals, sign, stop, target, signal.max_bars, intraday)
        if exit_ is None:
            counts["open"] += 1
            break
        k, reason, price, time = exit_
        trades.append((signal.direction, there.time, there.open, reason, price, time))
        # the signal of the bar in which it was closed is heard again, and at a reversal the one that closed it
        i = k - 1 if reason == "reversal" else k
    return trades, counts


def naive_exit(
    bars: list[Bar],
    entry: int,
    signals: dict[int, Signal],
    sign: int,
    stop: float,
    target: float,
    max_bars: int | None,
    intraday: bool,
) -> tuple[int, str, float, int] | None:
    for k in range(entry, len(bars)):
        b = bars[k]
        said = signals.get(k - 1)
        opposite = "SHORT" if sign == 1 else "LONG"
        if k > entry and said is not None and (said.exit or said.direction == opposite):
            return k, "reversal" if said.reverse else "signal", b.open, b.time
        if sign * b.open <= stop:
            return k, "stop_loss", b.open, b.time
        if sign * b.open >= target:
            return k, "take_profit", b.open, b.time
        if min(sign * b.low, sign * b.high) <= stop:
            return k, "stop_loss", sign * stop, b.end
        if max(sign * b.low, sign * b.high) >= target:
            return k, "take_profit", sign * target, b.end
        if max_bars is not None and k - entry + 1 == max_bars:
            return k, "time", b.close, b.end
        if intraday and b.last:
            return k, "session_close", b.close, b.end
    return None


def whole_number_market(rng: np.random.Generator) -> tuple[list[Bar], dict[int, Signal]]:
    "A few days of whole-number prices and a signal on most bars: levels are touched exactly, and all the time."
    bars: list[Bar] = []
    for day in range(int(rng.integers(1, 4))):
        length = int(rng.integers(1, 12))
        for i in range(length):
            o, c, *more = (float(p) for p in rng.integers(97, 104, 4))
            time = (day * 1000 + i) * MINUTE
            prices = (o, max(o, c, *more), min(o, c, *more), c)
            bars.append(Bar(time, *prices, 1.0, time + MINUTE, 738_000 + day, i == length - 1))
    levels = [None, *map(float, range(94, 107))]
    signals = {
        i: Signal(
            direction := ("LONG", "SHORT", "NOOP")[rng.choice(3, p=[0.45, 0.45, 0.1])],
            stop_loss=levels[rng.integers(len(levels))],
            take_profit=levels[rng.integers(len(levels))],
            max_bars=None if rng.random() < 0.7 else int(rng.integers(1, 6)),
            reverse=direction != "NOOP" and rng.random() < 0.4,
            exit=direction == "NOOP" and rng.random() < 0.7,
        )
        for i in range(len(bars))
        if rng.random() < 0.5
    }
    return bars, signals


def test_the_machine_agrees_with_a_naive_one_on_thousands_of_small_markets(
    counts: Callable[[int, int], int],
) -> None:
    rng = np.random.default_rng(2024)
    closed, reasons = 0, set[str]()
    for _ in range(counts(4_000, 100_000)):
        bars, signals = whole_number_market(rng)
        for intraday in (True, False):
            trades, trader = trade_all(bars, signals, intraday)
            expected, found = naive(bars, signals, intraday)
            assert [
                (t.direction, t.entry_time, t.entry_price, t.exit_reason, t.exit_price, t.exit_time)
                for t in trades
            ] == expected
            assert (trader.rejected_entries, trader.expired_entries) == (found["rejected"], found["expired"])
            assert all(t.decision_price == bars[entry_bar(bars, t) - 1].close for t in trades)
            closed += len(trades)
            reasons |= {t.exit_reason for t in trades}
    assert closed > 4_000
    assert reasons == {"signal", "reversal", "stop_loss", "take_profit", "time", "session_close"}


def entry_bar(bars: list[Bar], trade: Trade) -> int:
    return next(i for i, b in enumerate(bars) if b.time == trade.entry_time)


PRICE = st.integers(90, 110).map(float)
LEVEL = st.none() | st.integers(85, 115).map(float)


@st.composite
def markets(draw: st.DrawFn) -> list[Bar]:
    "A few short days of bars with whole-number prices, so that levels are touched exactly and often."
    bars: list[Bar] = []
    for day in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 8))
        for i in range(length):
            o, c, *more = draw(st.tuples(PRICE, PRICE, PRICE, PRICE))
            high, low = max(o, c, *more), min(o, c, *more)
            time = (day * 1000 + i) * MINUTE
            bars.append(Bar(time, o, high, low, c, 1.0, time + MINUTE, 738_000 + day, i == length - 1))
    if draw(st.booleans()):  # the data stop in the middle of a session
        bars[-1] = bars[-1]._replace(last=False)
    return bars


SIGNAL = st.builds(
    Signal,
    st.sampled_from(["LONG", "SHORT"]),
    stop_loss=LEVEL,
    take_profit=LEVEL,
    max_bars=st.none() | st.integers(1, 6),
    reverse=st.booleans(),
) | st.builds(Signal, st.just("NOOP"), exit=st.booleans())
SCRIPT = st.dictionaries(st.integers(0, 31), SIGNAL, max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markets(), SCRIPT, st.booleans())
def test_the_machine_agrees_with_a_naive_one_on_random_bars(
    bars: list[Bar], signals: dict[int, Signal], intraday: bool
) -> None:
    trades, trader = trade_all(bars, signals, intraday)
    expected, counts = naive(bars, signals, intraday)
    got = [
        (t.direction, t.entry_time, t.entry_price, t.exit_reason, t.exit_price, t.exit_time) for t in trades
    ]
    assert got == expected
    assert trader.rejected_entries == counts["rejected"]
    assert trader.expired_entries == counts["expired"]
    assert (trader.position is not None) == (counts["open"] == 1)


def test_the_naive_machine_takes_every_road_so_the_agreement_means_something() -> None:
    rng = np.random.default_rng(5)
    reasons: set[object] = set()
    for seed in range(30):
        bars = list(simulate_bars("ABC", days=2, seed=seed, minutes=15, volatility_pct=4).rows())
        signals = {
            int(i): random_signal(rng, bars[i].close) for i in rng.choice(len(bars), 20, replace=False)
        }
        for intraday in (True, False):
            trades, _ = trade_all(bars, signals, intraday)
            expected, counts = naive(bars, signals, intraday)
            assert [(t.direction, t.entry_time, t.exit_reason, t.exit_time) for t in trades] == [
                (e[0], e[1], e[3], e[5]) for e in expected
            ]
            reasons |= {e[3] for e in expected} | {name for name, n in counts.items() if n}
    assert reasons >= {"signal", "stop_loss", "take_profit", "time", "session_close"}
    assert reasons >= {"rejected", "expired", "open"}


def random_signal(rng: np.random.Generator, price: float) -> Signal:
    up = bool(rng.integers(2))
    near, far = price * (1 + rng.uniform(0.001, 0.02, 2) * [1, -1])
    max_bars = int(rng.integers(1, 9)) if rng.random() < 0.4 else None
    return Signal("LONG" if up else "SHORT", None, far if up else near, near if up else far, max_bars)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markets(), SCRIPT, st.booleans(), st.integers(0, 31), st.integers(1, 9))
def test_changing_the_future_changes_no_past_trade(
    bars: list[Bar], signals: dict[int, Signal], intraday: bool, k: int, factor: int
) -> None:
    k = min(k, len(bars) - 1)
    later = [Bar(b.time, *(p * factor / 3 for p in b[1:5]), *b[5:]) for b in bars[k + 1 :]]
    whole, other, cut = ([], [], [])
    for feed, closed in ((bars, whole), (bars[: k + 1] + later, other), (bars[: k + 1], cut)):
        trades: list[Trade] = []
        trader = Trader(Script(signals, intraday), "ABC", 0.3, Costs(0.1, 0.1), trades.append)
        for bar in feed[: k + 1]:
            trader.step(bar)
        closed += trades
    assert whole == other == cut


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markets(), SCRIPT)
def test_no_intraday_position_lives_through_a_night(bars: list[Bar], signals: dict[int, Signal]) -> None:
    day_at = {b.time: b.day for b in bars} | {b.end: b.day for b in bars}
    for marked in (
        bars,
        [b._replace(last=False) for b in bars],
    ):  # also where the feed does not say which is last
        for t in trade_all(marked, signals, intraday=True)[0]:
            assert day_at[t.entry_time] == day_at[t.exit_time]
            assert t.holding_period_minutes <= 8


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markets(), SCRIPT, st.booleans(), st.floats(0, 2), st.floats(0, 2))
def test_costs_only_ever_cost(
    bars: list[Bar], signals: dict[int, Signal], intraday: bool, fee: float, slip: float
) -> None:
    free = trade_all(bars, signals, intraday)[0]
    paid = trade_all(bars, signals, intraday, Costs(fee, slip))[0]
    assert [(t.entry_time, t.exit_time, t.exit_reason) for t in free] == [
        (t.entry_time, t.exit_time, t.exit_reason) for t in paid
    ]
    for cheap, dear in zip(free, paid, strict=True):
        assert dear.realized_return_pct <= cheap.realized_return_pct + 1e-9
        sign = 1 if dear.direction == "LONG" else -1
        gross_loss = sign * (dear.entry_price - cheap.entry_price) - sign * (
            dear.exit_price - cheap.exit_price
        )
        assert dear.slippage_pct == pytest.approx(100 * gross_loss / dear.entry_price, abs=1e-9)
        if dear.exit_reason == "take_profit":  # a limit order gets its price
            assert dear.exit_price == cheap.exit_price
        assert dear.fees_pct == pytest.approx(fee * (1 + dear.exit_price / dear.entry_price))


class Tape(PaperBroker):
    "A paper broker that now and then refuses, and keeps what was asked and what it filled."

    def __init__(self, fills: Literal["next_open", "at_once"], rng: np.random.Generator) -> None:
        super().__init__(Costs(0.1, 0.1), fills)
        self.rng, self.filled, self.refused = rng, list[tuple[Order, Fill]](), list[Order]()

    def keep(self, order: Order, fill: Fill) -> Fill:
        if self.rng.random() < 0.3:
            self.refused.append(order)
            raise ConnectionError("no answer")
        self.filled.append((order, fill))
        return fill

    def open(self, order: Order) -> Fill:
        return self.keep(order, PaperBroker.open(self, order))

    def close(self, order: Order) -> Fill:
        return self.keep(order, PaperBroker.close(self, order))


def check_trades_are_the_fills(trades: list[Trade], trader: LiveTrader, tape: Tape) -> None:
    "Openings and closings alternate, each trade is one pair with one quantity, and what is left over is held."
    assert [order.opening for order, _ in tape.filled] == [i % 2 == 0 for i in range(len(tape.filled))]
    assert len({order.id for order, _ in tape.filled}) == len(tape.filled)
    pairs = list(zip(tape.filled[::2], tape.filled[1::2], strict=False))
    assert len(pairs) == len(trades)
    for ((opened, entry), (closed, left)), t in zip(pairs, trades, strict=True):
        assert opened.direction == closed.direction == t.direction
        assert {opened.side, closed.side} == {"buy", "sell"}
        assert entry.quantity == left.quantity == t.quantity == 10_000 / t.entry_price
        assert (entry.price, entry.time, left.price, left.time) == (
            t.entry_price,
            t.entry_time,
            t.exit_price,
            t.exit_time,
        )
    assert (trader.position is not None) == len(tape.filled) % 2
    for before, after in pairwise(trades):
        assert before.entry_time <= before.exit_time <= after.entry_time


def test_every_position_opened_is_closed_once_whatever_the_broker_refuses(
    counts: Callable[[int, int], int],
) -> None:
    rng = np.random.default_rng(10)
    closed = halves = 0
    for _ in range(counts(1_000, 20_000)):
        bars, signals = whole_number_market(rng)
        for intraday, fills in product((True, False), ("next_open", "at_once")):
            trades, tape = list[Trade](), Tape(fills, rng)
            trader = LiveTrader(Script(signals, intraday), "ABC", 0.3, on_close=trades.append, broker=tape)
            for bar in bars:
                trader.step(bar)
            check_trades_are_the_fills(trades, trader, tape)
            exits = [order for order in tape.refused if not order.opening]
            not_asked = len({order.id for order in exits if order.reason == "reversal"})
            assert trader.refused_exits == len(exits)
            assert trader.refused_entries == len(tape.refused) - len(exits) + not_asked
            closed, halves = closed + len(trades), halves + not_asked
    assert closed > 1_000 and halves > 50


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(markets(), SCRIPT, st.booleans(), st.floats(0, 2), st.floats(0, 2))
def test_on_paper_the_live_trader_makes_the_trades_of_the_backtest(
    bars: list[Bar], signals: dict[int, Signal], intraday: bool, fee: float, slip: float
) -> None:
    costs, made = Costs(fee, slip), list[Trade]()
    trader = LiveTrader(Script(signals, intraday), "ABC", 0.3, costs, made.append)
    for bar in bars:
        trader.step(bar)
    expected, other = trade_all(bars, signals, intraday, costs)
    assert made == expected
    assert (trader.rejected_entries, trader.expired_entries) == (
        other.rejected_entries,
        other.expired_entries,
    )
    assert (trader.position is None) == (other.position is None)


def test_in_a_backtest_no_two_positions_of_a_strategy_on_a_symbol_overlap() -> None:
    history = [simulate_bars(symbol, days=90, seed=4, volatility_pct=2.0) for symbol in ("AAA", "BBB")]
    both = Backtester("both", costs=Costs(0.01, 0.01)).run(history)
    for symbol, strategy in product(("AAA", "BBB"), ("intraday", "swing")):
        mine = [t for t in both.trades if (t.symbol, t.strategy) == (symbol, strategy)]
        assert len(mine) >= 3
        assert len({t.entry_time for t in mine}) == len(mine)
        for t, after in pairwise(mine):
            assert t.entry_time <= t.exit_time <= after.entry_time
            assert t.quantity == pytest.approx(10_000 / t.entry_price)


def test_a_strategy_that_raises_is_not_hidden_by_the_machine() -> None:
    class Broken(Strategy):
        name = "swing"

        def on_bar(self, bar: Bar) -> Signal | None:
            raise RuntimeError("the model is gone")

    trader = Trader(Broken(), "ABC", 0.5)
    with pytest.raises(RuntimeError, match="the model is gone"):
        trader.step(next(simulate_bars("ABC", days=1).rows()))


def test_a_strategy_is_restarted_when_a_trader_takes_it() -> None:
    script = Script({0: Signal("LONG")}, False)
    bars = list(simulate_bars("ABC", days=1).rows())[:3]
    for _ in range(2):
        trader = Trader(script, "ABC", 0.5)
        for bar in bars:
            trader.step(bar)
        assert trader.position is not None and trader.position.bars_held == 2
        assert script.symbol == "ABC" and script.threshold_pct == 0.5


def test_trades_agree_with_backtesting_py_on_random_bars() -> None:
    "Same signals, stops, targets and fees; one unit per trade, entries, exits and reversals at the next open."
    pd = pytest.importorskip("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import and in use
        backtesting = pytest.importorskip("backtesting")

        compared, reasons = 0, set[str]()
        for seed in range(6):
            bars = list(simulate_bars("ABC", days=8, seed=seed, minutes=5, volatility_pct=3).rows())
            rng = np.random.default_rng(seed)
            signals = {
                int(i): wide_signal(rng, bars[i].close)
                for i in rng.choice(
                    np.arange(2, len(bars) - 1), 80, replace=False
                )  # they begin on the third bar
            }
            ours, trader = trade_all(bars, signals, False, Costs(fee_pct=0.02))
            assert trader.rejected_entries == 0  # the other engine would make them and stop out at once

            class Other(backtesting.Strategy):  # type: ignore[misc, name-defined]
                said = signals

                def init(self) -> None:
                    pass

                def next(self) -> None:
                    signal = self.said.get(len(self.data) - 1)
                    if signal is None:
                        return
                    order = self.buy if signal.direction == "LONG" else self.sell
                    held = bool(self.position)
                    opposite = held and self.position.is_long != (signal.direction == "LONG")
                    if opposite or (held and signal.exit):
                        self.position.close()
                    if not signal.exit and (not held or (opposite and signal.reverse)):
                        order(size=1, sl=signal.stop_loss, tp=signal.take_profit)

            frame = pd.DataFrame([b[1:6] for b in bars], columns=["Open", "High", "Low", "Close", "Volume"])
            frame.index = pd.to_datetime([b.time for b in bars], unit="us")
            host = backtesting.Backtest(frame, Other, cash=1e7, commission=0.0002)
            theirs = host.run()._trades.sort_values("EntryBar")
            index = {b.time: i for i, b in enumerate(bars)}
            index_end = {b.end: i for i, b in enumerate(bars)}
            assert len(theirs) == len(ours) > 20
            assert theirs["Size"].tolist() == [1 if t.direction == "LONG" else -1 for t in ours]
            assert theirs["EntryBar"].tolist() == [index[t.entry_time] for t in ours]
            at_open = [t.exit_price == bars[index.get(t.exit_time, -1)].open for t in ours]
            assert theirs["ExitBar"].tolist() == [
                (index if o else index_end)[t.exit_time] for t, o in zip(ours, at_open, strict=True)
            ]
            assert theirs["EntryPrice"].tolist() == [t.entry_price for t in ours]
            assert theirs["ExitPrice"].tolist() == pytest.approx([t.exit_price for t in ours], abs=1e-9)
            money = [t.realized_return_pct / 100 * t.entry_price for t in ours]
            assert theirs["PnL"].tolist() == pytest.approx(money, abs=1e-9)
            compared += len(ours)
            reasons |= {t.exit_reason for t in ours}
        assert compared > 150
        assert reasons == {"signal", "reversal", "stop_loss", "take_profit"}


def wide_signal(rng: np.random.Generator, price: float) -> Signal:
    "Stop and target far enough that no gap between two bars reaches them."
    if rng.random() < 0.15:
        return Signal("NOOP", exit=True)
    up = bool(rng.integers(2))
    above, below = price * (1 + rng.uniform(0.02, 0.05, 2) * [1, -1])
    direction, turn = ("LONG" if up else "SHORT"), rng.random() < 0.5
    return Signal(direction, None, below if up else above, above if up else below, reverse=turn)


def test_a_position_is_plain_data_that_can_be_copied() -> None:
    bars = list(simulate_bars("ABC", days=1).rows())[:2]
    trader = Trader(Script({0: Signal("LONG", 0.6, features={"x": 1.0})}, False), "ABC", 0.5)
    for bar in bars:
        trader.step(bar)
    assert trader.position is not None
    assert replace(trader.position).features == {"x": 1.0}
    assert trader.position.decision_price == bars[0].close


class Recorded(Strategy):
    "Lets another strategy speak, and remembers what it said when."

    def __init__(self, inner: Strategy) -> None:
        self.inner, self.intraday, self.name = inner, inner.intraday, inner.name

    def start(self, symbol: str, threshold_pct: float) -> None:
        self.inner.start(symbol, threshold_pct)
        self.i, self.said = -1, dict[int, Signal]()

    def on_bar(self, bar: Bar) -> Signal | None:
        self.i += 1
        if (signal := self.inner.on_bar(bar)) is not None:
            self.said[self.i] = signal
        return signal

    def on_closed(
        self, direction: Direction, actual_direction: Direction, features: dict[str, float]
    ) -> None:
        self.inner.on_closed(direction, actual_direction, features)


@pytest.mark.parametrize("name", ["intraday", "swing"])
@pytest.mark.parametrize("symbol", ["EURUSD", "AAPL", "IBM"])
def test_the_machine_agrees_with_the_naive_one_on_real_bars_and_bundled_strategies(
    symbol: str, name: str
) -> None:
    path = find_bars(ROOT / "data", [symbol])[symbol]
    bars = list(load_bars(path, session="FX" if symbol == "EURUSD" else "NYSE")[0].rows())
    strategy, trades = Recorded(make_strategy(name)), list[Trade]()
    trader = Trader(strategy, symbol, 0.1, on_close=trades.append)
    for bar in bars:
        trader.step(bar)
    expected, counts = naive(bars, strategy.said, strategy.intraday)
    got = [
        (t.direction, t.entry_time, t.entry_price, t.exit_reason, t.exit_price, t.exit_time) for t in trades
    ]
    assert got == expected
    assert trader.rejected_entries == counts["rejected"]
    assert trader.expired_entries == counts["expired"]
    if name == "swing" or symbol == "EURUSD":  # daily bars have no inside for an intraday strategy
        assert len(trades) > 20
