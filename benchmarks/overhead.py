"""What telemetry costs the process that trades: live at the usual rate and at a hundred times that, replayed, and in a backtest.

Live: a loop that closes positions at a fixed rate, telemetry as the engine sets it (50 rows, 60 s throttle, a tenth of the rows, ledger);
CPU of the calls and of the writer's thread, idle included, its start and end not. A process that wakes up a few times a second finds
cold caches, so that each close costs several times what it costs in a tight loop; the loop's own wake-ups cost more still and vary so
much that a difference of two runs would measure them. Engine and backtest: CPU of the whole process over the same bars with and
without, in pairs, on a strategy that trades every few minutes; per closed trade and as a share of the run, everything counted.
`python benchmarks/overhead.py [--seconds N] [--days N] [--pairs N]` prints the table; exit code 1 where a live share reaches 0.05 %.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trade_telemetry.capture.hook import TelemetryHook
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.config import Settings
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bars import Bars
from trade_telemetry.trading.feeds import ReplayFeed
from trade_telemetry.trading.live_loop import LIVE_BUFFER, Engine, EngineConfig
from trade_telemetry.trading.simulation import PlantedSkill, simulate_bars
from trade_telemetry.trading.trader import Costs

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
CLOSES_AN_HOUR = 400
MOST = 0.05  # percent of one core


def live_cpu(seconds: float, closes_an_hour: float) -> tuple[int, float, float]:
    "Closes of a paced loop, CPU seconds of its hook calls, CPU seconds of the writer's thread."
    with tempfile.TemporaryDirectory() as directory:
        writer = TelemetryWriter(
            directory, mode="live", buffer_size=LIVE_BUFFER, throttle_seconds=60, sample_rate=0.1
        )
        hook, pause = TelemetryHook(writer, {"intraday": 0.3}), threading.Event()
        n, called, every, now = 0, 0, 3600 / closes_an_hour, time.thread_time_ns
        pause.wait(0.5)  # the writer has begun
        began, mine, start = time.process_time(), time.thread_time(), time.monotonic()
        while (n + 1) * every < seconds:
            n += 1
            pause.wait(max(0.0, start + n * every - time.monotonic()))
            when = START + timedelta(seconds=n)
            facts = {
                "symbol": "TCS", "strategy": "intraday", "direction": "LONG", "entry_time": when, "exit_time": when,
                "entry_price": 100.0, "exit_price": 100.5, "confidence": 0.5, "fees_pct": 0.05, "exit_reason": "time",
                "features": {"range": 1.5, "momentum": 0.2}, "metadata": {"stop_loss": 99.0, "take_profit": 102.0},
            }  # fmt: skip
            before, ready = now(), now()
            hook.position_closed(**facts)
            called += now() - ready - (ready - before)
        pause.wait(max(0.0, start + seconds - time.monotonic()))
        thread = time.process_time() - began - (time.thread_time() - mine)
        writer.close()
        assert writer.stats().accounted == n
    return n, called / 1e9, thread


Run = Callable[[list[Bars], Path, bool], int]


def busy(bars: Bars) -> PlantedSkill:
    "A strategy that trades every few minutes, so that there is something to measure."
    return PlantedSkill(bars, skill=0.5, horizon_bars=3, seed=1, threshold_pct=0.3, name="intraday")


def run_engine(bars: list[Bars], directory: Path, on: bool) -> int:
    config = EngineConfig([b.symbol for b in bars], busy, ReplayFeed(bars), Costs(0.01, 0.01), Settings())
    return len(Engine(config, enable_telemetry=on, telemetry_dir=directory).run().trades)


def run_backtest(bars: list[Bars], directory: Path, on: bool) -> int:
    host = Backtester(
        busy,
        costs=Costs(0.01, 0.01),
        settings=Settings(),
        enable_telemetry=on,
        telemetry_dir=directory,
        progress=False,
    )
    return len(host.run(bars).trades)


def in_pairs(run: Run, days: int, pairs: int) -> tuple[float, float, int]:
    "Median CPU seconds without telemetry, median of what it adds, number of trades."
    bars = [simulate_bars(f"S{k}", days=days, seed=k) for k in range(2)]
    without, added, trades = [], [], 0
    with tempfile.TemporaryDirectory() as directory:
        run(bars, Path(directory), True)  # imports and caches
        for _ in range(pairs):
            cpu = {}
            for on in (False, True):
                began = time.process_time()
                trades = run(bars, Path(directory), on)
                cpu[on] = time.process_time() - began
            without.append(cpu[False])
            added.append(cpu[True] - cpu[False])
    return statistics.median(without), statistics.median(added), trades


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=120, help="length of a live loop (default: %(default)s)"
    )
    parser.add_argument(
        "--days", type=int, default=100, help="days replayed and backtested (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=9, help="runs with and without (default: %(default)s)")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    worst = 0.0
    print(
        f"{'live, ' + format(args.seconds, 'g') + ' s':<40}{'closes':>8}{'calls':>12}{'thread':>12}{'of one core':>14}"
    )
    for rate in (CLOSES_AN_HOUR, 100 * CLOSES_AN_HOUR):
        n, called, thread = live_cpu(args.seconds, rate)
        share = 100 * (called + thread) / args.seconds
        worst = max(worst, share)
        print(
            f"{f'{rate:,} closes an hour':<40}{n:>8,}{1000 * called:>9.1f} ms{1000 * thread:>9.1f} ms{share:>12.4f} %"
        )
    print(f"{'as fast as it goes':<40}{'trades':>8}{'CPU off':>12}{'added':>12}{'per trade':>14}{'share':>9}")
    for words, run in (
        ("engine, replay, a tenth of the rows", run_engine),
        ("backtest, every row", run_backtest),
    ):
        off, added, trades = in_pairs(run, args.days, args.pairs)
        figures = f"{1000 * off:>9.0f} ms{1000 * added:>9.1f} ms{1e6 * added / trades:>11.1f} µs{100 * added / off:>7.2f} %"
        print(f"{f'{words}, {args.days} days':<40}{trades:>8,}{figures}")
    print(f"live share below {MOST} %: {worst < MOST}")
    return 0 if worst < MOST else 1


if __name__ == "__main__":
    sys.exit(main())
