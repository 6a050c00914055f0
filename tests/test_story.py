"""The story's integration tests, by the names it gave them."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path

import pytest

from trade_telemetry.config import Settings
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bar_files import load_bars
from trade_telemetry.trading.bars import Bars
from trade_telemetry.trading.sessions import SESSIONS
from trade_telemetry.trading.simulation import simulate_bars
from trade_telemetry.trading.trader import Costs

ROOT = Path(__file__).parents[1]
MINUTES = ROOT.parent / "shared" / "data" / "intraday_1m"
REAL = [("SPY_2013-10", "NYSE"), ("BAC_2013-10", "NYSE"), ("AIG_2013-10", "NYSE")]
REAL += [("NIFTY50_2019-01", "NSE"), ("YESBANK_2019-07", "NSE")]
UNKNOWN = [
    "account",
    "version",
    "entry_tag",
    "profit",
    "currency",
    "multiplier",
    "funding_pct",
]  # to a backtest


def real(name: str, session: str) -> object:
    there = (MINUTES / f"{name}.csv").is_file()
    reason = f"needs the real 1-minute bars {name}.csv in shared/data beside the checkout"
    return pytest.param(name, session, id=f"real {name}", marks=pytest.mark.skipif(not there, reason=reason))


def bars_of(name: str, session: str) -> Bars:
    if name == "simulated":
        return simulate_bars("SIM", session=session, days=30, seed=17)
    return load_bars(MINUTES / f"{name}.csv", session=session)[0]


@pytest.mark.parametrize(
    ("name", "session"),
    [
        pytest.param("simulated", "NSE", id="simulated NSE"),
        pytest.param("simulated", "NYSE", id="simulated NYSE"),
        *(real(*one) for one in REAL),
    ],
)
def test_intraday_backtest_telemetry_capture(tmp_path: Path, name: str, session: str) -> None:
    bars = bars_of(name, session)
    host = Backtester(
        "intraday",
        costs=Costs(fee_pct=0.01, slippage_pct=0.01),
        settings=Settings(intraday_telemetry_threshold=0.003),
        enable_telemetry=True,
        telemetry_dir=tmp_path,
    )
    result = host.run(bars)

    assert result.run_dir is not None and result.run_dir.parent == tmp_path
    assert [p.name for p in result.run_dir.glob("traces_*")] == ["traces_intraday_0.csv"]
    with (result.run_dir / "traces_intraday_0.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == len(result.trades) > 0
    assert len({row["trace_id"] for row in rows}) == len(rows)

    length = SESSIONS[session].minutes
    for row in rows:
        empty = [column for column, cell in row.items() if cell == ""]
        assert empty == UNKNOWN, f"not filled: {empty}"
        assert (row["strategy"], row["symbol"], row["mode"]) == ("intraday", bars.symbol, "backtest")

        # minutes, within one session
        held = float(row["holding_period_minutes"])
        assert 0 < held < length
        entry, leave = (datetime.fromisoformat(row[c]) for c in ("timestamp", "exit_timestamp"))
        assert (leave - entry).total_seconds() == 60 * held
        times = [round(t.timestamp()) * 1_000_000 for t in (entry, leave)]
        days = bars.day[bars.time.searchsorted([times[0], times[1] - 1], side="right") - 1]
        assert days[0] == days[1]

        # the market's direction at 0.3 %
        move = (float(row["exit_price"]) / float(row["entry_price"]) - 1) * 100
        assert row["actual_direction"] == ("LONG" if move > 0.3 else "SHORT" if move < -0.3 else "NOOP")
        assert float(row["label_threshold_pct"]) == 0.3
        assert row["predicted_direction"] in ("LONG", "SHORT")
        assert 0 <= float(row["predicted_confidence"]) <= 1

        # the metadata of FR-1
        metadata = json.loads(row["metadata_json"])
        assert {"stop_loss", "take_profit", "exit_reason", "entry_time", "exit_time"} <= set(metadata)
        assert metadata["market_move_pct"] == pytest.approx(move, abs=1e-9)
        assert metadata["exit_reason"] == row["exit_reason"]
        assert datetime.fromisoformat(metadata["exit_time"]) == leave
        assert json.loads(row["features_json"])
