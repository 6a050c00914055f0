"""What it costs to record one trace, against a floor and against what people use instead, all in one run.

Thread CPU time per call, minimum of several rounds; each queue is emptied every 100 calls, outside the clock, since a queue that only
grows flatters every ratio. `python benchmarks/recording.py [--calls N] [--rounds N]` prints the table.
"""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import queue
import tempfile
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trade_telemetry.capture import TelemetryHook
from trade_telemetry.trace import PredictionTrace
from trade_telemetry.writer import TelemetryWriter

NOW = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
EMPTY_EVERY = 100


class Slots:
    "The least that can be recorded: an object with twelve fields."

    __slots__ = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "m")

    def __init__(
        self, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any, j: Any, k: Any, m: Any
    ) -> None:  # fmt: skip
        self.a, self.b, self.c, self.d, self.e, self.f = a, b, c, d, e, f
        self.g, self.h, self.i, self.j, self.k, self.m = g, h, i, j, k, m


FEATURES = {"range": 1.5, "momentum": 0.2}
METADATA = {"stop_loss": 99.0, "take_profit": 102.0}


def best_ns(call: Callable[[], object], empty: Callable[[], object], calls: int, rounds: int) -> float:
    "Nanoseconds of thread CPU per call, the fastest of `rounds`; emptying the queue is not counted."
    best = float("inf")
    for _ in range(rounds):
        spent = 0
        for _ in range(calls // EMPTY_EVERY):
            began = time.thread_time_ns()
            for _ in range(EMPTY_EVERY):
                call()
            spent += time.thread_time_ns() - began
            empty()
        best = min(best, spent / calls)
    return best


def floor() -> tuple[Callable[[], object], Callable[[], object]]:
    q: deque[Slots] = deque()
    push = q.append

    def call() -> None:
        push(Slots(NOW, "TCS", "intraday", "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, FEATURES, METADATA))

    return call, q.clear


def our_writer(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    writer = TelemetryWriter(directory, background=False)
    prepared = PredictionTrace(
        NOW, "TCS", "intraday", "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, FEATURES, METADATA
    )

    def call() -> None:
        writer.write_trace(prepared)

    return call, writer._queue.clear


def our_hook(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    writer = TelemetryWriter(directory, background=False)
    hook = TelemetryHook(writer, {"intraday": 0.3})

    def call() -> None:
        hook.position_closed(
            symbol="TCS", strategy="intraday", direction="LONG", entry_time=NOW, exit_time=NOW, entry_price=100.0,
            exit_price=101.0, confidence=0.6, exit_reason="time", features=FEATURES, metadata=METADATA,
        )  # fmt: skip

    return call, writer._queue.clear


def queue_handler(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
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


def structlog_peer(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    import structlog

    sink = (directory / "structlog.jsonl").open("w")
    logger = structlog.wrap_logger(
        structlog.WriteLogger(sink),
        processors=[structlog.processors.TimeStamper(), structlog.processors.JSONRenderer()],
    )

    def call() -> None:
        logger.info("closed", symbol="TCS", strategy="intraday", direction="LONG", entry=100.0, exit=101.0)

    return call, sink.flush


def loguru_peer(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    from loguru import logger

    logger.remove()
    logger.add(directory / "loguru.log", enqueue=True)

    def call() -> None:
        logger.info("closed {} {} {} {} {}", "TCS", "intraday", "LONG", 100.0, 101.0)

    return call, lambda: None


def opentelemetry_peer(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
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


def prometheus_peer(directory: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    from prometheus_client import CollectorRegistry, Counter

    counter = Counter("closes", "closes", ["symbol", "strategy"], registry=CollectorRegistry())

    def call() -> None:
        counter.labels("TCS", "intraday").inc()

    return call, lambda: None


CASES: dict[str, Callable[[Path], tuple[Callable[[], object], Callable[[], object]]]] = {
    "floor: 12-field slots object, positional, deque.append": lambda _: floor(),
    "write_trace of a prepared trace": our_writer,
    "hook called with keywords": our_hook,
    "prometheus counter with two labels": prometheus_peer,
    "structlog, JSON to a file": structlog_peer,
    "logging.QueueHandler": queue_handler,
    "OpenTelemetry span, batch processor": opentelemetry_peer,
    "loguru, enqueue=True": loguru_peer,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=9, help="rounds, of which the fastest counts (default: %(default)s)"
    )
    args = parser.parse_args()
    base = 0.0
    print(f"{'recording one closed trade':<58}{'ns':>9}{'× floor':>9}")
    for name, make in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            try:
                call, empty = make(Path(directory))
            except ImportError as error:
                print(f"{name:<58}{'not installed: ' + str(error.name):>18}")
                continue
            spent = best_ns(call, empty, args.calls, args.rounds)
        base = base or spent
        print(f"{name:<58}{spent:>9,.0f}{spent / base:>9.2f}")


if __name__ == "__main__":
    main()
