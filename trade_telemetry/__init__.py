"""Prediction telemetry for trading strategies: capture, judge, show.

Every name below is imported from its module when it is first used: a trading process that takes only `TelemetryHook` and
`TelemetryWriter` pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trade_telemetry.adapters import ImportReport as ImportReport
    from trade_telemetry.adapters import import_trades as import_trades
    from trade_telemetry.alerts import Alert as Alert
    from trade_telemetry.alerts import AlertReport as AlertReport
    from trade_telemetry.alerts import AlertRules as AlertRules
    from trade_telemetry.alerts import alert_report as alert_report
    from trade_telemetry.alerts import current_alerts as current_alerts
    from trade_telemetry.analyzer import AccuracyAnalyzer as AccuracyAnalyzer
    from trade_telemetry.analyzer import AccuracyMetrics as AccuracyMetrics
    from trade_telemetry.backtester import Backtester as Backtester
    from trade_telemetry.backtester import BacktestResult as BacktestResult
    from trade_telemetry.breakdown import FeatureEffect as FeatureEffect
    from trade_telemetry.breakdown import Group as Group
    from trade_telemetry.breakdown import Rolling as Rolling
    from trade_telemetry.breakdown import attribute_features as attribute_features
    from trade_telemetry.breakdown import break_down as break_down
    from trade_telemetry.breakdown import rolling as rolling
    from trade_telemetry.breakdown import windows as windows
    from trade_telemetry.broker import Broker as Broker
    from trade_telemetry.broker import Fill as Fill
    from trade_telemetry.broker import Order as Order
    from trade_telemetry.broker import PaperBroker as PaperBroker
    from trade_telemetry.capture import TelemetryHook as TelemetryHook
    from trade_telemetry.capture import open_hook as open_hook
    from trade_telemetry.capture import run_directory as run_directory
    from trade_telemetry.comparison import compare as compare
    from trade_telemetry.config import Settings as Settings
    from trade_telemetry.config import SettingsError as SettingsError
    from trade_telemetry.engine import Engine as Engine
    from trade_telemetry.engine import EngineConfig as EngineConfig
    from trade_telemetry.feeds import Feed as Feed
    from trade_telemetry.feeds import FollowFeed as FollowFeed
    from trade_telemetry.feeds import ReplayFeed as ReplayFeed
    from trade_telemetry.ledger import merge_ledgers as merge_ledgers
    from trade_telemetry.ledger import read_ledger as read_ledger
    from trade_telemetry.market import Bar as Bar
    from trade_telemetry.market import BarReport as BarReport
    from trade_telemetry.market import Bars as Bars
    from trade_telemetry.market import MarketError as MarketError
    from trade_telemetry.market import Session as Session
    from trade_telemetry.market import find_bars as find_bars
    from trade_telemetry.market import load_bars as load_bars
    from trade_telemetry.market import simulate_bars as simulate_bars
    from trade_telemetry.report import write_report as write_report
    from trade_telemetry.store import LoadReport as LoadReport
    from trade_telemetry.store import TraceColumns as TraceColumns
    from trade_telemetry.store import TraceStore as TraceStore
    from trade_telemetry.store import load_columns as load_columns
    from trade_telemetry.store import select_view as select_view
    from trade_telemetry.strategy import IntradayBreakout as IntradayBreakout
    from trade_telemetry.strategy import PlantedSkill as PlantedSkill
    from trade_telemetry.strategy import Signal as Signal
    from trade_telemetry.strategy import Strategy as Strategy
    from trade_telemetry.strategy import SwingPullback as SwingPullback
    from trade_telemetry.strategy import make_strategy as make_strategy
    from trade_telemetry.trace import DIRECTIONS as DIRECTIONS
    from trade_telemetry.trace import Direction as Direction
    from trade_telemetry.trace import PredictionTrace as PredictionTrace
    from trade_telemetry.trace import label_direction as label_direction
    from trade_telemetry.trace import market_move_pct as market_move_pct
    from trade_telemetry.trace import position_return_pct as position_return_pct
    from trade_telemetry.trading import Costs as Costs
    from trade_telemetry.trading import Trade as Trade
    from trade_telemetry.trading import Trader as Trader
    from trade_telemetry.writer import TelemetryWriter as TelemetryWriter
    from trade_telemetry.writer import WriterStats as WriterStats

_NAMES_OF = {
    "adapters": "ImportReport import_trades",
    "alerts": "Alert AlertReport AlertRules alert_report current_alerts",
    "analyzer": "AccuracyAnalyzer AccuracyMetrics",
    "backtester": "Backtester BacktestResult",
    "breakdown": "FeatureEffect Group Rolling attribute_features break_down rolling windows",
    "broker": "Broker Fill Order PaperBroker",
    "capture": "TelemetryHook open_hook run_directory",
    "comparison": "compare",
    "config": "Settings SettingsError",
    "engine": "Engine EngineConfig",
    "feeds": "Feed FollowFeed ReplayFeed",
    "ledger": "merge_ledgers read_ledger",
    "market": "Bar BarReport Bars MarketError Session find_bars load_bars simulate_bars",
    "report": "write_report",
    "store": "LoadReport TraceColumns TraceStore load_columns select_view",
    "strategy": "IntradayBreakout PlantedSkill Signal Strategy SwingPullback make_strategy",
    "trace": "DIRECTIONS Direction PredictionTrace label_direction market_move_pct position_return_pct",
    "trading": "Costs Trade Trader",
    "writer": "TelemetryWriter WriterStats",
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
