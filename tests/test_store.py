"""Loading: what was written comes back, what is broken is named, and a second look costs only what is new."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import example, given, settings
from hypothesis import strategies as st

import trade_telemetry.store.files as following
import trade_telemetry.store.record_reader as record_reader
import trade_telemetry.store.store as tt
from trade_telemetry.capture.line_format import csv_lines
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.store.columns import ARRAYS, WORDS, TraceColumns, load_extras, words_of
from trade_telemetry.store.files import _pull
from trade_telemetry.store.labels import relabel
from trade_telemetry.store.record_reader import SLOW, _parse_slow, _records, parse_bytes
from trade_telemetry.store.records import Origin, parse_record
from trade_telemetry.store.view import View, select_view
from trade_telemetry.trace import (
    COLUMNS,
    PredictionTrace,
    label_direction,
    make_trace_id,
    market_move_pct,
    to_dict,
    to_row,
)

OPEN = datetime(2025, 1, 2, 14, 30, tzinfo=UTC)
HEADER = ",".join(COLUMNS) + "\n"


def trade(i: int, strategy: str = "intraday", **changes: Any) -> PredictionTrace:
    direction: Any = ("LONG", "SHORT")[i % 2]
    entered, exit_price = OPEN + timedelta(minutes=i), 100.0 + (i * 7919 % 300 - 150) / 100
    move = market_move_pct(100.0, exit_price)
    trace = PredictionTrace(
        timestamp=entered,
        symbol=("AAPL", "MSFT", "SPY")[i % 3],
        strategy=strategy,
        predicted_direction=direction,
        actual_direction=label_direction(move, 0.3),
        predicted_confidence=0.6 if i % 5 else None,
        entry_price=100.0,
        exit_price=exit_price,
        holding_period_minutes=25.0,
        realized_return_pct=move if direction == "LONG" else -move,
        features={"gap": i / 7, "note": 'a, "b"'},
        metadata={"stop_loss": 99.0},
        exit_timestamp=entered + timedelta(minutes=25),
        label_threshold_pct=0.3,
        exit_reason="two\nlines" if i % 11 == 3 else "time",
    )
    trace = replace(trace, **changes)
    ident = trace.trace_id or make_trace_id(
        trace.strategy, trace.symbol, trace.timestamp, trace.predicted_direction
    )
    return replace(trace, trace_id=ident)


def lines(traces: Iterable[PredictionTrace]) -> str:
    return csv_lines(
        [to_row(trace) for trace in traces]
    ).decode()  # quotes a lone \r, as csv did not before 3.13


def write(path: Path, traces: Iterable[PredictionTrace]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + lines(traces), newline="")
    return path


def append(path: Path, text: str) -> None:
    with path.open("a", newline="") as file:
        file.write(text)


def ids(columns: TraceColumns) -> list[int]:
    return sorted(columns.trace_id.tolist())


def ids_of(traces: Iterable[PredictionTrace]) -> list[int]:
    return sorted(int(trace.trace_id, 16) for trace in traces)


def trades(*numbers: int) -> list[PredictionTrace]:
    return [trade(i) for i in numbers]


def same_as_a_fresh_look(store: tt.TraceStore) -> None:
    fresh = tt.TraceStore(store.paths)
    fresh.refresh()

    def key(trace: PredictionTrace) -> tuple[str, str]:
        return trace.trace_id, str(trace)

    assert sorted(store.columns.to_traces(), key=key) == sorted(fresh.columns.to_traces(), key=key)
    assert store.report == fresh.report
    assert [replace(run, newest=False) for run in store.runs()] == [
        replace(run, newest=False) for run in fresh.runs()
    ]


@pytest.fixture
def live(tmp_path: Path) -> tuple[tt.TraceStore, Path]:
    "A store that has read five trades of a live segment."
    path = write(tmp_path / "live" / "traces_intraday_0.csv", trades(*range(5)))
    store = tt.TraceStore(tmp_path)
    assert store.refresh()
    return store, path


# ── a second look ────────────────────────────────────────────────────────────────────────────────────────


def test_appended_rows_are_read_and_nothing_else(live: tuple[tt.TraceStore, Path], monkeypatch: Any) -> None:
    store, path = live
    append(path, lines(trades(5, 6)))
    blocks: list[int] = []
    pull = _pull

    def counted(handle: Any) -> Any:
        for block in pull(handle):
            blocks.append(len(block))
            yield block

    monkeypatch.setattr(following, "_pull", counted)
    assert store.refresh()
    assert sum(blocks) == len(lines(trades(5, 6)).encode())
    assert ids(store.columns) == ids_of(trades(*range(7)))
    same_as_a_fresh_look(store)


def test_an_unchanged_directory_is_not_opened_again(
    live: tuple[tt.TraceStore, Path], monkeypatch: Any
) -> None:
    store, _ = live

    def forbidden(file: Any) -> Any:
        raise AssertionError(f"opened {file.found.path}")

    monkeypatch.setattr(following, "_open", forbidden)
    assert not store.refresh()


def test_a_half_written_last_line_waits_until_it_is_whole(live: tuple[tt.TraceStore, Path]) -> None:
    store, path = live
    text = lines([trade(14, exit_reason="two\nlines")])  # a line feed inside quotes
    assert text.count("\n") == 2
    for a, b in ((0, 3), (3, text.index("\n") + 1), (text.index("\n") + 1, len(text) - 1)):
        append(path, text[a:b])
        assert not store.refresh()
        assert len(store.columns) == 5
        assert [row.reason for row in store.report.bad] == ["the last line is unfinished"]
    append(path, "\n")
    assert store.refresh()
    assert ids(store.columns) == ids_of(trades(0, 1, 2, 3, 4, 14))
    assert not store.report.bad
    same_as_a_fresh_look(store)


def test_a_header_that_is_not_finished_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "traces_intraday_0.csv"
    store = tt.TraceStore(tmp_path)
    for text in ("", HEADER[:20], HEADER[20:]):
        path.touch()
        append(path, text)
        assert not store.refresh()
        assert store.report.ignored_files == 0
    append(path, lines(trades(0)))
    assert store.refresh()
    assert len(store.columns) == 1


def test_a_new_segment_is_found(live: tuple[tt.TraceStore, Path]) -> None:
    store, path = live
    write(path.with_name("traces_intraday_1.csv"), trades(5, 6))
    write(path.parents[1] / "backtest_20250101_000000" / "traces_swing_0.csv", [trade(1, "swing")])
    assert store.refresh()
    assert len(store.columns) == 8
    assert [run.name for run in store.runs()] == ["live", "backtest_20250101_000000"]
    same_as_a_fresh_look(store)


@pytest.mark.parametrize("appended", [0, 2])
def test_rotation_to_gzip_keeps_the_rows_and_reads_those_written_before_it(
    live: tuple[tt.TraceStore, Path], appended: int
) -> None:
    store, path = live
    append(path, lines(trades(*range(5, 5 + appended))))
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert store.refresh() == bool(appended)  # both are there for a moment: the rows count once
    assert ids(store.columns) == ids_of(trades(*range(5 + appended)))
    path.unlink()
    assert not store.refresh()
    assert ids(store.columns) == ids_of(trades(*range(5 + appended)))
    assert store.columns.to_traces()[0].features == trade(0).features  # fetched from the compressed file
    assert not store.refresh()


def test_rows_appended_just_before_the_rotation_are_not_missed(live: tuple[tt.TraceStore, Path]) -> None:
    store, path = live
    append(path, lines(trades(5, 6)))
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert store.refresh()
    assert ids(store.columns) == ids_of(trades(*range(7)))
    assert store.report.duplicates == 0


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_truncation_drops_the_rows_that_are_gone(live: tuple[tt.TraceStore, Path], kept: int) -> None:
    store, path = live
    with path.open("r+b") as file:
        file.truncate(len((HEADER + lines(trades(*range(kept)))).encode()))
    assert store.refresh()
    assert ids(store.columns) == ids_of(trades(*range(kept)))
    append(path, lines(trades(9)))
    assert store.refresh()
    assert ids(store.columns) == ids_of([*trades(*range(kept)), trade(9)])
    same_as_a_fresh_look(store)


@pytest.mark.parametrize("numbers", [(20,), (20, 21, 22, 23, 24), tuple(range(20, 40))])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_replaced_file_is_read_anew(
    live: tuple[tt.TraceStore, Path], numbers: tuple[int, ...], in_place: bool
) -> None:
    store, path = live
    if in_place:
        write(path, trades(*numbers))
        os.utime(path, ns=(1, 1))  # whatever the clock's grain
    else:
        write(path.with_name("new.tmp"), trades(*numbers)).replace(path)
    assert store.refresh()
    assert ids(store.columns) == ids_of(trades(*numbers))
    same_as_a_fresh_look(store)


def test_a_longer_file_whose_old_part_changed_is_read_anew(live: tuple[tt.TraceStore, Path]) -> None:
    store, path = live
    write(path, trades(0, 1, 2, 3, 40, 41, 42))
    assert store.refresh()
    assert ids(store.columns) == ids_of(trades(0, 1, 2, 3, 40, 41, 42))


def test_a_directory_may_be_missing_appear_vanish_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "analytics"
    store = tt.TraceStore(folder)
    assert (store.refresh(), len(store.columns), store.runs()) == (False, 0, [])
    for n in (3, 2):
        write(folder / "live" / "traces_intraday_0.csv", trades(*range(n)))
        assert store.refresh()
        assert len(store.columns) == n
        shutil.rmtree(folder)
        assert store.refresh()
        assert (len(store.columns), store.runs(), store.report.files) == (0, [], 0)
        assert not store.refresh()


def test_a_removed_segment_gives_back_the_duplicates_it_hid(live: tuple[tt.TraceStore, Path]) -> None:
    store, path = live
    write(path.with_name("traces_intraday_1.csv"), trades(3, 4, 5))
    assert store.refresh()
    assert (len(store.columns), store.report.duplicates) == (6, 2)
    path.unlink()
    assert store.refresh()
    assert ids(store.columns) == ids_of(trades(3, 4, 5))
    assert store.report.duplicates == 0


def test_views_taken_earlier_keep_their_rows(live: tuple[tt.TraceStore, Path]) -> None:
    store, path = live
    before, copy = store.columns, ids(store.columns)
    for i in range(5, 3000, 500):
        append(path, lines(trades(*range(i, i + 500))))
        store.refresh()
    assert ids(before) == copy
    path.unlink()
    store.refresh()
    assert ids(before) == copy


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(1, 12))
def test_it_does_not_matter_at_which_bytes_one_looks(cuts: list[int], n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traces_intraday_0.csv"
        data = (HEADER + lines(trade(i) for i in range(n))).encode()
        store = tt.TraceStore(folder)
        for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
            path.write_bytes(data[:end]) if not path.exists() else append(
                path, data[path.stat().st_size : end].decode()
            )
            store.refresh()
        assert ids(store.columns) == ids_of(trade(i) for i in range(n))
        assert not store.report.bad
        assert store.columns.line.tolist() == tt.load_columns(folder)[0].line.tolist()


# ── what was written ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{}, {"format": "jsonl"}, {"compression": True}])
def test_what_the_writer_wrote_comes_back(tmp_path: Path, options: dict[str, Any]) -> None:
    written = [trade(i, ("intraday", "swing")[i % 2], mode="live") for i in range(60)]
    with TelemetryWriter(tmp_path / "live", mode="live", buffer_size=7, **options) as writer:
        for trace in written:
            writer.write_trace(trace)
    columns, report = tt.load_columns(tmp_path)
    assert report.bad == []
    read = columns.to_traces()
    assert all(len(trace.position_id) == 16 for trace in read)
    assert sorted((replace(t, position_id="") for t in read), key=str) == sorted(written, key=str)
    assert set(columns.modes) == {"live"}
    store = tt.TraceStore(tmp_path)
    store.refresh()
    (run,) = store.runs()
    assert (run.mode, run.state, run.rows, run.counters["written"]) == ("live", "ended", 60, 60)


def test_a_writer_that_stops_beating_ended_uncleanly(tmp_path: Path) -> None:
    now = [0.0]
    store = tt.TraceStore(tmp_path, now=lambda: now[0])
    with TelemetryWriter(tmp_path / "live", mode="live", throttle_seconds=10) as writer:
        writer.write_trace(trade(0, mode="live"))
        writer.flush()
        store.refresh()
        (record,) = (tmp_path / "live").glob("run_*.json")
        beat = datetime.fromisoformat(json.loads(record.read_text())["heartbeat_at"]).timestamp()
        for later, state in ((1, "running"), (3600, "ended uncleanly")):
            now[0] = beat + later
            assert [run.state for run in store.runs()] == [state]
    store.refresh()
    assert [run.state for run in store.runs()] == ["ended"]


def crash(directory: Path, **changes: Any) -> str:
    "The record of a writer that beat for the last time on New Year's morning; its name."
    with TelemetryWriter(directory, mode="live") as writer:
        writer.write_trace(trade(0, mode="live"))
    (path,) = [p for p in directory.glob("run_*.json") if "name" not in json.loads(p.read_text())]
    record = json.loads(path.read_text())
    record |= {"started_at": "2025-01-01T09:00:00+00:00", "heartbeat_at": "2025-01-01T10:00:00+00:00"}
    record |= {"ended_at": None, "end_reason": None, "name": "crashed"} | changes
    record["counters"]["pending"] = 7
    path.write_text(json.dumps(record))
    return path.name.removeprefix("run_").removesuffix(".json")


def test_a_crash_and_its_clean_restart_in_one_directory_are_told_apart(tmp_path: Path) -> None:
    name = crash(tmp_path / "live")
    store = tt.TraceStore(tmp_path)
    store.refresh()
    (run,) = store.runs()
    assert (run.state, [w.name for w in run.silent], run.silent[0].pending) == ("ended uncleanly", [name], 7)
    with TelemetryWriter(tmp_path / "live", mode="live") as writer:
        writer.write_trace(trade(1, mode="live"))
        writer.flush()
        store.refresh()
        (run,) = store.runs()
        assert (run.state, run.silent, run.unclean_ends, run.writers) == ("running", (), 1, 2)
    store.refresh()
    (run,) = store.runs()
    assert (run.state, run.silent, run.unclean_ends) == ("ended", (), 1)
    old, new = run.records
    assert (old.name, old.replaced, old.pid) == (name, True, os.getpid())
    assert (new.state, new.replaced, new.end_reason, new.counters["written"]) == ("ended", False, "closed", 1)


def test_a_writer_that_died_beside_a_living_one_is_not_hidden_by_it(tmp_path: Path) -> None:
    name = crash(tmp_path)
    with TelemetryWriter(tmp_path, mode="live", throttle_seconds=60) as writer:
        writer.write_trace(trade(1, mode="live"))
        writer.flush()
        (living,) = [p for p in tmp_path.glob("run_*.json") if name not in p.name]
        began = json.loads(living.read_text())["started_at"]
        dead = tmp_path / f"run_{name}.json"  # it still beat when the other one began
        dead.write_text(
            json.dumps(json.loads(dead.read_text()) | {"heartbeat_at": began, "heartbeat_seconds": 5})
        )
        store = tt.TraceStore(tmp_path, now=lambda: datetime.fromisoformat(began).timestamp() + 20)
        store.refresh()
        (run,) = store.runs()
        assert (run.state, [w.name for w in run.silent], run.unclean_ends) == ("running", [name], 1)


@pytest.mark.parametrize("name", NAMES)
def test_real_trades_survive_the_way_through_a_file(name: str, tmp_path: Path) -> None:
    traces = load_log(name)
    write(tmp_path / "imported" / "traces_freqtrade_0.csv", traces)
    columns, report = tt.load_columns(tmp_path, thresholds_pct={"freqtrade": 0.3})
    assert columns.to_traces() == traces
    assert (report.kept, report.bad, report.mislabelled) == (len(traces), [], 0)
    assert np.isnan(columns.confidence).all()
    again = relabel(columns, "market", {"freqtrade": 0.3})
    np.testing.assert_array_equal(again.actual, columns.actual)


def test_duplicates_are_judged_within_a_run(tmp_path: Path) -> None:
    for run in ("live", "backtest_20250101_000000"):
        write(tmp_path / run / "traces_intraday_0.csv", trades(0, 1, 1, 2))
    columns, report = tt.load_columns(tmp_path)
    assert (len(columns), report.duplicates, report.rows) == (6, 2, 8)
    assert {(row.line, row.reason) for row in report.bad} == {(4, "duplicate of a trade of the same run")}


def test_a_file_of_the_original_system_is_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions_20250112.csv.gz"
    text = io.StringIO(newline="")
    out = csv.writer(text)  # carriage returns and all
    out.writerow(COLUMNS[:12][::-1])  # in any order
    for i in range(4):
        meta = {"exit_time": "2025-01-02T16:00:00", "exit_reason": "target"} if i < 2 else {}
        row = to_row(trade(i, metadata=meta))[:12]
        out.writerow([*row[1:12][::-1], "2025-01-02T10:00:00"])
    path.write_bytes(gzip.compress(text.getvalue().encode()))
    columns, report = tt.load_columns(path, timezone="America/New_York")
    assert (len(columns), report.bad) == (4, [])
    assert columns.to_traces()[0].timestamp == datetime(2025, 1, 2, 15, tzinfo=UTC)
    assert columns.to_traces()[0].exit_timestamp == datetime(2025, 1, 2, 21, tzinfo=UTC)
    assert columns.to_traces()[3].exit_timestamp == datetime(2025, 1, 2, 15, 25, tzinfo=UTC)
    assert (columns.exit_reasons, columns.modes) == (["target", ""], ["backtest"])
    assert report.mislabelled == 0  # by the defaults of 0.3 % and 0.5 %
    assert np.isnan(columns.threshold_pct).all()


def test_json_lines_of_traces_are_read(tmp_path: Path) -> None:
    rows = [json.dumps(to_dict(trade(i))) for i in range(3)]
    (tmp_path / "anything.jsonl").write_text("\n".join([*rows, '{"timestamp": 3}', "[", *rows[:1]]) + "\n")
    (tmp_path / "other.jsonl").write_text('{"event": "start"}\n')
    columns, report = tt.load_columns(tmp_path)
    assert columns.to_traces() == trades(0, 1, 2)
    assert [row.line for row in report.bad] == [4, 5, 6]
    assert (report.duplicates, report.ignored_files) == (1, 1)


# ── what is broken ───────────────────────────────────────────────────────────────────────────────────────

GARBAGE = [
    "",
    "x",
    "1,2,3",
    ",".join("?" * 22),
    '"',
    '"unclosed',
    'a"b"c,' * 22,
    "é" * 30,
    "\x00\x01",
    HEADER.strip(),
    lines([trade(50)]).strip()[:-40],
    lines([trade(50, entry_price=-1.0)]).strip(),
    lines([trade(50)]).strip().replace("LONG", "UP"),
    lines([trade(50)]).strip() + ",extra",
]


GOOD = {
    quotes: [trade(i, features={"x": "a,b"} if quotes else {}, metadata={}) for i in range(200)]
    for quotes in (True, False)
}
GOOD_TEXTS = {quotes: [lines([t]) for t in good] for quotes, good in GOOD.items()}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(GARBAGE) | st.text(max_size=40)), max_size=6),
    st.booleans(),
)
@example([(5, '"unclosed'), (9, '"unclosed')], True)
@example([(5, '"'), (9, '"')], True)
@example([(0, '"unclosed'), (200, '"unclosed')], False)
@example([(3, '"unclosed')], False)  # just before a record that spans two lines
@example([(3, '"'), (3, "x"), (14, '"'), (15, '"')], True)
def test_no_garbage_between_the_lines_costs_a_good_row(garbage: list[tuple[int, str]], quotes: bool) -> None:
    texts = list(GOOD_TEXTS[quotes])
    for at, text in sorted(garbage, reverse=True):
        texts.insert(at, text.replace("\n", " ").replace("\r", " ") + "\n")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "traces_intraday_0.csv").write_text(HEADER + "".join(texts), newline="")
        with patch.object(record_reader, "SLOW", 16):  # so that 200 rows take every road
            columns, report = tt.load_columns(folder)
    assert ids(columns) == ids_of(GOOD[quotes])
    counted = [at for at, text in garbage if text.encode().strip()]
    assert sum(at < 200 for at in counted) <= len(report.bad) <= len(counted)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([".csv", ".csv.gz", ".jsonl"]), st.booleans())
@example(b"a,b\rc,d\n", ".csv", False)
@example(b"a\rb,2025\n", ".csv", True)
def test_no_bytes_whatsoever_make_it_raise(data: bytes, suffix: str, header: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"traces_intraday_0{suffix}"
        path.write_bytes((HEADER.encode() if header else b"") + data)
        columns, _ = tt.load_columns(folder)
        assert len(columns) == 0


names = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), min_size=1, max_size=8
)
floats = st.floats(allow_nan=False, allow_infinity=False)
traces = st.builds(
    lambda i, symbol, strategy, direction, entry, exit_, minutes, earned, extra: trade(
        i,
        strategy,
        symbol=symbol,
        predicted_direction=direction,
        entry_price=entry,
        exit_price=exit_,
        realized_return_pct=earned,
        predicted_confidence=extra,
        quantity=extra,
        exit_timestamp=OPEN + timedelta(minutes=i, microseconds=minutes),
        exit_reason=symbol,
    ),
    st.integers(0, 10**6),
    names,
    names,
    st.sampled_from(["LONG", "SHORT", "NOOP"]),
    st.floats(1e-300, 1e300),
    st.floats(1e-300, 1e300),
    st.integers(0, 10**9),
    st.floats(-1e6, 1e6),  # beyond it a row is set aside
    st.none() | floats,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(traces, max_size=12), st.booleans())
@example([trade(0, "\n", symbol="\r", exit_reason="\r"), trade(0, "0", symbol="0")], False)
def test_both_roads_agree_on_every_row(rows: list[PredictionTrace], without_offset: bool) -> None:
    text = lines(rows)
    if without_offset:
        text = text.replace("+00:00", "")
    origin = Origin("t.csv", list(COLUMNS), "run", "backtest", UTC)
    ends, starts = _records(text.encode())
    one_by_one = _parse_slow(text.encode(), ends, starts, origin)
    parsed = parse_bytes(text.encode(), origin, 0)
    quick = TraceColumns.concat(parsed.parts)
    careful = TraceColumns.concat(one_by_one.parts)
    assert [row.reason for row in one_by_one.bad] == [row.reason for row in parsed.bad]
    for name in ARRAYS:
        if name in WORDS:
            assert words_of(quick, name).tolist() == words_of(careful, name).tolist()
        else:
            np.testing.assert_array_equal(getattr(quick, name), getattr(careful, name))


def test_without_pyarrow_the_same_rows_are_read(tmp_path: Path, monkeypatch: Any) -> None:
    path = write(tmp_path / "live" / "traces_intraday_0.csv", trades(*range(300)))
    append(path, "garbage\n" + lines(trades(300)))
    with_it = tt.load_columns(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    without = tt.load_columns(tmp_path)
    assert without[1] == with_it[1]
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(without[0], name), getattr(with_it[0], name))


def test_one_bad_row_sends_only_its_neighbours_down_the_careful_road(monkeypatch: Any) -> None:
    texts = [lines([trade(i)]) for i in range(5000)]
    texts[3333] = texts[3333].replace("100.0", "n/a", 1)
    origin = Origin("t.csv", list(COLUMNS), "run", "backtest", UTC)
    careful: list[int] = []
    parse = parse_record

    def counted(*args: Any) -> PredictionTrace:
        careful.append(1)
        return parse(*args)

    monkeypatch.setattr(record_reader, "parse_record", counted)
    parsed = parse_bytes("".join(texts).encode(), origin, 2)
    assert sum(map(len, parsed.parts)) == 4999
    assert [row.reason for row in parsed.bad] == ["entry_price is not a number: 'n/a'"]
    assert len(careful) <= SLOW


def test_small_blocks_give_the_same_rows(tmp_path: Path, monkeypatch: Any) -> None:
    path = write(tmp_path / "traces_intraday_0.csv", trades(*range(100)))
    packed = tmp_path / "packed" / "traces_intraday_0.csv.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    whole = tt.load_columns(tmp_path)[0]
    monkeypatch.setattr(following, "BLOCK", 700)
    parts = tt.load_columns(tmp_path)[0]
    assert (len(parts), ids(parts), parts.line.tolist()) == (200, ids(whole), whole.line.tolist())


def test_a_gzip_file_that_ends_early_still_gives_its_first_rows(tmp_path: Path) -> None:
    data = gzip.compress((HEADER + lines(trade(i) for i in range(2000))).encode())
    path = tmp_path / "traces_intraday_0.csv.gz"
    path.write_bytes(data[: len(data) // 2])
    store = tt.TraceStore(tmp_path)
    assert store.refresh()
    assert 100 < len(store.columns) < 2000
    assert any("cannot be read" in row.reason for row in store.report.bad)
    assert not store.refresh()
    path.write_bytes(data)
    assert store.refresh()
    assert (len(store.columns), store.report.bad) == (2000, [])


def test_a_last_line_without_line_feed_counts_only_where_it_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "traces_intraday_0.csv", trades(0, 1))
    text = path.read_text().rstrip("\n")
    for cut, kept in ((0, 2), (1, 1), (40, 1)):
        path.write_text(text[: len(text) - cut], newline="")
        columns, report = tt.load_columns(tmp_path)
        assert (len(columns), len(report.bad)) == (kept, 2 - kept)


def test_files_of_others_are_ignored_with_a_count(tmp_path: Path) -> None:
    write(tmp_path / "traces_intraday_0.csv", trades(0))
    (tmp_path / "prices.csv").write_text("date,close\n2025-01-02,100\n")
    (tmp_path / "notes.csv").write_text("")
    (tmp_path / "traces_wrong_0.csv").write_text("date,close\n")
    columns, report = tt.load_columns(tmp_path)
    assert (len(columns), report.ignored_files) == (1, 1)
    assert [row.line for row in report.bad] == [1]
    assert report.bad[0].reason.startswith("the header lacks timestamp, symbol")


def test_strict_raises_at_the_first_bad_row(tmp_path: Path) -> None:
    append(write(tmp_path / "traces_intraday_0.csv", trades(0)), "1,2\n")
    with pytest.raises(ValueError, match=r"traces_intraday_0\.csv:3: expected 34 columns, got 2"):
        tt.load_columns(tmp_path, strict=True)
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        tt.load_columns(tmp_path / "nowhere")


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────


def view(folder: Path, now: float = 0.0) -> View:
    store = tt.TraceStore(folder, now=lambda: now)
    store.refresh()
    return select_view(store.columns, store.runs())


@pytest.mark.parametrize("folder", ["replay_20250103_080000", "live"])
def test_a_replay_is_never_shown_as_live(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder / "traces_intraday_0.csv", [trade(0, mode="replay")])
    assert view(tmp_path).state == "replay"
    write(tmp_path / "replay_20250104_080000" / "traces_intraday_0.csv", [trade(0, mode="live")])
    assert view(tmp_path).state == "replay"


def test_live_is_the_figure_and_backtests_are_never_mixed_in(tmp_path: Path) -> None:
    write(tmp_path / "live" / "traces_intraday_0.csv", [trade(0, mode="live"), trade(1, mode="backtest")])
    for run, n in (("backtest_20250101_000000", 3), ("backtest_20250101_000000_2", 2)):
        write(tmp_path / run / "traces_swing_0.csv", [trade(i, "swing") for i in range(n)])
    got = view(tmp_path)
    assert (got.state, len(got.figure)) == ("live", 1)
    assert got.reference is not None
    assert len(got.reference) == 2  # the one made later in the same second
    assert [run.name for run in got.reference_runs] == ["backtest_20250101_000000_2"]


def test_a_running_replay_stands_before_a_newer_backtest(tmp_path: Path) -> None:
    write(tmp_path / "backtest_20250105_000000" / "traces_intraday_0.csv", trades(0))
    replay = write(tmp_path / "replay_20250104_000000" / "traces_intraday_0.csv", [trade(0, mode="replay")])
    assert view(tmp_path).state == "historical"
    record = {"mode": "replay", "started_at": OPEN.isoformat(), "heartbeat_at": OPEN.isoformat()}
    (replay.parent / "run_1.json").write_text(json.dumps(record))
    assert view(tmp_path, OPEN.timestamp()).state == "replay"
    assert view(tmp_path, OPEN.timestamp() + 10**6).state == "historical"


def test_a_live_run_that_keeps_no_rows_is_shown_by_its_ledger(tmp_path: Path) -> None:
    write(tmp_path / "backtest_20250101_000000" / "traces_intraday_0.csv", trades(*range(5)))
    with TelemetryWriter(tmp_path / "live", mode="live", sample_rate=0.0) as writer:
        for i in range(40):
            writer.write_trace(trade(i, ("intraday", "swing")[i % 2], mode="live"))
    got = view(tmp_path)
    assert (got.state, len(got.figure), len(got.reference or ())) == ("live", 0, 5)
    assert got.figure.ledger is not None
    assert got.figure.ledger.closes == 40
    (run,) = got.figure_runs
    assert (run.rows, run.closes, run.traded, run.strategies) == (0, 40, True, ("intraday", "swing"))


def test_closes_of_a_run_are_counted_once_whatever_its_writers_keep(tmp_path: Path) -> None:
    for rate in (1.0, 0.0):
        with TelemetryWriter(tmp_path / "live", mode="live", sample_rate=rate) as writer:
            for i in range(30):
                writer.write_trace(trade(i + int(100 * rate), mode="live"))
    (run,) = view(tmp_path).figure_runs
    assert (run.rows, run.closes) == (30, 60)


def test_nothing_at_all_is_an_empty_view(tmp_path: Path) -> None:
    got = view(tmp_path / "nowhere")
    assert (got.state, len(got.figure), got.reference) == ("empty", 0, None)


def test_a_dashboard_may_read_files_without_the_heavy_libraries(tmp_path: Path) -> None:
    write(tmp_path / "live" / "traces_intraday_0.csv", trades(*range(50)))
    code = (
        "import sys; from trade_telemetry.store.store import TraceStore;"
        f"store = TraceStore({str(tmp_path)!r}); store.refresh(); assert len(store.columns) == 50;"
        "from trade_telemetry.metrics import returns, classification;"
        "print([m for m in ('pandas', 'scipy', 'matplotlib', 'seaborn', 'fastcore') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("spread", [False, True])
def test_features_of_many_rows_are_fetched_at_once_and_are_those_of_each_row(
    tmp_path: Path, spread: bool
) -> None:
    written = [
        trade(
            i,
            exit_reason="two\nlines" if spread and i == 3 else "time",  # moves every line behind it
            features={"k": i, "said": 'a "word", two'},
            metadata={"n": -i},
        )
        for i in range(700)
    ]
    write(tmp_path / "live" / "traces_intraday_0.csv", written)
    columns, report = tt.load_columns(tmp_path)
    assert report.bad == []
    chosen = columns.take(slice(50, None))
    extras = load_extras(chosen)
    assert [features.get("k") for features, _ in extras] == list(range(50, 700))
    assert [metadata["n"] for _, metadata in extras] == [-i for i in range(50, 700)]


def test_quotes_in_features_confuse_neither_json_lines_nor_the_way_back_to_them(tmp_path: Path) -> None:
    said = ['one " quote', "none", 'three """ quotes', "x" * 200_000, '"']
    for form in ("jsonl", "csv"):
        with TelemetryWriter(tmp_path / form, format=form) as writer:
            for k, text in enumerate(said):
                when = datetime(2024, 1, 2, 15, k, tzinfo=UTC)
                writer.write_trace(
                    PredictionTrace(when, "A", "s", "LONG", "LONG", 0.5, 1.0, 1.1, 1, 10.0, {"said": text})
                )
        columns, report = tt.load_columns(tmp_path / form)
        assert (report.bad, len(columns)) == ([], len(said)), form
        assert [t.features["said"] for t in columns.to_traces()] == said, form
