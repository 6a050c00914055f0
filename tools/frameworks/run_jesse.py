"""jesse: its research backtest on minutes made of the hours (the first one moves, the others stand still)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import FAST, FEE, OUT, SLOW, finite, note, read_bars
from jesse import research
from jesse.strategies import Strategy
from jesse.version import __version__

HELD = SLOW * 60  # minutes of warm-up
EXCHANGE, SYMBOL = "Binance Perpetual Futures", "EUR-USDT"


class Cross(Strategy):
    def _above(self) -> bool:
        closes = self.candles[:, 2]
        return bool(closes[-FAST:].mean() > closes[-SLOW:].mean())

    def should_long(self) -> bool:
        return self._above()

    def should_short(self) -> bool:
        return not self._above()

    def go_long(self) -> None:
        self.buy = 5000, self.price

    def go_short(self) -> None:
        self.sell = 5000, self.price

    def update_position(self) -> None:
        if self.is_long != self._above():
            self.liquidate()


class CrossHalves(Cross):
    "Leaves by halves: jesse's trade has the means of its orders."

    def on_open_position(self, order: Any) -> None:
        self.vars["halved"] = False

    def update_position(self) -> None:
        if self.is_long != self._above():
            self.liquidate()
        elif not self.vars["halved"] and self.position.pnl_percentage > 0.5:
            self.vars["halved"] = True
            self.take_profit = 2500, self.price


def minutes() -> Any:
    "Rows of timestamp (ms), open, close, high, low, volume."
    rows = []
    for when, opened, high, low, close, volume in read_bars():
        start = int(when.timestamp() * 1000)
        rows.append([start, opened, close, high, low, volume])
        rows.extend([start + 60_000 * k, close, close, close, close, 0.0] for k in range(1, 60))
    return np.array(rows)


CONFIG = {
    "starting_balance": 10_000, "fee": FEE, "type": "futures", "futures_leverage": 2, "futures_leverage_mode": "cross",
    "exchange": EXCHANGE, "warm_up_candles": SLOW,
}  # fmt: skip
candles = minutes()
printed, expected = {}, {}
for name, strategy in (("trades", Cross), ("halves", CrossHalves)):
    key = f"{EXCHANGE}-{SYMBOL}"
    stream = {"exchange": EXCHANGE, "symbol": SYMBOL}
    result = research.backtest(
        CONFIG, [{**stream, "strategy": strategy, "timeframe": "1h"}], [], {key: {**stream, "candles": candles[HELD:]}},
        warmup_candles={key: {**stream, "candles": candles[:HELD]}}, generate_json=True, generate_csv=True,
    )  # fmt: skip
    trades = result["trades"]
    for kind in ("json", "csv") if name == "trades" else ("json",):
        (OUT / f"{name}.{kind}").write_bytes(Path(result[kind]).read_bytes())
    told = result["metrics"]
    keys = ["total", "total_winning_trades", "win_rate", "longs_count", "shorts_count", "fee", "net_profit", "gross_profit",
            "gross_loss", "average_holding_period", "largest_winning_trade", "largest_losing_trade"]  # fmt: skip
    printed[f"{name}.json"] = finite({key: told[key] for key in keys})
    expected[f"{name}.json"] = {
        "rows": len(trades), "trades": told["total"], "positions": told["total"],
        "longs": sum(t["type"] == "long" for t in trades), "wins": sum(t["PNL"] > 0 for t in trades),
        "win_rate_pct": 100 * told["win_rate"], "return_sum_pct": sum(t["PNL_percentage"] for t in trades),
        "profit": sum(t["PNL"] for t in trades), "fees": told["fee"],
    }  # fmt: skip
printed["trades.csv"], expected["trades.csv"] = printed["trades.json"], expected["trades.json"]
note(__version__, printed, expected, {})
