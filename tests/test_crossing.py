"""A strategy of crossing averages gives, row by row, the trades of backtesting.py on all the bundled bars.

Both sides get their averages from the same correctly rounded `fmean`: where two averages are equal, the rounding of a running
mean would decide who crosses, and the comparison is of machines, not of means. Their prices come from the files by pandas alone.
"""

from __future__ import annotations

import io
import warnings
from collections import deque
from contextlib import redirect_stderr
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from trade_telemetry.analyzer import AccuracyAnalyzer
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bar_files import load_bars
from trade_telemetry.trading.bars import Bar, Bars
from trade_telemetry.trading.feeds import ReplayFeed
from trade_telemetry.trading.live_loop import Engine, EngineConfig
from trade_telemetry.trading.strategy import Signal, Strategy
from trade_telemetry.trading.trader import Costs, Trade

DATA = Path(__file__).parents[1] / "data"
DAILY = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
FAST, SLOW = 10, 30


class Cross(Strategy):
    name, intraday = "swing", False

    def start(self, symbol: str, threshold_pct: float) -> None:
        super().start(symbol, threshold_pct)
        self.closes, self.gap = deque[float](maxlen=SLOW), 0.0

    def on_bar(self, bar: Bar) -> Signal | None:
        self.closes.append(bar.close)
        slow, before = list(self.closes), self.gap
        self.gap = fmean(slow[-FAST:]) - fmean(slow) if len(slow) == SLOW else 0.0
        return self.decide(self.gap > 0) if before * self.gap < 0 else None

    def decide(self, up: bool) -> Signal | None:
        "Always in the market."
        return Signal("LONG" if up else "SHORT", reverse=True)


class RisingHalf(Cross):
    "Only LONG, flat in between."

    def decide(self, up: bool) -> Signal | None:
        return Signal("LONG") if up else Signal("NOOP", exit=True)


class OneStep(Cross):
    "An opposite signal only closes: what a strategy that does not ask for more has always got."

    def decide(self, up: bool) -> Signal | None:
        return Signal("LONG" if up else "SHORT")


@cache
def ours(symbol: str) -> Bars:
    "Prices as they stand in the file."
    if symbol == "EURUSD":
        return load_bars(DATA / "fx_hourly/EURUSD.csv", symbol, session="FX")[0]
    return load_bars(DATA / f"daily/{symbol}.csv", symbol, adjust=False)[0]


@cache
def theirs(symbol: str) -> pd.DataFrame:
    "The same file by pandas; days are dates, hours are in UTC."
    if symbol == "EURUSD":
        frame = pd.read_csv(DATA / "fx_hourly/EURUSD.csv", index_col="Time")
        frame.index = pd.to_datetime(frame.index, format="%d.%m.%Y %H:%M:%S.%f")
        return frame
    return pd.read_csv(DATA / f"daily/{symbol}.csv", index_col="Date", parse_dates=True)


def stamp(us: int, symbol: str) -> datetime:
    "A time as that file says it."
    if symbol == "EURUSD":
        return datetime.fromtimestamp(us / 1e6, UTC).replace(tzinfo=None)
    day = datetime.fromtimestamp(us / 1e6, ZoneInfo("America/New_York")).date()
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001  as naive as the file


def means(closes: Any, n: int) -> list[float]:
    known = [fmean(closes[i - n : i].tolist()) for i in range(n, len(closes) + 1)]
    return [float("nan")] * (n - 1) + known


def run_theirs(kind: type[Cross], symbol: str, commission: float) -> Any:
    "Closed trades of backtesting.py in the order of their entries."
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # about trades that remain open; deprecations inside
        backtesting = pytest.importorskip("backtesting")
        crossover = pytest.importorskip("backtesting.lib").crossover

        class There(backtesting.Strategy):  # type: ignore[misc, name-defined]
            def init(self) -> None:
                self.fast = self.I(means, self.data.Close, FAST)
                self.slow = self.I(means, self.data.Close, SLOW)

            def next(self) -> None:
                if crossover(self.fast, self.slow):
                    self.act(up=True)
                elif crossover(self.slow, self.fast):
                    self.act(up=False)

            def act(self, up: bool) -> None:
                order = self.buy if up else self.sell
                if kind is Cross:  # exclusive orders: whatever is open is closed first
                    order(size=1)
                elif kind is RisingHalf:
                    order(size=1) if up else self.position.close()
                elif not self.position:
                    order(size=1)
                elif self.position.is_long != up:
                    self.position.close()

        host = backtesting.Backtest(
            theirs(symbol), There, cash=1e9, commission=commission, exclusive_orders=kind is Cross
        )
        return host.run()._trades.sort_values("EntryBar", kind="stable")


def rows(trades: list[Trade], symbol: str) -> list[tuple[datetime, datetime, float, float, int]]:
    return [
        (
            stamp(t.entry_time, symbol),
            stamp(t.exit_time, symbol),
            t.entry_price,
            t.exit_price,
            {"LONG": 1, "SHORT": -1}[t.direction],
        )
        for t in trades
    ]


@pytest.mark.parametrize("fee_pct", [0.0, 0.1])
@pytest.mark.parametrize("kind", [Cross, RisingHalf, OneStep])
@pytest.mark.parametrize("symbol", [*DAILY, "EURUSD"])
def test_crossing_averages_give_the_trades_of_backtesting_py_row_by_row(
    symbol: str, kind: type[Cross], fee_pct: float
) -> None:
    result = Backtester(kind(), costs=Costs(fee_pct)).run(ours(symbol))
    other = run_theirs(kind, symbol, fee_pct / 100)
    expected = [
        (entry.to_pydatetime(), exit_.to_pydatetime(), bought, sold, size)
        for entry, exit_, bought, sold, size in zip(
            other["EntryTime"],
            other["ExitTime"],
            other["EntryPrice"],
            other["ExitPrice"],
            other["Size"],
            strict=True,
        )
    ]
    assert rows(result.trades, symbol) == expected
    assert len(expected) >= (3 if symbol == "FB" else 20)
    returns = [t.realized_return_pct / 100 for t in result.trades]
    assert returns == pytest.approx(other["ReturnPct"].tolist(), rel=0, abs=1e-12)
    assert {t.exit_reason for t in result.trades} == {"reversal" if kind is Cross else "signal"}
    paid = [t.fees_pct / 100 * t.entry_price for t in result.trades]
    assert paid == pytest.approx(other["Commission"].tolist(), abs=1e-9)


@pytest.mark.parametrize("symbol", ["MSFT", "EURUSD"])
def test_a_reversal_leaves_no_bar_without_a_position(symbol: str) -> None:
    trades = Backtester(Cross()).run(ours(symbol)).trades
    for before, after in pairwise(trades):
        assert (before.exit_time, before.exit_price) == (after.entry_time, after.entry_price)
        assert before.direction != after.direction


def test_both_halves_of_a_reversal_leave_a_trace_of_their_own(tmp_path: Path) -> None:
    history = [ours(symbol) for symbol in DAILY]
    result = Backtester(Cross(), enable_telemetry=True, telemetry_dir=tmp_path).run(history)
    assert result.run_dir is not None
    traces = AccuracyAnalyzer().load_traces(result.run_dir)
    assert len({t.trace_id for t in traces}) == len(traces) == len(result.trades) > 300
    assert {t.exit_reason for t in traces} == {"reversal"}
    told = [(t.symbol, t.predicted_direction, t.entry_price, t.exit_price) for t in traces]
    made = [(t.symbol, t.direction, t.entry_price, t.exit_price) for t in result.trades]
    assert sorted(told) == sorted(made)


@pytest.mark.parametrize("kind", [Cross, RisingHalf, OneStep])
def test_the_live_loop_makes_the_same_trades_of_it(kind: type[Cross]) -> None:
    history = [ours(symbol) for symbol in (*DAILY, "EURUSD")]
    costs = Costs(0.02, 0.01)
    expected = Backtester(kind(), costs=costs).run(history)
    config = EngineConfig([b.symbol for b in history], kind(), ReplayFeed(history), costs)
    report = Engine(config).run()
    key = lambda t: (t.symbol, t.entry_time)  # noqa: E731
    assert sorted(report.trades, key=key) == sorted(expected.trades, key=key)
    assert report.open_positions == expected.open_positions > 0
