"""What every run has in common: the bars, the two averages, and the note of what the framework said."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from trade_telemetry.capture.hook import open_hook

FAST, SLOW = 24, 240  # hours of the two averages
FEE = 0.0001  # of notional, each side
BARS, OUT = Path(sys.argv[1]), Path(sys.argv[2])
Bar = tuple[datetime, float, float, float, float, float]  # start of the hour, open, high, low, close, volume


def read_bars() -> list[Bar]:
    "EURUSD by the hour, as data/README.md describes it."
    with BARS.open(newline="") as file:
        return [
            (
                datetime.strptime(row["Time"], "%d.%m.%Y %H:%M:%S.%f").replace(tzinfo=UTC),
                *(float(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")),
            )  # type: ignore[misc]
            for row in csv.DictReader(file)
        ]


def crossings(closes: Sequence[float]) -> list[int]:
    "Side of the market after each close: 1 where the fast average stands above the slow one, -1 below, 0 before both exist."
    sides = []
    for k in range(1, len(closes) + 1):
        if k < SLOW:
            sides.append(0)
            continue
        fast, slow = sum(closes[k - FAST : k]) / FAST, sum(closes[k - SLOW : k]) / SLOW
        sides.append(1 if fast > slow else -1)
    return sides


def hook_at(folder: str, *strategies: str) -> Any:
    "A hook of ours for the time of a run, inside the framework's own process."
    return open_hook(
        folder, dict.fromkeys(strategies, 0.3), mode="backtest", sample_rate=1.0, throttle_seconds=0
    )


def heard(folder: str, strategy: str | None = None) -> dict[str, Any]:
    "What the hook wrote."
    rows = [
        row
        for path in sorted(Path(folder).glob("traces_*.csv"))
        for row in csv.DictReader(path.open(newline=""))
    ]
    return summary(row for row in rows if strategy in (None, row["strategy"]))


def summary(rows: Iterable[Any]) -> dict[str, Any]:
    "Count and add up traces, given as rows of a file."
    told = list(rows)
    returns = [float(row["realized_return_pct"]) for row in told]
    return {
        "rows": len(told), "longs": sum(row["predicted_direction"] == "LONG" for row in told),
        "wins": sum(r > 0 for r in returns), "return_sum_pct": sum(returns),
    }  # fmt: skip


def finite(values: dict[str, Any]) -> dict[str, Any]:
    "Numbers that JSON has, and short texts."
    return {
        k: v for k, v in values.items() if isinstance(v, str) or (isinstance(v, int | float) and isfinite(v))
    }


def note(version: str, printed: dict[str, Any], expected: dict[str, Any], in_process: dict[str, Any]) -> None:
    "Leave what the framework printed, what each file has to give, and what our hook heard, beside the files."
    told = {"version": version, "printed": printed, "expected": expected, "in_process": in_process}
    (OUT / "made.json").write_text(json.dumps(told, indent=1, default=float) + "\n")
