"""The writer under threads, processes, crashes and broken disks: every trace is accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trade_telemetry.trace import COLUMNS, PredictionTrace
from trade_telemetry.writer import TelemetryWriter

SOAK = os.environ.get("TRADE_TELEMETRY_SOAK") == "1"
START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


def trace(k: int, strategy: str = "intraday", symbol: str = "TCS") -> PredictionTrace:
    when = START + timedelta(seconds=k)
    return PredictionTrace(when, symbol, strategy, "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, {"k": k})


def complete_rows(directory: Path) -> tuple[list[dict[str, str]], int]:
    "Rows of all complete lines below a directory, and the number of torn tails."
    rows, torn = [], 0
    for path in sorted(directory.rglob("traces_*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        whole, _, tail = data.rpartition(b"\n")
        torn += bool(tail)
        for row in csv.DictReader(io.StringIO(whole.decode(), newline="")):
            assert len(row) == len(COLUMNS), path
            assert None not in row.values(), path
            rows.append(row)
    return rows, torn


def run_python(code: str, *args: object, **more: object) -> subprocess.CompletedProcess[str]:
    "Run a piece of Python in a process of its own, ended after a minute at the latest."
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)  # type: ignore[call-overload,no-any-return]


CHILD = """
    import sys
    from datetime import UTC, datetime, timedelta
    from trade_telemetry.trace import PredictionTrace
    from trade_telemetry.writer import TelemetryWriter
    START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    def trace(k, symbol="TCS", features=None):
        when = START + timedelta(seconds=k)
        return PredictionTrace(when, symbol, "intraday", "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, features or {})
"""


def test_every_trace_of_eight_threads_is_accounted_for(tmp_path: Path) -> None:
    each, workers = (100_000 if SOAK else 5_000), 8
    with TelemetryWriter(tmp_path, buffer_size=1000, max_pending=20_000, poll_seconds=0.01) as writer:

        def work(symbol: str) -> None:
            for k in range(each):
                writer.write_trace(trace(k, symbol=symbol))

        threads = [threading.Thread(target=work, args=(f"S{n}",)) for n in range(workers)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        during = writer.stats()
        assert during.offered == during.accounted == each * workers
    account = writer.stats()
    assert account.offered == account.accounted == each * workers
    assert account.pending == 0
    rows, torn = complete_rows(tmp_path)
    assert (len(rows), torn) == (account.written, 0)
    assert account.written + sum(account.dropped.values()) == each * workers
    assert max(Counter(r["trace_id"] for r in rows).values()) == 1


def test_four_processes_share_a_directory_without_touching_each_others_files(tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD) + textwrap.dedent("""
        with TelemetryWriter(sys.argv[1], buffer_size=10, max_file_size_mb=0.01) as writer:
            for k in range(300):
                writer.write_trace(trace(k, symbol=sys.argv[2]))
        assert writer.stats().written == 300
    """)
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"P{n}"]) for n in range(4)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0, 0]
    rows, torn = complete_rows(tmp_path)
    assert torn == 0
    assert Counter(r["symbol"] for r in rows) == {f"P{n}": 300 for n in range(4)}
    for path in tmp_path.glob("traces_*.csv"):  # one process, one file
        assert (
            len({r["symbol"] for r in csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))})
            == 1
        )
    records = [json.loads(p.read_text()) for p in tmp_path.glob("run_*.json")]
    assert sorted(r["counters"]["written"] for r in records) == [300] * 4


def test_a_killed_process_leaves_only_complete_rows_and_at_most_one_torn_tail(tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD) + textwrap.dedent("""
        import time
        writer = TelemetryWriter(sys.argv[1], buffer_size=20, poll_seconds=0.001, throttle_seconds=0.0)
        k = 0
        while True:
            writer.write_trace(trace(k))
            k += 1
            if k % 100 == 0:
                print(writer.stats().written, flush=True)
    """)
    for n in range(200 if SOAK else 6):
        directory = tmp_path / str(n)
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(1 + 7 * n % 40):
            line = child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        last = child.stdout.read().splitlines()
        assert child.wait(timeout=30) == -signal.SIGKILL
        child.stdout.close()
        seen = int((last or [line])[-1]) if (last or [line])[-1].strip().isdigit() else int(line)
        rows, torn = complete_rows(directory)
        assert len(rows) >= seen  # what the account called written is on disk
        assert torn <= len(list(directory.glob("traces_*")))
        with TelemetryWriter(directory) as after:  # the next start continues in a new segment
            after.write_trace(trace(10**8))
        assert len(complete_rows(directory)[0]) == len(rows) + 1


def test_an_exit_without_close_writes_what_was_queued(tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD) + textwrap.dedent("""
        writer = TelemetryWriter(sys.argv[1], poll_seconds=30)
        for k in range(50):
            writer.write_trace(trace(k))
    """)
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(complete_rows(tmp_path)[0]) == 50
    (record,) = tmp_path.glob("run_*.json")
    assert json.loads(record.read_text())["end_reason"] == "exit"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_starts_clean_and_duplicates_nothing(tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD) + textwrap.dedent("""
        import os
        writer = TelemetryWriter(sys.argv[1], poll_seconds=0.01, throttle_seconds=3600, buffer_size=1000)
        for k in range(7):
            writer.write_trace(trace(k))
        pid = os.fork()
        for k in range(100, 105) if pid == 0 else range(7, 10):
            writer.write_trace(trace(k))
        writer.close()
        print(writer.stats().offered, writer.stats().written, flush=True)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    """)
    done = run_python(code, tmp_path)
    assert sorted(done.stdout.splitlines()) == ["10 10", "5 5"], done.stderr
    rows, torn = complete_rows(tmp_path)
    assert (len(rows), len({r["trace_id"] for r in rows}), torn) == (15, 15, 0)
    assert len(list(tmp_path.glob("traces_*.csv"))) == len(list(tmp_path.glob("run_*.json"))) == 2


def test_a_file_size_limit_costs_only_counted_rows_and_leaves_no_torn_line(tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD) + textwrap.dedent("""
        import logging, resource, signal
        logging.disable(logging.WARNING)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        writer = TelemetryWriter(sys.argv[1], buffer_size=5, background=False)
        for k in range(100):
            writer.write_trace(trace(k))
        writer.write_trace(trace(100, features={"long": "x" * 5000}))
        writer.close()
        account = writer.stats()
        assert account.offered == account.accounted == 101, account
        print(account.written, sum(account.failed.values()), account.segments)
    """)
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    written, failed, segments = map(int, done.stdout.split())
    assert (written, failed) == (100, 1)  # a fresh segment helps; a row that fits nowhere is counted
    assert segments > 3
    rows, torn = complete_rows(tmp_path)
    assert (len(rows), torn) == (100, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_counted_by_name_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trade_telemetry import writer as module

    real = module.open_segment
    monkeypatch.setattr(
        module, "open_segment", lambda *a: (os.open("/dev/full", os.O_WRONLY), tmp_path / "full")
    )
    writer = TelemetryWriter(tmp_path, buffer_size=3, background=False)
    for k in range(9):
        writer.write_trace(trace(k))
    writer.poll()
    assert writer.stats().failed == {"write ENOSPC": 9}
    monkeypatch.setattr(module, "open_segment", real)  # somebody made room
    for k in range(9, 12):
        writer.write_trace(trace(k))
    writer.close()
    assert (writer.stats().written, writer.stats().accounted) == (3, 12)
    assert len(complete_rows(tmp_path)[0]) == 3


def test_a_directory_removed_while_running_is_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    writer = TelemetryWriter(directory, buffer_size=2, background=False)
    for k in range(4):
        writer.write_trace(trace(k))
    writer.poll()
    shutil.rmtree(directory)
    for k in range(4, 8):
        writer.write_trace(trace(k))
    writer.close()
    assert [r["features_json"] for r in complete_rows(directory)[0]] == [f'{{"k":{k}}}' for k in range(4, 8)]
    assert writer.stats().written == 8  # four of them went with the directory; nobody can know better


def test_open_files_do_not_grow_with_flushes(tmp_path: Path) -> None:
    writer = TelemetryWriter(tmp_path, buffer_size=1, background=False, max_file_size_mb=0.002)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    writer.write_trace(trace(0))
    writer.poll()
    before = descriptors()
    for k in range(10_000 if SOAK else 300):
        writer.write_trace(trace(k))
        writer.poll()
    assert descriptors() == before
    writer.close()
    assert writer.stats().flushes == writer.stats().offered


def test_a_burst_into_a_small_queue_keeps_memory_bounded_and_the_account_exact(tmp_path: Path) -> None:
    offered = 1_000_000 if SOAK else 100_000
    prepared = trace(0)
    with TelemetryWriter(tmp_path, max_pending=1000, buffer_size=500, poll_seconds=0.01) as writer:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        highest = 0
        for k in range(offered):
            writer.write_trace(prepared)
            if k % 1000 == 0:
                highest = max(highest, writer.stats().pending)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    account = writer.stats()
    assert account.accounted == account.offered == offered
    assert account.dropped["full"] > 0
    assert highest <= 1000 + 500
    assert grown < 50_000  # kilobytes


def test_a_backward_or_forward_wall_clock_does_not_disturb_the_throttle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    writer = TelemetryWriter(tmp_path, throttle_seconds=60, clock=lambda: now[0], background=False)
    from trade_telemetry import writer as module

    class Jumping(datetime):
        shift = timedelta(0)

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2024, 1, 1, tzinfo=UTC) + cls.shift

    monkeypatch.setattr(module, "datetime", Jumping)
    for step, shift in enumerate((timedelta(days=-400), timedelta(days=400), timedelta(0))):
        Jumping.shift = shift
        writer.write_trace(trace(step))
        writer.poll()
        assert writer.stats().flushes_timed == step
        now[0] += 61
        writer.poll()
        assert writer.stats().flushes_timed == step + 1
    writer.close()
    assert writer.stats().written == 3


def test_hostile_names_stay_inside_the_directory_and_are_recorded_as_they_were(tmp_path: Path) -> None:
    names = ["../../x", "a\nb", "a\rb", 'quo"te, comma', "CON", "ünï", "", " ", "=1+1", "a" * 300]
    with TelemetryWriter(tmp_path / "inside") as writer:
        for name in names:
            writer.write_trace(trace(1, strategy=name, symbol=name))
    assert {p.name for p in tmp_path.iterdir()} == {"inside"}
    read = []
    for path in (tmp_path / "inside").glob("traces_*.csv"):
        read += [
            (r["strategy"], r["symbol"])
            for r in csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        ]
    assert sorted(read) == sorted((n, n) for n in names)
