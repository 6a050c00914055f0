"""What the writing thread costs, against a bare loop of csv.writer and orjson over the same traces and columns, in one run.

The bare loop formats the same 34 cells (times with isoformat, features and metadata with orjson) and writes them through one open file;
it neither counts nor samples nor rotates. Once both are given the ids of decision and exit, and once both work them out (blake2b). Thread CPU time,
fastest of several rounds taken in turns. Then the whole way: CPU of all threads from `write_trace` or the hook to the file.
`python benchmarks/writing.py [--rows N] [--rounds N]` prints the table; exit code 1 where the thread costs more than 1.25 × the bare loop,
where a row of the last quarter costs more than 1.2 × a row of the first, or where a written trace costs more than 12 µs of CPU in all.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from struct import pack

import orjson

from trade_telemetry.capture.hook import TelemetryHook
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.trace import COLUMNS, EPOCH, PredictionTrace

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
CHUNK = 20_000  # traces in memory at a time, as many as a busy process may leave to its thread


def make_traces(first: int, n: int, with_id: bool) -> list[PredictionTrace]:
    made = []
    for k in range(first, first + n):
        entry = START + timedelta(seconds=k)
        price = 100.0 + k % 977 / 97
        made.append(
            PredictionTrace(
                entry, "RELIANCE", "intraday", "LONG", "NOOP", 0.37 + k % 7 / 100, price, price * 1.0017, 42.0, 0.17 - 0.02,
                {"range": 1.5 + k % 13 / 7, "momentum": 0.2, "volume": 1.1, "bucket": 3},
                {"stop_loss": 99.0, "take_profit": 102.0, "exit_reason": "time", "market_move_pct": 0.17},
                entry + timedelta(minutes=42), f"{k:016x}" if with_id else "", 1.0, "backtest", 0.3, "time", 10.0, 0.02, 0.01,
                2, f"{k // 3:016x}" if with_id else "", "main", "1.4", "", entry, -0.21, 0.33, leverage=1.0,
            )
        )  # fmt: skip
    return made


class BareLoop:
    "csv.writer and orjson: the least that writes these columns."

    def __init__(self, directory: Path) -> None:
        self.file = (directory / "bare.csv").open("w", newline="")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(COLUMNS)

    def write(self, traces: list[PredictionTrace]) -> None:
        dumps, row = orjson.dumps, self.rows.writerow
        for t in traces:
            position, trace_id = t.position_id, t.trace_id
            if not position:
                when = (t.timestamp - EPOCH) // timedelta(microseconds=1)
                names = f"content\x1f{t.strategy}\x1f{t.symbol}\x1f{t.account}\x1f{t.predicted_direction}"
                content = names.encode() + pack("<qdq", when, t.entry_price, 0)
                position = blake2b(content, digest_size=8).hexdigest()
            if not trace_id:
                when = (t.exit_timestamp - EPOCH) // timedelta(microseconds=1)
                content = position.encode() + pack("<qddq", when, t.exit_price, t.quantity, 0)
                trace_id = blake2b(content, digest_size=8).hexdigest()
            row((
                t.timestamp.isoformat(), t.symbol, t.strategy, t.predicted_direction, t.actual_direction,
                t.predicted_confidence, t.entry_price, t.exit_price, t.holding_period_minutes, t.realized_return_pct,
                dumps(t.features).decode(), dumps(t.metadata).decode(),
                t.exit_timestamp.isoformat() if t.exit_timestamp else "", trace_id, t.sample_rate, t.mode,
                t.label_threshold_pct, t.exit_reason, t.quantity, t.fees_pct, t.slippage_pct, t.schema_version,
                position, t.account, t.version, t.entry_tag, t.decision_time.isoformat() if t.decision_time else "",
                t.mae_pct, t.mfe_pct, t.profit, t.currency, t.leverage, t.multiplier, t.funding_pct,
            ))  # fmt: skip
        self.file.flush()


class OurThread:
    "The half of the writer that its thread runs, run here so that its CPU can be told apart."

    def __init__(self, directory: Path) -> None:
        self.writer = TelemetryWriter(directory, background=False, max_pending=10**9)

    def write(self, traces: list[PredictionTrace]) -> None:
        self.writer._queue.items.extend(traces)
        self.writer.poll()
        self.writer.flush()


def thread_us(write: Callable[[list[PredictionTrace]], None], traces: list[PredictionTrace]) -> float:
    "Microseconds of thread CPU per row."
    began = time.thread_time_ns()
    write(traces)
    return (time.thread_time_ns() - began) / 1000 / len(traces)


def against_bare(rounds: int, with_id: bool) -> tuple[float, float]:
    "Microseconds a row of the bare loop and of our thread, the fastest of rounds in turns."
    bare_best = our_best = float("inf")
    with tempfile.TemporaryDirectory() as directory:
        bare, ours = BareLoop(Path(directory)), OurThread(Path(directory) / "ours")
        for n in range(rounds):
            bare_best = min(bare_best, thread_us(bare.write, make_traces(n * CHUNK, CHUNK, with_id)))
            our_best = min(our_best, thread_us(ours.write, make_traces(n * CHUNK, CHUNK, with_id)))
        ours.writer.close()
        bare.file.close()
        same(Path(directory))
    return bare_best, our_best


def same(directory: Path) -> None:
    "Both wrote the same bytes, or the comparison means nothing."
    ours = b"".join(
        path.read_bytes() if k == 0 else path.read_bytes().split(b"\n", 1)[1]
        for k, path in enumerate(
            sorted((directory / "ours").glob("traces_*"), key=lambda p: int(p.stem.split("_")[-1]))
        )
    )
    assert ours == (directory / "bare.csv").read_bytes()


def whole_file(rows: int) -> list[float]:
    "Microseconds of the thread per row in each quarter of a long run."
    quarters = []
    with tempfile.TemporaryDirectory() as directory:
        ours = OurThread(Path(directory))
        for quarter in range(4):
            spent = 0.0
            for first in range(quarter * rows // 4, (quarter + 1) * rows // 4, CHUNK):
                spent += CHUNK * thread_us(ours.write, make_traces(first, CHUNK, with_id=False))
            quarters.append(spent / (rows / 4))
        ours.writer.close()
        assert ours.writer.stats().written == rows
    return quarters


def all_threads(rounds: int, keywords: bool) -> float:
    "Microseconds of CPU of the whole process per written trace, from the call to the file."
    best = float("inf")
    for n in range(rounds):
        traces = make_traces(n * CHUNK, CHUNK, with_id=False)
        with tempfile.TemporaryDirectory() as directory:
            began = time.process_time()
            with TelemetryWriter(Path(directory)) as writer:
                hook = TelemetryHook(writer, {"intraday": 0.3})
                for t in traces:
                    if keywords:
                        hook.position_closed(
                            symbol=t.symbol, strategy=t.strategy, direction="LONG", entry_time=t.timestamp,
                            exit_time=t.exit_timestamp, entry_price=t.entry_price, exit_price=t.exit_price,
                            confidence=t.predicted_confidence, quantity=10.0, fees_pct=0.02, slippage_pct=0.01,
                            exit_reason="time", features=t.features, metadata=t.metadata, account=t.account,
                            version=t.version, decision_time=t.decision_time, mae_pct=t.mae_pct, mfe_pct=t.mfe_pct,
                            leverage=1.0,
                        )  # fmt: skip
                    else:
                        writer.write_trace(t)
            best = min(best, (time.process_time() - began) * 1e6 / CHUNK)
            assert writer.stats().written == CHUNK
    return best


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of the long run (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=9, help="rounds, of which the fastest counts (default: %(default)s)"
    )
    args = parser.parse_args()
    rows = max(4 * CHUNK, args.rows // (4 * CHUNK) * 4 * CHUNK)
    whole = [all_threads(args.rounds, keywords) for keywords in (False, True)]  # while the heap is small
    print(f"{'CPU of one written row':<52}{'bare µs':>9}{'ours µs':>9}{'ratio':>8}")
    ratios, bares = [], []
    for words, with_id in (
        ("writing thread, trace ids given", True),
        ("writing thread, both work out the ids", False),
    ):
        bare, ours = against_bare(args.rounds, with_id)
        ratios.append(ours / bare)
        bares.append(bare)
        print(f"{words:<52}{bare:>9.2f}{ours:>9.2f}{ratios[-1]:>8.2f}")
    quarters = whole_file(rows)
    for k, us in enumerate(quarters):
        print(f"{f'quarter {k + 1} of {rows:,} rows':<52}{'':>9}{us:>9.2f}{us / quarters[0]:>8.2f}")
    for words, us in zip(("all threads, write_trace", "all threads, hook with keywords"), whole, strict=True):
        print(f"{words:<52}{bares[-1]:>9.2f}{us:>9.2f}{us / bares[-1]:>8.2f}")
    fine = {
        "thread at most 1.25 × bare": max(ratios) <= 1.25,
        "linear": quarters[-1] <= 1.2 * quarters[0],
        "write_trace at most 12 µs in all": whole[0] <= 12,
        "hook at most 12 µs in all": whole[1] <= 12,
    }
    print("; ".join(f"{words}: {is_so}" for words, is_so in fine.items()))
    return 0 if all(fine.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
