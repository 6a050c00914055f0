"""vectorbt: a portfolio from signals, reversed at each crossing; the last trade is still open."""

from __future__ import annotations

import pandas as pd
import vectorbt as vbt
from common import FEE, OUT, crossings, note, read_bars, summary

from trade_telemetry.importers.live import from_vectorbt

bars = pd.DataFrame(read_bars(), columns=["time", "open", "high", "low", "close", "volume"]).set_index("time")
side = pd.Series(crossings(bars.close.tolist()), bars.index).shift(
    1, fill_value=0
)  # acted on at the next open
entered = side != side.shift(1)
size = {"size": 5000, "size_type": "amount"}
told = {"init_cash": 10_000, "fees": FEE, "freq": "1h"}
whole = vbt.Portfolio.from_signals(
    bars.open, entries=entered & (side == 1), short_entries=entered & (side == -1), **size, **told
)
# the same positions left in two steps: half a day before, and half at the crossing
steps = (side * 5000.0).where(entered)
half = (entered.shift(-24, fill_value=False)) & (side != 0)
target = steps.where(~half, side * 2500.0)
parts = vbt.Portfolio.from_orders(bars.open, target, size_type="targetamount", **told)

printed, expected, in_process = {}, {}, {}
for name, portfolio in (("trades", whole), ("partial_exits", parts)):
    trades, stats = portfolio.trades, portfolio.stats()
    trades.records_readable.to_csv(OUT / f"{name}.csv", index=False)
    keys = ["Total Trades", "Total Closed Trades", "Total Open Trades", "Win Rate [%]", "Avg Winning Trade [%]",
            "Avg Losing Trade [%]", "Best Trade [%]", "Worst Trade [%]", "Profit Factor", "Total Fees Paid",
            "Total Return [%]"]  # fmt: skip
    printed[f"{name}.csv"] = {key: stats[key] for key in keys}
    closed = trades.closed
    expected[f"{name}.csv"] = {
        "rows": len(trades.records), "trades": int(stats["Total Closed Trades"]), "positions": int(portfolio.positions.closed.count()),
        "longs": int(closed.long.count()), "wins": int(closed.winning.count()), "win_rate_pct": stats["Win Rate [%]"],
        "return_sum_pct": float(closed.returns.sum() * 100), "profit": float(closed.pnl.sum()),
        "fees": float((closed.records.entry_fees + closed.records.exit_fees).sum()),
    }  # fmt: skip
    traces = from_vectorbt(portfolio, "Cross", "EURUSD", threshold_pct=0.3)
    in_process[name] = summary(trace.to_dict() for trace in traces)
raw = whole.trades.records
raw.head(3).to_csv(OUT / "raw_records.csv", index=False)
note(vbt.__version__, printed, expected, in_process)
