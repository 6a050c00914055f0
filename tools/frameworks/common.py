"""What every run has in common: the bars, the two averages, and the note of what the framework said."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


def note(version: str, printed: dict[str, Any], expected: dict[str, dict[str, Any]]) -> None:
    "Leave what the framework printed, and what of it each file has to give, beside the files."
    told = {"version": version, "printed": printed, "expected": expected}
    (OUT / "made.json").write_text(json.dumps(told, indent=1, default=float) + "\n")
