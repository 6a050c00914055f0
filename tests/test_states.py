"""States beside files: the laws of merging, the same answers as from rows, and what may happen to a cache."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.cli import answers
from trade_telemetry.cli.common import Reading
from trade_telemetry.config import Settings
from trade_telemetry.scale import blocks, folding
from trade_telemetry.scale.folded_store import FoldedStore
from trade_telemetry.scale.kept_states import INDEX
from trade_telemetry.scale.state import (
    Overlap,
    State,
    merge_states,
    no_state,
    runs_apart,
    runs_together,
    state_bytes,
    state_digest,
    state_from_bytes,
    state_of,
)
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.folded import folded_of
from trade_telemetry.store.store import TraceStore
from trade_telemetry.testing import make_traces
from trade_telemetry.trace import PredictionTrace

Now = Callable[[], float]
LATE: Now = lambda: 2e9  # noqa: E731  the clock of both stores


def trades(n: int = 300) -> list[PredictionTrace]:
    "Two strategies and versions, every fifth position closed in two parts that lie a day apart."
    made = []
    for i, trace in enumerate(make_traces(n)):
        own = replace(
            trace, strategy="swing" if i % 3 == 0 else "intraday", version="2" if i > n // 2 else "1",
            exit_reason="stop" if i % 2 else "target", fees_pct=0.02 if i % 4 else None,
        )  # fmt: skip
        if i % 5 == 0:
            own = replace(own, position_id=f"p{i}")
            later = timedelta(hours=26) if i % 10 else timedelta(minutes=1)
            made.append(replace(own, exit_timestamp=(own.exit_timestamp or own.timestamp) + later, exit_price=own.exit_price + 0.01))  # fmt: skip
        made.append(own)
    return made


def write(folder: Path, traces: list[PredictionTrace], **options: Any) -> None:
    told = {
        "background": False,
        "max_pending": 100_000,
        "max_file_size_mb": 0.01,
        "buffer_size": 10,
    } | options
    with TelemetryWriter(folder, **told) as writer:
        for trace in traces:
            writer.write_trace(trace)


def telemetry(root: Path) -> Path:
    "Two backtests in many segments, one of them packed; a live run; a live sample with its ledger."
    every = trades()
    write(root / "backtest_20240101_000000", every[:200], mode="backtest")
    write(root / "backtest_20240301_000000", every[:250], mode="backtest", compression=True)
    write(root / "live", every[60:220], mode="live")
    write(root / "live_sampled", every[100:330], mode="live", sample_rate=0.3)
    return root


def meet(root: Path) -> None:
    "A segment comes once more, with a correction, a broken line, and a last line without an end."
    folder = root / "backtest_20240101_000000"
    lines = sorted(folder.glob("traces_*.csv"))[0].read_text().splitlines(keepends=True)
    cells = lines[3].split(",")
    cells[9] = "-5.0"
    text = "".join([*lines[:3], ",".join(cells), "broken,line\n", lines[5].rstrip("\n")])
    (folder / "traces_swing_99.csv").write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return telemetry(tmp_path / "telemetry")


def rows_store(root: Path, zone: str = "UTC") -> TraceStore:
    store = TraceStore(root, timezone=zone, final=True, now=LATE)
    store.refresh()
    return store


def states_store(root: Path, zone: str = "UTC", **options: Any) -> FoldedStore:
    store = FoldedStore(root, timezone=zone, final=True, now=LATE, **({"rows_bytes": 0} | options))
    store.refresh()
    return store


def said(store: TraceStore, root: Path, zone: str = "UTC", run: str | None = None) -> str:
    "What every verb says, as JSON and for people."
    reading = Reading(Settings(telemetry_storage_path=root, timezone=zone), store, run=run)
    asked = {
        "metrics": answers.metrics_answer, "check": answers.check_answer, "sides": answers.sides_answer,
        "pairs": answers.pairs_answer, "live": answers.live_answer,
    }  # fmt: skip
    told = {name: ask(reading) for name, ask in asked.items()}
    facts = {name: (one.facts, one.text(), one.code, one.note) for name, one in told.items()}
    return json.dumps([facts, repr(store.runs()), repr(store.report)], default=str, indent=1)


# --- The laws


def closed(draw: st.DrawFn, k: int, run: str) -> PredictionTrace:
    trace = make_traces(1)[0]
    opened = trace.timestamp + timedelta(hours=draw(st.integers(0, 60)))
    position = draw(st.sampled_from(["", "a", "b"]))
    return replace(
        trace, timestamp=opened, exit_timestamp=opened + timedelta(minutes=draw(st.integers(1, 600))),
        trace_id=f"{run}{k}", position_id=f"{run}{position}" if position else "", strategy=draw(st.sampled_from(["intraday", "swing"])) if not position else "swing",
        realized_return_pct=draw(st.integers(-300, 300)) / 100, sample_rate=draw(st.sampled_from([1.0, 1.0, 0.5])) if not position else 1.0,
        predicted_confidence=draw(st.sampled_from([None, 0.25, 0.7])), actual_direction=draw(st.sampled_from(["LONG", "SHORT", "NOOP"])),
    )  # fmt: skip


@st.composite
def parts(draw: st.DrawFn) -> list[TraceColumns]:
    "Rows of two runs, dealt out to files; no exit is in two of them."
    made = []
    for run in ("one", "two"):
        rows = [closed(draw, k, run) for k in range(draw(st.integers(0, 8)))]
        dealt = [draw(st.integers(0, 2)) for _ in rows]
        for file in range(3):
            own = [row for row, place in zip(rows, dealt, strict=True) if place == file]
            made.append(TraceColumns.from_traces(own, run=run))
    return made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts(), st.randoms(use_true_random=False), st.sampled_from(["UTC", "Asia/Kolkata"]))
def test_what_is_folded_apart_and_merged_is_what_is_folded_together(
    files: list[TraceColumns], random: Any, zone: str
) -> None:
    whole = state_of(TraceColumns.concat(files), zone)
    states = [state_of(file, zone) for file in files]
    random.shuffle(states)
    cut = random.randint(0, len(states))
    grouped = merge_states(merge_states(*states[:cut]), no_state, merge_states(*states[cut:]))
    assert state_digest(grouped) == state_digest(merge_states(*reversed(states))) == state_digest(whole)
    assert state_bytes(state_from_bytes(state_bytes(whole))) == state_bytes(whole)
    assert state_bytes(runs_together(runs_apart(whole).values())) == state_bytes(whole)


@settings(max_examples=20, deadline=None)
@given(parts(), st.data())
def test_states_that_have_an_exit_in_common_are_refused_by_the_name_of_the_run(
    files: list[TraceColumns], data: st.DataObject
) -> None:
    some = [file for file in files if len(file)]
    if not some:
        return
    twice = data.draw(st.sampled_from(some))
    again = state_of(twice.take(slice(data.draw(st.integers(0, len(twice) - 1)), None)))
    with pytest.raises(Overlap) as caught:
        merge_states(*map(state_of, files), again)
    assert caught.value.runs == (twice.runs[0],)


# --- The same answers


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("rows_bytes", [0, 1 << 20])
def test_every_verb_says_the_same_from_states_as_from_rows(root: Path, zone: str, rows_bytes: int) -> None:
    meet(root)
    plain = rows_store(root, zone)
    for _ in range(2):  # the second time from what was kept
        store = states_store(root, zone, rows_bytes=rows_bytes)
        assert folded_of(store.columns) is not None
        for run in (None, "backtest_20240101_000000"):
            assert said(store, root, zone, run) == said(plain, root, zone, run)


def test_positions_that_several_strategies_share_are_read_as_rows(tmp_path: Path) -> None:
    numbered = [replace(trace, position_id=f"{i // 2}") for i, trace in enumerate(trades(60))]
    write(tmp_path / "backtest_20240101_000000", numbered, mode="backtest")
    store = states_store(tmp_path)
    assert folded_of(store.columns) is None
    assert said(store, tmp_path) == said(rows_store(tmp_path), tmp_path)


def test_rows_are_read_for_the_strategy_that_is_asked_for_and_for_no_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plain = states_store(root), rows_store(root)
    opened: list[str] = []
    reading = folding.read_file
    monkeypatch.setattr("trade_telemetry.scale.folded_store.read_file", lambda file, *rest: opened.append(file.found.path.name) or reading(file, *rest))  # fmt: skip
    own = store.columns.only("swing")
    assert opened == []
    assert sorted(own.trace_id.tolist()) == sorted(plain.columns.only("swing").trace_id.tolist())
    assert opened and all(name.startswith("traces_swing") for name in opened)


# --- What is read


@pytest.fixture
def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    reading = folding.read_file
    monkeypatch.setattr(folding, "read_file", lambda file, *rest: names.append(file.found.path.name) or reading(file, *rest))  # fmt: skip
    return names


def test_what_has_not_changed_is_not_opened(root: Path, opened_files: list[str]) -> None:
    states_store(root)
    assert len(opened_files) > 10
    opened_files.clear()
    store = states_store(root)
    assert opened_files == []
    assert store.refresh() is False


def test_a_file_that_grows_and_a_new_one_are_read_on(root: Path, opened_files: list[str]) -> None:
    states_store(root)
    more = trades(400)
    write(root / "backtest_20240101_000000", more[400:], mode="backtest")
    path = sorted((root / "backtest_20240101_000000").glob("traces_*.csv"))[0]
    lines = path.read_text().splitlines()
    cells = lines[-1].split(",")
    cells[lines[0].split(",").index("trace_id")] = "a new exit"
    with open(path, "a") as file:
        file.write(",".join(cells) + "\n")
    opened_files.clear()
    store = states_store(root)
    assert path.name in opened_files and 0 < len(opened_files) < 8
    assert said(store, root) == said(rows_store(root), root)


def test_a_changed_byte_in_an_old_file_is_seen(root: Path) -> None:
    states_store(root)
    path = sorted((root / "backtest_20240101_000000").glob("traces_*.csv"))[0]
    text = path.read_text()
    at = text.index(",LONG,", len(text) // 2)
    path.write_text(text[: at + 1] + "NOOP" + text[at + 5 :])
    assert said(states_store(root), root) == said(rows_store(root), root)


def test_a_file_that_goes_or_is_packed_is_seen(root: Path) -> None:
    states_store(root)
    first, second, *_ = sorted((root / "backtest_20240101_000000").glob("traces_*.csv"))
    first.unlink()
    subprocess.run(["gzip", str(second)], check=True)
    assert said(states_store(root), root) == said(rows_store(root), root)


# --- What may happen to the cache


def kept(root: Path) -> tuple[Path, Path]:
    "Index and states of a directory."
    folder = root / ".states" / "UTC"
    (state,) = folder.glob("*.state")
    return folder / INDEX, state


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Path, State]]:
    "A directory of one small run, and its state."
    write(tmp_path / "backtest_20240101_000000", trades(30), mode="backtest")
    yield tmp_path, state_of(rows_store(tmp_path).columns)


def state_now(root: Path, **options: Any) -> State:
    store = states_store(root, **options)
    return merge_states(*(own.state for own in store.folded.runs.values()))


def test_states_that_are_torn_at_any_place_are_made_again(small: tuple[Path, State]) -> None:
    root, state = small
    state_now(root)
    for which in (0, 1):
        data = kept(root)[which].read_bytes()
        for end in range(0, len(data) - 8, max(1, len(data) // 12)):
            kept(root)[which].write_bytes(data[:end])
            assert state_digest(state_now(root)) == state_digest(state)
            assert kept(root)[which].read_bytes() == data  # and they are whole again


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"form": [9, 9, 9], "zone": "UTC"}', "PAR1"])
def test_an_index_of_a_later_version_or_of_somebody_else_is_left_aside(
    small: tuple[Path, State], text: str
) -> None:
    root, state = small
    state_now(root)
    kept(root)[0].write_text(text)
    assert state_digest(state_now(root)) == state_digest(state)


def test_a_state_of_another_directory_is_left_aside(small: tuple[Path, State], tmp_path: Path) -> None:
    root, state = small
    other = telemetry(tmp_path / "other")
    states_store(other)
    shutil.rmtree(root / ".states", ignore_errors=True)
    shutil.copytree(other / ".states", root / ".states")
    shutil.rmtree(other)
    assert state_digest(state_now(root)) == state_digest(state)


def test_a_directory_that_cannot_be_written_works_without(
    small: tuple[Path, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, state = small

    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere, so the system would not refuse
    assert state_digest(state_now(root)) == state_digest(state)
    assert not (root / ".states").exists()


def test_nothing_is_written_where_nobody_wants_states(small: tuple[Path, State]) -> None:
    root, state = small
    assert state_digest(state_now(root, keep=False)) == state_digest(state)
    assert not (root / ".states").exists()


KILLED = """
import os, signal, sys
from trade_telemetry.scale import kept_states
from trade_telemetry.scale.folded_store import FoldedStore
place, count = int(sys.argv[2]), 0
def watch(name):
    real = getattr(os, name)
    def step(*args):
        global count
        count += 1
        if count == place:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    setattr(os, name, step)
watch("replace"), watch("fsync")
FoldedStore(sys.argv[1], final=True, rows_bytes=0).refresh()
"""


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_who_is_killed_while_writing_leaves_nothing_wrong(small: tuple[Path, State], place: int) -> None:
    root, state = small
    ended = subprocess.run([sys.executable, "-c", KILLED, str(root), str(place)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert state_digest(state_now(root)) == state_digest(state)
    assert state_digest(state_now(root)) == state_digest(state)


def test_two_processes_may_write_at_once(small: tuple[Path, State]) -> None:
    root, state = small
    once = "import sys; from trade_telemetry.scale.folded_store import FoldedStore; FoldedStore(sys.argv[1], final=True, rows_bytes=0).refresh()"
    both = [subprocess.Popen([sys.executable, "-c", once, str(root)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert state_digest(state_now(root)) == state_digest(state)
    assert len(list((root / ".states" / "UTC").glob("*.tmp"))) == 0


def test_days_of_another_zone_are_kept_apart(small: tuple[Path, State]) -> None:
    root, _ = small
    for zone in ("UTC", "Asia/Kolkata"):
        store = states_store(root, zone)
        sums = folded_of(store.columns)
        assert sums is not None and {part.zones for part in (sums.sums or {}).values()} == {(zone,)}
    assert sorted(path.name for path in (root / ".states").iterdir()) == ["Asia%2FKolkata", "UTC"]


def test_a_run_is_folded_in_pieces_whatever_its_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meet(root)
    whole = state_now(root, keep=False)
    monkeypatch.setattr(folding, "PIECE", 7)
    assert state_digest(state_now(root, keep=False)) == state_digest(whole)


def test_ids_are_sorted_and_each_is_there_once(root: Path) -> None:
    meet(root)
    for ids in state_now(root).ids.values():
        assert (np.diff(ids.astype(object)) > 0).all()


# --- Memory and what is written again


def test_what_is_merged_in_small_blocks_and_files_is_what_is_merged_in_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet(root)
    whole, laid = state_now(root, keep=False), list[int]()
    real = blocks.Shelf.arrays

    def counted(shelf: blocks.Shelf) -> Any:
        laid.append(shelf.rows if shelf.file is not None else 0)
        return real(shelf)

    monkeypatch.setattr(folding, "PIECE", 7)
    monkeypatch.setattr(folding, "FAN", 3)
    monkeypatch.setattr(blocks, "SPILL_BYTES", 1)
    monkeypatch.setattr(blocks.in_blocks, "__defaults__", (5,))
    monkeypatch.setattr(blocks.Shelf, "arrays", counted)
    assert state_digest(state_now(root)) == state_digest(whole)
    assert sum(laid) > 5 * whole.rows  # they were in files, and merged more than once
    names = {path.suffix for path in (root / ".states" / "UTC").iterdir()}
    assert names == {".json", ".state"}  # and nothing is left of these
    assert len(blocks._OPEN) <= blocks.MOST_FILES


def test_a_small_file_beside_the_large_one_is_all_that_is_written(tmp_path: Path) -> None:
    every, folder = trades(400), tmp_path / "backtest_20240101_000000"
    write(folder, every[:400], mode="backtest")
    state_now(tmp_path)
    _, large = kept(tmp_path)
    found, sizes = [large], [large.stat()]
    for start in range(400, 430, 10):  # ten new trades at a time, and a new process each time
        write(folder, every[start : start + 10], mode="backtest")
        state = state_now(tmp_path)
        assert state_digest(state) == state_digest(state_of(rows_store(tmp_path).columns))
        found = sorted((tmp_path / ".states" / "UTC").glob("*.state"), key=lambda path: path.stat().st_size)
        assert found[-1] == large and len(found) >= 2
        sizes.append(large.stat())
        assert max(path.stat().st_size for path in found[:-1]) < sizes[0].st_size / 2
    assert len({(one.st_ino, one.st_mtime_ns) for one in sizes}) == 1  # nobody wrote it again
    write(folder, every[430:], mode="backtest")
    assert state_digest(state_now(tmp_path)) == state_digest(state_of(rows_store(tmp_path).columns))
    told = json.loads((tmp_path / ".states" / "UTC" / INDEX).read_text())
    assert (told["state"] != large.stem, told["more"]) == (True, "")  # an eighth is new: all in one again


@pytest.mark.parametrize("torn", [0, 1])
def test_a_pair_of_files_of_which_one_is_torn_is_made_again(tmp_path: Path, torn: int) -> None:
    every, folder = trades(200), tmp_path / "backtest_20240101_000000"
    for some in (every[:200], every[200:210]):
        write(folder, some, mode="backtest")
        state = state_now(tmp_path)
    told = json.loads((tmp_path / ".states" / "UTC" / INDEX).read_text())
    path = tmp_path / ".states" / "UTC" / f"{told[('state', 'more')[torn]]}.state"
    path.write_bytes(path.read_bytes()[:-100])
    assert state_digest(state_now(tmp_path)) == state_digest(state)
