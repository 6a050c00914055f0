"""A lake read from its states: the same bytes of every verb as from rows, whatever lies where and whoever folds; counted, not timed."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from test_states import LATE, make_traces, meet, said, telemetry, trades, write

from trade_telemetry.cli.main import main
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.judgement.live_measures import reason_shares
from trade_telemetry.metrics.aggregates import names_known
from trade_telemetry.scale.compact import compact
from trade_telemetry.scale.executors import ProcessPool
from trade_telemetry.scale.folded_store import FoldedStore
from trade_telemetry.scale.kept_states import INDEX
from trade_telemetry.scale.lake_states import LakePart, LakeStates, fold_lake, fold_lake_part, one_by_one
from trade_telemetry.scale.retention import retain
from trade_telemetry.scale.state import runs_together, state_digest, state_of
from trade_telemetry.scale.working_store import folded_by
from trade_telemetry.store.columns import ARRAYS, WORDS, Cut, TraceColumns
from trade_telemetry.store.days import day_bounds_us, exit_days
from trade_telemetry.store.folded import folded_of
from trade_telemetry.store.lake import Lake
from trade_telemetry.store.store import TraceStore

TOKYO = "Asia/Tokyo"
OLD = 2e9  # Everything is closed by then


def taken(source: Path, lake: Path, zone: str = "UTC") -> Path:
    compact(source, lake, timezone=zone, now=OLD, batch_rows=150)
    return lake


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = telemetry(tmp_path / "telemetry")
    meet(folder)
    torn = folder / "backtest_20240101_000000/traces_swing_99.csv"
    torn.write_text(torn.read_text() + "\n")  # a lake takes a last line without an end, a page waits for it
    return folder


@pytest.fixture
def lake(root: Path, tmp_path: Path) -> Path:
    return taken(root, tmp_path / "lake")


def rows(paths: Any, zone: str = "UTC") -> TraceStore:
    store = TraceStore(paths, timezone=zone, final=True, now=LATE)
    store.refresh()
    return store


def states(paths: Any, zone: str = "UTC", **options: Any) -> FoldedStore:
    "Nothing is held as rows that need not be."
    store = FoldedStore(paths, timezone=zone, final=True, now=LATE, **({"rows_bytes": 0} | options))
    store.refresh()
    return store


def verb(paths: list[Path], *words: str) -> str:
    "What a verb says and how it ends, without its time and the address and head of a lake."
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*words, *(word for path in paths for word in ("--telemetry-dir", str(path)))])
    facts = json.loads(out.getvalue())
    if isinstance(facts, dict):
        for name in ("lakes", "directory", "generated_at"):
            facts.pop(name, None)
    return json.dumps([facts, code], indent=1)


VERBS = (("check", "--json"), ("metrics", "--json"), ("compare", "--json"), ("export",))


def spelled(columns: TraceColumns) -> list[str]:
    "Rows in any order, each with all it says but where it stands."
    named = [
        [getattr(columns, WORDS[name])[code] for code in getattr(columns, name).tolist()] if name in WORDS else getattr(columns, name).tolist()
        for name in ARRAYS if name not in ("source", "line")
    ]  # fmt: skip
    return sorted(map(repr, zip(*named, strict=True)))


# --- The same from rows of a directory, rows of its lake, states of its lake


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_verb_says_the_same_of_a_directory_its_lake_and_the_states_of_its_lake(
    words: tuple[str, ...], root: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_by = {}
    for name, paths, kept in (
        ("rows", [root], "never"),
        ("lake", [lake], "never"),
        ("states", [lake], "always"),
        ("both", [root, lake], "always"),
    ):
        monkeypatch.setenv("TELEMETRY_STATES", kept)
        said_by[name] = verb(paths, *words)
    assert said_by["rows"] == said_by["lake"] == said_by["states"] == said_by["both"]
    assert said_by["rows"].count("\n") > 30
    at_work = verb([lake], *words, "--executor", "processes", "--workers", "2")
    assert at_work == said_by["rows"]


@pytest.mark.parametrize("zone", ["UTC", TOKYO])
def test_reasons_are_counted_as_rows_say_and_no_row_is_read_for_them(
    root: Path, tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [trace for trace in trades(250) if not trace.position_id]  # none was closed in parts
    write(root / "backtest_20240501_000000", whole, mode="backtest")
    plain = rows(root, zone)
    folded = [states(root, zone), states(taken(root, tmp_path / "zoned", zone), zone)]
    days = np.unique(exit_days(plain.columns.exit_us, zone))
    names, dice, answered = ["stop", "target", "never"], random.Random(0), 0
    for _ in range(30):
        bounds = [dice.choice([None, *day_bounds_us(days, zone)[0].tolist()]) for _ in range(2)]
        versions = dice.choice([None, None, frozenset("1"), frozenset("12")])
        cut = Cut(*bounds, called=dice.choice([None, None, 0, 1]), versions=versions)
        run = dice.choice([None, "live", "live_sampled", "backtest_20240501_000000"])
        words = {
            "strategy": dice.choice([None, "swing", "intraday"]),
            "symbols": dice.choice([None, ["SPY"]]),
        }
        own = plain.columns.only(run=run, **words).cut(cut)
        wanted = reason_shares(own, names, zone)
        for store in folded:
            store._at_hand.clear()
            found = store.columns.only(run=run, **words).cut(cut)
            got = reason_shares(found, names, zone)
            assert names_known(found, "exit_reason") == names_known(own, "exit_reason")
            assert [(got[name].sums.tolist(), got[name].counts.tolist()) for name in names] == [
                (wanted[name].sums.tolist(), wanted[name].counts.tolist()) for name in names
            ]
            unread, cuts = not store._at_hand, bounds != [None, None]
            answered += unread
            assert unread or (cuts and run != "backtest_20240501_000000")
    assert answered > 25


def page_of(source: StateSource, query: Query) -> dict[str, Any]:
    "What the page is made from, when nothing is left to be said, but for its time."
    state = source.read(query)
    for _ in range(20):
        state = state if state["complete"] else source.read(query)
    return {**state, "generated_at": ""}


def near(one: Any, other: Any) -> bool:
    "Is it the same, but for the last digits of sums in another order?"
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(near, one, other))
    return one == other or (isinstance(one, float) and one == pytest.approx(other, rel=1e-9, abs=1e-9))


def test_a_page_of_states_says_what_a_page_of_rows_says_and_reads_no_row_until_somebody_asks_for_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {
        kept: StateSource(Settings(telemetry_storage_path=root, telemetry_states=kept))
        for kept in ("never", "always")
    }
    read = list[Any]()
    reading = FoldedStore.row_files
    monkeypatch.setattr(FoldedStore, "row_files", lambda self, wish: read.append(wish) or reading(self, wish))  # fmt: skip
    assert isinstance(pages["always"].store, FoldedStore) and type(pages["never"].store) is TraceStore
    for query in (
        Query(hurry=True),
        Query(),
        Query(desk=True),
        Query(desk=True, group_by="bot"),
        Query(tab="confidence"),
    ):
        rows, folded = (page_of(pages[kept], query) for kept in ("never", "always"))
        for told in (*rows["strategies"].values(), *folded["strategies"].values()):
            for name in (
                "source",
                "max_drawdown_pct",
                "recent",
                "by_position",
            ):  # of the reference, and not shown
                (told["reference"] or {}).pop(name, None)
        assert near(rows, folded), query
        assert read == [] and folded_of(pages["always"].store.columns) is not None
    assert rows["strategies"]["swing"]["reference"] and rows["health"] and rows["alerts"] is not None
    backtest = Query(run="backtest_20240101_000000")
    shown = page_of(pages["always"], backtest)
    assert (
        read == []
        and shown["strategies"]["swing"]["trades"]
        == page_of(pages["never"], backtest)["strategies"]["swing"]["trades"]
    )
    page_of(pages["always"], replace(backtest, tab="trades"))
    assert read


def test_beyond_a_limit_no_row_is_read_and_what_needs_single_trades_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--run", "backtest_20240101_000000", "--json")
    monkeypatch.setenv("TELEMETRY_STATES", "always")
    read, reading = list[Any](), FoldedStore.row_files
    monkeypatch.setattr(FoldedStore, "row_files", lambda self, wish: read.append(wish) or reading(self, wish))  # fmt: skip
    exact = json.loads(verb([root], "metrics", *words))[0]
    assert len(read) == 1 and exact["source"] == "rows"  # once, and not for each strategy
    monkeypatch.setattr("trade_telemetry.store.folded.MOST_READ", 10)
    summed = json.loads(verb([root], "metrics", *words))[0]
    verb([root], "judge", *words)
    assert len(read) == 1 and summed["source"] == "sums"
    lost = {name for name, value in summed.items() if value is None and exact[name] is not None}
    assert "max_drawdown" in lost and not lost & {
        "total_trades",
        "headline_precision",
        "max_drawdown_daily",
        "sharpe_ratio",
    }
    same = exact.keys() - lost - {"source", "positions", "by_strategy"}
    assert len(same) > 30 and all(near(exact[name], summed[name]) for name in same)


@pytest.mark.parametrize("zone", ["UTC", TOKYO])
def test_states_say_what_rows_say_where_no_row_is_held(root: Path, lake: Path, zone: str) -> None:
    plain, folded = rows(lake, zone), states(lake, zone)
    sums = folded_of(folded.columns)
    assert sums is not None and len(sums.here) == (
        0 if zone == "UTC" else len(plain.columns.only(run="live_sampled"))
    )
    assert said(folded, lake, zone) == said(plain, lake, zone)
    assert sorted(folded.folded.runs) == sorted(
        {"live", "backtest_20240101_000000", "backtest_20240301_000000"}
        | ({"live_sampled"} if zone == "UTC" else set())
    )
    again = states(lake, zone)
    assert (again.runs(), again.report) == (plain.runs(), plain.report)
    assert not again.refresh()


def test_each_zone_has_its_state_and_a_wrong_one_is_made_again(root: Path, lake: Path) -> None:
    assert [path.name for path in sorted((lake / "states").iterdir())] == ["UTC"]
    tokyo = states(lake, TOKYO)
    assert [path.name for path in sorted((lake / "states").iterdir())] == ["Asia%2FTokyo", "UTC"]
    assert {own.state.zone for own in tokyo.folded.runs.values()} == {TOKYO}
    here = lake / "states/UTC"
    digest = state_digest(runs_together(own.state for own in states(lake).folded.runs.values()))
    (kept,) = here.glob("*.state")
    assert kept.stem == digest
    for spoil in (
        lambda: kept.write_bytes(kept.read_bytes()[:-99]),
        lambda: (here / INDEX).write_bytes(b"{}"),
        lambda: kept.unlink(),
    ):
        spoil()
        again = states(lake)
        if kept.exists():
            assert state_digest(runs_together(own.state for own in again.folded.runs.values())) == digest
    (here / INDEX).write_bytes((lake / "states/Asia%2FTokyo" / INDEX).read_bytes())
    assert {own.state.zone for own in states(lake).folded.runs.values()} == {"UTC"}


# --- New segments beside a lake, corrections across


def test_new_segments_beside_a_lake_are_added_to_its_states(tmp_path: Path) -> None:
    folder = tmp_path / "telemetry"
    every = trades()
    for run, mode in (("live", "live"), ("backtest_20240101_000000", "backtest")):
        write(folder / run, every[:150], mode=mode)
    lake = taken(folder, tmp_path / "lake")
    write(folder / "live", every[150:220], mode="live")
    for paths in ([folder, lake], [lake, folder]):
        folded, plain = states(paths), rows(paths)
        assert (folded.runs(), folded.report) == (plain.runs(), plain.report)
        assert said(folded, folder) == said(plain, folder)
        assert (len(folded.folded.runs), len(folded.columns)) == (2, 370)
    store = states([folder, lake])
    write(folder / "live", every[220:], mode="live")
    write(folder / "backtest_20240102_000000", every[:20], mode="backtest")
    assert store.refresh() and not store.refresh()
    taken(folder, lake)
    assert store.refresh() and not store.refresh()
    plain = rows([folder, lake])
    assert (store.runs(), said(store, folder)) == (plain.runs(), said(plain, folder))
    assert store.report.kept == len(rows(folder).columns) == 530


def test_a_correction_beside_a_lake_counts_and_so_does_one_that_is_taken_later(tmp_path: Path) -> None:
    folder = tmp_path / "telemetry"
    write(folder / "backtest_20240101_000000", trades(), mode="backtest")
    lake, before = taken(folder, tmp_path / "lake"), states(tmp_path / "lake")
    meet(folder)
    late = folder / "backtest_20240101_000000/traces_swing_99.csv"
    late.write_text(late.read_text() + "\n")
    plain, folded = rows([folder, lake]), states([folder, lake])
    assert plain.report.corrections == 1
    assert said(folded, folder) == said(plain, folder)
    assert (
        "backtest_20240101_000000" in folded.folded.unfoldable
    )  # held as rows: two places have the same trade
    taken(folder, lake)
    assert before.refresh()
    plain = rows(lake)
    assert (before.report, said(before, lake)) == (plain.report, said(plain, lake))
    assert before.report.corrections == 1 and not before.folded.unfoldable


# --- Retention


def months(folder: Path) -> Path:
    "Two strategies in two runs, over five months."
    for k, run in enumerate(("live", "backtest_20240101_000000")):
        every = make_traces(300, seed=k, every=timedelta(hours=12))
        write(folder / run, [replace(t, strategy="swing" if i % 3 else "intraday") for i, t in enumerate(every)], mode=run.partition("_")[0])  # fmt: skip
    return folder


@pytest.mark.parametrize("day", ["2025-04-09", "2026-01-01"])
def test_rows_go_and_what_is_judged_stays(tmp_path: Path, day: str) -> None:
    lake = taken(months(tmp_path / "telemetry"), tmp_path / "lake")
    before = states(lake)
    closes = {run.name: run.closes for run in before.runs()}
    told = retain(lake, 1, datetime.fromisoformat(f"{day}T00:00Z").timestamp(), ZoneInfo("UTC"))
    assert told.rows > 200 and before.refresh()
    plain, cold = rows(lake), states(lake)
    assert said(before, lake) == said(cold, lake) == said(plain, lake)
    assert {run.name: run.closes for run in cold.runs()} == closes
    assert sum(run.rows for run in cold.runs()) == sum(closes.values()) - told.rows
    tokyo, plain = (
        states(lake, TOKYO),
        rows(lake, TOKYO),
    )  # sums of another zone are never mixed with these days
    assert said(tokyo, lake, TOKYO) == said(plain, lake, TOKYO)


# --- Rows where somebody needs them


def month_us(text: str) -> int:
    return int(np.datetime64(text, "us").astype(np.int64))


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_are_asked_for_are_those_of_the_strategies_and_months(tmp_path: Path, seed: int) -> None:
    choose, lake = random.Random(seed), taken(months(tmp_path / "telemetry"), tmp_path / "lake")
    plain, folded = rows(lake), states(lake)
    days = ["2025-01-05", "2025-01-20", "2025-02-01", "2025-03-10", "2025-12-01"]
    for _ in range(8):
        strategy, run = (
            choose.choice([None, "swing", "intraday"]),
            choose.choice([None, "live", "backtest_20240101_000000"]),
        )
        first, last = sorted(choose.sample(days, 2))
        cut = choose.choice(
            [Cut(), Cut(first=month_us(first), last=month_us(last)), Cut(last=month_us(last))]
        )
        asked = [store.columns.only(strategy=strategy, run=run).cut(cut) for store in (plain, folded)]
        assert spelled(asked[1]) == spelled(asked[0])


def opens(code: str, *words: str) -> list[str]:
    "Files that a new process opens in Python while it does something."
    audited = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import pyarrow.parquet as pq
Whole = pq.ParquetFile
def counted(source, **named):
    opened.append(str(source))
    return Whole(source, **named)
pq.ParquetFile = counted
opened.clear()
"""
    said = subprocess.run(
        [sys.executable, "-c", audited + code + "\nprint('\\n'.join(opened))", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in said.stdout.splitlines() if words[0] in line]


COLD = """
from trade_telemetry.scale.folded_store import FoldedStore
store = FoldedStore(sys.argv[1], rows_bytes=0)
store.refresh()
assert len(store.columns) > 100
"""


ASKED = """
from trade_telemetry.store.columns import Cut
opened.clear()
rows = store.columns.only(strategy="swing", run="live").cut(Cut(first=1738368000000000, last=1743465600000000))
assert len(rows.line)
"""  # February and March of 2025


def test_cold_with_states_no_part_is_opened_and_rows_open_their_parts_alone(tmp_path: Path) -> None:
    lake = taken(months(tmp_path / "telemetry"), tmp_path / "lake")
    contents = Lake(lake).contents
    there = opens(COLD, str(lake))
    assert not [name for name in there if name.endswith(".parquet")]
    assert len([name for name in there if "/states/" in name]) == 2
    assert len(there) <= 3 + 2 * len(contents.hashes) + len(contents.documents)
    parts = [name for name in opens(COLD + ASKED, str(lake)) if name.endswith(".parquet")]
    wanted = {
        part.name for part in Lake(lake).parts(["live"], ["swing"]) if part.month in ("2025-02", "2025-03")
    }
    assert {name.partition("/lake/")[2] for name in parts} == wanted
    assert 0 < len(wanted) <= len(contents.parts) // 4


def test_a_new_commit_has_its_own_parts_folded_alone(root: Path, lake: Path) -> None:
    folded: list[str] = []

    def watched(parts: Any, fold: Any) -> Any:
        folded.extend(own.part.name for own in parts)
        return one_by_one(parts, fold)

    known = LakeStates(Lake(lake), "UTC", work=watched)
    assert known.update() and not folded
    before = set(known.lake.contents.parts)
    write(root / "live", trades(400)[330:], mode="live")
    compact(root, lake, now=OLD)
    known.lake.refresh()
    assert known.update()
    assert set(folded) == set(known.lake.contents.parts) - before


# --- Whoever folds


@pytest.mark.parametrize("seed", range(2))
def test_any_order_and_any_worker_gives_the_same_digest(root: Path, lake: Path, seed: int) -> None:
    def shuffled(parts: Any, fold: Any) -> Any:
        order = random.Random(seed).sample(range(len(parts)), len(parts))
        done = {place: fold(parts[place]) for place in order}
        return [done[place] for place in range(len(parts))]

    here, _ = fold_lake(Lake(lake), TOKYO)
    expected = rows(lake).columns
    digests = {run: state_digest(own.state) for run, own in here.items()}
    assert {
        run: state_digest(own.state) for run, own in fold_lake(Lake(lake), TOKYO, work=shuffled)[0].items()
    } == digests
    with ProcessPool(2) as pool:
        spread = fold_lake(Lake(lake), TOKYO, work=folded_by(pool))[0]
    assert {run: state_digest(own.state) for run, own in spread.items()} == digests
    assert {run: state_digest(state_of(expected.only(run=run), TOKYO)) for run in digests} == digests


def test_a_part_that_is_gone_is_named(root: Path, lake: Path) -> None:
    part = next(iter(Lake(lake).contents.parts.values()))
    (lake / part.name).unlink()
    (lake / "states/UTC" / INDEX).unlink()
    with pytest.raises(ValueError, match="is missing: a manifest names it"):
        states(lake)
    with pytest.raises(ValueError, match="is missing: a manifest names it"):
        fold_lake_part(LakePart(str(lake), part))
