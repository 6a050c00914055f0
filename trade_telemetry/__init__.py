"""Prediction telemetry for trading strategies: capture, judge, show.

Every name below is imported from its module when it is first used: a trading process that takes only `TelemetryHook` and
`TelemetryWriter` pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trade_telemetry.analyzer import AccuracyAnalyzer as AccuracyAnalyzer
    from trade_telemetry.capture.hook import TelemetryHook as TelemetryHook
    from trade_telemetry.capture.hook import open_hook as open_hook
    from trade_telemetry.capture.ledger import merge_ledgers as merge_ledgers
    from trade_telemetry.capture.ledger import read_ledger as read_ledger
    from trade_telemetry.capture.run_record import WriterStats as WriterStats
    from trade_telemetry.capture.run_record import run_directory as run_directory
    from trade_telemetry.capture.writer import TelemetryWriter as TelemetryWriter
    from trade_telemetry.config import Settings as Settings
    from trade_telemetry.config import SettingsError as SettingsError
    from trade_telemetry.importers.import_trades import ImportReport as ImportReport
    from trade_telemetry.importers.import_trades import import_trades as import_trades
    from trade_telemetry.judgement.alert_rules import Alert as Alert
    from trade_telemetry.judgement.alert_rules import AlertReport as AlertReport
    from trade_telemetry.judgement.alert_rules import AlertRules as AlertRules
    from trade_telemetry.judgement.alerts import alert_report as alert_report
    from trade_telemetry.judgement.alerts import current_alerts as current_alerts
    from trade_telemetry.judgement.comparison import compare as compare
    from trade_telemetry.judgement.features import FeatureEffect as FeatureEffect
    from trade_telemetry.judgement.features import attribute_features as attribute_features
    from trade_telemetry.judgement.reconcile import Reconciliation as Reconciliation
    from trade_telemetry.judgement.reconcile import reconcile as reconcile
    from trade_telemetry.metrics.breakdown import Group as Group
    from trade_telemetry.metrics.breakdown import Rolling as Rolling
    from trade_telemetry.metrics.breakdown import break_down as break_down
    from trade_telemetry.metrics.breakdown import rolling as rolling
    from trade_telemetry.metrics.breakdown import windows as windows
    from trade_telemetry.metrics.record import AccuracyMetrics as AccuracyMetrics
    from trade_telemetry.report.render import write_report as write_report
    from trade_telemetry.store.columns import TraceColumns as TraceColumns
    from trade_telemetry.store.runs import LoadReport as LoadReport
    from trade_telemetry.store.store import TraceStore as TraceStore
    from trade_telemetry.store.store import load_columns as load_columns
    from trade_telemetry.store.view import select_view as select_view
    from trade_telemetry.trace import DIRECTIONS as DIRECTIONS
    from trade_telemetry.trace import Direction as Direction
    from trade_telemetry.trace import PredictionTrace as PredictionTrace
    from trade_telemetry.trace import label_direction as label_direction
    from trade_telemetry.trace import market_move_pct as market_move_pct
    from trade_telemetry.trace import position_return_pct as position_return_pct
    from trade_telemetry.trading.backtester import Backtester as Backtester
    from trade_telemetry.trading.backtester import BacktestResult as BacktestResult
    from trade_telemetry.trading.bar_files import BarReport as BarReport
    from trade_telemetry.trading.bar_files import find_bars as find_bars
    from trade_telemetry.trading.bar_files import load_bars as load_bars
    from trade_telemetry.trading.bars import Bar as Bar
    from trade_telemetry.trading.bars import Bars as Bars
    from trade_telemetry.trading.broker import Broker as Broker
    from trade_telemetry.trading.broker import Fill as Fill
    from trade_telemetry.trading.broker import Order as Order
    from trade_telemetry.trading.broker import PaperBroker as PaperBroker
    from trade_telemetry.trading.feeds import Feed as Feed
    from trade_telemetry.trading.feeds import FollowFeed as FollowFeed
    from trade_telemetry.trading.feeds import ReplayFeed as ReplayFeed
    from trade_telemetry.trading.live_loop import Engine as Engine
    from trade_telemetry.trading.live_loop import EngineConfig as EngineConfig
    from trade_telemetry.trading.sessions import MarketError as MarketError
    from trade_telemetry.trading.sessions import Session as Session
    from trade_telemetry.trading.simulation import PlantedSkill as PlantedSkill
    from trade_telemetry.trading.simulation import simulate_bars as simulate_bars
    from trade_telemetry.trading.strategy import IntradayBreakout as IntradayBreakout
    from trade_telemetry.trading.strategy import Signal as Signal
    from trade_telemetry.trading.strategy import Strategy as Strategy
    from trade_telemetry.trading.strategy import SwingPullback as SwingPullback
    from trade_telemetry.trading.strategy import make_strategy as make_strategy
    from trade_telemetry.trading.trader import Costs as Costs
    from trade_telemetry.trading.trader import Trade as Trade
    from trade_telemetry.trading.trader import Trader as Trader

_NAMES_OF = {
    "analyzer": "AccuracyAnalyzer",
    "capture.hook": "TelemetryHook open_hook",
    "capture.ledger": "merge_ledgers read_ledger",
    "capture.run_record": "WriterStats run_directory",
    "capture.writer": "TelemetryWriter",
    "config": "Settings SettingsError",
    "importers.import_trades": "ImportReport import_trades",
    "judgement.alert_rules": "Alert AlertReport AlertRules",
    "judgement.alerts": "alert_report current_alerts",
    "judgement.comparison": "compare",
    "judgement.features": "FeatureEffect attribute_features",
    "judgement.reconcile": "Reconciliation reconcile",
    "metrics.breakdown": "Group Rolling break_down rolling windows",
    "metrics.record": "AccuracyMetrics",
    "report.render": "write_report",
    "store.columns": "TraceColumns",
    "store.runs": "LoadReport",
    "store.store": "TraceStore load_columns",
    "store.view": "select_view",
    "trace": "DIRECTIONS Direction PredictionTrace label_direction market_move_pct position_return_pct",
    "trading.backtester": "BacktestResult Backtester",
    "trading.bar_files": "BarReport find_bars load_bars",
    "trading.bars": "Bar Bars",
    "trading.broker": "Broker Fill Order PaperBroker",
    "trading.feeds": "Feed FollowFeed ReplayFeed",
    "trading.live_loop": "Engine EngineConfig",
    "trading.sessions": "MarketError Session",
    "trading.simulation": "PlantedSkill simulate_bars",
    "trading.strategy": "IntradayBreakout Signal Strategy SwingPullback make_strategy",
    "trading.trader": "Costs Trade Trader",
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names.split()}

__all__ = sorted([*_MODULE_OF, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    """Import `name` from its module on first use and keep it here."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what can be imported, loaded or not."""
    return sorted({*globals(), *__all__})
