"""freqtrade: two strategies in one result, futures with shorts, on an exchange that is stubbed: no market is asked for anything."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import freqtrade
import pandas as pd
from common import FAST, FEE, OUT, SLOW, finite, heard, hook_at, note, read_bars
from freqtrade.commands import Arguments
from freqtrade.configuration import Configuration
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType, RunMode, TradingMode
from freqtrade.exchange import Binance, Exchange
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.persistence import Trade, init_db

PAIR = "EUR/USDT:USDT"
STRATEGY = f"""
from freqtrade.strategy import IStrategy

from trade_telemetry.importers.live import FreqtradeTelemetry


class Cross(FreqtradeTelemetry, IStrategy):
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
"""
MARKET = {
    "id": "EURUSDT", "symbol": PAIR, "base": "EUR", "quote": "USDT", "settle": "USDT", "baseId": "EUR", "quoteId": "USDT",
    "settleId": "USDT", "type": "swap", "spot": False, "margin": False, "swap": True, "future": False, "option": False,
    "active": True, "contract": True, "linear": True, "inverse": False, "contractSize": 1.0, "taker": FEE, "maker": FEE,
    "precision": {"amount": 1.0, "price": 0.00001}, "limits": {"amount": {"min": 1.0, "max": None},
    "price": {"min": None, "max": None}, "cost": {"min": 1.0, "max": None}, "leverage": {"min": 1.0, "max": 20.0}}, "info": {},
}  # fmt: skip
TIER = {
    "minNotional": 0.0,
    "maxNotional": 1e9,
    "maintenanceMarginRate": 0.005,
    "maxLeverage": 20.0,
    "maintAmt": 0.0,
}


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


def keep_result(zipped: Path) -> dict[str, Any]:
    "The result as it is, without the pictures of the market and without the folder of this run."
    with (
        zipfile.ZipFile(zipped) as source,
        zipfile.ZipFile(OUT / "backtest-result.zip", "w", zipfile.ZIP_DEFLATED) as kept,
    ):
        for name in source.namelist():
            if name.endswith((".json", ".py")):
                text = source.read(name).decode().replace(str(folder), "user_data")
                kept.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
        result: dict[str, Any] = json.loads(source.read(zipped.with_suffix(".json").name))
    return result


def keep_database(trades: list[dict[str, Any]], strategy: str) -> None:
    "The same trades through freqtrade's own tables and its own answer to `/trades`: what a bot leaves and says."
    path = OUT / "tradesv3.sqlite"
    init_db(f"sqlite:///{path}")
    for number, told in enumerate(trades, 1):
        orders = [order | {"order_id": f"{number}-{k}", "order_type": "market", "status": "closed"}
                  for k, order in enumerate(told["orders"])]  # fmt: skip
        whole = json.loads(json.dumps(told, default=str)) | {
            "orders": orders, "strategy": strategy, "exchange": "binance", "trade_id": number, "timeframe": 60,
            "base_currency": "EUR", "quote_currency": "USDT", "realized_profit": told["profit_abs"],
        }  # fmt: skip
        trade = Trade.from_json(json.dumps(whole))
        trade.trading_mode, trade.max_stake_amount = TradingMode.FUTURES, told["max_stake_amount"]
        for order in trade.orders:
            order.order_date = order.order_filled_date
        trade.recalc_open_trade_value()
        Trade.session.add(trade)
    Trade.commit()
    stored = Trade.session.query(Trade).order_by(Trade.id.desc()).all()
    page = [trade.to_json() for trade in stored[:8]]
    answer = {"trades": page, "trades_count": len(page), "offset": 0, "total_trades": len(stored)}
    (OUT / "rest_trades.json").write_text(json.dumps(answer, default=str, indent=0) + "\n")
    engine = Trade.session.get_bind()
    Trade.session.remove()
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:  # one file, as after a bot has stopped
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("PRAGMA page_size=512")
        database.execute("VACUUM")


folder = Path(tempfile.mkdtemp())
(folder / "strategies").mkdir()
(folder / "strategies" / "cross.py").write_text(STRATEGY)
(folder / "config.json").write_text(json.dumps(settings(folder)))
data = folder / "data" / "binance"
(data / "futures").mkdir(parents=True)
store_bars(data)
Exchange._load_async_markets = load_markets  # the only roads to the market, cut
Binance.load_leverage_tiers = lambda self: {PAIR: [{**TIER, "info": {"cum": "0"}}]}
asked = ["backtesting", "-c", str(folder / "config.json"), "--userdir", str(folder), "--datadir", str(data),
         "--strategy-path", str(folder / "strategies"), "--export", "trades", "--cache", "none",
         "--backtest-directory", str(folder / "results")]  # fmt: skip
(folder / "results").mkdir()
config = Configuration(Arguments(asked).get_parsed_arg(), RunMode.BACKTEST).get_config()
backtest = Backtesting(config)
with hook_at("traces", "Cross", "CrossScaled") as hook:
    for strategy in backtest.strategylist:
        strategy.telemetry = hook
    backtest.start()
result = keep_result(next((folder / "results").glob("*.zip")))
Backtesting.cleanup()
keep_database(result["strategy"]["CrossScaled"]["trades"][:30], "CrossScaled")
TOTALS = ["total_trades", "wins", "losses", "draws", "winrate", "profit_mean", "profit_total", "profit_total_abs",
          "profit_total_long_abs", "profit_total_short_abs", "trade_count_long", "trade_count_short", "total_volume",
          "profit_factor"]  # fmt: skip
printed, expected, in_process = {}, {}, {}
for name, told in result["strategy"].items():
    printed[name] = finite({key: told[key] for key in TOTALS})
    in_process[name] = heard("traces", name)


def given(trades: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "rows": len(trades), "trades": len(trades), "positions": len(trades),
        "longs": sum(not t["is_short"] for t in trades), "wins": sum(t["profit_ratio"] > 0 for t in trades),
        "return_sum_pct": 100 * sum(t["profit_ratio"] for t in trades), "profit": sum(t["profit_abs"] for t in trades),
        "exits": sum(not o["ft_is_entry"] for t in trades for o in t["orders"]),
    }  # fmt: skip


every = {name: told["trades"] for name, told in result["strategy"].items()}
expected["backtest-result.zip"] = {name: given(trades) for name, trades in every.items()}
expected["tradesv3.sqlite"] = {"CrossScaled": given(every["CrossScaled"][:30])}
expected["rest_trades.json"] = {"CrossScaled": given(every["CrossScaled"][22:30])}
note(freqtrade.__version__, printed, expected, in_process)
