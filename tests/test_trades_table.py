"""The list of trades: every filter and sort over all rows, held against pandas and plain Python."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_telemetry.config import Settings
from trade_telemetry.dashboard.example_answers import example_traces
from trade_telemetry.dashboard.page import Dashboard
from trade_telemetry.dashboard.query import ASKED_OF, LISTED, Listing, Query, listing_after, query_after
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.dashboard.trade_filter import kept_rows
from trade_telemetry.dashboard.trade_list import PAGE_ROWS, page_rows, sort_keys, trades_of
from trade_telemetry.dashboard.trade_table import TradeTable
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.testing import write_run
from trade_telemetry.trace import DIRECTIONS

EVIL = '<img src=x onerror="window.hacked=1">'
SYMBOLS = ("SPY", "spy", "BRK.B", EVIL, "=1+1")
REASONS = ("stop_loss", "take_profit", "")


def many(n: int, seed: int = 0) -> TraceColumns:
    "Rows with ties, unknown numbers and strange names."
    rng = np.random.default_rng(seed)
    base = TraceColumns.from_traces(example_traces("intraday", "LL LL LS SS SN LL SS LN SL"), run="live")
    rows = base.take(rng.integers(0, len(base), n))
    start = int(rows.exit_us.min()) if n else 0
    return replace(
        rows,
        exit_us=start + rng.integers(0, 86_400_000_000 * 400, n) // 3_600_000_000 * 3_600_000_000,
        entry_us=start + rng.integers(0, 86_400_000_000 * 400, n),
        holding_minutes=rng.lognormal(3.5, 1, n).round(),
        return_pct=np.round(rng.normal(0, 1, n), 1),
        confidence=np.where(rng.random(n) < 0.1, np.nan, rng.random(n).round(2)),
        entry_price=np.where(rng.random(n) < 0.5, 1.23e-9, 400.0),
        trace_id=rng.permutation(n).astype(np.uint64) * np.uint64(2**50 + 12345),
        symbol=rng.integers(0, len(SYMBOLS), n).astype(np.int32),
        symbols=list(SYMBOLS),
        exit_reason=rng.integers(0, len(REASONS), n).astype(np.int32),
        exit_reasons=list(REASONS),
    )


def frame_of(rows: TraceColumns) -> pd.DataFrame:
    "The same for pandas."
    frame = pd.DataFrame({name: getattr(rows, name) for name in ("return_pct", "confidence", "entry_price", "exit_price", "holding_minutes", "trace_id", "exit_us")})  # fmt: skip
    frame["exit_at"] = pd.to_datetime(rows.exit_us, unit="us", utc=True).tz_convert("America/New_York")
    frame["entry_at"] = pd.to_datetime(rows.entry_us, unit="us", utc=True).tz_convert("America/New_York")
    for name, words in (("symbol", rows.symbols), ("strategy", rows.strategies), ("exit_reason", rows.exit_reasons), ("predicted", DIRECTIONS), ("actual", DIRECTIONS)):  # fmt: skip
        frame[name] = np.array(words, dtype=object)[getattr(rows, name)]
    return frame


def positions(rows: TraceColumns, **where: str) -> list[int]:
    kept = kept_rows(rows, Listing(where=tuple(where.items())), "America/New_York")
    assert kept.problems == {}
    assert kept.rows is not None
    return np.flatnonzero(kept.rows).tolist()


def test_each_condition_keeps_the_rows_that_pandas_keeps() -> None:
    rows = many(5000)
    frame = frame_of(rows)
    expected = {
        ("return_pct", "> 0.5"): frame.return_pct > 0.5,
        ("return_pct", "−1..0"): frame.return_pct.between(-1, 0),
        ("return_pct", "1"): frame.return_pct.between(0.5, 1.4999999999),
        ("confidence", ">= 60%"): frame.confidence >= 0.6,
        ("confidence", "="): frame.confidence.isna(),
        ("entry_price", "1.23e-9"): np.isclose(frame.entry_price, 1.23e-9, atol=0),
        ("holding_minutes", "> 1 h"): frame.holding_minutes > 60,
        ("symbol", "sp"): frame.symbol.str.lower().str.contains("sp"),
        ("symbol", "=SPY"): frame.symbol == "SPY",
        ("symbol", "==1+1"): frame.symbol == "=1+1",
        ("symbol", f"={EVIL}"): frame.symbol == EVIL,
        ("exit_reason", "!="): frame.exit_reason != "",
        ("exit_reason", "stop loss"): frame.exit_reason == "stop_loss",
        ("predicted", "!long"): frame.predicted != "LONG",
        ("exit_at", "2025-03"): frame.exit_at.dt.strftime("%Y-%m") == "2025-03",
        ("exit_at", "2025-03-09..2025-04-01"): frame.exit_at.dt.strftime("%Y-%m-%d").between("2025-03-09", "2025-04-01"),
        ("exit_at", "> 2025-11-02 01"): frame.exit_at.dt.strftime("%Y-%m-%d %H") > "2025-11-02 01",
        ("entry_hour", "9..11"): frame.entry_at.dt.hour.between(9, 11),
        ("entry_weekday", "Tuesday"): frame.entry_at.dt.day_name() == "Tuesday",
    }  # fmt: skip
    for (name, text), mask in expected.items():
        found = positions(rows, **{name: text})
        assert found == np.flatnonzero(mask).tolist(), (name, text)
        assert 0 < len(found) < len(rows), (name, text)
    both = positions(rows, symbol="=SPY", return_pct="> 0")
    assert both == np.flatnonzero((frame.symbol == "SPY") & (frame.return_pct > 0)).tolist()


def test_each_column_is_sorted_over_all_rows_as_pandas_sorts_it() -> None:
    rows = many(3000, seed=1)
    frame = frame_of(rows)
    for name in ("symbol", "strategy", "predicted", "actual", "return_pct", "confidence", "entry_price", "exit_price", "holding_minutes", "exit_reason"):  # fmt: skip
        for down in (False, True):
            values = [v.lower() or None if isinstance(v, str) else v for v in frame[name]]
            ordered = frame.assign(key=values)
            ordered = ordered.sort_values(["exit_us", "trace_id"], ascending=False)
            ordered = ordered.sort_values("key", ascending=not down, kind="stable", na_position="last")
            keys = sort_keys(rows, name, down)
            pages = [page_rows(keys, start, 700) for start in range(0, 3000, 700)]
            assert np.concatenate(pages).tolist() == ordered.index.tolist(), (name, down)


def test_a_search_finds_every_word_somewhere() -> None:
    rows = many(2000, seed=2)
    frame = frame_of(rows)
    ids = [f"{int(i):016x}" for i in rows.trace_id]
    for search in ("spy", "BRK stop", "profit intraday", ids[3], ids[5][4:12], "=1+1", "onerror"):
        kept = kept_rows(rows, Listing(search=search)).rows
        assert kept is not None
        slow = [
            all(
                word.lstrip("=!").lower() in " ".join((s, t, r.replace("_", " "))).lower()
                or (word.lower() in i)
                for word in search.split()
            )
            for s, t, r, i in zip(frame.symbol, frame.strategy, frame.exit_reason, ids, strict=True)
        ]
        assert kept.tolist() == slow, search
        assert any(slow), search


typed = st.text(max_size=120) | st.sampled_from(
    ["> 1", "=", "!", "..", "1..", "2025-02-30", "9" * 99, ">" * 50]
)
plain = st.none() | st.booleans() | st.integers() | typed
conditions = st.dictionaries(st.sampled_from((*ASKED_OF, "x")), plain, max_size=4)
FORTY = many(40)


@settings(max_examples=80, deadline=None)
@given(
    change=st.fixed_dictionaries(
        {},
        optional={
            "sort": st.sampled_from(LISTED) | plain,
            "descending": plain,
            "search": plain,
            "where": conditions | plain,
        },
    )
)
def test_whatever_a_page_sends_gives_a_bounded_list_or_nothing(change: dict[str, Any]) -> None:
    listing = listing_after(Listing(), change)
    assert listing.sort in LISTED
    assert len(listing.search) <= 100
    assert len(listing.where) <= 10
    assert all(name in ASKED_OF and 0 < len(text) <= 100 for name, text in listing.where)
    found = trades_of(FORTY, Query(tab="trades", listing=listing), {}, "Europe/Berlin")
    assert found is not None
    assert found["total"] <= found["before"] == 40
    assert len(found["rows"]) == min(PAGE_ROWS, found["total"])
    assert set(found["problems"]) <= {name for name, _ in listing.where}
    json.dumps(found, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300))
def test_a_message_that_is_no_list_changes_nothing_and_raises_nothing(text: str) -> None:
    from trade_telemetry.dashboard.answers import empty_state

    asked = Query(tab="trades", listing=Listing(search="kept"))
    for name in ("list", "open"):
        after = query_after(asked, empty_state(), name, text)
        assert after.listing.sort in LISTED


@pytest.fixture
def page(tmp_path: Path) -> tuple[Dashboard, TradeTable]:
    traces = [
        replace(t, exit_reason=REASONS[i % 3])
        for i, t in enumerate(example_traces("intraday", "LL LS SS SL " * 15))
    ]
    write_run(tmp_path / "live", traces + example_traces("swing", "LL SS", symbol=EVIL))
    table, source = TradeTable(), StateSource(Settings.load(telemetry_storage_path=tmp_path))
    return Dashboard(source.read, [table], trades_csv=source.trades_csv), table


def told(page: Dashboard, name: str, value: object) -> dict[str, Any]:
    "Send what a page sends, and read what it shows."
    text = value if isinstance(value, str) else json.dumps(value)
    page._on_message(page.clock, {"type": "ask", "name": name, "value": text}, [])
    table = next(part for part in page.panels if isinstance(part, TradeTable))
    shown: dict[str, Any] = json.loads(table.widget.table)
    return shown


def test_what_is_looked_for_stays_over_beats_and_a_reload_and_the_file_holds_it(
    page: tuple[Dashboard, TradeTable], tmp_path: Path
) -> None:
    board, _ = page
    told(board, "tab", "trades")
    shown = told(board, "list", {"where": {"return_pct": "< 0"}, "sort": "return_pct", "descending": False})
    assert [chip["words"] for chip in shown["chips"]] == ["Return < 0"]
    board.clock.beat = 1
    board.clock.beat = 2
    table = next(part for part in board.panels if isinstance(part, TradeTable))
    assert json.loads(table.widget.table) == shown
    sent: list[dict[str, Any]] = []
    board.clock.send = sent.append
    board._on_message(board.clock, {"type": "export", "name": "csv"}, [])
    rows = list(csv.DictReader(io.StringIO(sent[0]["text"])))
    total, before = (int(part.replace(",", "")) for part in shown["note"].split(" trades of ")[:2] for part in [part.split(" ·")[0]])  # fmt: skip
    assert sent[0]["name"] == f"trade_telemetry_{total}_of_{before}_filtered.csv"
    assert len(rows) == total < before
    assert [float(r["return_pct"]) for r in rows] == sorted(float(r["return_pct"]) for r in rows)
    assert all(float(r["return_pct"]) < 0 for r in rows)
    source, again = StateSource(Settings.load(telemetry_storage_path=tmp_path)), TradeTable()
    other = Dashboard(source.read, [again], trades_csv=source.trades_csv)
    assert told(other, "choices", board.clock.choices) == shown


def test_a_bad_condition_is_told_and_keeps_every_trade(page: tuple[Dashboard, TradeTable]) -> None:
    board, _ = page
    before = told(board, "tab", "trades")
    shown = told(board, "list", {"where": {"return_pct": "lots", "exit_at": "2025-02-30"}})
    assert shown["total"] == before["total"]
    assert shown["problems"] == "Return: not a number: lots; Closed: no such date: 2025-02-30"
    assert [c["name"] for c in shown["columns"] if c["bad"]] == ["exit_at", "return_pct"]
    assert told(board, "list", {"where": {"return_pct": "", "exit_at": ""}}) == before


def test_a_picture_leads_to_its_trades_and_another_tab_costs_no_list(
    page: tuple[Dashboard, TradeTable],
) -> None:
    board, _ = page
    shown = told(board, "open", {"where": {"symbol": f"={EVIL}"}})
    assert board.query.tab == "trades"
    assert (shown["total"], shown["chips"][0]["words"]) == (2, f"Symbol = {EVIL}")
    assert told(board, "tab", "when") is None
    assert board.shown is not None
    assert board.shown["trades"] is None
