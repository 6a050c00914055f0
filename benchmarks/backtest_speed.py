"""How fast a whole backtest runs, against backtesting.py on the same rule, the same bars and the same machine, in one run.

The rule: moving averages of 10 and 30 one-minute closes; on a cross, enter at the next open with a stop 1 % and a target 2 % away, or
close the opposite position at the next open; 0.02 % fee per side. Both must make the same trades, which is checked before anything is
timed. CPU time of the whole call (bars in columns or in a DataFrame → finished trades), fastest of several rounds, taken in turns; the
time that backtesting.py spends on its statistics afterwards is taken off, since ours come from the traces.
`python benchmarks/backtest_speed.py [--days N] [--rounds N]` prints bars per second and the ratio; exit code 1 below 5.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import pandas as pd

from trade_telemetry.config import Settings
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bars import Bar, Bars
from trade_telemetry.trading.simulation import simulate_bars
from trade_telemetry.trading.strategy import Signal, Strategy
from trade_telemetry.trading.trader import Costs, Trade

FAST, SLOW = 10, 30
STOP, TARGET, FEE_PCT = 0.01, 0.02, 0.02
MUST_REACH = 5.0


class Cross(Strategy):
    "Ours: running sums, one comparison per bar."

    name, intraday = "swing", False

    def start(self, symbol: str, threshold_pct: float) -> None:
        super().start(symbol, threshold_pct)
        self.closes = deque([0.0] * SLOW)
        self.fast = self.slow = 0.0
        self.seen, self.above = 0, False

    def on_bar(self, bar: Bar) -> Signal | None:
        close, closes = bar.close, self.closes
        self.slow += close - closes.popleft()
        self.fast += close - closes[-FAST]
        closes.append(close)
        self.seen += 1
        above = self.fast * SLOW > self.slow * FAST
        if above is self.above or self.seen <= SLOW + 1:
            self.above = above
            return None
        self.above = above
        if above:
            return Signal("LONG", None, close * (1 - STOP), close * (1 + TARGET))
        return Signal("SHORT", None, close * (1 + STOP), close * (1 - TARGET))


class Spent:
    "CPU seconds that are not the loop's."

    seconds = 0.0


def ours(bars: Bars) -> Callable[[], list[Trade]]:
    host = Backtester(Cross(), costs=Costs(FEE_PCT), settings=Settings(), progress=False)
    return lambda: host.run(bars).trades


def theirs(bars: Bars) -> Callable[[], Any]:
    from backtesting import Backtest, backtesting
    from backtesting import Strategy as Base
    from backtesting.lib import crossover

    statistics = backtesting.compute_stats

    def timed_statistics(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        made = statistics(*args, **kwargs)
        Spent.seconds += time.process_time() - began
        return made

    backtesting.compute_stats = timed_statistics

    def mean(values: Any, n: int) -> Any:
        return pd.Series(values).rolling(n).mean()

    class TheirCross(Base):  # type: ignore[misc]
        def init(self) -> None:
            self.fast = self.I(mean, self.data.Close, FAST)
            self.slow = self.I(mean, self.data.Close, SLOW)

        def next(self) -> None:
            close = self.data.Close[-1]
            if crossover(self.fast, self.slow):
                if self.position.is_short:
                    self.position.close()
                elif not self.position:
                    self.buy(size=1, sl=close * (1 - STOP), tp=close * (1 + TARGET))
            elif crossover(self.slow, self.fast):
                if self.position.is_long:
                    self.position.close()
                elif not self.position:
                    self.sell(size=1, sl=close * (1 + STOP), tp=close * (1 - TARGET))

    columns = {name.title(): getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame(columns, index=pd.to_datetime(bars.time, unit="us"))
    host = Backtest(frame, TheirCross, cash=1e9, commission=FEE_PCT / 100)
    return lambda: host.run()["_trades"].sort_values("EntryBar")


def cpu_seconds(work: Callable[[], object]) -> float:
    Spent.seconds = 0.0
    began = time.process_time()
    work()
    return time.process_time() - began - Spent.seconds


def check_same(mine: list[Trade], other: Any) -> None:
    "The same directions, fills and money, or the comparison means nothing."
    assert len(mine) == len(other) > 0, (len(mine), len(other))
    for t, size, entry, exit_, money in zip(
        mine, other["Size"], other["EntryPrice"], other["ExitPrice"], other["PnL"], strict=True
    ):
        assert size == (1 if t.direction == "LONG" else -1)
        assert entry == t.entry_price
        assert abs(exit_ - t.exit_price) < 1e-9
        assert abs(money - t.realized_return_pct / 100 * t.entry_price) < 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed of a whole backtest against backtesting.py.")
    parser.add_argument("--days", type=int, default=115, help="sessions of 390 one-minute bars (default 115)")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # theirs
    os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bar on their side either
    bars = simulate_bars("BENCH", days=args.days, seed=3)
    work = {"trade_telemetry": ours(bars), "backtesting.py": theirs(bars)}
    mine, other = (w() for w in work.values())
    check_same(mine, other)
    best = dict.fromkeys(work, float("inf"))
    for _ in range(args.rounds):
        for name, w in work.items():
            best[name] = min(best[name], cpu_seconds(w))
    reasons = sorted({t.exit_reason for t in mine})
    print(
        f"{len(bars):,} bars, {len(mine)} equal trades (exits: {', '.join(reasons)}), best of {args.rounds}"
    )
    for name, seconds in best.items():
        print(f"{name:<16}{seconds:8.3f} s  {len(bars) / seconds:>12,.0f} bars/s")
    ratio = best["backtesting.py"] / best["trade_telemetry"]
    print(f"ratio {ratio:.1f} (must reach {MUST_REACH})")
    return 0 if ratio >= MUST_REACH else 1


if __name__ == "__main__":
    sys.exit(main())
