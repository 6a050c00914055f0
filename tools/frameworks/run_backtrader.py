"""backtrader: the community's list of trades, by the hour and by the day (there it has dates only), and the bundled TradeAnalyzer."""

from __future__ import annotations

import csv
import json
from typing import Any

import backtrader as bt
from common import BARS, FAST, FEE, OUT, SLOW, heard, hook_at, note

from trade_telemetry.importers.live import backtrader_analyzer

HOURS = {"dtformat": "%d.%m.%Y %H:%M:%S.000", "timeframe": bt.TimeFrame.Minutes, "compression": 60}
DAYS = {"dtformat": "%Y-%m-%d", "timeframe": bt.TimeFrame.Days}
SIZE = {"trades.csv": 5000, "daily.csv": 10}


class TradeList(bt.Analyzer):
    "The analyzer that goes round in the community, column by column."

    def start(self) -> None:
        self.trades: list[dict[str, Any]] = []
        self.earned = 0.0

    def notify_trade(self, trade: Any) -> None:
        if not trade.isclosed:
            return
        first, last = trade.history[0], trade.history[-1]
        entered, left = bt.num2date(first.status.dt), bt.num2date(last.status.dt)
        if trade.data._timeframe >= bt.TimeFrame.Days:
            entered, left = entered.date(), left.date()
        price, out, pnl, bars = last.status.price, last.event.price, last.status.pnlcomm, last.status.barlen
        biggest = max(trade.history, key=lambda record: abs(record.status.size)).status
        high = 100 * (max(trade.data.high.get(ago=0, size=bars + 1)) - price) / price
        low = 100 * (min(trade.data.low.get(ago=0, size=bars + 1)) - price) / price
        long = first.event.size > 0
        self.earned += pnl
        self.trades.append({
            "ref": trade.ref, "ticker": trade.data._name, "dir": "long" if long else "short", "datein": entered,
            "pricein": price, "dateout": left, "priceout": out, "chng%": round(100 * out / price - 100, 2), "pnl": pnl,
            "pnl%": round(100 * pnl / self.strategy.broker.getvalue(), 2), "size": biggest.size,
            "value": biggest.value, "cumpnl": self.earned, "nbars": bars, "pnl/bar": round(pnl / bars, 2),
            "mfe%": round(high if long else -low, 2), "mae%": round(low if long else -high, 2),
        })  # fmt: skip

    def get_analysis(self) -> list[dict[str, Any]]:
        return self.trades


class Fills(bt.Analyzer):
    "What backtrader tells an analyzer of each order, kept to play it again without backtrader."

    def start(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def notify_order(self, order: Any) -> None:
        names = ("price", "closed", "closedcomm", "opened", "openedcomm", "pnl")
        bits = [
            {"time": str(order.data.num2date(bit.dt)), **{name: getattr(bit, name) for name in names}}
            for bit in order.executed.iterpending()
        ]
        if bits:
            self.rows.append({"ref": order.ref, "data": order.data._name, "bits": bits})

    def get_analysis(self) -> list[dict[str, Any]]:
        return self.rows


class Cross(bt.Strategy):
    params = (("size", 1), ("fast", FAST), ("slow", SLOW))

    def __init__(self) -> None:
        self.fast, self.slow = bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow)

    def next(self) -> None:
        side = 1 if self.fast[0] > self.slow[0] else -1
        if self.position.size * side <= 0:
            self.close()
            (self.buy if side > 0 else self.sell)(size=self.p.size)


in_process: dict[str, Any] = {}


def run(
    name: str, path: str, symbol: str, form: dict[str, Any], averages: tuple[int, int]
) -> tuple[Any, Any]:
    cerebro = bt.Cerebro(stdstats=False)
    columns = {"datetime": 0, "open": 1, "high": 2, "low": 3, "close": 4, "volume": 5, "openinterest": -1}
    cerebro.adddata(bt.feeds.GenericCSVData(dataname=path, **columns, **form), name=symbol)
    cerebro.broker.setcash(10_000)
    cerebro.broker.setcommission(commission=FEE)
    cerebro.addstrategy(Cross, size=SIZE[name], fast=averages[0], slow=averages[1])
    for kind, label in ((TradeList, "list"), (bt.analyzers.TradeAnalyzer, "totals"), (Fills, "fills")):
        cerebro.addanalyzer(kind, _name=label)
    with hook_at(name, "Cross") as hook:
        cerebro.addanalyzer(backtrader_analyzer(bt.Analyzer, hook), _name="telemetry")
        found = cerebro.run(tradehistory=True)[0].analyzers
    in_process[name.removesuffix(".csv")] = heard(name)
    trades, totals = found.list.get_analysis(), found.totals.get_analysis()
    with (OUT / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(trades[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(trades)
    if name == "trades.csv":
        lines = ",\n".join(json.dumps(row) for row in found.fills.get_analysis())
        (OUT / "orders.json").write_text(f"[\n{lines}\n]\n")
    told = {
        "total": totals.total, "won": totals.won.total, "lost": totals.lost.total, "long": totals.long.total,
        "pnl gross": totals.pnl.gross.total, "pnl net": totals.pnl.net.total, "value": cerebro.broker.getvalue(),
    }  # fmt: skip
    moves = [(-1, 1)[t["dir"] == "long"] * (t["priceout"] / t["pricein"] - 1) * 100 for t in trades]
    return told, {
        "rows": len(trades), "trades": totals.total.closed, "positions": totals.total.closed, "longs": totals.long.total,
        "wins": totals.won.total, "win_rate_pct": 100 * totals.won.total / totals.total.closed,
        "return_sum_pct": sum(100 * t["pnl"] / abs(t["value"]) for t in trades), "gross_return_sum_pct": sum(moves),
        "fees": totals.pnl.gross.total - totals.pnl.net.total, "profit": totals.pnl.net.total,
    }  # fmt: skip


daily = BARS.parents[1] / "daily" / "IBM.csv"
printed, expected = {}, {}
for name, path, symbol, form, averages in (
    ("trades.csv", BARS, "EURUSD", HOURS, (FAST, SLOW)),
    ("daily.csv", daily, "IBM", DAYS, (20, 100)),
):
    printed[name], expected[name] = run(name, str(path), symbol, form, averages)
note(bt.__version__, printed, expected, in_process)
