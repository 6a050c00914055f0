"""Segments of synthetic trades, made column by column: millions of rows in the format of the trace files within seconds.

Every strategy calls LONG or SHORT with a stated confidence and is right a little more often than not; its trades are spread evenly over
the trading days from the first of 2020 on, `a_day` of them a day. Files are cut as a writer cuts them: in the order of exits, a strategy each.
`lake` makes the same kind of trades as parts of a lake, without segments that they were taken from: a hundred million rows are no more
than their Parquet files.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.lake import bucket_of
from trade_telemetry.store.lake_files import Folder
from trade_telemetry.store.manifest import Contents, LakeRun, Part, Range, begin_lake, commit, content_hash
from trade_telemetry.store.parquet_rows import parquet_bytes, table_of
from trade_telemetry.testing import make_trace

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


def exit_times(
    rng: np.random.Generator, n: int, a_day: int, first_day: int = FIRST_DAY
) -> Iterator[np.ndarray]:
    "Times of a strategy's exits, ascending, in pieces of about a million."
    weekdays = np.flatnonzero(np.arange(first_day, first_day + 10_000) % 7 < 5) + first_day
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
    first_day: int = FIRST_DAY,  # Days since 1970
) -> list[Path]:  # The segments
    "Write trades as a writer would have written them."
    rng, made, per = np.random.default_rng(seed), [], rows // strategies
    folder = directory / run
    folder.mkdir(parents=True, exist_ok=True)
    mode = run.partition("_")[0]
    own_files, often = max(1, files // strategies), a_day or max(1, per // 1_000)
    for s in range(strategies):
        name, sequence = f"s{s:04d}", 0
        for us in exit_times(rng, per, often, first_day):
            for part in np.array_split(us, max(1, round(own_files * len(us) / per))):
                if len(part):
                    path = folder / f"traces_{name}_{sequence}.csv"
                    table(rng, name, part, mode).write_csv(path)
                    made.append(path)
                    sequence += 1
    return made


def trades(rng: np.random.Generator, strategy: str, exit_us: np.ndarray, mode: str, run: str) -> TraceColumns:
    "The same kind of trades as columns."
    n = len(exit_us)
    held, ids = rng.integers(5, 120, n), rng.integers(0, 2**64, n, dtype=np.uint64)
    called, right = rng.integers(0, 2, n), rng.random(n) < 0.56
    gained = np.where(right, 1.0, -1.0) * (np.round(rng.exponential(0.5, n), 4) + THRESHOLD_PCT + 0.0001)
    entry = np.round(rng.uniform(50, 150, n), 2)
    words = [
        make_trace(
            symbol=symbol,
            strategy=strategy,
            mode=mode,
            exit_reason=reason,
            version="1",
            fees_pct=0.02,
            quantity=1.0,
        )
        for symbol in SYMBOLS
        for reason in ("target", "stop", "time")
    ]
    rows = TraceColumns.from_traces(words, run).take(rng.integers(0, len(words), n))
    return replace(
        rows, entry_us=exit_us - held * 60_000_000, exit_us=exit_us, predicted=called.astype(np.int8),
        actual=np.where(right, called, 1 - called).astype(np.int8), confidence=np.round(rng.uniform(0.4, 0.8, n), 2),
        entry_price=entry, exit_price=entry * (1 + np.where(called == 0, gained, -gained) / 100), holding_minutes=held.astype(float),
        return_pct=np.round(gained - 0.02, 6), slippage_pct=np.round(rng.normal(0.01, 0.01, n), 4), trace_id=ids,
        position_id=rng.integers(0, 2**64, n, dtype=np.uint64), id_stored=np.ones(n, dtype=np.bool_), extras=None,
    )  # fmt: skip


def month_starts(exit_us: np.ndarray) -> list[int]:
    "Where a month begins among ascending times, and the end."
    month = exit_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return [0, *(np.flatnonzero(np.diff(month)) + 1).tolist(), len(exit_us)]


def lake(
    directory: Path,  # Of the lake
    rows: int,  # Trades of all strategies
    strategies: int = 4,
    seed: int = 0,
    a_day: int = 0,  # As `segments`
    run: str = "backtest_20250101_000000",
) -> int:  # Parts
    "Write trades as a lake that they were compacted into; a range for each part, as if each came from a segment."
    rng, place, per = np.random.default_rng(seed), Folder(directory), rows // strategies
    buckets, contents = begin_lake(place)["buckets"], Contents()
    mode, often = run.partition("_")[0], a_day or max(1, per // 1_000)
    for s in range(strategies):
        name, ranges, parts = f"s{s:04d}", list[Range](), list[Part]()
        for us in exit_times(rng, per, often):
            cuts = month_starts(us)
            for start, stop in pairwise(cuts):
                own = trades(rng, name, us[start:stop], mode, run)
                own = replace(own, line=np.arange(2, len(own) + 2))
                data = parquet_bytes(table_of(own, np.zeros(len(own), dtype=np.int32), {}))
                month, file = (
                    str(own.exit_us[:1].astype("datetime64[us]").astype("datetime64[M]")[0]),
                    f"traces_{name}_{len(ranges)}.csv",
                )
                path = f"kind={mode}/bucket={bucket_of(name, buckets)}/month={month}/{name}_{len(ranges):06d}.parquet"
                one = Range(
                    content_hash(file.encode())[:16],
                    run,
                    file,
                    0,
                    300 * len(own),
                    content_hash(data),
                    1,
                    len(own),
                )
                ranges.append(one)
                parts.append(
                    Part(
                        path,
                        len(own),
                        len(data),
                        content_hash(data),
                        mode,
                        bucket_of(name, buckets),
                        month,
                        (one.id,),
                    )
                )
                place.write(path, data)
        runs = () if s else (LakeRun(run, run, "synthetic", "nowhere"),)
        written = commit(place, contents, contents.next(ranges=tuple(ranges), parts=tuple(parts), runs=runs))
        assert written is not None
        contents = written
    return len(contents.parts)
