"""Nothing is lost where there is time, and what is lost is counted, logged and shown wherever the run is shown."""

from __future__ import annotations

import io
import json
import logging
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_writer import CHILD, Counts, run_python, trace

import trade_telemetry.capture.segment as segment_module
import trade_telemetry.capture.trace_queue as queue_module
import trade_telemetry.capture.writer as writer_module
from trade_telemetry.capture.hook import TelemetryHook
from trade_telemetry.capture.run_record import set_aside_path
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.cli.main import main
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.cards import header_html
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.importers.import_trades import import_file
from trade_telemetry.report.front_page import executive_summary
from trade_telemetry.report.scope import open_report
from trade_telemetry.store.store import load_columns
from trade_telemetry.trace import COLUMNS

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


def record_of(directory: Path) -> dict[str, Any]:
    (path,) = directory.glob("run_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def sums_up(counters: dict[str, Any]) -> bool:
    "offered = sampled out + throttled + dropped + failed + written + pending, as the record says it."
    fates = sum(counters[name] for name in ("sampled_out", "throttled", "written", "pending"))
    return bool(
        counters["offered"] == fates + sum(counters["dropped"].values()) + sum(counters["failed"].values())
    )


class HungDisk:
    "A pipe in the place of every segment: until somebody reads, no more than 64 kB go in."

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out, self.into = os.pipe()
        self.read: list[bytes] = []
        self.reader = threading.Thread(target=self.drain)
        monkeypatch.setattr(segment_module, "open_segment", lambda *_: (self.into, directory / "pipe"))
        monkeypatch.setattr(segment_module, "still_ours", lambda *_: True)

    def wait_until_full(self) -> None:
        select.select([self.out], [], [], 30)

    def drain(self) -> None:
        while data := os.read(self.out, 1 << 16):
            self.read.append(data)

    def answer(self, writer: TelemetryWriter) -> None:
        "From now on it takes everything; returns when the writer's thread has ended."
        self.reader.start()
        assert writer._thread is not None
        writer._thread.join(30)
        self.reader.join(30)
        os.close(self.out)


# ---- a backtest waits


def test_a_default_writer_in_a_with_block_loses_nothing(tmp_path: Path, counts: Counts) -> None:
    offered = counts(300_000, 5_000_000)
    with TelemetryWriter(tmp_path / "run") as writer:
        for k in range(offered):
            writer.write_trace(trace(k, features={}))
    account = writer.stats()
    assert (account.written, account.dropped, account.failed) == (offered, {}, {})
    assert record_of(tmp_path / "run")["counters"]["written"] == offered
    columns, report = load_columns(tmp_path / "run")
    assert (len(columns), report.bad) == (offered, [])


def close_many(hook: TelemetryHook, count: int) -> None:
    for k in range(count):
        at = START + timedelta(seconds=k)
        hook.position_closed(
            symbol="TCS", strategy="intraday", direction="LONG", entry_time=at, exit_time=at + timedelta(minutes=5),
            entry_price=100.0, exit_price=101.0, confidence=0.6,
        )  # fmt: skip


def test_a_hook_in_a_backtest_loses_nothing(tmp_path: Path, counts: Counts) -> None:
    offered = counts(100_000, 1_000_000)
    with TelemetryWriter(tmp_path, max_pending=1000) as writer:
        close_many(TelemetryHook(writer, {"intraday": 0.3}), offered)
    assert (writer.stats().written, writer.stats().dropped, writer.stats().failed) == (offered, {}, {})
    assert len(load_columns(tmp_path)[0]) == offered


def test_a_live_hook_never_waits_and_its_losses_are_exact_logged_and_shown(
    tmp_path: Path, counts: Counts, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    offered = counts(100_000, 1_000_000)
    with (
        caplog.at_level(logging.WARNING, "trade_telemetry"),
        TelemetryWriter(tmp_path / "live", mode="live", max_pending=1000) as writer,
    ):
        close_many(TelemetryHook(writer, {"intraday": 0.3}), offered)
    account, counters = writer.stats(), record_of(tmp_path / "live")["counters"]
    lost = account.dropped["full"]
    assert lost > 0
    assert account.offered == account.accounted == offered == account.written + lost
    assert (counters["dropped"], sums_up(counters)) == ({"full": lost}, True)
    columns, report = load_columns(tmp_path)
    assert (len(columns), report.bad) == (account.written, [])

    said = [r.getMessage() for r in caplog.records if "traces dropped" in r.getMessage()]
    assert said[-1].endswith(f"{lost:,} in all of {offered:,} offered ({lost:,} full)")
    assert len(said) <= 3  # once a minute and at the end, not once a trace
    assert {r.threadName for r in caplog.records} == {"trade_telemetry"}  # the caller does not log

    sentence = f"Missing from live: {lost:,} of {offered:,} traces dropped because the queue was full."
    where = ["--telemetry-dir", str(tmp_path)]
    for verb in (["metrics"], ["metrics", "--by", "symbol"], ["compare"], ["check"], ["judge"],
                 ["compare", "--live-vs-backtest"]):  # fmt: skip
        main([*verb, *where])
        told = capsys.readouterr()
        assert (told.out + told.err).count(sentence) == 1, verb
    for verb in ("metrics", "check", "judge"):
        main([verb, *where, "--json"])
        (gap,) = json.loads(capsys.readouterr().out)["missing"]
        assert (gap["dropped"], gap["sentence"]) == ({"full": lost}, sentence)
    settings = Settings(telemetry_storage_path=tmp_path)
    state = StateSource(settings).read()
    assert [gap["sentence"] for gap in state["missing"]] == [sentence]
    assert sentence in header_html(state)
    assert sentence in repr(executive_summary(open_report(tmp_path, settings=settings)))


def test_a_queue_that_is_full_wakes_the_thread_at_once(tmp_path: Path) -> None:
    "It would look in again in an hour."
    with TelemetryWriter(tmp_path, max_pending=10, poll_seconds=3600) as writer:
        for k in range(500):
            writer.write_trace(trace(k))
        assert writer.stats().dropped == {}
    assert writer.stats().written == 500


def test_many_waiting_threads_lose_nothing(tmp_path: Path) -> None:
    with TelemetryWriter(tmp_path, max_pending=50, buffer_size=20) as writer:

        def work(symbol: str) -> None:
            for k in range(2000):
                writer.write_trace(trace(k, symbol=symbol))

        threads = [threading.Thread(target=work, args=(f"S{n}",)) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert (writer.stats().written, writer.stats().accounted, writer.stats().dropped) == (12_000, 12_000, {})


# ---- a wait ends


def test_a_wait_ends_with_a_disk_that_hangs_and_begins_again_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = HungDisk(tmp_path, monkeypatch)
    monkeypatch.setattr(queue_module, "STALL_SECONDS", 0.2)
    writer = TelemetryWriter(tmp_path, max_pending=600, buffer_size=500, throttle_seconds=0.0)
    with caplog.at_level(logging.ERROR, "trade_telemetry"):
        began = time.monotonic()
        for k in range(3000):
            writer.write_trace(trace(k, features={"text": "x" * 500}))
        assert time.monotonic() - began < 30  # one wait, not one for each of them
    lost = writer.stats(timeout=0.0).dropped
    assert set(lost) == {"stalled"}
    assert "nothing is written any more" in caplog.text
    writer.close(timeout=0.05)
    counters = record_of(tmp_path)["counters"]
    assert (sums_up(counters), counters["pending"], counters["written"]) == (True, 0, 0)
    assert counters["dropped"]["unwritten"] + counters["dropped"]["stalled"] == 3000
    assert record_of(tmp_path)["end_reason"] == "closed"
    disk.answer(writer)
    account, counters = writer.stats(), record_of(tmp_path)["counters"]
    assert (account.dropped, account.accounted, account.pending) == (lost, 3000, 0)
    assert (counters["written"], counters["dropped"]) == (account.written, lost)  # the record was mended


def test_a_wait_ends_at_once_with_a_dead_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_module.Waiting, "run", lambda self: None)
    writer = TelemetryWriter(tmp_path, max_pending=10)
    assert writer._thread is not None
    writer._thread.join(10)
    began = time.monotonic()
    for k in range(100):
        writer.write_trace(trace(k))
    assert time.monotonic() - began < 5
    assert "nothing is written any more" in caplog.text
    writer.close()  # what waits is written by the caller
    assert (writer.stats().written, writer.stats().dropped) == (10, {"stalled": 90})
    assert (record_of(tmp_path)["end_reason"], sums_up(record_of(tmp_path)["counters"])) == ("closed", True)


def test_an_interrupt_ends_a_wait_and_goes_on(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        import os
        import trade_telemetry.capture.segment as segment
        out, into = os.pipe()
        segment.open_segment = lambda *_: (into, None)
        segment.still_ours = lambda *_: True
        writer = TelemetryWriter(sys.argv[1], max_pending=500, buffer_size=400, throttle_seconds=0.0)
        k = 0
        try:
            while True:
                if k == 890:
                    print("waits soon", flush=True)
                writer.write_trace(trace(k, features={"text": "x" * 500}))
                k += 1
        except KeyboardInterrupt:
            account = writer.stats(timeout=0.0)
            print(account.offered - k, account.dropped, account.accounted == account.offered, flush=True)
            os._exit(0)
    """)
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waits soon\n"
        while not waits(child.pid):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "1 {'interrupted': 1} True\n"
        assert child.wait(30) == 0


def waits(pid: int) -> bool:
    "Has it been asleep for a moment?"
    states = []
    for _ in range(10):
        states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        time.sleep(0.02)
    return states.count("S") >= 9


def test_a_log_handler_that_writes_traces_does_not_wait_for_itself(tmp_path: Path) -> None:
    class Writing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            for k in range(20):
                writer.write_trace(trace(1000 + k))

    handler = Writing()
    logging.getLogger("trade_telemetry").addHandler(handler)
    try:
        with TelemetryWriter(tmp_path, max_pending=10, background=False) as writer:
            writer.write_trace("nonsense")  # type: ignore[arg-type]
            for k in range(30):
                writer.write_trace(trace(k))
    finally:
        logging.getLogger("trade_telemetry").removeHandler(handler)
    account = writer.stats()
    assert account.accounted == account.offered
    assert set(account.dropped) <= {"stalled", "closed"}  # the handler's own
    assert account.written >= 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_waits_for_its_own_thread(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        import os
        writer = TelemetryWriter(sys.argv[1], max_pending=20, poll_seconds=3600)
        for k in range(50):
            writer.write_trace(trace(k))
        pid = os.fork()
        for k in range(1000, 1200) if pid == 0 else range(50, 60):
            writer.write_trace(trace(k))
        writer.close()
        os.write(1, f"{writer.stats().written} {writer.stats().dropped}\\n".encode())
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    """)
    done = run_python(code, tmp_path)
    assert sorted(done.stdout.splitlines()) == ["200 {}", "60 {}"], done.stderr


# ---- the end


class Slow:
    "A disk that takes its time, by a clock: each batch costs so many seconds."

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.before, self.seconds = segment_module.Segment.append, seconds
        monkeypatch.setattr(segment_module.Segment, "append", self.append())

    def append(self) -> Callable[..., int]:
        def append(segment: segment_module.Segment, data: bytes) -> int:
            time.sleep(self.seconds)
            return self.before(segment, data)

        return append


def test_an_end_waits_for_a_slow_disk_beyond_its_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Slow(monkeypatch, 0.02)
    monkeypatch.setattr(writer_module, "MOST_AT_ONCE", 10)
    writer = TelemetryWriter(tmp_path, buffer_size=10, poll_seconds=3600)
    for k in range(600):
        writer.write_trace(trace(k))
    began = time.monotonic()
    writer.close(timeout=0.3)  # counts from the last progress
    assert time.monotonic() - began > 0.6
    assert (writer.stats().written, writer.stats().dropped) == (600, {})


@pytest.mark.parametrize("background", [True, False])
def test_the_end_of_a_live_session_has_a_limit_and_counts_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, background: bool
) -> None:
    Slow(monkeypatch, 0.01)
    monkeypatch.setattr(writer_module, "END_SECONDS", 1.0)
    monkeypatch.setattr(writer_module, "PIECE", 20)
    writer = TelemetryWriter(tmp_path, mode="live", buffer_size=1, poll_seconds=3600, background=background)
    for k in range(3000):
        writer.write_trace(trace(k))
    writer.close()
    account, record = writer.stats(), record_of(tmp_path)
    lost = account.dropped["unwritten"]
    assert 0 < account.written < 3000
    assert (account.accounted, account.pending, account.written + lost) == (3000, 0, 3000)
    assert (record["counters"]["dropped"], record["end_reason"]) == ({"unwritten": lost}, "closed")
    assert f"{lost:,} unwritten" in caplog.text
    assert len(load_columns(tmp_path)[0]) == account.written


def test_an_interrupt_ends_the_end_and_the_record_says_what_is_missing(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        import time
        import trade_telemetry.capture.segment as segment
        import trade_telemetry.capture.writer as room
        before, room.PIECE = segment.Segment.append, 20
        def slow(self, data):
            time.sleep(0.01)
            return before(self, data)
        segment.Segment.append = slow
        writer = TelemetryWriter(sys.argv[1], buffer_size=1, poll_seconds=3600)
        for k in range(5000):
            writer.write_trace(trace(k))
        print("ends", flush=True)
        writer.close()
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ends\n"
        while not list(tmp_path.glob("traces_*")):
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    record = record_of(tmp_path)
    assert record["end_reason"] == "interrupted"
    assert sums_up(record["counters"])
    assert record["counters"]["pending"] == 0
    lost = record["counters"]["dropped"]["unwritten"]
    assert len(load_columns(tmp_path)[0]) == record["counters"]["written"] == 5000 - lost


def test_an_exit_waits_for_all_rows_of_a_backtest(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        writer = TelemetryWriter(sys.argv[1])
        for k in range(60_000):
            writer.write_trace(trace(k))
    """)
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    record = record_of(tmp_path)
    assert (record["end_reason"], record["counters"]["written"]) == ("exit", 60_000)


def test_a_long_end_shows_its_progress_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trade_telemetry.progress as progress_module

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    real, screens = progress_module.progress_bar, [Terminal(), io.StringIO()]
    monkeypatch.setattr(writer_module, "PIECE", 10)
    for n, screen in enumerate(screens):

        def at_once(unit: str, what: str, after: float, screen: io.StringIO = screen) -> Any:
            assert after == 2.0
            return real(unit, what, after=-1.0, stream=screen)

        monkeypatch.setattr(writer_module, "progress_bar", at_once)
        writer = TelemetryWriter(tmp_path / str(n), poll_seconds=3600, background=False)
        for k in range(100):
            writer.write_trace(trace(k))
        writer.close()
        assert writer.stats().written == 100
    assert "writing" in screens[0].getvalue()
    assert screens[1].getvalue() == ""


def test_a_progress_bar_that_fails_costs_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    class Bar:
        def __enter__(self) -> Callable[..., None]:
            return broken

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(writer_module, "progress_bar", lambda *_, **__: Bar())
    with TelemetryWriter(tmp_path, background=False) as writer:
        for k in range(100):
            writer.write_trace(trace(k))
    assert (writer.stats().written, writer.stats().failed, writer.stats().dropped) == (100, {}, {})


# ---- rejected rows


LOG = "Symbol,Side,Opened,Closed,Bought,Sold\n"
MAP = """
fields:
  symbol: Symbol
  direction: Side
  entry_time: Opened
  exit_time: Closed
  entry_price: Bought
  exit_price: Sold
"""


def test_rejected_rows_of_an_import_lie_beside_the_run_and_are_mentioned_by_every_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"TCS,LONG,2024-01-0{k}T10:00,2024-01-0{k}T11:00,100,101" for k in range(2, 6)]
    rows[2:2] = ["TCS,FLAT,2024-01-02T10:00,2024-01-02T11:00,100,101", ",".join(COLUMNS[:6])]
    (tmp_path / "log.csv").write_text(LOG + "\n".join(rows) + "\n")
    (tmp_path / "map.yaml").write_text(MAP)
    where = tmp_path / "telemetry"
    done = import_file(tmp_path / "log.csv", "mine", where, map_file=tmp_path / "map.yaml", threshold_pct=0.3)
    assert (done.written, [bad.line for bad in done.bad]) == (4, [4, 5])
    counters = record_of(done.output_dir)["counters"]
    assert (counters["offered"], sum(counters["rejected"].values()), sums_up(counters)) == (4, 2, True)
    (table,) = done.output_dir.glob("*.aside.csv")
    assert '"{""Symbol"": ""TCS"", ""Side"": ""FLAT""' in table.read_text()
    columns, report = load_columns(where)
    assert (len(columns), report.bad, report.ignored_files) == (4, [], 0)
    for verb in ("metrics", "compare", "judge"):
        main([verb, "--telemetry-dir", str(where)])
        told = capsys.readouterr()
        assert "2 rows of the import rejected" in told.out + told.err
        assert table.name in told.out + told.err


def test_a_table_set_aside_is_never_taken_for_traces_whatever_is_in_it(tmp_path: Path) -> None:
    "Here it is a whole file of traces, under the name of a table of rejected rows."
    with TelemetryWriter(tmp_path / "run") as writer:
        writer.write_trace(trace(0))
    (real,) = (tmp_path / "run").glob("traces_*")
    for directory in (tmp_path, tmp_path / "run"):
        set_aside_path(directory, "rejected", "1").write_bytes(real.read_bytes())
    columns, report = load_columns(tmp_path)
    assert (len(columns), report.files, report.ignored_files, report.duplicates) == (1, 1, 0, 0)
    assert len(load_columns(set_aside_path(tmp_path, "rejected", "1"))[0]) == 0
