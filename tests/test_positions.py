"""Every exit once, every decision once: names, corrections, both schemas, odd prices, and intervals over positions."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trade_telemetry as tt
from trade_telemetry.capture.ledger import Ledger, read_ledger
from trade_telemetry.capture.line_format import csv_lines, jsonl_lines
from trade_telemetry.dashboard.cache import checksum
from trade_telemetry.identity import position_id, trace_id
from trade_telemetry.metrics.aggregates import fold_rows
from trade_telemetry.metrics.breakdown import breakdown
from trade_telemetry.metrics.record import AccuracyMetrics, measure
from trade_telemetry.store.columns import ARRAYS, WORDS, TraceColumns, words_of
from trade_telemetry.store.labels import relabel
from trade_telemetry.trace import COLUMNS, PredictionTrace, label_direction, market_move_pct, to_row

START = datetime(2025, 1, 6, 10, tzinfo=UTC)
SHARED = Path(__file__).parents[2] / "shared" / "field"


def parts_of(k: int, exits: int = 3, **changes: Any) -> list[PredictionTrace]:
    "A position that is closed in parts."
    entry, rng = START + timedelta(hours=5 * k), random.Random(k)
    made = []
    for part in range(exits):
        price = round(100 + rng.gauss(0, 1.5), 2)
        facts: dict[str, Any] = {"quantity": float(part + 1), "label_threshold_pct": 0.3} | changes
        made.append(
            PredictionTrace(
                entry, ("A", "B")[k % 2], "mine", "LONG", label_direction(market_move_pct(100, price), 0.3), 0.6, 100.0, price,
                30.0 + part, price - 100, exit_timestamp=entry + timedelta(minutes=30 + part), **facts,
            )
        )  # fmt: skip
    return made


def named(traces: Sequence[PredictionTrace]) -> list[PredictionTrace]:
    "Ids by content, as a writer gives them."
    told = []
    for t in traces:
        assert t.exit_timestamp is not None
        position = position_id(
            t.strategy, t.symbol, t.account, t.predicted_direction, t.timestamp, t.entry_price
        )
        exit_id = trace_id(position, t.exit_timestamp, t.exit_price, t.quantity)
        told.append(replace(t, position_id=position, trace_id=exit_id))
    return told


def put(path: Path, traces: Sequence[PredictionTrace], columns: Sequence[str] = COLUMNS) -> Path:
    "Write some columns of some traces."
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(COLUMNS, to_row(trace), strict=True)) for trace in traces]
    path.write_bytes(csv_lines([list(columns), *([row[name] for name in columns] for row in rows)]))
    return path


def content(columns: TraceColumns) -> list[tuple[Any, ...]]:
    "What rows say, in the order of their ids, wherever they stand."
    said = [name for name in ARRAYS if name not in ("source", "line")]
    told = [words_of(columns, n) if n in WORDS else getattr(columns, n) for n in said]
    return sorted(
        tuple(str(v) for v in row) for row in zip(*(np.asarray(t).tolist() for t in told), strict=True)
    )


def figures(columns: TraceColumns) -> dict[str, Any]:
    return measure(columns).to_dict()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4), st.booleans(), st.randoms(use_true_random=False))
def test_any_order_and_split_of_an_import_gives_the_same_rows_and_figures(
    tmp_path_factory: pytest.TempPathFactory, positions: int, exits: int, ids: bool, rng: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("import")
    log = [part for k in range(positions) for part in parts_of(k, exits)]
    log = named(log) if ids else log
    put(folder / "whole" / "live" / "traces_mine_0.csv", log)
    store, kept = tt.TraceStore(folder / "parts"), rng.sample(log, len(log))
    for day in range(rng.randint(1, 5)):  # each import has some rows again, newest first or in any order
        part = kept[: (day + 1) * len(kept) // 5]
        again = rng.choice([part, part[::-1], rng.sample(part, len(part))])
        put(folder / "parts" / "live" / f"traces_mine_{day}.csv", again)
        store.refresh()
    put(folder / "parts" / "live" / "traces_mine_10.csv", kept)
    store.refresh()
    whole, _ = tt.load_columns(folder / "whole")
    assert len(whole) == positions * exits
    assert content(store.columns) == content(whole)
    assert figures(store.columns) == figures(whole)
    assert store.report.corrections == 0
    assert store.report.rows == store.report.kept + store.report.duplicates


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.01, 0.02, None])), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_the_last_word_about_an_exit_counts_in_any_split_over_segments_and_looks(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[int, float | None]], cuts: list[int]
) -> None:
    folder, exits = tmp_path_factory.mktemp("told"), named([parts_of(k, 1)[0] for k in range(6)])
    said = [replace(exits[k], fees_pct=fee) for k, fee in told]
    store, edges = tt.TraceStore(folder), sorted({0, len(said), *(c for c in cuts if c < len(said))})
    corrections, now = 0, dict[str, float | None]()
    for a, b in pairwise(edges):
        put(folder / "live" / f"traces_mine_{a}.csv", said[a:b])
        store.refresh()
    for trace in said:
        corrections += now.get(trace.trace_id, trace.fees_pct) != trace.fees_pct
        now[trace.trace_id] = trace.fees_pct
    fresh = tt.TraceStore(folder)
    fresh.refresh()
    for one in (store, fresh):
        fees = (None if fee != fee else fee for fee in one.columns.fees_pct.tolist())
        assert dict(zip((f"{i:016x}" for i in one.columns.trace_id.tolist()), fees, strict=True)) == now
        assert (one.report.corrections, one.report.duplicates) == (
            corrections,
            len(said) - len(now) - corrections,
        )
    assert content(store.columns) == content(fresh.columns)
    assert store.report == fresh.report


def test_a_correction_is_seen_by_who_followed_the_file_and_by_whatever_was_remembered(tmp_path: Path) -> None:
    log = named([part for k in range(6) for part in parts_of(k)])
    path = put(tmp_path / "live" / "traces_mine_0.csv", log)
    store = tt.TraceStore(tmp_path)
    assert store.refresh()
    before, sums = store.columns, fold_rows(store.columns)
    paid, mark = before.return_pct.copy(), checksum(before)
    late = replace(
        log[4], realized_return_pct=log[4].realized_return_pct - 0.2, fees_pct=0.2, features={"late": 1}
    )
    with path.open("ab") as file:
        file.write(csv_lines([to_row(late)]))
    assert store.refresh()
    assert (store.report.corrections, store.report.duplicates, store.report.kept) == (1, 0, 18)
    assert str(store.report.bad[0]).endswith(f"traces_mine_0.csv:6: corrected by {path}:20")
    assert "set aside: 1 corrected row (first: " in store.report.summary()
    assert (before.return_pct == paid).all()  # whoever holds the old rows sees what they were
    changed = np.flatnonzero(store.columns.return_pct != paid)
    assert changed.tolist() == [4]
    assert store.columns.return_pct[4] == late.realized_return_pct
    assert fold_rows(store.columns).total("return_sum") == sums.total("return_sum") - 20 * 10**9
    assert checksum(store.columns) != mark
    assert store.columns.take(slice(4, 5)).to_traces()[0].features == {"late": 1}
    assert not store.refresh()


@pytest.mark.parametrize("changed", ["exit_price", "exit_timestamp", "quantity"])
def test_with_ids_of_the_content_another_price_time_or_quantity_is_another_exit(
    tmp_path: Path, changed: str
) -> None:
    (one,) = parts_of(0, 1)
    values: dict[str, Any] = {
        "exit_price": 99.0,
        "exit_timestamp": START + timedelta(hours=2),
        "quantity": 7.0,
    }
    put(tmp_path / "traces_mine_0.csv", [one, replace(one, **{changed: values[changed]})])
    columns, report = tt.load_columns(tmp_path)
    assert (len(columns), report.corrections, len(set(columns.position_id.tolist()))) == (2, 0, 1)


FORMS = ("csv", "csv.gz", "jsonl", "jsonl.gz")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [12, 22, 34])
@pytest.mark.parametrize("careful", [False, True])
def test_files_of_every_age_are_read_by_both_roads_with_columns_in_any_order(
    tmp_path: Path, form: str, width: int, careful: bool
) -> None:
    log = [
        replace(part, account=("main", "")[k % 2], version="1.4", entry_tag="gap, up", mae_pct=-0.5, currency="EUR", metadata={"exit_time": part.exit_timestamp.isoformat()})
        for k in range(4) for part in parts_of(k) if part.exit_timestamp
    ]  # fmt: skip
    log = named(log) if width > 12 else log
    names = random.Random(width).sample(COLUMNS[:width], width)
    rows = [dict(zip(COLUMNS, to_row(trace), strict=True)) for trace in log]
    if form.startswith("csv"):
        data = csv_lines([names, *([row[name] for name in names] for row in rows)])
        data += b"2025,not,a,row\n" if careful else b""
    else:
        lines = [orjson.loads(line) for line in jsonl_lines([to_row(t) for t in log]).splitlines()]
        wanted = {name.removesuffix("_json") for name in names}
        data = b"".join(
            orjson.dumps({k: v for k, v in line.items() if k in wanted}) + b"\n" for line in lines
        )
    path = tmp_path / "live" / f"traces_mine_0.{form}"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    columns, report = tt.load_columns(tmp_path)
    assert (len(columns), len(report.bad)) == (12, int(careful and form.startswith("csv")))
    known = 4 if width == 34 or width == 12 else 12  # of 22 columns nobody says what belongs together
    assert len(set(columns.position_id.tolist())) == known
    back = columns.to_traces()
    assert [t.trace_id for t in back] == [
        t.trace_id for t in named(log if width > 12 else [replace(t, account="", quantity=None) for t in log])
    ]
    assert {t.account for t in back} == ({"main", ""} if width == 34 else {""})
    assert {(t.mae_pct, t.currency, t.entry_tag) for t in back} == {
        (-0.5, "EUR", "gap, up") if width == 34 else (None, "", "")
    }


def test_prices_at_and_below_zero_are_read_by_both_roads_and_relabelled_where_the_move_can_be_known(
    tmp_path: Path,
) -> None:
    fills = [(5.0, 0.0), (-2.0, 1.5), (3.0, -37.6), (0.0, 4.0), (-2.0, -2.001)]
    log = [
        replace(
            parts_of(k, 1)[0],
            entry_price=a,
            exit_price=b,
            actual_direction="NOOP",
            realized_return_pct=-100.0,
        )
        for k, (a, b) in enumerate(fills)
    ]
    put(tmp_path / "quick" / "traces_mine_0.csv", log)
    path = put(tmp_path / "slow" / "traces_mine_0.csv", log)
    path.write_bytes(path.read_bytes() + b"no,row\n")
    quick, slow = (tt.load_columns(tmp_path / road) for road in ("quick", "slow"))
    assert [len(report.bad) for _, report in (quick, slow)] == [0, 1]
    for columns, report in (quick, slow):
        assert (columns.actual == 2).all()  # as stored
        assert report.mislabelled == 3
        assert relabel(columns, "market").actual.tolist() == [
            1,
            0,
            1,
            2,
            2,
        ]  # from an entry at 0 nothing is known
    assert content(quick[0].take(slice(None))) == [
        tuple(v.replace("slow", "quick") for v in row) for row in content(slow[0])
    ]


def in_field(name: str) -> list[PredictionTrace]:
    "Rows of a field file as an import by content gives them."
    if not SHARED.is_dir():
        pytest.skip("no folder shared/field beside the checkout")
    made = []
    for row in csv.DictReader(io.StringIO((SHARED / name).read_text())):
        entry, out = (datetime.fromisoformat(row[key].replace("Z", "+00:00")) for key in ("opened", "closed"))
        a, b = float(row["bought"]), float(row["sold"])
        label, call = (
            label_direction(market_move_pct(a, b), 0.3),
            {"BUY": "LONG", "SELL": "SHORT"}[row["side"]],
        )
        made.append(
            PredictionTrace(
                entry, row["symbol"], "mine", call, label, None, a, b, (out - entry).total_seconds() / 60,  # type: ignore[arg-type]
                float(row["net"]), exit_timestamp=out, label_threshold_pct=0.3,
            )
        )  # fmt: skip
    return named(made)


def test_forty_decisions_are_as_sure_of_their_precision_with_one_exit_each_as_with_five(
    tmp_path: Path,
) -> None:
    found: dict[int, AccuracyMetrics] = {}
    for exits, name in ((1, "23_one_exit_each.csv"), (5, "23_five_exits_each.csv")):
        put(tmp_path / name / "traces_mine_0.csv", in_field(name))
        columns, _ = tt.load_columns(tmp_path / name)
        found[exits] = measure(columns)
        assert (len(columns), found[exits].positions.positions) == (40 * exits, 40)
        (group,) = breakdown(columns, "strategy")
        assert group.precision_interval == found[exits].headline_precision_interval
    for m in found.values():
        assert [round(100 * end, 1) for end in m.headline_precision_interval] == [32.9, 62.5]
        assert m.positions.precision_interval == found[1].headline_precision_interval
    assert found[5].headline_precision == found[1].headline_precision == 19 / 40
    assert found[5].headline_calls == 200


def test_months_and_weekdays_of_parted_positions_count_each_position_where_it_was_closed() -> None:
    entry = datetime(2025, 1, 30, 10, tzinfo=UTC)
    log = [
        replace(t, timestamp=entry + timedelta(minutes=k), exit_timestamp=entry + timedelta(days=2 * part, minutes=9 + k))
        for k in range(30) for part, t in enumerate(parts_of(0, 3))
    ]  # fmt: skip
    columns = TraceColumns.from_traces(named(log))
    assert [(g.name, g.trades, g.positions) for g in breakdown(columns, "month")] == [
        ("2025-01", 30, 30),
        ("2025-02", 60, 30),
    ]
    assert [(g.name, g.trades, g.positions) for g in breakdown(columns, "exit_reason")] == [
        ("(none)", 90, 30)
    ]


def test_a_ledger_that_was_told_which_exits_are_the_first_counts_the_positions_of_the_rows(
    tmp_path: Path,
) -> None:
    log = named([part for k in range(50) for part in parts_of(k, 1 + k % 4)])
    ledger, seen = Ledger(tmp_path, "w", "live"), set[str]()
    for trace in log:
        ledger.add(trace, first=trace.position_id not in seen)
        seen.add(trace.position_id)
    ledger.save()
    counted = sum(row.sums.positions for path in tmp_path.glob("ledger_*") for row in read_ledger(path))
    assert counted == fold_rows(TraceColumns.from_traces(log)).total("positions") == 50
