"""What it costs to find out why live differed: a hundred thousand trades a side, matched, split by cause and judged, in one run.

CPU time of the process (user and system), minimum of several rounds, and the largest memory it ever had.
`python benchmarks/reconcile.py [--trades N] [--rounds N]` prints a table and a verdict a line; exits 1 where one is missed.

Two worlds: twenty symbols over years, where hardly two entries lie in one window; and one symbol with an entry every minute, where
every trade has ten candidates and nothing can be settled without the solver.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from trade_telemetry.judgement.pairs import Tolerance, match_positions, positions_of
from trade_telemetry.judgement.reconcile import reconcile
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.trace import PredictionTrace

START = datetime(2020, 1, 2, tzinfo=UTC)
MINUTE = 60_000_000
MOST_SECONDS, MOST_GIB = 10.0, 2.0


def side(n: int, seed: int, symbols: int, apart: int) -> TraceColumns:
    "Trades of one side: the same entries for all seeds, some of them late, some missing, prices off by a little."
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    few = [
        PredictionTrace(
            START, f"S{k}", "mine", "LONG", "LONG", None, 100.0, 101.0, 30, 1.0, quantity=1.0, fees_pct=0.0
        )
        for k in range(symbols)
    ]
    rows = TraceColumns.from_traces(few).take(rng.integers(0, symbols, n))
    at = MINUTE * np.sort(rng.integers(0, apart * n, n))
    late = MINUTE * own.integers(1, 3, n) * (own.random(n) < 0.1)
    ids = np.arange(n).astype(np.uint64) + np.uint64(seed * n)
    entry = 100 + 0.05 * own.random(n)
    earned = 100 * (101 / entry - 1)
    columns = replace(
        rows, entry_us=rows.entry_us + at + late, exit_us=rows.exit_us + at, trace_id=ids, position_id=ids, entry_price=entry, return_pct=earned,
    )  # fmt: skip
    return columns.take(np.flatnonzero(own.random(n) < 0.95))


def seconds(call: object, rounds: int) -> float:
    "CPU seconds of the fastest round."
    assert callable(call)
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trades", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    n, missed = args.trades, 0
    worlds = {"twenty symbols": (20, 20), "one symbol, crowded": (1, 1)}
    for name, (symbols, apart) in worlds.items():
        live, back = (side(n, seed, symbols, apart) for seed in (1, 2))
        sides = positions_of(live), positions_of(back)
        near = Tolerance(60, 300)
        match = seconds(lambda a=sides[0], b=sides[1], t=near: match_positions(a, b, t), args.rounds)
        whole = seconds(
            lambda a=live, b=back: reconcile(a, b, tolerance_seconds=60, window_seconds=300), args.rounds
        )
        ok = whole <= MOST_SECONDS
        missed += not ok
        print(
            f"{name}: matching {match:.2f} s, all of it {whole:.2f} s of CPU (at most {MOST_SECONDS:g}): {'ok' if ok else 'MISSED'}"
        )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    missed += memory > MOST_GIB
    print(f"memory: {memory:.2f} GiB (at most {MOST_GIB:g}): {'ok' if memory <= MOST_GIB else 'MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
