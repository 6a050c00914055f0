"""Real closed trades from freqtrade backtests as traces, for tests that skip where the logs are missing."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trade_telemetry.trace import PredictionTrace, label_direction, make_trace_id, market_move_pct

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "trades"
NAMES = (
    "freqtrade_spot_1m_long",
    "freqtrade_spot_15m_long",
    "freqtrade_futures_15m_long_short",
    "freqtrade_futures_30m_long_short",
)
THRESHOLD_PCT = 0.3


def _trace(row: dict[str, str], strategy: str, legs: dict[tuple[str, str, bool], int]) -> PredictionTrace:
    short = row.get("is_short") == "True"
    direction = "SHORT" if short else "LONG"
    entry, exit_ = float(row["open_rate"]), float(row["close_rate"])
    opened = datetime.fromtimestamp(float(row["open_timestamp"]) / 1e3, UTC)
    closed = datetime.fromtimestamp(float(row["close_timestamp"]) / 1e3, UTC)
    key = (row["pair"], row["open_timestamp"], short)
    leg = legs[key] = legs.get(key, -1) + 1
    leverage = float(row.get("leverage") or 1.0)
    fees = float(row["fee_open"]) + float(row["fee_close"]) * exit_ / entry
    return PredictionTrace(
        timestamp=opened,
        symbol=row["pair"],
        strategy=strategy,
        predicted_direction=direction,
        actual_direction=label_direction(market_move_pct(entry, exit_), THRESHOLD_PCT),
        predicted_confidence=None,
        entry_price=entry,
        exit_price=exit_,
        holding_period_minutes=float(row["trade_duration"]),
        realized_return_pct=float(row["profit_ratio"]) * 100,
        metadata={
            "leverage": leverage,
            "funding_pct": 100 * float(row.get("funding_fees") or 0) / float(row["stake_amount"]),
        },
        exit_timestamp=closed,
        trace_id=make_trace_id(strategy, row["pair"], opened, direction, leg),
        label_threshold_pct=THRESHOLD_PCT,
        exit_reason=row.get("exit_reason") or row.get("sell_reason") or "",
        quantity=float(row["amount"]),
        fees_pct=100 * fees * leverage,
    )


def load_log(name: str) -> list[PredictionTrace]:
    "Closed trades of one log; skips where the shared data are not beside the checkout."
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"real trade logs are not here: {path}")
    legs: dict[tuple[str, str, bool], int] = {}
    with path.open(newline="") as file:
        return [_trace(row, "freqtrade", legs) for row in csv.DictReader(file) if row["is_open"] == "False"]
