"""Segments of synthetic trades, made column by column: millions of rows in the format of the trace files within seconds.

Every strategy calls LONG or SHORT with a stated confidence and is right a little more often than not; its trades are spread evenly over
the trading days from the first of 2020 on, `a_day` of them a day. Files are cut as a writer cuts them: in the order of exits, a strategy each.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

SYMBOLS = ("AAPL", "MSFT", "NVDA", "AMZN", "SPY", "QQQ", "TSLA", "META", "GOOG", "AMD")
FIRST_DAY = 18_262  # 2020-01-01
DAY_US = 86_400_000_000
THRESHOLD_PCT = 0.3


def ids(rng: np.random.Generator, n: int) -> pl.Series:
    "Sixteen hexadecimal digits a row."
    text = binascii.hexlify(rng.bytes(8 * n)).decode()
    return pl.Series([text[k : k + 16] for k in range(0, 16 * n, 16)])


def stamps(us: np.ndarray) -> pl.Expr:
    "Times as the files have them."
    return pl.Series(us).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")


def table(rng: np.random.Generator, strategy: str, exit_us: np.ndarray, mode: str) -> pl.DataFrame:
    "Trades of one strategy, by the times of their exits."
    n = len(exit_us)
    held = rng.integers(5, 120, n)
    long, right = rng.random(n) < 0.5, rng.random(n) < 0.56
    size = np.round(rng.exponential(0.5, n), 4) + THRESHOLD_PCT + 0.0001
    up = long == right
    move = np.where(up, size, -size)
    entry = np.round(rng.uniform(50, 150, n), 2)
    word = np.array(["LONG", "SHORT"])
    exits = ids(rng, n)
    return pl.DataFrame(
        {
            "timestamp": stamps(exit_us - held * 60_000_000),
            "symbol": np.array(SYMBOLS)[rng.integers(0, len(SYMBOLS), n)],
            "strategy": [strategy] * n,
            "predicted_direction": word[(~long).astype(int)],
            "actual_direction": word[(~up).astype(int)],
            "predicted_confidence": np.round(rng.uniform(0.4, 0.8, n), 2),
            "entry_price": entry,
            "exit_price": entry * (1 + move / 100),
            "holding_period_minutes": held.astype(float),
            "realized_return_pct": np.round(np.where(long, move, -move) - 0.02, 6),
            "features_json": ["{}"] * n,
            "metadata_json": ["{}"] * n,
            "exit_timestamp": stamps(exit_us),
            "trace_id": exits,
            "sample_rate": np.ones(n),
            "mode": [mode] * n,
            "label_threshold_pct": np.full(n, THRESHOLD_PCT),
            "exit_reason": np.array(["target", "stop", "time"])[rng.integers(0, 3, n)],
            "quantity": np.ones(n),
            "fees_pct": np.full(n, 0.02),
            "slippage_pct": np.round(rng.normal(0.01, 0.01, n), 4),
            "schema_version": np.full(n, 2),
            "position_id": ids(rng, n),
            "account": [""] * n,
            "version": ["1"] * n,
        }
    )


def exit_times(rng: np.random.Generator, n: int, a_day: int) -> Iterator[np.ndarray]:
    "Times of a strategy's exits, ascending, in pieces of about a million."
    weekdays = np.flatnonzero(np.arange(FIRST_DAY, FIRST_DAY + 10_000) % 7 < 5) + FIRST_DAY
    for start in range(0, n, 1_000_000):
        k = np.arange(start, min(start + 1_000_000, n))
        seconds = np.sort(rng.integers(50_400, 72_000, len(k)).reshape(-1))
        day = weekdays[np.minimum(k // a_day, len(weekdays) - 1)]
        order = np.lexsort((seconds, day))
        yield day[order] * DAY_US + seconds[order] * 1_000_000


def segments(
    directory: Path,  # Telemetry directory; the run is made below it
    rows: int,  # Trades of all strategies
    files: int,  # Segments of all strategies
    strategies: int = 4,
    seed: int = 0,
    a_day: int = 0,  # Trades of a strategy a day; 0: so many that they fill four years
    run: str = "backtest_20250101_000000",  # Its name states the mode
) -> list[Path]:  # The segments
    "Write trades as a writer would have written them."
    rng, made, per = np.random.default_rng(seed), [], rows // strategies
    folder = directory / run
    folder.mkdir(parents=True, exist_ok=True)
    mode = run.partition("_")[0]
    own_files, often = max(1, files // strategies), a_day or max(1, per // 1_000)
    for s in range(strategies):
        name, sequence = f"s{s:04d}", 0
        for us in exit_times(rng, per, often):
            for part in np.array_split(us, max(1, round(own_files * len(us) / per))):
                if len(part):
                    path = folder / f"traces_{name}_{sequence}.csv"
                    table(rng, name, part, mode).write_csv(path)
                    made.append(path)
                    sequence += 1
    return made
