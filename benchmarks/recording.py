"""What it costs to record one closed trade, against a floor and against what people use instead, all in one run.

Tight: thread CPU time per call in a loop, fastest of several rounds taken in turns; each queue is emptied every 100 calls, outside the
clock, since a queue that only grows flatters every ratio. Paced: one call every 0.5 ms with every background thread at work, wall time
of each call; its 99.9th percentile is what a trading loop meets once in a thousand closes.
The floor is an object with twelve slots, assigned one by one, built with positional arguments, and a deque.append.
`python benchmarks/recording.py [--calls N] [--rounds N] [--paced N]` prints the table; exit code 1 where recording costs more than
2.5 × the floor or more than a tenth of logging.QueueHandler or an OpenTelemetry span. Peers: `pip install -e ".[bench]"`.
"""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import queue
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trade_telemetry.capture.hook import TelemetryHook
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.trace import PredictionTrace

NOW = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
EMPTY_EVERY = 100


class Slots:
    "The least that can be recorded: an object with twelve fields."

    __slots__ = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "m")

    def __init__(
        self, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any, j: Any, k: Any, m: Any
    ) -> None:  # fmt: skip
        self.a = a
        self.b = b
        self.c = c
        self.d = d
        self.e = e
        self.f = f
        self.g = g
        self.h = h
        self.i = i
        self.j = j
        self.k = k
        self.m = m


FEATURES = {"range": 1.5, "momentum": 0.2}
METADATA = {"stop_loss": 99.0, "take_profit": 102.0}


Call = Callable[[], object]
Pair = tuple[Call, Call]  # what is timed; what empties its queue


def tight_ns(call: Call, empty: Call, calls: int) -> float:
    "Nanoseconds of thread CPU per call; emptying the queue is not counted."
    spent = 0
    for _ in range(calls // EMPTY_EVERY):
        began = time.thread_time_ns()
        for _ in range(EMPTY_EVERY):
            call()
        spent += time.thread_time_ns() - began
        empty()
    return spent / calls


def paced_ns(call: Call, empty: Call, calls: int) -> tuple[float, float]:
    "Median and 99.9th percentile of the wall time of a call, one every half millisecond."
    took, due = [], time.perf_counter()
    for k in range(calls):
        due += 0.0005
        time.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter_ns()
        call()
        took.append(time.perf_counter_ns() - began)
        if k % EMPTY_EVERY == 0:
            empty()
    took.sort()
    return took[len(took) // 2], took[int(0.999 * len(took))]


def floor(directory: Path, background: bool) -> Pair:
    q: deque[Slots] = deque()
    push = q.append

    def call() -> None:
        push(Slots(NOW, "TCS", "intraday", "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, FEATURES, METADATA))

    return call, q.clear


def our_writer(directory: Path, background: bool) -> Pair:
    writer = TelemetryWriter(directory, background=background)
    prepared = PredictionTrace(
        NOW, "TCS", "intraday", "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, FEATURES, METADATA
    )

    def call() -> None:
        writer.write_trace(prepared)

    return call, (lambda: None) if background else writer._queue.items.clear


def our_built(directory: Path, background: bool) -> Pair:
    writer = TelemetryWriter(directory, background=background)

    def call() -> None:
        writer.write_trace(
            PredictionTrace(
                NOW, "TCS", "intraday", "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, FEATURES, METADATA
            )
        )

    return call, (lambda: None) if background else writer._queue.items.clear


def our_hook(directory: Path, background: bool) -> Pair:
    writer = TelemetryWriter(directory, background=background)
    hook = TelemetryHook(writer, {"intraday": 0.3})

    def call() -> None:
        hook.position_closed(
            symbol="TCS", strategy="intraday", direction="LONG", entry_time=NOW, exit_time=NOW, entry_price=100.0,
            exit_price=101.0, confidence=0.6, exit_reason="time", features=FEATURES, metadata=METADATA,
        )  # fmt: skip

    return call, (lambda: None) if background else writer._queue.items.clear


def queue_handler(directory: Path, background: bool) -> Pair:
    q: queue.SimpleQueue[Any] = queue.SimpleQueue()
    logger = logging.getLogger("bench.queue")
    logger.propagate, logger.handlers = False, [logging.handlers.QueueHandler(q)]
    logger.setLevel(logging.INFO)

    def call() -> None:
        logger.info("closed %s %s %s %s %s", "TCS", "intraday", "LONG", 100.0, 101.0)

    def empty() -> None:
        while not q.empty():
            q.get()

    return call, empty


def structlog_peer(directory: Path, background: bool) -> Pair:
    import structlog

    directory.mkdir()
    sink = (directory / "structlog.jsonl").open("w")
    logger = structlog.wrap_logger(
        structlog.WriteLogger(sink),
        processors=[structlog.processors.TimeStamper(), structlog.processors.JSONRenderer()],
    )

    def call() -> None:
        logger.info("closed", symbol="TCS", strategy="intraday", direction="LONG", entry=100.0, exit=101.0)

    return call, sink.flush


def loguru_peer(directory: Path, background: bool) -> Pair:
    from loguru import logger

    logger.remove()
    logger.add(directory / "loguru.log", enqueue=True)

    def call() -> None:
        logger.info("closed {} {} {} {} {}", "TCS", "intraday", "LONG", 100.0, 101.0)

    return call, lambda: None


def opentelemetry_peer(directory: Path, background: bool) -> Pair:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("bench")
    facts = {"symbol": "TCS", "strategy": "intraday", "direction": "LONG", "entry": 100.0, "exit": 101.0}

    def call() -> None:
        tracer.start_span("closed", attributes=facts).end()

    return call, lambda: None


def prometheus_peer(directory: Path, background: bool) -> Pair:
    from prometheus_client import CollectorRegistry, Counter

    counter = Counter("closes", "closes", ["symbol", "strategy"], registry=CollectorRegistry())

    def call() -> None:
        counter.labels("TCS", "intraday").inc()

    return call, lambda: None


FLOOR, WRITER = "floor: twelve slots, deque.append", "write_trace of a prepared trace"
BUILT, HOOK = "trace built (34 fields), write_trace", "hook called with keywords"
HANDLER, SPAN = "logging.QueueHandler", "OpenTelemetry span, batch processor"
CASES: dict[str, Callable[[Path, bool], Pair]] = {
    FLOOR: floor,
    WRITER: our_writer,
    BUILT: our_built,
    HOOK: our_hook,
    "prometheus counter with two labels": prometheus_peer,
    "structlog, JSON to a file": structlog_peer,
    HANDLER: queue_handler,
    SPAN: opentelemetry_peer,
    "loguru, enqueue=True": loguru_peer,
}


def measure(base: Path, calls: int, rounds: int, paced: int) -> dict[str, tuple[float, float, float] | str]:
    "Tight ns, paced median and paced 99.9th percentile of each case, or what is not installed."
    found: dict[str, tuple[float, float, float] | str] = {}
    pairs: dict[str, Pair] = {}
    for k, (name, make) in enumerate(CASES.items()):
        try:
            pairs[name] = make(base / f"tight{k}", False)
        except ImportError as error:
            found[name] = f"not installed: {error.name}"
    best = dict.fromkeys(pairs, float("inf"))
    for _ in range(rounds):
        for name, pair in pairs.items():
            best[name] = min(best[name], tight_ns(*pair, calls))
    for k, (name, make) in enumerate(CASES.items()):
        if name in best:
            found[name] = (best[name], *paced_ns(*make(base / f"paced{k}", True), paced))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=9, help="rounds, of which the fastest counts (default: %(default)s)"
    )
    parser.add_argument("--paced", type=int, default=5_000, help="calls at 0.5 ms (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory), args.calls, args.rounds, args.paced)
        print(
            f"{'recording one closed trade':<38}{'tight ns':>10}{'× floor':>9}{'paced median':>15}{'paced 99.9 %':>15}"
        )
        ns: dict[str, float] = {}
        for name in CASES:
            if isinstance(figures := found[name], str):
                print(f"{name:<38}  {figures}")
                continue
            ns[name], median, tail = figures
            times = ns[name] / ns[FLOOR]
            print(
                f"{name:<38}{ns[name]:>10,.0f}{times:>9.2f}{median / 1000:>12.1f} µs{tail / 1000:>12.1f} µs"
            )
    is_fast = max(ns[WRITER], ns[HOOK]) <= 2.5 * ns[FLOOR]
    is_faster = all(max(ns[WRITER], ns[HOOK]) <= ns[peer] / 10 for peer in (HANDLER, SPAN) if peer in ns)
    print(f"at most 2.5 × floor: {is_fast}; at most a tenth of QueueHandler and OpenTelemetry: {is_faster}")
    return 0 if is_fast and is_faster else 1


if __name__ == "__main__":
    sys.exit(main())
