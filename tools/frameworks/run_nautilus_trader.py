"""NautilusTrader: a simulated currency venue, once with an id for each position (hedging) and once with one position netted."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import nautilus_trader
import pandas as pd
from common import FAST, OUT, SLOW, heard, hook_at, note, read_bars
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.events import PositionClosed
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

from trade_telemetry.importers.live import nautilus_handler

EURUSD = TestInstrumentProvider.default_fx_ccy("EUR/USD", Venue("SIM"))
BARS = BarType.from_str("EUR/USD.SIM-1-HOUR-LAST-EXTERNAL")


class CrossConfig(StrategyConfig, frozen=True):
    units: int = 5000


class Cross(Strategy):
    def __init__(self, config: CrossConfig) -> None:
        super().__init__(config)
        self.closes: list[float] = []
        self.told: list[dict[str, Any]] = []

    def on_start(self) -> None:
        self.subscribe_bars(BARS)

    def on_bar(self, bar: Bar) -> None:
        self.closes.append(float(bar.close))
        if len(self.closes) < SLOW:
            return
        side = 1 if sum(self.closes[-FAST:]) / FAST > sum(self.closes[-SLOW:]) / SLOW else -1
        held = self.cache.positions_open(strategy_id=self.id)
        if held and held[0].signed_qty * side > 0:
            return
        for position in held:
            self.close_position(position)
        self.submit_order(
            self.order_factory.market(
                EURUSD.id,
                OrderSide.BUY if side > 0 else OrderSide.SELL,
                EURUSD.make_qty(Decimal(self.config.units)),
            )
        )

    def on_position_closed(self, event: PositionClosed) -> None:
        self.told.append(PositionClosed.to_dict(event))
        self.telemetry(event)


def run(kind: OmsType) -> tuple[pd.DataFrame, dict[str, Any], list[dict[str, Any]]]:
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(Venue("SIM"), kind, AccountType.MARGIN, [Money(1_000_000, USD)], base_currency=USD)
    engine.add_instrument(EURUSD)
    for when, *prices, volume in read_bars():
        known = (int(when.timestamp()) + 3600) * 10**9  # at the end of its hour
        engine.add_data(
            [Bar(BARS, *map(EURUSD.make_price, prices), Quantity(volume, 0), known, known)], sort=False
        )
    engine.sort_data()
    strategy = Cross(CrossConfig())
    engine.add_strategy(strategy)
    with hook_at(kind.name, "Cross") as hook:
        strategy.telemetry = nautilus_handler(hook, "Cross")
        engine.run()
    result = engine.get_result()
    report = engine.trader.generate_positions_report()
    told = {"pnls": result.stats_pnls, "returns": result.stats_returns, "positions": result.total_positions,
            "orders": result.total_orders}  # fmt: skip
    events = strategy.told
    engine.dispose()
    return report, told, events


def amount(money: str) -> float:
    return float(money.split()[0].replace("_", ""))


printed, expected, in_process = {}, {}, {}
for name, kind in (("positions", OmsType.HEDGING), ("positions_netting", OmsType.NETTING)):
    report, told, events = run(kind)
    report.to_csv(OUT / f"{name}.csv")
    if name == "positions":
        (OUT / "events.json").write_text(
            "[\n" + ",\n".join(json.dumps(e, default=str) for e in events) + "\n]\n"
        )
    printed[f"{name}.csv"] = told
    in_process[name] = heard(kind.name)
    closed = report[report.side == "FLAT"]
    profits = closed.realized_pnl.map(str).map(amount)
    expected[f"{name}.csv"] = {
        "rows": len(report),
        "trades": len(events),
        "positions": len(events),
        "longs": int((closed.entry == "BUY").sum()),
        "wins": int((profits > 0).sum()),
        "win_rate_pct": 100 * float((profits > 0).mean()),
        "gross_return_sum_pct": 100 * float(closed.realized_return.astype(float).sum()),
        "return_sum_pct": 100
        * float((profits / (closed.peak_qty.astype(float) * closed.avg_px_open.astype(float))).sum()),
        "profit": float(profits.sum()),
    }
note(nautilus_trader.__version__, printed, expected, in_process)
