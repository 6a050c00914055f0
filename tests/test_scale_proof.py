"""One desk, and every road to its figures: files, files with their states, a lake, both, a part of each; sums by another program's SQL.

DuckDB adds up the Parquet files of a lake in whole units and gets the package's sums to the last one. States obey the laws of adding
however rows are dealt out, and what a shell prints is the same to the byte from whatever the rows are read. Costs that must not grow
are counted: files opened and memory taken, not seconds."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale_desk import BACKTEST, NAMES, make_desk, night_trades, segment, sums_in_sql, sums_of

from trade_telemetry.cli.main import main
from trade_telemetry.scale import blocks
from trade_telemetry.scale.compact import compact
from trade_telemetry.scale.executors import local_pool
from trade_telemetry.scale.fold_files import fold_files
from trade_telemetry.scale.folded_store import FoldedStore
from trade_telemetry.scale.state import State, merge_states, no_state, state_bytes, state_of
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.files import FoundFile, find_files
from trade_telemetry.store.folded import folded_of
from trade_telemetry.store.store import load_columns

ZONES = ("UTC", "Asia/Kolkata", "America/New_York")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A telemetry directory with its lake beside it, compacted in two steps."
    base = tmp_path_factory.mktemp("proof")
    made = make_desk(base / "whole")
    first = base / "desk"
    shutil.copytree(made, first)
    late = [first / BACKTEST / name for name in ("traces_a_9.csv", "traces_a_10.csv")]
    for path in late:
        path.rename(base / path.name)
    compact(first, base / "lake", batch_rows=200)
    for path in late:
        (base / path.name).rename(path)
    compact(first, base / "lake", batch_rows=200)
    return base


# The same sums in SQL.


@pytest.mark.parametrize("zone", ZONES)
def test_a_lake_added_up_in_sql_has_the_sums_of_the_package_to_the_last_unit(desk: Path, zone: str) -> None:
    theirs = sums_in_sql(desk / "lake", zone)
    store = FoldedStore(desk / "desk", timezone=zone, keep=False, final=False, rows_bytes=0)
    store.refresh()
    by_run: dict[str, Any] = {}
    for place in find_files([desk / "desk"])[0]:
        by_run.setdefault(place.run, []).append(place)
    with local_pool() as pool:
        spread = fold_files(by_run, pool, zone, zone).state
    sums = folded_of(store.columns)
    assert sums is not None and sums.sums is not None
    roads = {
        "rows of the lake": state_of(load_columns(desk / "lake")[0], zone).parts,
        "states": {**state_of(sums.here, zone).parts, **sums.sums},  # a live run is held as rows
        "executor": spread.parts,
    }
    for road, parts in roads.items():
        ours = {key: facts for owner, sums in parts.items() for key, facts in sums_of(*owner, sums).items()}
        assert ours.keys() == theirs.keys(), road
        differ = {
            key: [name for name, a, b in zip(NAMES, own, theirs[key], strict=True) if a != b]
            for key, own in ours.items()
            if own != theirs[key]
        }
        assert not differ, road
    assert sum(facts[0] for facts in theirs.values()) == len(load_columns(desk / "lake")[0])
    positions = sum(facts[NAMES.index("positions")] for facts in theirs.values())
    assert 0 < positions < sum(facts[0] for facts in theirs.values())  # some were closed in two exits


def test_zones_are_different_questions(desk: Path) -> None:
    "Were the days of all zones the same, the test above would prove one of them three times."
    days = {zone: {(key[0], *key[3:]) for key in sums_in_sql(desk / "lake", zone)} for zone in ZONES}
    assert len({frozenset(own) for own in days.values()}) == len(ZONES)


# Laws of adding.


@pytest.fixture(scope="module")
def rows(desk: Path) -> TraceColumns:
    columns = load_columns(desk / "desk")[0]
    return columns.take(np.random.default_rng(3).permutation(len(columns))[:300])


def folded(rows: TraceColumns, dealt: list[int], piles: int, zone: str) -> list[State]:
    which = np.array([dealt[k % len(dealt)] for k in range(len(rows))]) % piles
    return [state_of(rows.take(which == pile), zone) for pile in range(piles)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 11), min_size=1, max_size=40),
    st.integers(2, 6),
    st.sampled_from(ZONES),
    st.randoms(use_true_random=False),
)
def test_however_rows_are_dealt_out_their_states_add_up_to_the_state_of_all(
    rows: TraceColumns, dealt: list[int], piles: int, zone: str, order: random.Random
) -> None:
    whole = state_bytes(state_of(rows, zone))
    states = folded(rows, dealt, piles, zone)
    assert state_bytes(merge_states(*states)) == whole
    while len(states) > 1:  # any order, any grouping, with nothing among them
        order.shuffle(states)
        states = [merge_states(states[0], no_state, states[1]), *states[2:]]
    assert state_bytes(states[0]) == whole
    assert (
        state_bytes(merge_states(states[0], no_state))
        == whole
        == state_bytes(merge_states(no_state, states[0]))
    )


# The same figures by every road.

VERBS: dict[str, tuple[str, ...]] = {
    "metrics": ("metrics", "--run", BACKTEST, "--json"),
    "metrics of what is live": ("metrics", "--json"),
    "metrics of a sample": ("metrics", "--run", "paper_20250101_000000", "--json"),
    "parts": ("metrics", "--run", BACKTEST, "--by", "symbol", "--by", "month", "--rolling", "50", "--features", "--json"),
    "check": ("check", "--json"),
    "compare": ("compare", "--run", BACKTEST, "--first", "intraday", "--second", "Schwung β", "--json"),
    "compare runs": ("compare", "--by", "run", "--json"),
    "live": ("compare", "--live-vs-backtest", "--json"),
    "judge": ("judge", "--json"),
    "judge for people": ("judge",),
    "export": ("export",),
}  # fmt: skip


def asked(place: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    "Exit code and all that is said, but for the place, the time, and the head by which a lake is named."
    code = main([*words, "--telemetry-dir", str(place)])
    said = capsys.readouterr()
    out = re.sub(r'"generated_at": "[^"]*"', "", said.out)
    out = re.sub(
        r',\n *"lakes": \{[^}]*\}',
        "",
        re.sub(r'"lakes": \{[^}]*\},\n *|^○ lake .*: head .*\n', "", out, flags=re.M),
    )
    return code, out.replace(str(place), "X"), said.err.replace(f"{place}#", "X/").replace(str(place), "X")


@pytest.mark.parametrize(
    ("zone", "verbs"), [("Asia/Kolkata", list(VERBS)), ("America/New_York", ["metrics", "check", "export"])]
)
def test_what_a_shell_prints_is_the_same_from_files_states_and_a_lake(
    desk: Path,
    zone: str,
    verbs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TELEMETRY_TIMEZONE", zone)
    shutil.rmtree(desk / "desk" / ".states", ignore_errors=True)
    for name in verbs:
        words = VERBS[name]
        monkeypatch.setenv("TELEMETRY_STATES", "never")
        files, lake = asked(desk / "desk", words, capsys), asked(desk / "lake", words, capsys)
        monkeypatch.setenv("TELEMETRY_STATES", "always")
        states = asked(desk / "desk", words, capsys)
        assert len(files[1]) > 500, name
        assert lake == files, name
        assert states == files, name
    assert list((desk / "desk" / ".states").glob("*/*.state")), "nobody kept a state"


def test_a_lake_that_lost_a_part_answers_nothing(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(desk / "lake", tmp_path / "lake")
    part = next((tmp_path / "lake").rglob("*.parquet"))
    part.unlink()
    assert main(["metrics", "--telemetry-dir", str(tmp_path / "lake")]) == 2
    said = capsys.readouterr()
    assert part.name in said.err and said.err.count("\n") == 1 and not said.out


# What must not grow.

REFRESH = """
import sys
from pathlib import Path
from trade_telemetry.scale.folded_store import FoldedStore

opened = []
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
store = FoldedStore(Path(sys.argv[1]))
store.refresh()
print(len(store.columns), sum(path.endswith((".csv", ".json")) for path in opened))
"""


def refreshed(folder: Path) -> tuple[int, int]:
    "Rows, and trace files and other text that a new process opened for them."
    done = subprocess.run(
        [sys.executable, "-c", REFRESH, str(folder)], capture_output=True, text=True, check=True
    )
    rows, opened = map(int, done.stdout.split())
    return rows, opened


def test_one_new_file_among_five_hundred_is_the_one_that_is_opened(tmp_path: Path) -> None:
    trades = night_trades(460, 1)
    for k in range(500):
        segment(tmp_path / BACKTEST / f"traces_a_{k}.csv", trades[k : k + 1])
    rows, opened = refreshed(tmp_path)
    assert (rows, opened >= 500) == (500, True)  # the hook sees what it has to count
    assert refreshed(tmp_path) == (500, 1)  # the index
    segment(tmp_path / BACKTEST / "traces_a_500.csv", trades[500:505])
    rows, opened = refreshed(tmp_path)
    assert (rows, opened <= 3) == (505, True)


def most_while_folding(found: list[FoundFile]) -> tuple[int, State]:
    "Largest memory of arrays while files are folded one part after the other, bytes; what they say."
    with local_pool() as pool:
        tracemalloc.start()
        try:
            state = fold_files({BACKTEST: found}, pool, part_bytes=0).state
            return tracemalloc.get_traced_memory()[1], state
        finally:
            tracemalloc.stop()


def test_memory_of_folding_grows_by_ids_and_not_by_ids_where_they_lie_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    "Thirty parts against three: 40 bytes a row for who they are, twice while two states are merged, else the sums of these short days; rows would be 330."
    made = night_trades(800, 2, symbol="TCS", version="", account="", features={}, metadata={})
    for k in range(30):
        ids = [
            replace(t, trace_id=f"{k:04x}{t.trace_id[4:]}", position_id=f"{k:04x}{t.position_id[4:]}")
            for t in made
        ]
        segment(tmp_path / BACKTEST / f"traces_a_{k}.csv", ids)
    found, _ = find_files([tmp_path])
    most_while_folding(found[:1])  # imports, caches
    for spilled, most in ((blocks.SPILL_BYTES, 100), (1 << 12, 60)):
        monkeypatch.setattr(blocks, "SPILL_BYTES", spilled)
        few, _ = most_while_folding(found[:3])
        many, state = most_while_folding(found)
        more = 27 * len(made)
        assert state.rows == 30 * len(made)
        assert many - few < most * more, f"{(many - few) / more:.0f} bytes for each row more"
