"""What sums cost: folding a million rows, and core figures of the folded aggregate against the numpy floor of `judgement.py`.

CPU time of the process, minimum of several rounds. Folding is measured on rows of one symbol and on rows of fifty symbols in no
order, with costs and confidences, and must reach three million rows a second. The core figures are those of the floor: confusion
matrix, rates, moments, daily curve with its deepest fall, daily Sharpe ratio; from an aggregate they may cost at most twice what the
floor needs from the rows. `python benchmarks/aggregates.py [--rows N] [--rounds N]` prints both ratios and a verdict a line; exits 1
where one is missed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np
from judgement import best_ms, floor, make_columns, report

from trade_telemetry.aggregate import Aggregate, from_bytes, merge
from trade_telemetry.metrics import day_figures as dy
from trade_telemetry.metrics import figures
from trade_telemetry.metrics import rank_figures as rk
from trade_telemetry.metrics.aggregates import fold_rows
from trade_telemetry.store.columns import TraceColumns

ROWS_A_SECOND = 3e6


def busy_columns(rows: int) -> TraceColumns:
    "Trades of fifty symbols in no order, every cost stated."
    rng = np.random.default_rng(1)
    return replace(
        make_columns(rows),
        symbol=rng.integers(0, 50, rows).astype(np.int32),
        symbols=[f"S{k}" for k in range(50)],
        fees_pct=np.full(rows, 0.02),
        slippage_pct=rng.normal(0.01, 0.01, rows),
    ).take(rng.permutation(rows))


def core(a: Aggregate) -> tuple[object, ...]:
    "The figures of the floor, and of `core_figures`."
    return (
        figures.matrix(a),
        figures.precision(a),
        figures.win_rate(a),
        figures.average_return(a),
        figures.return_variance(a),
        figures.cumulative_return(a),
        dy.max_drawdown_daily(a),
        dy.sharpe_ratio(a),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    lines = []
    for name, columns in (("one symbol", make_columns(args.rows)), ("50 symbols", busy_columns(args.rows))):
        least = best_ms(lambda c=columns: floor(c, True), args.rounds)
        folding = best_ms(lambda c=columns: fold_rows(c), args.rounds)
        a = fold_rows(columns)
        allowed = 1000 * args.rows / ROWS_A_SECOND
        lines += [
            (f"fold / time for 3 M rows/s, {name}, {len(a):,} lines", folding, allowed, 1.0),
            (f"core figures / numpy floor, {name}", best_ms(lambda a=a: core(a), args.rounds), least, 2.0),
            (
                f"every figure / numpy floor, {name}",
                best_ms(lambda a=a: rk.all_figures(a), 3),
                least,
                0.0,
            ),
            (f"merge with itself / fold, {name}", best_ms(lambda a=a: merge(a, a), 3), folding, 0.0),
            (
                f"write and read / fold, {name}",
                best_ms(lambda a=a: from_bytes(a.to_bytes()), 3),
                folding,
                0.0,
            ),
        ]
        print(f"{name}: {args.rows / folding / 1000:.1f} M rows/s of CPU")
    print(f"{args.rows:,} rows, CPU time, best of {args.rounds}")
    return 0 if report(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
