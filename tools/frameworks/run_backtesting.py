"""backtesting.py: always in the market, long or short; and the same with half of a winner sold early."""

from __future__ import annotations

from typing import Any

import backtesting
import pandas as pd
from backtesting import Backtest, Strategy
from common import FAST, FEE, OUT, SLOW, note, read_bars, summary

from trade_telemetry.importers.live import from_backtesting

bars = pd.DataFrame(read_bars(), columns=["time", "Open", "High", "Low", "Close", "Volume"]).set_index("time")
bars.index = bars.index.tz_localize(None)
TOTALS = ["# Trades", "Win Rate [%]", "Return [%]", "Avg. Trade [%]", "Best Trade [%]", "Worst Trade [%]",
          "Profit Factor", "Expectancy [%]", "Commissions [$]", "Equity Final [$]"]  # fmt: skip


def mean_of(values: Any, hours: int) -> Any:
    return pd.Series(values).rolling(hours).mean()


class Cross(Strategy):
    partly = False

    def init(self) -> None:
        self.fast = self.I(mean_of, self.data.Close, FAST)
        self.slow = self.I(mean_of, self.data.Close, SLOW)

    def next(self) -> None:
        side = 1 if self.fast[-1] > self.slow[-1] else -1
        if self.position.size * side <= 0:
            self.position.close()
            (self.buy if side > 0 else self.sell)(size=5000, tag="cross")
        elif self.partly:
            for trade in self.trades:
                if abs(trade.size) == 5000 and trade.pl_pct > 0.005:
                    trade.close(0.5)


class Halves(Cross):
    partly = True


printed, expected, in_process = {}, {}, {}
for name, strategy in (("trades", Cross), ("partial_exits", Halves)):
    test = Backtest(bars, strategy, cash=10_000, commission=FEE, finalize_trades=False)
    stats = test.run()
    trades = stats._trades
    trades.to_csv(OUT / f"{name}.csv", index=False)
    printed[f"{name}.csv"] = {key: stats[key] for key in TOTALS}
    expected[f"{name}.csv"] = {
        "rows": len(trades),
        "trades": int(stats["# Trades"]),
        "positions": int(trades.EntryBar.nunique()),
        "longs": int((trades.Size > 0).sum()),
        "wins": int((trades.PnL > 0).sum()),
        "win_rate_pct": stats["Win Rate [%]"],
        "return_sum_pct": float(trades.ReturnPct.sum() * 100),
        "fees": stats["Commissions [$]"],
        "profit": float(trades.PnL.sum()),
    }
    traces = from_backtesting(stats, "EURUSD", threshold_pct=0.3)
    in_process[name] = summary(trace.to_dict() for trace in traces)
note(backtesting.__version__, printed, expected, in_process)
