"""Kills, broken disks, missing descriptors, jumping clocks: what is lost is counted, the rest is readable, trading goes on."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from test_writer import CHILD, Counts, closes, complete_rows, ledger_of, run_python, trace

import trade_telemetry.capture.ledger as ledger_module
import trade_telemetry.capture.run_record as record_module
import trade_telemetry.capture.segment as segment_module
import trade_telemetry.capture.writer as writer_module
from trade_telemetry.aggregate_form import PERCENT
from trade_telemetry.capture.hook import TelemetryHook
from trade_telemetry.capture.ledger import read_ledger
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.store.store import TraceStore, load_columns
from trade_telemetry.testing import ManualClock

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def write_some(writer: TelemetryWriter, first: int, n: int, **more: Any) -> None:
    for k in range(first, first + n):
        writer.write_trace(trace(k, **more))
    writer.poll()


# ---- kill -9


KILLED = CHILD + textwrap.dedent("""
    import json, random
    rng = random.Random(int(sys.argv[2]))
    writer = TelemetryWriter(
        sys.argv[1], buffer_size=rng.choice([5, 50, 2000]), poll_seconds=0.001, throttle_seconds=0.0,
        max_file_size_mb=rng.choice([0.02, 50]), compression=rng.random() < 0.5, max_pending=10**9,
        sample_rate=float(sys.argv[3]), format=rng.choice(["csv", "jsonl"]),
    )
    k = 0
    while True:
        for _ in range(rng.randrange(1, 300)):
            writer.write_trace(trace(k, earned=k + 1.0, features={"text": "x" * rng.randrange(200)}))
            k += 1
        if len(sys.argv) > 4 and rng.random() < 0.3:
            writer.flush()
        account = writer.stats()
        print(json.dumps([account.offered, account.written, account.sampled_out, account.pending]), flush=True)
""")


def killed_at_a_random_moment(directory: Path, seed: int, *arguments: object) -> list[int]:
    "Start a process that writes without end, kill it, return the last account that it printed."
    command = [sys.executable, "-c", KILLED, str(directory), str(seed), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(Random(seed).randrange(1, 60)):
            line = child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        assert child.wait(timeout=30) == -signal.SIGKILL
    account: list[int] = json.loads((line + rest).rpartition(b"\n")[0].rpartition(b"\n")[2])
    return account


def test_a_killed_process_loses_at_most_what_was_unflushed(tmp_path: Path, counts: Counts) -> None:
    "Rows against the account that it printed just before; every complete row is read, a torn one is recognised."
    tails = 0
    for n in range(counts(8, 200)):
        directory = tmp_path / str(n)
        offered, written, _, pending = killed_at_a_random_moment(directory, n, 1.0)
        assert offered == written + pending
        files = sorted(directory.glob("traces_*"))
        columns, report = load_columns(directory)
        unfinished = [bad for bad in report.bad if bad.reason == "the last line is unfinished"]
        assert len({bad.file for bad in unfinished}) == len(unfinished) <= len(files)
        others = {bad.reason for bad in report.bad} - {"the last line is unfinished"}
        assert others <= {
            "duplicate of a trade of the same run"
        }  # killed between a segment and its gzip form
        assert (
            len(columns) >= written
        )  # lost: at most what the account called pending, and what came after it
        assert sorted(columns.return_pct.tolist()) == [
            k + 1.0 for k in range(len(columns))
        ]  # none in between
        tails += len(unfinished)

        before = {path: path.read_bytes() for path in files}
        with TelemetryWriter(directory) as after:
            after.write_trace(trace(10**8))
        store = TraceStore(directory)
        store.refresh()
        assert len(store.columns) == len(columns) + 1  # the next start goes on in a segment of its own
        assert {path: path.read_bytes() for path in files} == before
        (run,) = store.runs()
        assert run.writers == 2
    print(f"{tails} torn tails")


def test_a_killed_process_loses_at_most_what_was_unflushed_of_its_ledger(
    tmp_path: Path, counts: Counts
) -> None:
    for n in range(counts(4, 60)):
        directory = tmp_path / str(n)
        offered, written, sampled_out, pending = killed_at_a_random_moment(directory, 1000 + n, 0.1, "flush")
        assert offered == written + sampled_out + pending
        sums = list(ledger_of(directory).values())
        known = sum(s.closes for s in sums)
        assert known >= written  # each flush of rows is followed by the ledger, before it is counted
        assert (
            sum(s.return_sum for s in sums) == known * (known + 1) // 2 * PERCENT
        )  # the first ones, all of them
        assert len(load_columns(directory)[0]) <= known


def test_what_is_said_again_after_a_kill_counts_once_in_rows_and_in_the_ledger(
    tmp_path: Path, counts: Counts
) -> None:
    "The engine does not know what was written when it died, so it says its last closes again, and goes on."
    repeated = 0
    for n in range(counts(6, 100)):
        directory = tmp_path / str(n)
        killed_at_a_random_moment(directory, 2000 + n, 0.1, "flush")
        known = sum(sums.closes for sums in ledger_of(directory).values())
        first, last = max(0, known - 2000), known + 300
        with TelemetryWriter(directory, sample_rate=0.1, max_pending=10**9) as after:
            for k in range(first, last):
                after.write_trace(replace(trace(k), realized_return_pct=k + 1.0))
        account = after.stats()
        assert account.repeated == known - first
        assert account.offered == last - first == account.sampled_out + account.written
        sums = list(ledger_of(directory).values())
        assert sum(s.closes for s in sums) == last
        assert sum(s.return_sum for s in sums) == last * (last + 1) // 2 * PERCENT
        columns, _ = load_columns(directory)
        assert len(set(columns.return_pct.tolist())) == len(columns)
        record = json.loads(after._background.record.path.read_text())
        assert record["counters"]["repeated"] == account.repeated
        repeated += account.repeated
    assert repeated > 0


def test_a_flushed_ledger_survives_a_kill_whole(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        import os, signal
        writer = TelemetryWriter(sys.argv[1], sample_rate=0.1, poll_seconds=30)
        for k in range(500):
            writer.write_trace(trace(k))
        writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert run_python(code, tmp_path).returncode == -signal.SIGKILL
    assert sum(sums.closes for sums in ledger_of(tmp_path).values()) == 500


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_segment_torn_at_any_byte_gives_its_whole_rows_and_one_finding(tmp_path: Path, format: str) -> None:
    with TelemetryWriter(tmp_path / "whole", format=format) as writer:
        for k in range(3):
            writer.write_trace(trace(k, symbol='a\n"b",c', metadata={"note": "x,y\n"}))
    (path,) = (tmp_path / "whole").glob("traces_*")
    data = path.read_bytes()
    whole, _ = load_columns(tmp_path / "whole")
    torn = tmp_path / "torn" / path.name
    torn.parent.mkdir()
    row = (len(data) - (data.index(b"\n") + 1 if format == "csv" else 0)) // 3
    ends = [len(data) - 2 * row, len(data) - row, len(data)]
    for cut in range(ends[0], len(data)):
        torn.write_bytes(data[:cut])
        columns, report = load_columns(torn.parent)
        # without its line feed an object is whole beyond doubt; a row may lack the end of its last number
        complete = sum(end - (format == "jsonl") <= cut for end in ends)
        assert columns.trace_id.tolist() == whole.trace_id[:complete].tolist(), cut
        is_clean = cut in ends or (format == "jsonl" and cut + 1 in ends)
        assert [bad.reason for bad in report.bad] == ["the last line is unfinished"] * (not is_clean), cut


# ---- disks


def broken_segment(path: str) -> Callable[..., tuple[int, Path]]:
    return lambda *_: (os.open(path, os.O_WRONLY), Path(path).parent / "no such segment")


@pytest.mark.parametrize(
    ("device", "name"), [("/dev/full", "ENOSPC"), ("/proc/self/mem", "EIO")], ids=["disk full", "I/O error"]
)
def test_a_broken_disk_is_counted_by_name_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, name: str
) -> None:
    if not Path(device).exists():
        pytest.skip(f"this system has no {device}")
    writer = TelemetryWriter(tmp_path, buffer_size=3, background=False, ledger=True)
    with monkeypatch.context() as broken:
        broken.setattr(segment_module, "open_segment", broken_segment(device))
        write_some(writer, 0, 9)
        assert writer.stats().failed == {f"write {name}": 9}
    write_some(writer, 9, 3)  # somebody made room
    writer.close()
    assert (writer.stats().written, writer.stats().accounted) == (3, 12)
    assert len(complete_rows(tmp_path)[0]) == 3
    assert sum(sums.closes for sums in ledger_of(tmp_path).values()) == 12  # rows were lost, figures were not


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "tiny"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)]
    if not (IS_ROOT and shutil.which("mount")) or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_disk_that_fills_up_and_is_cleared_leaves_no_torn_line(tiny_disk: Path) -> None:
    writer = TelemetryWriter(tiny_disk / "run", buffer_size=7, background=False, throttle_seconds=0.0)
    write_some(writer, 0, 600)
    full = writer.stats()
    assert set(full.failed) == {"write ENOSPC"}
    rows, torn = complete_rows(tiny_disk)
    assert (len(rows), torn) == (full.written, 0)
    assert full.written > 100
    for path in list((tiny_disk / "run").glob("traces_*"))[:1]:
        path.unlink()
    write_some(writer, 1000, 20)
    writer.close()
    account = writer.stats()
    assert (account.written - full.written, account.accounted) == (20, account.offered)
    assert complete_rows(tiny_disk)[1] == 0
    (record,) = (tiny_disk / "run").glob("run_*.json")
    assert json.loads(record.read_text())["counters"]["written"] == account.written


def test_a_file_size_limit_costs_only_counted_rows_and_leaves_no_torn_line(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
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


def run_quietly(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None and not subprocess.run(command, capture_output=True).returncode
    )


def immutable(directory: Path) -> tuple[Callable[[], bool], Callable[[], bool]]:
    return (
        lambda: IS_ROOT and run_quietly("chattr", "+i", str(directory)),
        lambda: run_quietly("chattr", "-i", str(directory)),
    )


def mounted_read_only(directory: Path) -> tuple[Callable[[], bool], Callable[[], bool]]:
    there = str(directory)
    return (
        lambda: (
            IS_ROOT
            and run_quietly("mount", "--bind", there, there)
            and run_quietly("mount", "-o", "remount,ro,bind", there)
        ),
        lambda: run_quietly("umount", "-l", there),
    )


@pytest.mark.parametrize(
    ("way", "name"), [(immutable, "EPERM"), (mounted_read_only, "EROFS")], ids=["chattr +i", "mounted"]
)
def test_a_read_only_directory_is_counted_by_name_and_tried_again(
    tmp_path: Path, way: Callable[[Path], Any], name: str
) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    lock, unlock = way(directory)
    if not lock():
        unlock()
        pytest.skip("this system does not let us make a directory read-only in this way")
    try:
        writer = TelemetryWriter(directory, buffer_size=2, background=False, ledger=True)
        write_some(writer, 0, 6)
        assert writer.stats().failed == {f"write {name}": 6}
        assert list(directory.iterdir()) == []
    finally:
        unlock()
    write_some(writer, 6, 4)
    writer.close()
    assert (writer.stats().written, writer.stats().accounted) == (4, 10)
    assert sum(sums.closes for sums in ledger_of(directory).values()) == 10


def test_a_directory_without_permission_is_counted_by_name_and_tried_again() -> None:
    "In a child that gives up being root, where chmod would not stop it."
    code = CHILD + textwrap.dedent("""
        import os, tempfile, logging
        from pathlib import Path
        logging.disable(logging.WARNING)
        with tempfile.TemporaryDirectory() as base:
            os.chmod(base, 0o755)
            directory = Path(base) / "run"
            directory.mkdir()
            is_root = os.geteuid() == 0
            os.chmod(directory, 0o555)
            if is_root:
                os.seteuid(65534)
            writer = TelemetryWriter(directory, buffer_size=2, background=False)
            for k in range(6):
                writer.write_trace(trace(k))
            writer.poll()
            print(writer.stats().failed)
            if is_root:
                os.seteuid(0)
            os.chmod(directory, 0o777)
            if is_root:
                os.seteuid(65534)
            writer.write_trace(trace(7))
            writer.close()
            print(writer.stats().written, writer.stats().accounted)
            if is_root:
                os.seteuid(0)
    """)
    done = run_python(code)
    assert done.stdout.splitlines() == ["{'write EACCES': 6}", "1 7"], done.stderr


def test_a_directory_removed_while_running_is_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    writer = TelemetryWriter(directory, buffer_size=2, background=False, ledger=True)
    for round_ in range(5):
        write_some(writer, 4 * round_, 4)
        rows = complete_rows(directory)[0]
        assert [r["features_json"] for r in rows] == [f'{{"k":{4 * round_ + k}}}' for k in range(4)]
        assert sum(sums.closes for sums in ledger_of(directory).values()) == 4 * round_ + 4
        shutil.rmtree(directory)
    write_some(writer, 20, 1)
    writer.close()
    assert writer.stats().written == 21  # twenty of them went with the directory; nobody can know better
    assert len(list(directory.glob("run_*.json"))) == 1


def test_a_disk_that_hangs_holds_up_neither_the_end_nor_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    "A pipe that nobody reads is a disk that does not answer; when it does, it still gets everything."
    out, into = os.pipe()
    monkeypatch.setattr(segment_module, "open_segment", lambda *_: (into, tmp_path / "pipe"))
    monkeypatch.setattr(segment_module, "still_ours", lambda *_: True)
    writer = TelemetryWriter(tmp_path, buffer_size=1000, poll_seconds=0.001, throttle_seconds=0.0)
    for k in range(1500):
        writer.write_trace(trace(k, features={"text": "x" * 200}))
    select.select([out], [], [], 30)  # the first flush has begun; it does not fit into the pipe
    writer.close(timeout=0.05)
    account = writer.stats(timeout=0.05)
    assert (account.offered, account.accounted, account.written) == (1500, 1500, 0)
    writer.write_trace(trace(1501))
    assert writer.stats(timeout=0.05).dropped == {"closed": 1}
    read: list[bytes] = []

    def drain() -> None:
        while data := os.read(out, 1 << 16):
            read.append(data)

    reader = threading.Thread(target=drain)
    reader.start()
    writer._thread.join(30)
    reader.join(30)  # the segment was closed: end of file
    os.close(out)
    account = writer.stats()
    assert (account.written, account.pending, account.accounted) == (1500, 0, 1501)
    assert b"".join(read).count(b"\n") == 1501
    (record,) = tmp_path.glob("run_*.json")
    assert json.loads(record.read_text())["end_reason"] == "closed"


def test_a_segment_that_cannot_be_compressed_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = TelemetryWriter(
        tmp_path, compression=True, max_file_size_mb=0.001, buffer_size=1, background=False
    )
    with monkeypatch.context() as broken:
        broken.setattr(gzip, "open", no_room)
        write_some(writer, 0, 10)
    write_some(writer, 10, 5)
    writer.close()
    assert (writer.stats().written, writer.stats().failed) == (15, {})
    assert {path.suffix for path in tmp_path.glob("traces_*")} == {".csv", ".gz"}
    assert (len(complete_rows(tmp_path)[0]), len(load_columns(tmp_path)[0])) == (15, 15)
    assert list(tmp_path.glob(".*")) == []


# ---- descriptors and memory


def test_two_hundred_strategies_fit_into_a_hundred_descriptors(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        before = len(os.listdir("/proc/self/fd"))
        writer = TelemetryWriter(sys.argv[1], buffer_size=50, background=False, compression=True)
        for k in range(1000):
            writer.write_trace(trace(k, strategy=f"s{k % 200}"))
            writer.poll()
        print(len(os.listdir("/proc/self/fd")) - before, writer.stats().segments)
        writer.close()
        print(writer.stats().written, writer.stats().failed, len(os.listdir("/proc/self/fd")) - before)
    """)
    done = run_python(code, tmp_path)
    assert done.stdout.splitlines() == ["16 200", "1000 {} 0"], done.stderr
    rows, torn = complete_rows(tmp_path)
    assert (len(rows), torn) == (1000, 0)


def test_without_free_descriptors_open_segments_go_on_and_new_ones_are_counted(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        import logging, os, resource
        logging.disable(logging.WARNING)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        writer = TelemetryWriter(sys.argv[1], buffer_size=1, background=False)
        writer.write_trace(trace(0))
        writer.poll()
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for k in range(1, 10):
            writer.write_trace(trace(k))
            writer.write_trace(trace(k, strategy="new"))
            writer.poll()
        print(writer.stats().written, writer.stats().failed)
        for descriptor in taken:
            os.close(descriptor)
        writer.write_trace(trace(11, strategy="new"))
        writer.close()
        print(writer.stats().written, writer.stats().accounted)
    """)
    done = run_python(code, tmp_path)
    assert done.stdout.splitlines() == ["10 {'write EMFILE': 9}", "11 20"], done.stderr


def test_descriptors_closed_by_somebody_else_cost_nothing_and_spoil_nothing(tmp_path: Path) -> None:
    "As a library does that turns the process into a daemon; the numbers then mean other files."
    code = CHILD + textwrap.dedent("""
        import os
        writer = TelemetryWriter(sys.argv[1], buffer_size=1, background=False)
        for k in range(5):
            writer.write_trace(trace(k))
        writer.poll()
        os.closerange(3, 100)
        theirs = [os.open(f"{sys.argv[1]}/theirs{n}", os.O_RDWR | os.O_CREAT) for n in range(20)]
        for k in range(5, 10):
            writer.write_trace(trace(k))
        writer.close()
        print(writer.stats().written, writer.stats().failed, {os.fstat(d).st_size for d in theirs})
    """)
    done = run_python(code, tmp_path)
    assert done.stdout == "10 {} {0}\n", done.stderr
    assert len(complete_rows(tmp_path)[0]) == 10


def test_open_files_do_not_grow_with_flushes(tmp_path: Path, counts: Counts) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list descriptors")
    writer = TelemetryWriter(tmp_path, buffer_size=1, background=False, max_file_size_mb=0.002, ledger=True)
    write_some(writer, 0, 1)
    before = len(os.listdir("/proc/self/fd"))
    flushes = counts(300, 10_000)
    for k in range(flushes):
        write_some(writer, k, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    writer.close()
    assert writer.stats().flushes == writer.stats().offered == flushes + 1
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_burst_into_a_small_queue_keeps_memory_bounded_and_the_account_exact(
    tmp_path: Path, counts: Counts
) -> None:
    offered = counts(100_000, 1_000_000)
    prepared = trace(0)
    options: dict[str, Any] = {"max_pending": 1000, "buffer_size": 500, "poll_seconds": 0.01}
    with TelemetryWriter(tmp_path, mode="live", **options) as writer:
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
    assert grown < 20_000  # kilobytes


def test_a_log_handler_that_raises_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no log today")

    handler = Raising()
    logging.getLogger("trade_telemetry").addHandler(handler)
    try:
        with TelemetryWriter(tmp_path, poll_seconds=0.001) as writer:
            for k in range(20):
                writer.write_trace(trace(k))
                writer.write_trace("nonsense")  # type: ignore[arg-type]
            assert writer.flush()
            assert writer._thread.is_alive()
    finally:
        logging.getLogger("trade_telemetry").removeHandler(handler)
    assert writer.stats().written == 20
    assert sum(writer.stats().failed.values()) == 20


# ---- clocks


def test_a_wall_clock_set_back_or_forward_disturbs_neither_throttle_nor_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(1000.0)

    class Jumping(datetime):
        shift = timedelta(0)

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2024, 1, 1, tzinfo=UTC) + cls.shift

    monkeypatch.setattr(record_module, "datetime", Jumping)
    writer = TelemetryWriter(tmp_path, throttle_seconds=60, clock=clock, background=False)
    for step, days in enumerate((-400, 400, 0)):
        Jumping.shift = timedelta(days=days)
        writer.write_trace(trace(step))
        writer.poll()
        assert writer.stats().flushes_timed == step
        clock.advance(61)
        writer.poll()
        assert writer.stats().flushes_timed == step + 1
        with TelemetryWriter(tmp_path, background=False) as other:  # a writer that starts at that hour
            other.write_trace(trace(100 + step))
    writer.close()
    assert writer.stats().written == 3
    assert len(list(tmp_path.glob("run_*.json"))) == len(list(tmp_path.glob("traces_*"))) == 4
    assert len(load_columns(tmp_path)[0]) == 6


# ---- a week


class Storm:
    "Wraps `os` for a module and path operations below a directory so that they fail at random."

    def __init__(self, rng: Random, rate: float) -> None:
        self.rng, self.rate, self.made = rng, rate, Counter[str]()

    def strike(self, what: str) -> None:
        if self.rng.random() < self.rate:
            self.made[what] += 1
            name = self.rng.choice(["ENOSPC", "EIO", "EACCES", "EMFILE", "EROFS", "ESTALE", "EINTR"])
            raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"open", "write", "replace", "fstat", "ftruncate", "close"}:
            return real

        def struck(*arguments: Any, **more: Any) -> Any:
            if name == "write" and self.rng.random() < 0.2:  # a short write
                return real(arguments[0], bytes(arguments[1])[: 1 + len(arguments[1]) // 3])
            if name != "close":
                self.strike(name)
            return real(*arguments, **more)

        return struck

    def over(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        "Let it loose on what writer and ledger do below a directory."
        for module in (writer_module, segment_module, record_module):
            if hasattr(module, "os"):
                monkeypatch.setattr(module, "os", self)
        monkeypatch.setattr(ledger_module, "os", self)
        for name in ("mkdir", "write_text", "write_bytes", "replace", "unlink", "iterdir"):
            monkeypatch.setattr(Path, name, self.path_method(getattr(Path, name), name, str(directory)))

    def path_method(self, real: Callable[..., Any], name: str, below: str) -> Callable[..., Any]:
        def struck(path: Path, *arguments: Any, **more: Any) -> Any:
            if str(path).startswith(below):
                self.strike(name)
            return real(path, *arguments, **more)

        return struck


@pytest.mark.parametrize("sample_rate", [1.0, 0.1])
def test_a_week_of_live_trading_under_random_faults_raises_nothing_and_counts_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Counts, sample_rate: float
) -> None:
    "Five days of 6.5 hours at 400 closes an hour; the clock is moved by hand, everything that can fail does."
    logging.getLogger("trade_telemetry").setLevel(logging.CRITICAL)
    rng, storm = Random(6), Storm(Random(7), rate=0.05)
    clock = ManualClock()
    directory = tmp_path / "live"
    writer = TelemetryWriter(
        directory, mode="live", buffer_size=50, throttle_seconds=60, sample_rate=sample_rate, max_pending=2000,
        clock=clock, background=False, ledger=True, max_file_size_mb=0.2, compression=True,
    )  # fmt: skip
    hook = TelemetryHook(writer, {"intraday": 0.3, "swing": 0.5})
    mine: Counter[str] = Counter()  # the caller's own count
    storm.over(monkeypatch, tmp_path)
    days = counts(2, 5)
    for minute in range(days * 390):
        for _ in range(rng.choice([0, 5, 8, 12])):  # 375 an hour, in clusters
            when = datetime(2024, 1, 8, 14, 30, tzinfo=UTC) + timedelta(
                days=minute // 390, minutes=minute % 390, microseconds=mine["calls"]
            )
            bad = rng.random() < 0.02
            hook.position_closed(
                symbol=rng.choice(["TCS", "INFY", "RELIANCE"]), strategy=rng.choice(["intraday", "swing"]),
                direction="SIDEWAYS" if bad else rng.choice(["LONG", "SHORT"]), entry_time=when, exit_time=when,
                entry_price=100.0, exit_price=100.0 + rng.gauss(0, 1), features={"x": object()}, fees_pct=0.05,
            )  # fmt: skip
            mine["calls"] += 1
            mine["bad"] += bad
        clock.advance(60.0)
        if rng.random() < 0.9:  # now and then the thread does not get to run
            writer.poll()
        if rng.random() < 0.002:
            shutil.rmtree(directory, ignore_errors=True)
            mine["removed"] += 1
        if minute % 50 == 0:
            account = writer.stats()
            assert account.accounted == account.offered == mine["calls"]
    monkeypatch.undo()  # at the end of the week the disk is well again
    logging.getLogger("trade_telemetry").setLevel(logging.NOTSET)
    writer.close()
    account = writer.stats()
    assert account.offered == account.accounted == mine["calls"] > 1800 * days
    assert (account.pending, account.dropped) == (0, {})
    assert account.failed["trace ValueError"] == mine["bad"] > 0
    lost = {reason: n for reason, n in account.failed.items() if reason.startswith("write")}
    good = mine["calls"] - mine["bad"]
    assert account.written + account.sampled_out + sum(lost.values()) == good
    assert sum(storm.made.values()) > 100
    assert {"open", "write", "replace", "mkdir"} <= set(storm.made)
    kept = len({r["trace_id"] for r in complete_rows(directory)[0]})
    assert kept <= account.written + sum(
        lost.values()
    )  # after a failed write and a failed cut some are there
    assert kept >= account.written or mine["removed"] > 0
    assert sum(sums.closes for sums in ledger_of(directory).values()) == good  # the ledger lost none of them
    (record,) = directory.glob("run_*.json")
    assert json.loads(record.read_text())["end_reason"] == "closed"


def test_the_thread_outlives_a_storm_and_the_ledger_is_whole_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    "The same with the real thread and two writers; faults fall between any two of its steps."
    logging.getLogger("trade_telemetry").setLevel(logging.CRITICAL)
    traces = closes(counts(4_000, 40_000), Random(8))
    storm = Storm(Random(9), rate=0.1)
    storm.over(monkeypatch, tmp_path)
    writers = [
        TelemetryWriter(tmp_path / "live", sample_rate=0.5, poll_seconds=0.001, throttle_seconds=0.0, buffer_size=10)
        for _ in range(2)
    ]  # fmt: skip
    for k, t in enumerate(traces):
        writers[k % 2].write_trace(t)
    for writer in writers:
        writer.flush()
        assert writer._thread.is_alive()
    monkeypatch.undo()
    logging.getLogger("trade_telemetry").setLevel(logging.NOTSET)
    for writer in writers:
        writer.close()
    accounts = [writer.stats() for writer in writers]
    assert [a.offered for a in accounts] == [a.accounted for a in accounts] == [len(traces) // 2] * 2
    written = sum(a.written for a in accounts)
    failed = sum(sum(a.failed.values()) for a in accounts)
    kept = len({r["trace_id"] for r in complete_rows(tmp_path)[0]})
    assert written <= kept <= written + failed  # a failed write whose cut fails too leaves rows behind
    assert failed > 0
    ledgers = [row for path in (tmp_path / "live").glob("ledger_*") for row in read_ledger(path)]
    assert sum(row.sums.closes for row in ledgers) == len(traces)
    assert (
        abs(
            sum(row.sums.return_sum for row in ledgers) / PERCENT - sum(t.realized_return_pct for t in traces)
        )
        < 1e-6
    )
