"""What judging costs: core figures of a million rows against the numpy floor and scikit-learn, loading against pyarrow, and the
commands a user types, in one run.

CPU time of the process (pyarrow reads with its threads on both sides), minimum of several rounds, so that a busy machine does not
decide. `python benchmarks/judgement.py [--rows N] [--rounds N]` prints the table and a verdict a line; exits 1 where one is missed.

The commands run as processes of their own on a directory with two strategies, half of the rows live and half of them their
backtest: user and system time from `exec` to exit, imports included. `judge` reads once and asks everything: metrics, comparison,
live against backtest, alerts.

The floor is the arithmetic that cannot be left out: one bincount over direction codes, the running sum with its peak, one bincount
over days; for rows in no order also the sorting.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
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

from trade_telemetry.metrics.record import core_figures, measure
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.store import load_columns
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
        trace_id=(ids := rng.integers(0, 2**63, rows).astype(np.uint64)),
        position_id=ids,
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


def write_file(
    path: Path,
    rows: int,
    strategy: str = "intraday",
    mode: str = "backtest",
    seed: int = 1,
    day: int = 0,
    gap: int = 30,
    schema: int = 2,
) -> None:
    "A trace file with every column filled; a close every `gap` seconds from `day` on."
    header, more = (
        (COLUMNS[:22], "")
        if schema == 1
        else (COLUMNS, ",{0:016x},main,1.4,gap,{1},-0.4,0.8,{2},EUR,1.0,1.0,0.01")
    )
    rng = np.random.default_rng(seed)
    codes, moves = rng.integers(0, 2, rows).tolist(), rng.normal(0, 1, rows).round(6).tolist()
    ids = rng.integers(0, 2**63, rows).tolist()
    with path.open("w") as file:
        file.write(",".join(header) + "\n")
        for i, (code, move, trace_id) in enumerate(zip(codes, moves, ids, strict=True)):
            entry, exit_ = (START + timedelta(days=day, seconds=gap * i + s) for s in (0, 300))
            actual = "LONG" if move > 0.3 else "SHORT" if move < -0.3 else "NOOP"
            earned = move if code == 0 else -move
            file.write(
                f"{entry.isoformat()},S{i % 50},{strategy},{DIRECTIONS[code]},{actual},0.6,100.0,{100 + move:.6f},5.0,{earned},"
                f'"{{""gap"":0.5,""trend"":1.25}}","{{""stop_loss"":99.0}}",{exit_.isoformat()},{trace_id:016x},1.0,{mode},0.3,'
                f"time,10.0,0.02,0.01,{schema}"
                + more.format(trace_id ^ 1, entry.isoformat(), 10 * earned)
                + "\n"
            )


Line = tuple[str, float, float, float]  # what, ours in ms, against in ms, limit of the ratio (0: none)


def report(lines: list[Line]) -> bool:
    "Print the table and its verdicts; True where every ratio is within its limit."
    print(f"{'what':46} {'ms':>9} {'against ms':>11} {'ratio':>8} {'limit':>8}")
    missed = []
    for what, ours, theirs, limit in lines:
        said, verdict = (f"<= {limit:g}", "reached") if limit > 0 else ("", "")
        if limit > 0 and ours / theirs > limit:
            verdict = "MISSED"
            missed.append(what)
        print(f"{what:46} {ours:9.1f} {theirs:11.1f} {ours / theirs:8.2f} {said:>8}  {verdict}")
    print("all limits are reached" if not missed else f"missed: {', '.join(missed)}")
    return not missed


def figures(rows: int, rounds: int) -> list[Line]:
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


def loading(rows: int, rounds: int) -> list[Line]:
    "Loading files of both schemas against `pyarrow.csv.read_csv` of the same file."
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for schema in (1, 2):
            path = Path(folder) / f"traces_intraday_{schema}.csv"
            write_file(path, rows, schema=schema)
            ours = theirs = float("inf")
            for _ in range(rounds):  # by turns, so that both meet the same machine
                ours = min(ours, best_ms(lambda: load_columns(path), 1))  # noqa: B023
                theirs = min(theirs, best_ms(lambda: pa_csv.read_csv(path), 1))  # noqa: B023
            lines.append((f"load schema {schema} to columns / pyarrow.csv.read_csv", ours, theirs, 2.0))
    return lines


VERBS = {  # the limit is the sum of all questions: one verb may not cost more either
    "metrics": ["metrics"],
    "compare": ["compare"],
    "compare, live against backtest": ["compare", "--live-vs-backtest"],
    "check": ["check"],
    "judge: all of it, read once": ["judge"],
}
MOST_MS = 5000.0


def command_ms(words: list[str]) -> float:
    "Milliseconds of user and system time of one command, from start to end."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(words)}: {done.stderr.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def commands(rows: int, rounds: int) -> list[Line]:
    "Commands on a directory of live trades and their backtests, against the five seconds that a million rows may cost."
    with tempfile.TemporaryDirectory() as folder:
        for k, strategy in enumerate(("intraday", "swing")):
            for mode, run, day in (("backtest", "backtest_20240102_000000", 0), ("live", "live", 300)):
                path = Path(folder) / run / f"traces_{strategy}_0.csv"
                path.parent.mkdir(exist_ok=True)
                write_file(path, rows // 4, strategy, mode, 2 * k + len(mode), day, gap=86)
        return [
            (
                f"trade-telemetry {name}",
                min(command_ms([*words, "--telemetry-dir", folder]) for _ in range(rounds)),
                MOST_MS,
                1.0,
            )
            for name, words in VERBS.items()
        ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    lines = figures(args.rows, args.rounds) + loading(args.rows, args.rounds)
    lines += commands(args.rows, min(args.rounds, 3))
    print(f"{args.rows:,} rows, CPU time, best of {args.rounds}")
    return 0 if report(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
