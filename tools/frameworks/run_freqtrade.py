"""freqtrade: two strategies in one result, futures with shorts, on an exchange that is stubbed: no market is asked for anything."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import tempfile
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import freqtrade
import pandas as pd
from common import FAST, FEE, OUT, SLOW, note, read_bars
from freqtrade.commands import Arguments
from freqtrade.configuration import Configuration
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType, RunMode
from freqtrade.exchange import Exchange
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.persistence import Trade, init_db

PAIR = "EUR/USDT:USDT"
STRATEGY = f'''
from freqtrade.strategy import IStrategy


class Cross(IStrategy):
    can_short = True
    timeframe = "1h"
    minimal_roi = {{}}
    stoploss = -0.5
    startup_candle_count = {SLOW}

    def populate_indicators(self, dataframe, metadata):
        dataframe["above"] = dataframe.close.rolling({FAST}).mean() > dataframe.close.rolling({SLOW}).mean()
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe.above, ["enter_long", "enter_tag"]] = (1, "cross up")
        dataframe.loc[~dataframe.above, ["enter_short", "enter_tag"]] = (1, "cross down")
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[~dataframe.above, "exit_long"] = 1
        dataframe.loc[dataframe.above, "exit_short"] = 1
        return dataframe

    def leverage(self, *args, **kwargs):
        return 2.0


class CrossScaled(Cross):
    "Adds half a percent later, leaves by halves: each position has several fills."

    position_adjustment_enable = True
    max_entry_position_adjustment = 1

    def adjust_trade_position(self, trade, current_time, current_rate, current_profit, *args, **kwargs):
        if trade.nr_of_successful_entries == 1 and current_profit < -0.006:
            return trade.stake_amount / 2
        if trade.nr_of_successful_exits == 0 and current_profit > 0.01:
            return -trade.stake_amount / 2
        return None
'''
MARKET = {
    "id": "EURUSDT", "symbol": PAIR, "base": "EUR", "quote": "USDT", "settle": "USDT", "baseId": "EUR", "quoteId": "USDT",
    "settleId": "USDT", "type": "swap", "spot": False, "margin": False, "swap": True, "future": False, "option": False,
    "active": True, "contract": True, "linear": True, "inverse": False, "contractSize": 1.0, "taker": FEE, "maker": FEE,
    "precision": {"amount": 1.0, "price": 0.00001}, "limits": {"amount": {"min": 1.0, "max": None},
    "price": {"min": None, "max": None}, "cost": {"min": 1.0, "max": None}, "leverage": {"min": 1.0, "max": 20.0}}, "info": {},
}  # fmt: skip
TIER = {"minNotional": 0.0, "maxNotional": 1e9, "maintenanceMarginRate": 0.005, "maxLeverage": 20.0, "maintAmt": 0.0}


def load_markets(exchange: Any, reload: bool = False) -> None:
    exchange._api_async.set_markets([MARKET])


def settings(folder: Path) -> dict[str, Any]:
    "What a user's config file says."
    return {
        "dry_run": True, "stake_currency": "USDT", "stake_amount": 1000, "max_open_trades": 1, "dry_run_wallet": 10_000, "tradable_balance_ratio": 0.99,
        "amend_last_stake_amount": False, "last_stake_amount_min_ratio": 0.5,
        "trading_mode": "futures", "margin_mode": "isolated", "timeframe": "1h", "fee": FEE, "dataformat_ohlcv": "json",
        "exchange": {"name": "binance", "key": "", "secret": "", "pair_whitelist": [PAIR], "enable_ws": False},
        "pairlists": [{"method": "StaticPairList"}], "entry_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
        "exit_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1}, "strategy_list": ["Cross", "CrossScaled"], "cancel_open_orders_on_exit": False,
    }  # fmt: skip


def store_bars(folder: Path) -> None:
    bars = pd.DataFrame(read_bars(), columns=["date", "open", "high", "low", "close", "volume"])
    store = get_datahandler(folder, "json")
    rates = pd.DataFrame({"date": bars.date, "funding_rate": 0.00001})
    rates = rates[rates.date.dt.hour % 8 == 0].reset_index(drop=True)
    store.ohlcv_store(PAIR, "1h", bars, CandleType.FUTURES)
    for hours in ("1h", "4h", "8h"):
        every = bars[bars.date.dt.hour % int(hours[0]) == 0].reset_index(drop=True)
        store.ohlcv_store(PAIR, hours, every, CandleType.MARK)
        store.ohlcv_store(PAIR, hours, rates, CandleType.FUNDING_RATE)


def keep_database(trades: list[dict[str, Any]], strategy: str) -> None:
    "The same trades through freqtrade's own tables: what a bot leaves on the disk."
    path = OUT / "tradesv3.sqlite"
    init_db(f"sqlite:///{path}")
    for number, told in enumerate(trades, 1):
        whole = json.loads(json.dumps(told, default=str)) | {"strategy": strategy, "exchange": "binance", "trade_id": number}
        blank = ["close_rate_requested", "close_profit_abs", "sell_order_status", "exit_order_status", "stop_loss_abs",
                 "realized_profit", "open_trade_value", "interest_rate"]  # fmt: skip
        for name in blank:
            whole.setdefault(name, None)
        whole.setdefault("profit_ratio", told.get("profit_ratio"))
        for k, order in enumerate(whole["orders"]):
            order.setdefault("order_id", f"{number}-{k}")
            order.setdefault("pair", PAIR)
            order.setdefault("order_type", "market")
            order.setdefault("status", "closed")
        Trade.session.add(Trade.from_json(json.dumps(whole)))
    Trade.commit()
    Trade.session.remove()
    with sqlite3.connect(path) as database:
        database.execute("VACUUM")


folder = Path(tempfile.mkdtemp())
(folder / "strategies").mkdir()
(folder / "strategies" / "cross.py").write_text(STRATEGY)
(folder / "config.json").write_text(json.dumps(settings(folder)))
data = folder / "data" / "binance"
(data / "futures").mkdir(parents=True)
store_bars(data)
Exchange._load_async_markets = load_markets
type(Exchange)  # the class stays freqtrade's own; only the road to the market is cut
for name in ("load_leverage_tiers",):
    setattr(Exchange, name, lambda self: {PAIR: []})
from freqtrade.exchange import Binance  # noqa: E402

Binance.load_leverage_tiers = lambda self: {PAIR: [{**TIER, "info": {"cum": "0"}}]}
asked = ["backtesting", "-c", str(folder / "config.json"), "--userdir", str(folder), "--datadir", str(data),
         "--strategy-path", str(folder / "strategies"), "--export", "trades", "--cache", "none",
         "--backtest-directory", str(folder / "results")]  # fmt: skip
(folder / "results").mkdir()
config = Configuration(Arguments(asked).get_parsed_arg(), RunMode.BACKTEST).get_config()
backtest = Backtesting(config)
backtest.start()
print(sorted(p.name for p in (folder / "results").iterdir()), file=sys.stderr)
