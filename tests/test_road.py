"""The whole road on bars that nobody here made: file, strategies, trades, traces, columns, figures, the page's state."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trade_telemetry.analyzer import AccuracyAnalyzer
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.store.store import TraceStore
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bar_files import load_bars
from trade_telemetry.trading.trader import Costs

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
FILES = [
    *((f"intraday_1m/{name}", "NYSE", {}) for name in ("SPY_2013-10", "BAC_2013-10", "AIG_2013-10")),
    *((f"intraday_1m/{name}", "NSE", {}) for name in ("NIFTY50_2019-01", "YESBANK_2019-07")),
    ("intraday_1m/BTCUSD_2018-04", "24H", {}),
    ("intraday_1m/EURUSD_2014-05", "FX", {}),
    ("daily/RELIANCE", "NSE", {"2017-09-07": 2.0}),
    ("daily/TCS", "NSE", {"2018-05-31": 2.0}),
    ("daily/INFY", "NSE", {"2015-06-15": 2.0, "2018-09-04": 2.0}),
    ("daily/SPY", "NYSE", {}),
]
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the real bars in shared/data beside the checkout"
)


def check_road(path: Path, session: str, splits: dict[str, float], telemetry: Path) -> int:
    "Send one file down the road; returns the number of trades."
    bars, report = load_bars(path, session=session, splits=splits or None)
    assert report.kept == len(bars) > 0
    settings = Settings.load(telemetry_storage_path=telemetry)
    result = Backtester("both", costs=Costs(0.01, 0.005), settings=settings, enable_telemetry=True).run(bars)
    assert result.failed_symbols == {}
    store = TraceStore(telemetry, final=True)
    store.refresh()
    columns, stats = store.columns, result.writer_stats
    assert stats is not None
    assert len(columns) == stats.written == stats.offered == len(result.trades)
    assert store.report.bad == [] and store.report.mislabelled == 0
    if not result.trades:
        return 0
    metrics = AccuracyAnalyzer().compute_metrics(columns)
    earned = np.array([t.realized_return_pct for t in result.trades])
    right = np.mean([t.direction == t.actual_direction for t in result.trades])
    assert metrics.cumulative_return_pct == pytest.approx(earned.sum(), abs=1e-9)
    assert metrics.headline_precision == pytest.approx(right, abs=1e-12)
    assert earned.min() > -35  # a split or bonus issue must not become a trade
    state = StateSource(settings).read()
    json.dumps(state, allow_nan=False)
    assert state["rows"]["loaded"] == len(result.trades)
    assert set(state["strategies"]) == {t.strategy for t in result.trades}
    intraday = (
        columns.strategy == columns.strategies.index("intraday") if "intraday" in columns.strategies else []
    )
    minutes = bars.session.minutes
    assert (columns.holding_minutes[intraday] <= minutes).all()
    return len(result.trades)


@needs_shared
@pytest.mark.parametrize(("name", "session", "splits"), FILES, ids=[name for name, _, _ in FILES])
def test_real_bars_go_the_whole_road(
    tmp_path: Path, name: str, session: str, splits: dict[str, float]
) -> None:
    trades = check_road(SHARED / f"{name}.csv", session, splits, tmp_path)
    assert trades > 0 or name.startswith("intraday_1m"), "years of daily bars must hold a swing trade"


@pytest.mark.parametrize(
    ("name", "session"),
    [("fx_hourly/EURUSD", "FX"), *((f"daily/{s}", "NYSE") for s in ("AAPL", "FB", "GOOG", "IBM", "MSFT"))],
)
def test_the_projects_own_bars_go_the_whole_road(tmp_path: Path, name: str, session: str) -> None:
    assert check_road(ROOT / "data" / f"{name}.csv", session, {}, tmp_path) > 0


def test_a_stock_split_in_the_projects_bars_is_no_trade(tmp_path: Path) -> None:
    "AAPL fell by half on 2005-02-28, a 2:1 split: with the adjusted close no trade shows it."
    bars, _ = load_bars(ROOT / "data" / "daily" / "AAPL.csv")
    around = bars.between("2005-02-25", "2005-03-01")
    assert np.abs(np.diff(around.close) / around.close[:-1]).max() < 0.05
    raw, report = load_bars(ROOT / "data" / "daily" / "AAPL.csv", adjust=False)
    halved = raw.between("2005-02-25", "2005-03-01")
    assert np.abs(np.diff(halved.close) / halved.close[:-1]).max() > 0.45
    assert len(report.jumps) >= 3
