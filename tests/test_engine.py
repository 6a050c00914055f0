"""The live loop: the same trades as the backtester, however it is fed, stopped or disturbed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trade_telemetry.capture.segment import Segment
from trade_telemetry.config import Settings
from trade_telemetry.engine import main
from trade_telemetry.trace import from_row
from trade_telemetry.trading.backtester import Backtester, exit_order
from trade_telemetry.trading.bars import Bar, Bars
from trade_telemetry.trading.feeds import ReplayFeed
from trade_telemetry.trading.live_loop import Engine, EngineConfig
from trade_telemetry.trading.simulation import simulate_bars
from trade_telemetry.trading.strategy import IntradayBreakout, Signal, Strategy
from trade_telemetry.trading.trader import Costs, Trade

ROOT = Path(__file__).parents[1]
COSTS = Costs(0.01, 0.01)


def markets(days: int = 60) -> list[Bars]:
    "Different sessions, different bar lengths, daily bars among them."
    return [
        simulate_bars("NEWYORK", days=days, seed=1),
        simulate_bars("MUMBAI", days=days, seed=1, session="NSE"),
        simulate_bars("ALWAYS", days=days, seed=1, session="24H", minutes=60, volatility_pct=3),
        simulate_bars("SLOW", days=days, seed=1, minutes=30),
    ]


def config_of(bars: list[Bars], **more: Any) -> EngineConfig:
    feed = more.pop("feed", None) or ReplayFeed(bars)
    return EngineConfig([b.symbol for b in bars], "both", feed, COSTS, Settings(**more))


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


def write_csv(bars: Bars, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    with (directory / f"{bars.symbol}.csv").open("w") as out:
        out.write("timestamp,open,high,low,close,volume\n")
        for bar in bars.rows():
            stamp = datetime.fromtimestamp(bar.time // 1_000_000, UTC).isoformat()
            out.write(f"{stamp},{bar.open!r},{bar.high!r},{bar.low!r},{bar.close!r},{bar.volume!r}\n")


def test_a_replay_makes_the_trades_of_the_backtester_on_mixed_sessions_and_bar_lengths(
    tmp_path: Path,
) -> None:
    bars = markets()
    expected = Backtester("both", costs=COSTS, settings=Settings()).run(bars)
    engine = Engine(config_of(bars), True, telemetry_dir=tmp_path, telemetry_sample_rate=1.0)
    report = engine.run()
    assert in_order(report.trades) == expected.trades and len(expected.trades) > 100
    assert {t.strategy for t in expected.trades} == {"intraday", "swing"}
    assert report.bars * 2 == expected.bars
    assert report.open_positions == expected.open_positions
    assert (report.rejected_entries, report.expired_entries) == (
        expected.rejected_entries,
        expected.expired_entries,
    )
    (directory,) = tmp_path.iterdir()
    assert directory.name.startswith("replay_")
    written = rows(directory)
    assert {(r["symbol"], r["strategy"], float(r["exit_price"])) for r in written} == {
        (t.symbol, t.strategy, t.exit_price) for t in expected.trades
    }
    assert {r["mode"] for r in written} == {"replay"}
    assert (record(directory)["mode"], record(directory)["end_reason"]) == ("replay", "end of feed")


def test_a_trace_built_at_once_is_the_one_that_is_written(tmp_path: Path) -> None:
    engine = Engine(config_of(markets(20)), True, telemetry_dir=tmp_path, telemetry_sample_rate=1.0)
    report = engine.run()
    made = [engine._build_prediction_trace(trade) for trade in report.trades]
    built = {(t.symbol, t.strategy, t.timestamp): t for t in made}
    for row in rows(tmp_path):
        trace = from_row(row)
        twin = built[trace.symbol, trace.strategy, trace.timestamp]
        assert trace.metadata == twin.metadata and trace.features == twin.features
        assert trace.actual_direction == twin.actual_direction
        assert trace.realized_return_pct == twin.realized_return_pct


@pytest.mark.parametrize("fault", ["disk full", "directory is a file", "hook raises", "thread is dead"])
def test_telemetry_that_breaks_changes_no_trade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    bars = markets(30)
    expected = in_order(Engine(config_of(bars)).run().trades)
    base = tmp_path / "telemetry"

    def fails(*args: object, **kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    if fault == "disk full":
        monkeypatch.setattr(Segment, "append", fails)
    elif fault == "directory is a file":
        base.write_text("")
    elif fault == "hook raises":
        monkeypatch.setattr("trade_telemetry.capture.hook.TelemetryHook.position_closed", fails)
    elif fault == "thread is dead":
        monkeypatch.setattr("trade_telemetry.capture.writer.Waiting.run", lambda self: None)
    engine = Engine(config_of(bars), True, telemetry_dir=base, telemetry_sample_rate=1.0)
    assert in_order(engine.run().trades) == expected
    if fault == "thread is dead":  # `close` writes what the thread did not
        assert len(rows(base)) == len(expected)
    else:
        assert any(m in caplog.text for m in ("No space left", "Telemetry is off"))
    if fault == "disk full":
        assert f"{len(expected)} failed {{'write ENOSPC': {len(expected)}}}" in engine.account_line()
    if fault == "hook raises":
        assert engine.telemetry_failures == len(expected)
        assert caplog.text.count("Telemetry capture failed") == 1


def test_a_stop_wakes_a_feed_that_waits_for_the_next_bar(tmp_path: Path) -> None:
    stop, begun = threading.Event(), threading.Event()

    class Announcing(ReplayFeed):
        def stream(self, stop: threading.Event) -> Iterator[tuple[str, Bar]]:
            begun.set()
            return super().stream(stop)

    bars = [simulate_bars("AAA", days=1)]
    engine = Engine(config_of(bars, feed=Announcing(bars, speed=0.001)), True, telemetry_dir=tmp_path)
    runner = threading.Thread(target=engine.run, kwargs={"stop": stop})
    runner.start()
    assert begun.wait(10)
    stop.set()
    runner.join(10)
    assert not runner.is_alive()
    assert (engine.report.ended, engine.report.bars) == ("stopped", 0)
    assert record(tmp_path)["end_reason"] == "stopped"


class Wire:
    "A feed that is not a replay, and may break."

    def __init__(self, bars: Bars, breaks_after: int | None = None) -> None:
        self.bars_there, self.breaks_after, self.mode = bars, breaks_after, "paper"

    def stream(self, stop: threading.Event) -> Iterator[tuple[str, Bar]]:
        for i, bar in enumerate(self.bars_there.rows()):
            if i == self.breaks_after:
                raise ConnectionError("the line is dead")
            yield self.bars_there.symbol, bar
            yield "SOMETHING ELSE", bar


def test_a_feed_that_is_no_replay_writes_into_live_and_foreign_symbols_are_ignored(tmp_path: Path) -> None:
    bars = simulate_bars("AAA", days=40, seed=3)
    engine = Engine(
        config_of([bars], feed=Wire(bars)), True, telemetry_dir=tmp_path, telemetry_sample_rate=1.0
    )
    report = engine.run()
    assert in_order(report.trades) == Backtester("both", costs=COSTS, settings=Settings()).run(bars).trades
    assert report.bars == len(bars)
    assert {p.name for p in tmp_path.iterdir()} == {"live"}
    assert {r["mode"] for r in rows(tmp_path)} == {"paper"}


def test_a_feed_that_breaks_is_not_hidden_and_loses_no_trace(tmp_path: Path) -> None:
    bars = simulate_bars("AAA", days=40, seed=3)
    config = config_of([bars], feed=Wire(bars, breaks_after=9_000))
    engine = Engine(config, True, telemetry_dir=tmp_path, telemetry_sample_rate=1.0)
    with pytest.raises(ConnectionError, match="the line is dead"):
        engine.run()
    assert len(rows(tmp_path)) == len(engine.report.trades) > 0
    assert (engine.report.ended, record(tmp_path)["end_reason"]) == ("error", "error")


def test_the_sample_rate_of_live_telemetry_is_a_tenth_unless_told_otherwise(tmp_path: Path) -> None:
    engine = Engine(config_of(markets(60)), True, telemetry_dir=tmp_path)
    report = engine.run()
    assert engine.telemetry_writer is not None
    stats = engine.telemetry_writer.stats()
    assert stats.offered == len(report.trades) == stats.sampled_out + stats.written
    assert 0 < stats.written < 0.3 * stats.offered
    assert {r["sample_rate"] for r in rows(tmp_path)} == {"0.1"}


def command(*flags: str, cwd: Path, **more: Any) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k} | {"PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "trade_telemetry.engine", *flags]
    return subprocess.Popen(
        call, cwd=cwd, env=environment | more, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_the_command_line_runs_a_session_and_says_what_telemetry_did(tmp_path: Path) -> None:
    bars = [simulate_bars(s, days=25, seed=2) for s in ("RELIANCE", "TCS")]
    for b in bars:
        write_csv(b, tmp_path / "data")
    flags = ["--symbols", "RELIANCE", "TCS", "--strategy", "both", "--enable-telemetry"]
    flags += ["--telemetry-throttle", "120", "--telemetry-sample-rate", "1.0", "--telemetry-dir", "out"]
    done = command(*flags, cwd=tmp_path)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 0, said
    lines = said.splitlines()
    assert re.fullmatch(
        r"\[INFO\] Telemetry enabled: dir=out/replay_\d{8}_\d{6}, throttle=120s, sample_rate=1", lines[0]
    )
    assert lines[1] == "[INFO] Trading session started..."
    pattern = r"\[INFO\] Telemetry: (\d+) traces captured, (\d+) flushes, avg_write_time=\d+\.\dms"
    found = next(m for line in lines if (m := re.fullmatch(pattern, line)))
    expected = Backtester("both", settings=Settings()).run(bars)
    assert int(found[1]) == len(rows(tmp_path / "out")) == len(expected.trades) > 0
    assert f"{2 * 25 * 390} bars" in lines[-1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_control_c_ends_a_session_cleanly(tmp_path: Path, signum: signal.Signals) -> None:
    write_csv(simulate_bars("AAA", days=2), tmp_path / "data")
    running = command("--enable-telemetry", "--telemetry-dir", "out", "--speed", "1", cwd=tmp_path)
    assert running.stderr is not None
    try:
        heard: list[str] = []
        while not heard or "session started" not in heard[-1]:
            heard.append(running.stderr.readline())
            assert heard[-1], heard
        running.send_signal(signum)
        _, rest = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 0, rest
    assert "[INFO] Telemetry: 0 traces captured" in rest and "Traceback" not in rest
    assert record(tmp_path / "out")["end_reason"] == "stopped"


def test_control_c_at_any_moment_of_a_replay_that_waits_all_the_time_is_an_orderly_end(
    tmp_path: Path, counts: Callable[[int, int], int]
) -> None:
    """The handler must not wait for a lock that the interrupted thread holds: `stop.wait` takes one at every bar."""
    write_csv(simulate_bars("AAA", days=60), tmp_path / "data")
    for k in range(counts(4, 40)):
        out = f"out{k}"
        running = command(
            "--enable-telemetry", "--telemetry-dir", out, "--telemetry-sample-rate", "1.0", "--speed", "3e6",
            "--on-interrupt", "close", cwd=tmp_path,
        )  # fmt: skip
        assert running.stderr is not None
        deadline = threading.Timer(60, running.kill)
        deadline.start()
        try:
            heard: list[str] = []
            while not heard or "session started" not in heard[-1]:
                heard.append(running.stderr.readline())
                assert heard[-1], heard
            with suppress(subprocess.TimeoutExpired):  # some moment of the replay, or its end
                running.wait(0.002 * (k * 37 % 101))
            running.send_signal(signal.SIGINT)
            _, rest = running.communicate()
        finally:
            deadline.cancel()
            running.kill()
        assert running.returncode == 0, rest
        found = re.search(r"Telemetry: (\d+) traces captured", rest)
        assert found and int(found[1]) == len(rows(tmp_path / out)), rest
        assert "0 still open" in rest or "end of feed" in rest
        assert record(tmp_path / out)["end_reason"] in ("stopped", "end of feed")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--strategy", "scalping"], "invalid choice: 'scalping'"),
        (["--symbols", "NOPE"], "no bars for NOPE"),
        (["--data-dir", "missing"], "no such data directory: missing"),
        (["--telemetry-throttle", "5"], "LIVE_TELEMETRY_THROTTLE_SECONDS must be >= 10, got 5"),
        (
            ["--telemetry-throttle-seconds", "9999"],
            "LIVE_TELEMETRY_THROTTLE_SECONDS must be <= 3600, got 9999",
        ),
        (["--telemetry-sample-rate", "1.5"], "LIVE_TELEMETRY_SAMPLE_RATE must be <= 1"),
        (["--telemetry-sample-rate", "much"], "invalid float value: 'much'"),
        (["--speed", "-1"], "speed must be >= 0"),
        (["--fee-pct", "-1"], "fee_pct is a percentage in [0, 100), got -1.0"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--symbols", "EMPTY"], "no bars to trade"),
        (["--feed", "follow", "--data-dir", "missing"], "no such data directory: missing"),
        (["--feed", "follow", "--data-dir", "missing", "--symbols", "A"], "no such data directory: missing"),
        (["--feed", "follow", "--poll-seconds", "0"], "poll_seconds must be > 0, got 0.0"),
        (["--feed", "follow", "--early-close", "tomorrow"], "an early close is a date and a time like 13:00"),
        (["--on-interrupt", "panic"], "invalid choice: 'panic'"),
        (["--telemetry-throttle-mode", "never"], "invalid choice: 'never'"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    complaint: str,
) -> None:
    write_csv(simulate_bars("AAA", days=1), tmp_path / "data")
    (tmp_path / "data" / "EMPTY.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert {p.name for p in tmp_path.iterdir()} == {"data"}  # nothing was begun


def test_one_object_as_strategy_becomes_one_for_each_symbol() -> None:
    bars = markets(40)[:2]
    mine = IntradayBreakout()
    config = EngineConfig([b.symbol for b in bars], mine, ReplayFeed(bars), COSTS, Settings())
    expected = Backtester("intraday", costs=COSTS, settings=Settings()).run(bars).trades
    assert in_order(Engine(config).run().trades) == expected and len(expected) > 20
    assert Backtester(mine, costs=COSTS, settings=Settings()).run(bars).trades == expected
    assert mine.symbol == ""  # the one that was given never traded


class FailsOnce(Strategy):
    name, intraday = "swing", False
    asked = 0

    def on_bar(self, bar: Bar) -> Signal | None:
        FailsOnce.asked += 1
        raise RuntimeError("out of order")


def test_a_strategy_that_failed_is_not_asked_again() -> None:
    FailsOnce.asked = 0
    bars = [simulate_bars("AAA", days=1)]
    report = Engine(EngineConfig(["AAA"], FailsOnce(), ReplayFeed(bars), COSTS, Settings())).run()
    assert (FailsOnce.asked, report.bars) == (1, 390)
    assert report.failed == {"swing on AAA": "RuntimeError: out of order"}


def test_the_throttle_that_nobody_gave_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine made in Python asks the settings too, as the command line does."""
    monkeypatch.setenv("LIVE_TELEMETRY_THROTTLE_SECONDS", "300")
    config = config_of(markets(5))
    engine = Engine(config, True, telemetry_dir=tmp_path)
    engine.run()
    assert engine.telemetry_writer is not None
    assert engine.telemetry_writer.options.throttle_seconds == 300
    assert Engine(config, True, 60, tmp_path).telemetry_throttle_seconds == 60
