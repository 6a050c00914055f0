"""The writer among threads, processes and strange values: every trace is accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from trade_telemetry.aggregate_form import PERCENT, Lines
from trade_telemetry.capture.hook import TelemetryHook
from trade_telemetry.capture.ledger import merge_ledgers, read_ledger
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.metrics.returns import daily_returns, days_per_year, sharpe_of_days, sharpe_ratio
from trade_telemetry.store.store import load_columns
from trade_telemetry.timezones import date_of_day
from trade_telemetry.trace import COLUMNS, DIRECTIONS, PredictionTrace

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
Counts = Callable[[int, int], int]


def trace(k: int, strategy: str = "intraday", symbol: str = "TCS", **more: Any) -> PredictionTrace:
    when = START + timedelta(seconds=k)
    return PredictionTrace(
        when, symbol, strategy, "LONG", "LONG", 0.6, 100.0, 101.0, 5, 1.0, **({"features": {"k": k}} | more)
    )


def parse(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def complete_rows(directory: Path) -> tuple[list[dict[str, str]], int]:
    "Rows of all complete lines below a directory, and the number of torn tails."
    rows, torn = [], 0
    for path in sorted(directory.rglob("traces_*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        whole, _, tail = data.rpartition(b"\n")
        torn += bool(tail)
        for row in parse(whole):
            assert len(row) == len(COLUMNS), path
            assert None not in row.values(), path
            rows.append(row)
    return rows, torn


def ledger_of(directory: Path) -> Lines:
    return merge_ledgers(row for path in directory.glob("ledger_*.json") for row in read_ledger(path))


def run_python(code: str, *args: object, **more: object) -> subprocess.CompletedProcess[str]:
    "Run a piece of Python in a process of its own, ended after a minute at the latest."
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)  # type: ignore[call-overload,no-any-return]


CHILD = textwrap.dedent("""
    import sys
    from datetime import UTC, datetime, timedelta
    from trade_telemetry.trace import PredictionTrace
    from trade_telemetry.capture.writer import TelemetryWriter
    START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    def trace(k, symbol="TCS", features=None, strategy="intraday", earned=1.0):
        when = START + timedelta(seconds=k)
        return PredictionTrace(when, symbol, strategy, "LONG", "LONG", 0.6, 100.0, 101.0, 5, earned, features or {})
""")


# ---- threads and processes


def test_every_trace_of_eight_threads_is_accounted_for(tmp_path: Path, counts: Counts) -> None:
    each, workers = counts(5_000, 100_000), 8
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


def test_a_close_in_the_middle_of_eight_writing_threads_counts_every_call(
    tmp_path: Path, counts: Counts
) -> None:
    for n in range(counts(10, 100)):
        writer = TelemetryWriter(tmp_path / str(n), poll_seconds=0.001, buffer_size=50)
        calls, go, closed = [0] * 8, threading.Event(), threading.Event()

        def work(
            i: int,
            writer: TelemetryWriter = writer,
            calls: list[int] = calls,
            go: threading.Event = go,
            closed: threading.Event = closed,
        ) -> None:
            go.wait()
            while not closed.is_set() or calls[i] < 200:
                writer.write_trace(trace(calls[i], symbol=f"S{i}"))
                calls[i] += 1

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        go.set()
        writer.close()
        closed.set()
        for t in threads:
            t.join()
        account = writer.stats()
        assert (account.offered, account.accounted, account.pending) == (sum(calls), sum(calls), 0)
        assert account.written == len(complete_rows(tmp_path / str(n))[0])
        assert set(account.dropped) <= {"closed"}


def test_four_processes_share_a_directory_without_touching_each_others_files(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
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
        assert len({r["symbol"] for r in parse(path.read_bytes())}) == 1
    records = [json.loads(p.read_text()) for p in tmp_path.glob("run_*.json")]
    assert sorted(r["counters"]["written"] for r in records) == [300] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_starts_clean_and_duplicates_nothing(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        import os
        writer = TelemetryWriter(sys.argv[1], poll_seconds=0.01, throttle_seconds=3600, buffer_size=1000, ledger=True)
        for k in range(7):
            writer.write_trace(trace(k))
        pid = os.fork()
        for k in range(100, 105) if pid == 0 else range(7, 10):
            writer.write_trace(trace(k))
        writer.close()
        os.write(1, f"{writer.stats().offered} {writer.stats().written}\\n".encode())  # in one piece
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    """)
    done = run_python(code, tmp_path)
    assert sorted(done.stdout.splitlines()) == ["10 10", "5 5"], done.stderr
    rows, torn = complete_rows(tmp_path)
    assert (len(rows), len({r["trace_id"] for r in rows}), torn) == (15, 15, 0)
    assert len(list(tmp_path.glob("traces_*.csv"))) == len(list(tmp_path.glob("run_*.json"))) == 2
    assert sum(sums.closes for sums in ledger_of(tmp_path).values()) == 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forks_in_the_middle_of_writes_neither_hang_nor_mix_rows(tmp_path: Path, counts: Counts) -> None:
    code = CHILD + textwrap.dedent("""
        import os
        writer = TelemetryWriter(sys.argv[1], poll_seconds=0.0001, buffer_size=3)
        for n in range(int(sys.argv[2])):
            for k in range(200):  # the thread is writing now
                writer.write_trace(trace(1000 * n + k))
            pid = os.fork()
            if pid == 0:
                for k in range(500, 510):
                    writer.write_trace(trace(1000 * n + k))
                writer.close()
                os._exit(0 if writer.stats().written == writer.stats().offered == 10 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        writer.close()
        assert writer.stats().written == writer.stats().offered == 200 * int(sys.argv[2])
    """)
    forks = counts(10, 200)
    done = run_python(code, tmp_path, forks)
    assert (done.returncode, done.stderr) == (0, "")
    rows, torn = complete_rows(tmp_path)
    assert (len(rows), len({r["trace_id"] for r in rows}), torn) == (210 * forks, 210 * forks, 0)


# ---- the end


def test_an_exit_without_close_writes_what_was_queued(tmp_path: Path) -> None:
    code = CHILD + textwrap.dedent("""
        writer = TelemetryWriter(sys.argv[1], poll_seconds=30)
        for k in range(50):
            writer.write_trace(trace(k))
    """)
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(complete_rows(tmp_path)[0]) == 50
    (record,) = tmp_path.glob("run_*.json")
    assert json.loads(record.read_text())["end_reason"] == "exit"


WORKERS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(where):
    writer = TelemetryWriter(where, poll_seconds=30)
    for k in range(50):
        writer.write_trace(trace(k))

def inherited(_):
    for k in range(50):
        parents.write_trace(trace(k))

if __name__ == "__main__":
    where, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    process = context.Process(target=work, args=(where,))
    process.start()
    process.join()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(work, where).result()
    if method == "fork":
        parents = TelemetryWriter(where, poll_seconds=30)
        process = context.Process(target=inherited, args=(None,))
        process.start()
        process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_write_what_was_queued_when_they_end(tmp_path: Path, method: str) -> None:
    "They leave by `os._exit`, which skips `atexit`."
    script = tmp_path / "workers.py"
    script.write_text(CHILD + WORKERS)
    where = tmp_path / "traces"
    done = subprocess.run(
        [sys.executable, str(script), str(where), method], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(complete_rows(where)[0]) == (150 if method == "fork" else 100)
    ends = [json.loads(record.read_text())["end_reason"] for record in where.glob("run_*.json")]
    assert ends and set(ends) == {"exit"}


def test_an_error_in_the_host_ends_the_record_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TelemetryWriter(tmp_path) as writer:
        writer.write_trace(trace(1))
        _ = 1 / 0
    (record,) = tmp_path.glob("run_*.json")
    ended = json.loads(record.read_text())
    assert (ended["end_reason"], ended["counters"]["written"]) == ("error: ZeroDivisionError", 1)


def test_a_relative_directory_stays_where_it_was_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with TelemetryWriter("run", background=False) as writer:
        monkeypatch.chdir(tmp_path / "elsewhere")  # as a daemon does
        writer.write_trace(trace(1))
    assert len(complete_rows(tmp_path / "run")[0]) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


# ---- names and values


@pytest.mark.parametrize(("format", "compression"), [("csv", False), ("csv", True), ("jsonl", True)])
def test_hostile_names_stay_inside_the_directory_and_are_recorded_as_they_were(
    tmp_path: Path, format: str, compression: bool
) -> None:
    names = ["../../x", "a\nb", "a\rb", 'quo"te, comma', "CON", "ünï", " ", "=1+1", "a" * 300, "a\0b", "<b>"]
    with TelemetryWriter(tmp_path / "inside", format=format, compression=compression, ledger=True) as writer:
        for name in names:
            writer.write_trace(trace(1, strategy=name, symbol=name))
    assert {p.name for p in tmp_path.iterdir()} == {"inside"}
    assert all(p.name.isascii() and p.name.isprintable() for p in (tmp_path / "inside").iterdir())
    columns, report = load_columns(tmp_path)
    assert report.bad == []
    strategies = np.array(columns.strategies, dtype=object)[columns.strategy].tolist()
    symbols = np.array(columns.symbols, dtype=object)[columns.symbol].tolist()
    assert sorted(zip(strategies, symbols, strict=True)) == sorted((n, n) for n in names)
    assert {(key.strategy, key.symbol) for key in ledger_of(tmp_path / "inside")} == {(n, n) for n in names}


def test_names_that_are_no_valid_text_cost_nothing(tmp_path: Path) -> None:
    with TelemetryWriter(tmp_path, ledger=True) as writer:
        writer.write_trace(trace(1, strategy="\ud800", symbol="\udfff"))
        writer.write_trace(trace(2, strategy="", symbol=""))
        writer.write_trace(trace(3))
    assert (writer.stats().written, writer.stats().failed) == (3, {})
    assert [r["symbol"] for r in complete_rows(tmp_path)[0]].count("\\udfff") == 1
    assert sum(sums.closes for sums in ledger_of(tmp_path).values()) == 3
    (record,) = tmp_path.glob("run_*.json")
    assert json.loads(record.read_text())["end_reason"] == "closed"


class Bad:
    "Whatever is asked of it, it raises."

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class HalfMapping(Mapping[str, Any]):
    "A mapping that breaks while it is read."

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Any:
        yield "a"
        raise RuntimeError("gone")

    def __getitem__(self, key: str) -> Any:
        return 1


class Shouting(str):
    __slots__ = ()


CYCLE: dict[str, Any] = {"x": 1}
CYCLE["self"] = CYCLE
DEEP: list[Any] = []
for _ in range(3000):
    DEEP = [DEEP]

STRANGE: dict[str, Any] = {
    "numpy float": np.float32(0.5),
    "numpy int": np.int64(7),
    "numpy bool": np.bool_(True),
    "numpy array": np.arange(3),
    "numpy matrix": np.eye(2),
    "numpy objects": np.array([object(), None], dtype=object),
    "numpy nan": np.float64("nan"),
    "numpy text": np.str_("x"),
    "numpy time": np.datetime64("2024-01-02T03:04:05"),
    "datetime": START,
    "naive datetime": datetime(2024, 1, 2),  # noqa: DTZ001
    "date": date(2024, 1, 2),
    "zone": ZoneInfo("Asia/Kolkata"),
    "delta": timedelta(minutes=5),
    "decimal": Decimal("1.50"),
    "decimal nan": Decimal("NaN"),
    "decimal signalling nan": Decimal("sNaN"),
    "decimal infinity": Decimal("Infinity"),
    "nan": math.nan,
    "infinity": math.inf,
    "integer keys": {1: "a", 2.5: "b", None: "c", (1, 2): "d", START: "e", False: "f"},
    "nested": {"a": [{"b": (1, {2, 3})}], "c": {"d": {"e": object()}}},
    "set": {1, "a", None},
    "bytes": b"\xff\x00",
    "huge integer": 10**40,
    "huge huge integer": 10**5000,
    "complex": 1 + 2j,
    "class": Bad,
    "lambda": lambda: 1,
    "generator": (n for n in range(3)),
    "exception": ValueError("x"),
    "raises in repr": Bad(),
    "nested raising": {"a": [Bad(), {"b": Bad()}]},
    "key raises": {Bad(): 1},
    "subclass": Shouting("x"),
    "surrogate": "\ud800",
    "nested surrogate": {"\ud800": ["\udfff"]},
    "line feeds": 'a\nb\r\nc"d",e',
    "null character": "a\0b",
    "cycle": CYCLE,
    "deep": DEEP,
    "half a mapping": HalfMapping(),
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("place", ["features", "metadata"])
@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_strange_values_cost_at_most_themselves(tmp_path: Path, place: str, format: str) -> None:
    with TelemetryWriter(tmp_path, format=format, ledger=True) as writer:
        for k, (name, value) in enumerate(STRANGE.items()):
            writer.write_trace(trace(2 * k, symbol=name, **{place: {"value": value, "kept": name}}))
            writer.write_trace(trace(2 * k + 1, symbol="plain"))
    account = writer.stats()
    assert (account.failed, account.dropped, account.written) == ({}, {}, 2 * len(STRANGE))
    columns, report = load_columns(tmp_path)
    assert (report.bad, report.kept) == ([], 2 * len(STRANGE))
    kept = {t.symbol: getattr(t, place) for t in columns.to_traces() if t.symbol != "plain"}
    assert set(kept) == set(STRANGE)
    for name, found in kept.items():  # the values beside a strange one stay
        assert found["kept"] == name


@pytest.mark.parametrize("place", ["features", "metadata"])
def test_strange_containers_cost_at_most_themselves(tmp_path: Path, place: str) -> None:
    strange = {n: v for n, v in STRANGE.items() if n != "long"}
    with TelemetryWriter(tmp_path, ledger=True) as writer:
        for k, (name, value) in enumerate(strange.items()):
            writer.write_trace(trace(k, symbol=name, **{place: value}))
    account = writer.stats()
    assert (account.failed, account.written) == ({}, len(strange))
    rows, _ = complete_rows(tmp_path)
    assert [r["symbol"] for r in rows] == list(strange)
    assert all(isinstance(json.loads(r[f"{place}_json"]), dict) for r in rows)


def test_a_hook_given_anything_never_raises_and_counts_everything(tmp_path: Path, counts: Counts) -> None:
    rng, calls, plain = Random(4), counts(2_000, 50_000), 0
    usual: dict[str, Any] = {
        "symbol": "TCS", "strategy": "intraday", "direction": "LONG", "entry_time": START, "exit_time": START,
        "entry_price": 100.0, "exit_price": 101.0, "confidence": 0.5, "quantity": 1.0, "leverage": 1.0, "fees_pct": 0.1,
        "slippage_pct": 0.0, "exit_reason": "time", "realized_return_pct": None, "features": {}, "metadata": {}, "leg": 0,
    }  # fmt: skip
    strange = [v for n, v in STRANGE.items() if n not in {"long", "deep", "huge huge integer"}]
    strange += [None, "", -1, 0, "LONG", "1e5", START + timedelta(1), START - timedelta(1), 10**30, [], {}]
    with TelemetryWriter(tmp_path, ledger=True, max_pending=10**6, poll_seconds=0.01) as writer:
        hook = TelemetryHook(writer, {"intraday": 0.3})
        for k in range(calls):
            usual |= dict.fromkeys(("entry_time", "exit_time"), START + timedelta(seconds=k))
            wrong = {name: rng.choice(strange) for name in rng.sample(sorted(usual), rng.randrange(4))}
            hook.position_closed(**(usual | wrong))
            plain += not wrong
        assert writer._thread.is_alive()
    account = writer.stats()
    assert (account.offered, account.accounted, account.pending) == (calls, calls, 0)
    assert account.written > calls / 4
    assert {reason.split()[0] for reason in account.failed} == {"trace"}  # what was read can be formatted
    rows, torn = complete_rows(tmp_path)
    assert (len(rows), torn) == (account.written, 0)
    no_line = sum(n for reason, n in account.failed.items() if reason.startswith("format"))
    assert sum(sums.closes for sums in ledger_of(tmp_path).values()) == account.written + no_line
    _, report = load_columns(tmp_path)
    assert report.kept >= plain > calls / 5
    (record,) = tmp_path.glob("run_*.json")
    assert json.loads(record.read_text())["end_reason"] == "closed"


# ---- the ledger beside a sample of the rows


def closes(n: int, rng: Random) -> list[PredictionTrace]:
    made = []
    for k in range(n):
        entry = START + timedelta(seconds=rng.randrange(90 * 86_400), microseconds=k)
        said, was = rng.choice(["LONG", "SHORT"]), rng.choice(DIRECTIONS)
        made.append(
            PredictionTrace(
                entry, rng.choice(["TCS", "INFY", "SPY"]), rng.choice(["intraday", "swing"]), said, was, None, 100.0,
                101.0, held := rng.randrange(3000), rng.gauss(0.05, 1.0),
                exit_timestamp=entry + timedelta(minutes=held) if rng.random() < 0.7 else None, mode="live",
            )
        )  # fmt: skip
    return sorted(made, key=lambda t: t.timestamp)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_a_ledger_at_a_tenth_of_the_rows_tells_what_all_rows_tell(
    tmp_path: Path, counts: Counts, zone: str
) -> None:
    "Over three writers of which each is restarted; rates, daily curve and Sharpe to 1e-9."
    traces = closes(counts(3_000, 100_000), Random(5))
    options = {"mode": "live", "timezone": ZoneInfo(zone), "max_pending": 10**6}
    with TelemetryWriter(tmp_path / "full", sample_rate=1.0, **options) as full:
        for t in traces:
            full.write_trace(t)
    offered = written = 0
    for part in range(3):
        mine = traces[part::3]
        for half in (mine[: len(mine) // 2], mine[len(mine) // 2 :]):
            with TelemetryWriter(tmp_path / "tenth", sample_rate=0.1, buffer_size=20, **options) as tenth:
                for t in half:
                    tenth.write_trace(t)
            account = tenth.stats()
            offered, written = offered + account.offered, written + account.written
            assert account.accounted == account.offered
    assert (full.stats().written, offered) == (len(traces), len(traces))
    assert abs(written / len(traces) - 0.1) < 5 * math.sqrt(0.09 / len(traces))

    columns, report = load_columns(tmp_path / "full")
    assert report.kept == len(traces)
    ledger = ledger_of(tmp_path / "tenth")
    assert len(list((tmp_path / "tenth").glob("ledger_*"))) >= 6  # one a month for each of six writers
    confusion: Counter[tuple[int, int]] = Counter()
    for key, sums in ledger.items():
        confusion[key.called, key.actual] += sums.closes
    for said in range(2):
        for was in range(3):
            counted = int(((columns.predicted == said) & (columns.actual == was)).sum())
            assert confusion[said, was] == counted > 0
    assert sum(sums.wins for sums in ledger.values()) == int((columns.return_pct > 0).sum())
    assert math.isclose(
        sum(sums.square_sum for sums in ledger.values()) / PERCENT**2,
        float(np.square(columns.return_pct).sum()),
        rel_tol=1e-9,
    )
    days, daily = daily_returns(columns.exit_us, columns.return_pct, zone)
    by_day: defaultdict[str, float] = defaultdict(float)
    for key, sums in ledger.items():
        by_day[str(date_of_day(key.day))] += sums.return_sum / PERCENT
    from_ledger = np.array([by_day.pop(str(day), 0.0) for day in days])
    assert by_day == {}
    assert np.abs(np.cumsum(from_ledger) - np.cumsum(daily)).max() < 1e-9
    exact = sharpe_ratio(columns.exit_us, columns.return_pct, zone)
    assert abs(sharpe_of_days(from_ledger, days_per_year(days)) - exact) < 1e-9
    sampled, _ = load_columns(tmp_path / "tenth")  # why a ledger is needed: the rows alone say something else
    assert abs(sharpe_ratio(sampled.exit_us, sampled.return_pct, zone) - exact) > 0.1
