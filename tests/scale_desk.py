"""A telemetry directory as the world makes them, and the sums of a lake in SQL: what `test_scale_proof` compares."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from trade_telemetry.aggregate import LOW, Aggregate
from trade_telemetry.aggregate_form import COUNTS, SUMS, WORDS
from trade_telemetry.capture.line_format import csv_lines
from trade_telemetry.testing import make_trace, make_traces, write_run
from trade_telemetry.trace import COLUMNS, PredictionTrace, make_trace_id, to_row

NIGHTS = (  # near midnight in Kolkata, and on the nights on which New York changes its clocks
    datetime(2024, 3, 9, 22, tzinfo=UTC),
    datetime(2024, 3, 10, 4, 30, tzinfo=UTC),
    datetime(2024, 11, 3, 3, 30, tzinfo=UTC),
    datetime(2024, 11, 3, 18, 20, tzinfo=UTC),
)
BACKTEST = "backtest_20240401_000000"


def night_trades(n: int, seed: int, **changes: Any) -> list[PredictionTrace]:
    "Trades around the nights, with costs, claims and returns of every kind; every seventh position has a second exit."
    rng, found = random.Random(seed), list[PredictionTrace]()
    for k in range(n):
        entry = NIGHTS[k % len(NIGHTS)] + timedelta(seconds=rng.randrange(4 * 3600), microseconds=k)
        facts: dict[str, Any] = {
            "timestamp": entry, "symbol": rng.choice(["TCS", "Börse, A", "€/¥", "INFY"]), "exit_price": 100 + rng.gauss(0.1, 1),
            "predicted_direction": rng.choice(["LONG", "SHORT"]),
            "predicted_confidence": rng.choice([None, 0.0, 1.0, round(rng.random(), 3), rng.random(), 1.3]),
            "fees_pct": rng.choice([None, 0.02, rng.random() / 30]), "slippage_pct": rng.choice([None, rng.gauss(0.01, 0.01)]),
            "holding_period_minutes": rng.choice([5.0, 61.5, rng.random() * 300]), "account": rng.choice(["", "depot 2"]),
            "version": rng.choice(["", "1", "2.0-β"]), "exit_reason": rng.choice(["stop_loss", "time"]),
            "features": {"gap": rng.random()}, "metadata": {"note": "a, \"b\"\nc"} if k % 9 == 0 else {},
        }  # fmt: skip
        trade = make_trace(**facts | changes)
        for leg in range(2 if k % 7 == 0 else 1):
            name, when = (
                (trade.strategy, trade.symbol, trade.timestamp, trade.predicted_direction),
                trade.exit_timestamp,
            )
            found.append(
                replace(
                    trade, trace_id=make_trace_id(*name, leg), position_id=make_trace_id(*name, 99),
                    realized_return_pct=trade.realized_return_pct / (1 + leg), exit_timestamp=when and when + leg * timedelta(hours=3),
                )
            )  # fmt: skip
    return found


def segment(path: Path, traces: Iterable[PredictionTrace]) -> None:
    "Write a CSV segment, and let it be old: nobody has a record of it."
    path.parent.mkdir(parents=True, exist_ok=True)
    data = csv_lines([list(COLUMNS), *map(to_row, traces)])
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    os.utime(path, (0, 0))


def make_desk(folder: Path, n: int = 120) -> Path:
    "A live run in JSON Lines, a sample of another with its ledger, a backtest in segments of every kind, and a run that was imported twice."
    live = [
        t
        for k, name in enumerate(("intraday", "Schwung β"))
        for t in make_traces(n, seed=k, strategy=name, mode="live")
    ]
    write_run(folder / "live", sorted(live, key=lambda t: t.timestamp), format="jsonl")
    paper = make_traces(4 * n, seed=5, strategy="intraday", mode="paper", precision=0.55)
    write_run(folder / "paper_20250101_000000", paper, sample_rate=0.3)
    back = night_trades(2 * n, 7, strategy="intraday") + night_trades(n, 8, strategy="Schwung β")
    segment(folder / BACKTEST / "traces_a_1.csv", back[: n - 1])
    segment(folder / BACKTEST / "traces_a_2.csv.gz", back[n - 1 : 2 * n])
    segment(folder / BACKTEST / "traces_a_9.csv", back[2 * n :])
    wrong = [replace(t, realized_return_pct=t.realized_return_pct + 0.25) for t in back[5:12]]
    segment(folder / BACKTEST / "traces_a_10.csv", [*back[:3], *wrong, *back[10:12]])
    segment(
        folder / "nested" / "replay_1" / "traces_b_1.csv",
        night_trades(n // 4, 9, strategy="intraday", mode="replay"),
    )
    torn = folder / "nested" / "replay_1" / "traces_b_2.csv"
    segment(torn, night_trades(n // 4, 10, strategy="intraday", mode="replay"))
    torn.write_bytes(
        torn.read_bytes().replace(b"INFY", b"IN\x00FY", 1) + b"2024-03-10T07:00:00+00:00,TCS,no number\n"
    )
    os.utime(torn, (0, 0))
    return folder


UNITS = """
WITH m AS (SELECT unnest(ranges) AS r FROM read_json($manifests, maximum_object_size = 100000000)),
p AS (SELECT unnest(parts) AS p FROM read_json($manifests, maximum_object_size = 100000000)),
named AS (SELECT p.name, p.ranges[i] AS id, i - 1 AS code FROM p, range(1, len(p.ranges) + 1) AS t(i)),
placed AS (
    SELECT named.name, code, r.run, r.file, r.start, list_transform(regexp_extract_all(r.file, '\\d+'), lambda x: x::BIGINT) AS numbers
    FROM named JOIN m ON r.id = named.id
),
rows AS (
    SELECT q.* EXCLUDE (run), placed.run, numbers, placed.file, placed.start
    FROM read_parquet($parts, union_by_name = true, hive_partitioning = false, filename = 'part') q
    JOIN placed ON q.range = code AND ends_with(q.part, placed.name)
),
kept AS (SELECT * FROM rows QUALIFY row_number() OVER (PARTITION BY run, trace_id ORDER BY numbers DESC, file DESC, start DESC, line DESC) = 1),
units AS (
    SELECT run, mode, least(sample_rate, 1.0) AS rate, strategy, version, account, symbol, exit_timestamp, trace_id,
        ((exit_timestamp AT TIME ZONE $zone)::DATE - DATE '1970-01-01')::BIGINT AS day,
        list_position(['LONG', 'SHORT', 'NOOP'], predicted_direction) - 1 AS called, list_position(['LONG', 'SHORT', 'NOOP'], actual_direction) - 1 AS actual,
        round_even(realized_return_pct * 1e11, 0)::HUGEINT AS earned, round_even(fees_pct * 1e11, 0)::HUGEINT AS fees,
        round_even(slippage_pct * 1e11, 0)::HUGEINT AS slip, round_even(holding_period_minutes * 6e7, 0)::HUGEINT AS held,
        CASE WHEN predicted_confidence BETWEEN 0 AND 1 THEN predicted_confidence END AS p, round_even(p * 1e9, 0)::HUGEINT AS stated,
        CASE WHEN p < 1e-15 THEN 1e-15 WHEN p > 1 - 1e-15 THEN 1 - 1e-15 ELSE p END AS clipped, round_even(ln(CASE WHEN called = actual THEN clipped ELSE 1 - clipped END) * 1e9, 0)::HUGEINT AS score,
        position_id = trace_id OR row_number() OVER (PARTITION BY run, position_id, position_id = trace_id ORDER BY exit_timestamp, trace_id) = 1 AS first
    FROM kept
)
"""
SUMMED = f"""{UNITS}
SELECT run, mode, rate, strategy, version, account, symbol, day, called, actual,
    count(*) AS closes, count_if(earned > 0) AS wins, count_if(earned < 0) AS losses, count(fees) AS fees_known, count(slip) AS slippage_known,
    count(held) AS held, count(stated) AS stated, count_if(first) AS positions,
    sum(earned) AS return_sum, coalesce(sum(earned) FILTER (earned > 0), 0) AS gain_sum, sum(earned * earned) AS square_sum,
    coalesce(sum(fees), 0) AS fees_sum, coalesce(sum(slip), 0) AS slippage_sum, coalesce(sum(slip * slip), 0) AS slippage_square_sum,
    coalesce(sum(units.held), 0) AS holding_sum, coalesce(sum(units.stated), 0) AS confidence_sum, coalesce(sum(units.stated * units.stated), 0) AS confidence_square_sum,
    coalesce(sum(score), 0) AS log_score_sum, epoch_us(min(exit_timestamp)) AS first_exit_us, epoch_us(max(exit_timestamp)) AS last_exit_us
FROM units GROUP BY ALL ORDER BY ALL
"""

Key = tuple[Any, ...]
Facts = tuple[int, ...]
NAMES = (*COUNTS, *SUMS, "first_exit_us", "last_exit_us")


def sums_in_sql(lake: Path, zone: str) -> dict[Key, Facts]:
    "Sums of a lake by run, mode, rate and key, from its files alone: nothing of the package is asked."
    told = {"manifests": f"{lake}/manifests/*.json", "parts": f"{lake}/kind=*/**/*.parquet", "zone": zone}
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        lines = connection.execute(SUMMED, told).fetchall()
    return {tuple(line[:10]): tuple(map(int, line[10:])) for line in lines}


def sums_of(run: str, mode: str, rate: float, sums: Aggregate) -> dict[Key, Facts]:
    "The same of an aggregate."
    wide = [[(h << LOW) + low for h, low in sums.sums[:, k].T.tolist()] for k in range(len(SUMS))]
    found = {}
    for line in range(len(sums)):
        codes = sums.keys[:, line].tolist()
        words = [sums.words[axis][codes[axis]] for axis in range(len(WORDS))]
        facts = [
            *sums.counts[:, line].tolist(),
            *(column[line] for column in wide),
            *sums.exits[:, line].tolist(),
        ]
        found[run, mode, rate, *words, *codes[4:]] = tuple(facts)
    return found
