"""What judging costs: core figures of a million rows against the numpy floor and scikit-learn, loading against pyarrow, in one run.

CPU time of the process (pyarrow reads with its threads on both sides), minimum of several rounds, so that a busy machine does not
decide. `python benchmarks/judgement.py [--rows N] [--rounds N]` prints the table; exits 1 where a ratio is above its limit.

The floor is the arithmetic that cannot be left out: one bincount over direction codes, the running sum with its peak, one bincount
over days; for rows in no order also the sorting.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
from sklearn import metrics as sk

from trade_telemetry.analyzer import core_figures, measure
from trade_telemetry.store import TraceColumns, load_columns
from trade_telemetry.trace import COLUMNS, DIRECTIONS, PredictionTrace

START = datetime(2024, 1, 2, tzinfo=UTC)
DAY = 86_400_000_000


def best_ms(call: Callable[[], object], rounds: int) -> float:
    "Milliseconds of CPU, the fastest of `rounds`."
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return 1000 * best


def make_columns(rows: int, seed: int = 0) -> TraceColumns:
    "Trades in exit order, one every thirty seconds."
    rng = np.random.default_rng(seed)
    one = PredictionTrace(START, "SPY", "intraday", "LONG", "LONG", None, 100.0, 101.0, 5.0, 1.0)
    exits = int(START.timestamp() * 1e6) + 30_000_000 * np.arange(rows)
    return replace(
        TraceColumns.from_traces([one]).take(np.zeros(rows, dtype=np.int64)),
        entry_us=exits - 300_000_000,
        exit_us=exits,
        trace_id=rng.integers(0, 2**63, rows).astype(np.uint64),
        predicted=rng.integers(0, 2, rows).astype(np.int8),
        actual=rng.integers(0, 3, rows).astype(np.int8),
        confidence=rng.random(rows),
        return_pct=rng.normal(0.02, 1, rows),
    )


def floor(columns: TraceColumns, ordered: bool) -> tuple[Any, ...]:
    "The least that numpy can do."
    c, r, exits = columns, columns.return_pct, columns.exit_us
    if not ordered:
        order = np.argsort(exits, kind="stable")
        r = r[order]
    matrix = np.bincount(c.actual * 3 + c.predicted, minlength=9)
    path = np.cumsum(r)
    fall = (path - np.maximum.accumulate(path)).min()
    day = exits // DAY
    daily = np.bincount(day - day.min(), weights=c.return_pct)
    return matrix, r.mean(), r.std(), np.count_nonzero(r > 0), fall, daily.mean() / daily.std()


def write_file(path: Path, rows: int) -> None:
    "A trace file with every column filled."
    rng = np.random.default_rng(1)
    codes, moves = rng.integers(0, 2, rows).tolist(), rng.normal(0, 1, rows).round(6).tolist()
    ids = rng.integers(0, 2**63, rows).tolist()
    with path.open("w") as file:
        file.write(",".join(COLUMNS) + "\n")
        for i, (code, move, trace_id) in enumerate(zip(codes, moves, ids, strict=True)):
            entry, exit_ = (START + timedelta(seconds=30 * i + s) for s in (0, 300))
            actual = "LONG" if move > 0.3 else "SHORT" if move < -0.3 else "NOOP"
            earned = move if code == 0 else -move
            file.write(
                f"{entry.isoformat()},S{i % 50},intraday,{DIRECTIONS[code]},{actual},0.6,100.0,{100 + move:.6f},5.0,{earned},"
                f'"{{""gap"":0.5,""trend"":1.25}}","{{""stop_loss"":99.0}}",{exit_.isoformat()},{trace_id:016x},1.0,backtest,0.3,'
                "time,10.0,0.02,0.01,1\n"
            )


def report(lines: list[tuple[str, float, float, float]]) -> bool:
    "Print the table; True where every ratio is within its limit."
    print(f"{'what':46} {'ms':>9} {'against ms':>11} {'ratio':>8} {'limit':>8}")
    for what, ours, theirs, limit in lines:
        said = f"<= {limit:g}" if limit > 0 else ""
        print(f"{what:46} {ours:9.1f} {theirs:11.1f} {ours / theirs:8.2f} {said:>8}")
    return all(ours / theirs <= limit for _, ours, theirs, limit in lines if limit > 0)


def figures(rows: int, rounds: int) -> list[tuple[str, float, float, float]]:
    "Core figures against the floor and against scikit-learn."
    columns = make_columns(rows)
    shuffled = columns.take(np.random.default_rng(2).permutation(rows))
    core = best_ms(lambda: core_figures(columns), rounds)
    words = np.array(DIRECTIONS)
    actual, predicted = words[columns.actual], words[columns.predicted]

    def peer() -> None:
        sk.confusion_matrix(actual, predicted, labels=DIRECTIONS)
        sk.precision_recall_fscore_support(actual, predicted, labels=DIRECTIONS, zero_division=0)

    return [
        ("core figures / numpy floor, exit order", core, best_ms(lambda: floor(columns, True), rounds), 2.0),
        (
            "core figures / numpy floor, shuffled",
            best_ms(lambda: core_figures(shuffled), rounds),
            best_ms(lambda: floor(shuffled, False), rounds),
            2.0,
        ),
        ("core figures / scikit-learn on strings", core, best_ms(peer, 1), 1 / 50),
        (
            "the whole record (resampling, AUC) / floor",
            best_ms(lambda: measure(columns), 1),
            best_ms(lambda: floor(columns, True), rounds),
            0,
        ),
    ]


def loading(rows: int, rounds: int) -> list[tuple[str, float, float, float]]:
    "Loading a file against `pyarrow.csv.read_csv` of the same file."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traces_intraday_0.csv"
        write_file(path, rows)
        ours = theirs = float("inf")
        for _ in range(rounds):  # by turns, so that both meet the same machine
            ours = min(ours, best_ms(lambda: load_columns(path), 1))
            theirs = min(theirs, best_ms(lambda: pa_csv.read_csv(path), 1))
    return [("load to columns / pyarrow.csv.read_csv", ours, theirs, 2.0)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    lines = figures(args.rows, args.rounds) + loading(args.rows, args.rounds)
    print(f"{args.rows:,} rows, CPU time, best of {args.rounds}")
    return 0 if report(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
