"""The live half of the story: throttling by name, telemetry that breaks, signals, files that others write."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trade_telemetry.aggregate_form import PERCENT, Sums
from trade_telemetry.capture.hook import TelemetryHook
from trade_telemetry.capture.ledger import merge_ledgers, read_ledger
from trade_telemetry.capture.segment import Segment
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.config import Settings
from trade_telemetry.testing import ManualClock
from trade_telemetry.trading.backtester import Backtester, exit_order
from trade_telemetry.trading.bar_files import load_bars
from trade_telemetry.trading.bars import Bar, Bars
from trade_telemetry.trading.broker import Fill, Order, PaperBroker
from trade_telemetry.trading.feeds import FollowFeed, ReplayFeed
from trade_telemetry.trading.live_loop import Engine, EngineConfig
from trade_telemetry.trading.sessions import find_session
from trade_telemetry.trading.simulation import simulate_bars
from trade_telemetry.trading.strategy import Signal, Strategy
from trade_telemetry.trading.trader import Costs, Trade

ROOT = Path(__file__).parents[1]
MINUTES = ROOT.parent / "shared" / "data" / "intraday_1m"
COSTS = Costs(0.01, 0.01)


class Scalper(Strategy):
    "In and out with every bar."

    name, intraday = "intraday", True

    def on_bar(self, bar: Bar) -> Signal | None:
        return Signal("LONG", 0.5, max_bars=1, features={"close": bar.close})


class Rapid:
    "A live feed that moves the clock three seconds with every bar: 100 closes in five minutes."

    mode = "live"

    def __init__(self, bars: Bars, clock: ManualClock, look: Callable[[], None]) -> None:
        self.bars, self.clock, self.look = bars, clock, look

    def stream(self, stop: threading.Event) -> Iterator[tuple[str, Bar]]:
        for bar in self.bars.rows():
            yield self.bars.symbol, bar
            self.clock.now += 3.0
            self.look()


class Timed(Engine):
    "An engine whose telemetry goes by a clock that is moved by hand, looked at after every bar."

    def __init__(self, bars: Bars, directory: Path, background: bool, **more: Any) -> None:
        self.clock, self.background = ManualClock(), background
        feed = Rapid(bars, self.clock, lambda: self.look())
        super().__init__(
            EngineConfig([bars.symbol], Scalper(), feed, settings=Settings.load()),
            True,
            60,
            directory,
            **more,
        )

    def look(self) -> None:
        if not self.background and self.telemetry_writer is not None:
            self.telemetry_writer.poll()

    def _open_telemetry(self) -> TelemetryWriter | None:
        return TelemetryWriter(
            self.telemetry_dir / "live", buffer_size=50, mode="live", sample_rate=self.telemetry_sample_rate,
            throttle_seconds=self.telemetry_throttle_seconds, throttle_mode=self.telemetry_throttle_mode,
            clock=self.clock, background=self.background,
        )  # fmt: skip


def rows(directory: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for path in sorted(directory.rglob("traces_*.csv")):
        with path.open(newline="") as lines:
            found += csv.DictReader(lines)
    return found


def record(directory: Path) -> dict[str, Any]:
    (path,) = directory.rglob("run_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def in_order(trades: list[Trade]) -> list[Trade]:
    return sorted(trades, key=exit_order)


@pytest.mark.parametrize("background", [False, True], ids=["looked at after each bar", "own thread"])
def test_live_engine_telemetry_throttling(tmp_path: Path, background: bool) -> None:
    bars = simulate_bars("TCS", days=1).take(slice(0, 101))  # the first bar only decides

    # default: the throttle limits writes, and nothing is lost
    engine = Timed(bars, tmp_path / "flush", background, telemetry_sample_rate=1.0)
    report = engine.run()
    assert engine.telemetry_writer is not None
    stats = engine.telemetry_writer.stats()
    assert len(report.trades) == 100 and engine.clock.now == pytest.approx(303)
    assert 1 <= stats.flushes < 10
    assert (stats.offered, stats.written, stats.pending, stats.accounted) == (100, 100, 0, 100)
    assert len(rows(tmp_path / "flush")) == 100  # what waited was flushed at shutdown
    assert record(tmp_path / "flush")["end_reason"] == "end of feed"

    # the story's literal rule: one trace per interval, the others counted as throttled
    engine = Timed(
        bars, tmp_path / "capture", background, telemetry_sample_rate=1.0, telemetry_throttle_mode="capture"
    )
    assert len(engine.run().trades) == 100
    assert engine.telemetry_writer is not None
    stats = engine.telemetry_writer.stats()
    assert 4 <= stats.written < 10 and stats.flushes < 10
    assert (stats.throttled, stats.accounted, stats.pending) == (100 - stats.written, 100, 0)
    assert len(rows(tmp_path / "capture")) == stats.written

    # a tenth of the rows; the ledger knows every close
    engine = Timed(bars, tmp_path / "tenth", background)
    report = engine.run()
    assert engine.telemetry_writer is not None
    stats = engine.telemetry_writer.stats()
    assert 2 <= stats.written <= 22  # 10 expected, four standard errors
    assert (stats.sampled_out + stats.written, stats.accounted) == (100, 100)
    assert stats.flushes < 10
    ledgers = list((tmp_path / "tenth").rglob("ledger_*.json"))
    merged = merge_ledgers(row for path in ledgers for row in read_ledger(path))
    sums = [0.0, 0.0, 0.0]
    for line in merged.values():
        assert isinstance(line, Sums)
        sums = [a + b for a, b in zip(sums, (line.closes, line.return_sum / PERCENT, line.wins), strict=True)]
    returns = [t.realized_return_pct for t in report.trades]
    assert sums == pytest.approx([100, sum(returns), sum(r > 0 for r in returns)], abs=1e-9)


def test_shutdown_writes_what_the_throttle_still_holds(tmp_path: Path) -> None:
    bars = simulate_bars("TCS", days=1).take(slice(0, 11))
    engine = Timed(bars, tmp_path, False, telemetry_sample_rate=1.0)
    seen: list[int] = []
    engine.look = lambda: seen.append(len(rows(tmp_path)))  # type: ignore[method-assign]
    engine.run()
    assert set(seen) == {0} and len(rows(tmp_path)) == 10
    assert engine.telemetry_writer is not None and engine.telemetry_writer.stats().flushes == 1


class Unserializable:
    "Stands in a feature where a number should be; even its repr fails."

    def __repr__(self) -> str:
        raise RuntimeError("no repr either")

    def __deepcopy__(self, memo: object) -> Unserializable:
        return self


class Odd(Strategy):
    "Scalps with features that no file can hold."

    name, intraday = "intraday", True
    features: dict[str, Any] = {}  # noqa: RUF012

    def on_bar(self, bar: Bar) -> Signal | None:
        return Signal(
            "LONG" if bar.close > bar.open else "SHORT", 0.5, max_bars=3, features=dict(self.features)
        )


class AlwaysRaises(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log is full too")


def fails(*args: object, **kwargs: object) -> Any:
    raise OSError(28, "No space left on device")


FAULTS: dict[str, Callable[[pytest.MonkeyPatch, Path], object]] = {
    "directory is a file": lambda patch, base: base.write_text(""),
    "directory cannot be made": lambda patch, base: patch.setattr(Path, "mkdir", fails),
    "disk full": lambda patch, base: patch.setattr(Segment, "append", fails),
    "no file can be opened": lambda patch, base: patch.setattr("trade_telemetry.capture.segment.open_segment", fails),
    "hook raises": lambda patch, base: patch.setattr(TelemetryHook, "position_closed", fails),
    "hook cannot be made": lambda patch, base: patch.setattr(TelemetryHook, "__init__", fails),
    "queue raises": lambda patch, base: patch.setattr(TelemetryWriter, "write_trace", fails),
    "writer cannot be made": lambda patch, base: patch.setattr(TelemetryWriter, "__init__", fails),
    "writer cannot be closed": lambda patch, base: patch.setattr(TelemetryWriter, "close", fails),
    "account raises": lambda patch, base: patch.setattr(TelemetryWriter, "stats", fails),
    "thread died": lambda patch, base: patch.setattr("trade_telemetry.capture.writer.Waiting.run", lambda self: None),
    "trace cannot be built": lambda patch, base: patch.setattr("trade_telemetry.capture.hook.build_trace", fails),
    "row cannot be formatted": lambda patch, base: (
        patch.setattr("trade_telemetry.capture.intake.line_of", fails),
        patch.setattr("trade_telemetry.capture.intake.quick_lines", fails),
    ),
    "ledger raises": lambda patch, base: patch.setattr("trade_telemetry.capture.ledger.Ledger.add", fails),
    "features": lambda patch, base: patch.setattr(
        Odd, "features", {"o": object(), "e": Unserializable(), "n": float("nan"), 3: {1, 2}, "c": 1j, "b": b"\xff"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_trades_with_broken_telemetry_are_the_trades_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    bars = [simulate_bars(s, days=3, seed=5) for s in ("AAA", "BBB")]

    def session(enabled: bool) -> list[Trade]:
        config = EngineConfig(["AAA", "BBB"], Odd(), ReplayFeed(bars), COSTS, Settings.load())
        engine = Engine(config, enabled, telemetry_dir=tmp_path / "t")
        report = engine.run()
        assert report.ended == "end of feed" and report.failed == {}
        return report.trades

    expected = session(enabled=False)
    FAULTS[fault](monkeypatch, tmp_path / "t")
    handler = AlwaysRaises()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("trade_telemetry").addHandler(handler)
    try:
        traded = session(enabled=True)
    finally:
        logging.getLogger("trade_telemetry").removeHandler(handler)
        monkeypatch.undo()
    assert len(expected) > 100
    assert [
        (t.symbol, t.entry_time, t.exit_time, t.entry_price, t.exit_price, t.exit_reason) for t in traded
    ] == [(t.symbol, t.entry_time, t.exit_time, t.entry_price, t.exit_price, t.exit_reason) for t in expected]


def write_csv(bars: Bars, directory: Path) -> list[str]:
    directory.mkdir(exist_ok=True)
    lines = ["timestamp,open,high,low,close,volume"]
    for bar in bars.rows():
        stamp = datetime.fromtimestamp(bar.time // 1_000_000, UTC).isoformat()
        lines.append(f"{stamp},{bar.open!r},{bar.high!r},{bar.low!r},{bar.close!r},{bar.volume!r}")
    (directory / f"{bars.symbol}.csv").write_text("\n".join(lines) + "\n")
    return lines


def command(*flags: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k} | {"PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "trade_telemetry.engine", *flags]
    return subprocess.Popen(
        call, cwd=cwd, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("on_interrupt", ["leave", "close"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_following_engine_with_everything_written(
    tmp_path: Path, signum: signal.Signals, on_interrupt: str
) -> None:
    bars = [simulate_bars(s, days=40, seed=2) for s in ("RELIANCE", "TCS", "INFY")]
    bars = [b.take(slice(0, 39 * 390 + 200)) for b in bars]  # stops in the middle of a day
    for b in bars:
        write_csv(b, tmp_path / "data")
    expected = Backtester("both", settings=Settings.load()).run(bars)
    running = command(
        "--feed", "follow", "--symbols", "RELIANCE", "TCS", "INFY", "--strategy", "both", "--enable-telemetry",
        "--telemetry-throttle", "120", "--telemetry-sample-rate", "1.0", "--on-interrupt", on_interrupt, cwd=tmp_path,
    )  # fmt: skip
    assert running.stderr is not None
    deadline = threading.Timer(60, running.kill)
    deadline.start()
    try:
        heard: list[str] = []
        while not heard or "waiting for more" not in heard[-1]:
            heard.append(running.stderr.readline())
            assert heard[-1], heard
        running.send_signal(signum)
        _, rest = running.communicate()
    finally:
        deadline.cancel()
        running.kill()
    said = "".join(heard) + rest
    assert running.returncode == 0, said
    assert heard[0] == "[INFO] Telemetry enabled: dir=data/analytics/live, throttle=120s, sample_rate=1\n"
    assert heard[1] == "[INFO] Trading session started...\n"
    assert heard[2] == f"[INFO] {3 * len(bars[0])} bars were there, waiting for more\n"
    line = re.search(
        r"^\[INFO\] Telemetry: (\d+) traces captured, (\d+) flushes, avg_write_time=\d+\.\dms$", rest, re.M
    )
    extra = expected.open_positions if on_interrupt == "close" else 0
    assert line is not None and int(line[1]) == len(expected.trades) + extra, said
    assert f"{int(line[1])} offered = 0 sampled out" in rest and "Traceback" not in said
    written = rows(tmp_path / "data" / "analytics" / "live")
    assert len(written) == int(line[1]) and {r["mode"] for r in written} == {"paper"}
    assert sum(r["exit_reason"] == "interrupted" for r in written) == extra
    assert expected.open_positions > 0 and f"{expected.open_positions - extra} still open" in rest
    kept = {(r["symbol"], r["strategy"], float(r["entry_price"]), float(r["exit_price"])) for r in written}
    assert kept >= {(t.symbol, t.strategy, t.entry_price, t.exit_price) for t in expected.trades}
    assert record(tmp_path / "data" / "analytics")["end_reason"] == "stopped"


APPENDER = """
import os, sys, pathlib
folder, source = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
texts = {path.name: path.read_text() for path in sorted(source.glob("*.csv"))}
def append(name, piece):
    with (folder / name).open("a") as out:
        out.write(piece)
for name, text in texts.items():                                      # half lines all the time
    third = len(text) // 3
    for start in range(0, third, 977):
        append(name, text[start : min(start + 977, third)])
    append(name, text[third : text.index("\\n", third) + 1] + "nonsense\\n,,,,\\n")
sys.stdin.readline()                                                  # the reader has seen all of that
for name, text in texts.items():
    header, begin = text[: text.index("\\n") + 1], text.index("\\n", len(text) // 6) + 1
    os.rename(folder / name, folder / (name + ".old"))                # rotated away, begun anew with old rows
    append(name, header + text[begin : 2 * len(text) // 3])           # up to the middle of a line
    append(name, text[2 * len(text) // 3 : text.index("\\n", 2 * len(text) // 3) + 1])
sys.stdin.readline()
for name, text in texts.items():                                      # replaced as a whole
    (folder / ".fresh").write_text(text)
    os.replace(folder / ".fresh", folder / name)
"""


class Prompting(FollowFeed):
    "Tells the other process to go on when a third, then two thirds of everything was read."

    appender: subprocess.Popen[str]
    total = 0

    def stream(self, stop: threading.Event) -> Iterator[tuple[str, Bar | None]]:
        prompts = [1 / 3, 2 / 3]
        assert self.appender.stdin is not None
        for seen, item in enumerate(super().stream(stop), 1):
            yield item
            if prompts and seen >= prompts[0] * self.total:
                prompts.pop(0)
                self.appender.stdin.write("go on\n")
                self.appender.stdin.flush()


def test_a_feed_follows_files_that_a_second_process_writes_and_makes_the_trades_of_the_backtest(
    tmp_path: Path,
) -> None:
    bars = [simulate_bars(s, days=30, seed=6) for s in ("AAA", "BBB")]
    bars.append(simulate_bars("CCC", session="NSE", days=30, seed=6, minutes=5))
    for b in bars:
        write_csv(b, tmp_path / "source")
    (tmp_path / "live").mkdir()
    expected = Backtester("both", costs=COSTS, settings=Settings.load()).run(bars)
    feed = Prompting(tmp_path / "live", ["AAA", "BBB", "CCC"], {"CCC": "NSE"}, poll_seconds=0.005)
    feed.total = sum(map(len, bars))
    engine = Engine(
        EngineConfig(["AAA", "BBB", "CCC"], "both", feed, COSTS, Settings.load()),
        True, telemetry_dir=tmp_path / "t", telemetry_sample_rate=1.0,
    )  # fmt: skip
    stop = threading.Event()
    deadline = threading.Timer(60, stop.set)
    deadline.start()
    call = [sys.executable, "-c", APPENDER, str(tmp_path / "live"), str(tmp_path / "source")]
    with subprocess.Popen(call, stdin=subprocess.PIPE, text=True) as feed.appender:
        report = engine.run(max_bars=feed.total, stop=stop)
        deadline.cancel()
        stop.set()
        feed.appender.communicate("\n\n", timeout=30)
    assert feed.appender.returncode == 0
    assert report.ended == "enough bars", {s: f.kept for s, f in feed.files.items()}
    assert in_order(report.trades) == expected.trades and len(expected.trades) > 50
    assert {r["mode"] for r in rows(tmp_path / "t" / "live")} == {"paper"}
    for f in feed.files.values():
        assert f.rows >= f.kept and set(f.rejected) <= {
            "wrong number of cells", "unreadable time", "duplicate timestamp", "decreasing timestamp",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "session"), [("SPY_2013-10", "NYSE"), ("NIFTY50_2019-01", "NSE"), ("YESBANK_2019-07", "NSE")]
)
def test_a_real_file_followed_gives_the_bars_of_the_whole_file(name: str, session: str) -> None:
    path = MINUTES / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"needs the real 1-minute bars {name}.csv in shared/data beside the checkout")
    whole, report = load_bars(path, session=session)
    symbol = name.split("_")[0]
    feed = FollowFeed(MINUTES, [symbol], {symbol: session}, 1)
    feed.folder = path.parent
    stop = threading.Event()
    got: list[Bar] = []
    for _, bar in feed.stream(stop):
        if bar is not None:
            got.append(bar)
        if len(got) == len(whole):
            break
    assert [b[:8] for b in got] == [b[:8] for b in whole.rows()]
    f = feed.files[symbol]
    assert (f.kept, f.outside_session) == (report.kept, report.outside_session)
    assert dict(f.rejected) == {reason: len(lines) for reason, lines in report.rejected.items()}


class Moody(PaperBroker):
    "Refuses every third request."

    asked = 0

    def answer(self, fill: Fill) -> Fill:
        Moody.asked += 1
        if Moody.asked % 3 == 0:
            raise ConnectionError("no answer")
        return fill

    def open(self, order: Order) -> Fill:
        return self.answer(PaperBroker.open(self, order))

    def close(self, order: Order) -> Fill:
        return self.answer(PaperBroker.close(self, order))


def test_a_broker_that_raises_ends_no_session_and_leaves_no_position_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = [simulate_bars(s, days=40, seed=3) for s in ("AAA", "BBB")]
    Moody.asked = 0
    config = EngineConfig(
        ["AAA", "BBB"], "intraday", ReplayFeed(bars), COSTS, Settings.load(), broker=Moody(COSTS)
    )
    engine = Engine(config, True, telemetry_dir=tmp_path, telemetry_sample_rate=1.0)
    report = engine.run()
    assert report.ended == "end of feed" and report.failed == {}
    assert report.refused_entries > 0 and report.refused_exits > 0
    assert (
        Moody.asked
        == 2 * len(report.trades) + report.refused_entries + report.refused_exits + report.open_positions
    )
    assert caplog.text.count("entry not filled") == report.refused_entries
    assert caplog.text.count("exit not filled") == report.refused_exits
    written = rows(tmp_path)
    assert len(written) == len(report.trades) > 20
    measured = {float(r["slippage_pct"]) for r in written}
    assert len(measured) > 5  # late exits cost what they cost


def test_a_session_ends_by_the_clock_where_the_last_bar_of_the_day_is_missing(tmp_path: Path) -> None:
    bars = simulate_bars("AAA", days=2)
    day = bars.take(slice(0, 380))  # the last ten minutes had no trade
    write_csv(day, tmp_path / "data")
    close = find_session("NYSE")
    assert close.minutes == 390

    class Day(threading.Event):
        now = day.end[-1].item() / 1e6 + 5
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.now += 60.0
            self.waits += 1
            if self.waits == 20:
                self.set()
            return self.is_set()

    class Holds(Strategy):
        name, intraday = "intraday", True

        def on_bar(self, bar: Bar) -> Signal | None:
            return Signal("LONG")

    stop = Day()
    feed = FollowFeed(tmp_path / "data", ["AAA"], clock=lambda: stop.now)
    report = Engine(EngineConfig(["AAA"], Holds(), feed, settings=Settings.load())).run(stop=stop)
    (trade,) = report.trades
    assert (trade.exit_reason, trade.exit_price, trade.exit_time) == (
        "session_close", day.close[-1].item(), day.end[-1].item(),
    )  # fmt: skip
    assert report.open_positions == 0
