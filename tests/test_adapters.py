"""Logs of other engines: real ones come back as they were, broken ones cost their bad rows and nothing else."""

from __future__ import annotations

import csv
import gzip
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade_logs import FOLDER, NAMES, THRESHOLD_PCT, load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from trade_telemetry.analyzer import AccuracyAnalyzer
from trade_telemetry.config import Settings
from trade_telemetry.importers.import_trades import import_file, import_trades
from trade_telemetry.importers.imported_rows import RowReader, read_rows, traces_of
from trade_telemetry.importers.log_files import read_trades
from trade_telemetry.importers.trade_map import FREQTRADE, ImportMapError, TradeMap, expression, make_map
from trade_telemetry.store.store import load_columns
from trade_telemetry.trace import DIRECTIONS, PredictionTrace

PLAIN = make_map(
    {
        "fields": {
            "symbol": "symbol", "direction": "side", "entry_time": "opened", "exit_time": "closed",
            "entry_price": "bought", "exit_price": "sold", "leverage": "leverage", "fees_pct": "fees",
        }
    }
)  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(i: int, **changes: Any) -> dict[str, Any]:
    return {
        "symbol": "SPY", "side": "LONG", "opened": 1_700_000_000 + 60 * i, "closed": 1_700_000_030 + 60 * i,
        "bought": 100.0, "sold": 101.0, "leverage": 1, "fees": 0,
    } | changes  # fmt: skip


def place_of(trace: PredictionTrace) -> tuple[Any, ...]:
    """What tells the trades of a log apart: of these the first four are the decision."""
    t = trace
    return (
        t.symbol,
        t.timestamp,
        t.predicted_direction,
        t.entry_price,
        t.exit_timestamp,
        t.exit_price,
        t.quantity,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_real_freqtrade_log_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    expected = load_log(name)
    report = import_file(
        FOLDER / f"{name}.csv", "freqtrade", tmp_path, preset="freqtrade", threshold_pct=THRESHOLD_PCT
    )
    columns, loaded = load_columns(tmp_path)
    assert (report.written, report.bad, loaded.bad, loaded.mislabelled) == (len(expected), [], [], 0)
    assert report.rows == report.written + report.skipped
    traces = columns.to_traces()
    assert len({t.trace_id for t in traces}) == len(expected)
    assert len({t.position_id for t in traces}) == len({place_of(t)[:4] for t in expected})
    for mine, trace in zip(sorted(traces, key=place_of), sorted(expected, key=place_of), strict=True):
        for field in ("symbol", "timestamp", "exit_timestamp", "predicted_direction", "actual_direction",
                      "entry_price", "exit_price", "exit_reason", "quantity", "predicted_confidence"):  # fmt: skip
            assert getattr(mine, field) == getattr(trace, field), field
        for field in ("realized_return_pct", "fees_pct", "holding_period_minutes"):
            assert getattr(mine, field) == pytest.approx(getattr(trace, field), rel=1e-12, abs=1e-12), field
        assert (mine.funding_pct or 0.0) == pytest.approx(
            -trace.metadata["funding_pct"], abs=1e-12
        )  # paid is positive


@pytest.mark.parametrize("name", NAMES)
def test_the_classification_of_an_imported_log_equals_scikit_learn(name: str, tmp_path: Path) -> None:
    load_log(name)  # skips where the logs are missing
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        raw = [r for r in csv.DictReader(file) if r["is_open"] == "False"]
    move = np.array([100 * (float(r["close_rate"]) / float(r["open_rate"]) - 1) for r in raw])
    actual = np.select([move > 0.3, move < -0.3], ["LONG", "SHORT"], "NOOP")
    predicted = ["SHORT" if r.get("is_short") == "True" else "LONG" for r in raw]
    import_file(FOLDER / f"{name}.csv", "freqtrade", tmp_path, preset="freqtrade", threshold_pct=0.3)
    m = AccuracyAnalyzer().compute_metrics(AccuracyAnalyzer().load_columns(tmp_path))
    labels = list(DIRECTIONS)
    assert m.confusion_matrix == sk.confusion_matrix(actual, predicted, labels=labels).tolist()
    theirs = sk.precision_recall_fscore_support(actual, predicted, labels=labels, zero_division=0)
    ours = [[d[n] for n in labels] for d in (m.precision, m.recall, m.f1_score)]
    np.testing.assert_allclose(ours, theirs[:3], rtol=0, atol=1e-12)
    assert m.win_rate == pytest.approx(np.mean([float(r["profit_ratio"]) > 0 for r in raw]), abs=1e-12)
    assert m.avg_return == pytest.approx(100 * np.mean([float(r["profit_ratio"]) for r in raw]), abs=1e-9)


@pytest.mark.parametrize("form", ["json", "result.json", "parquet"])
def test_the_same_real_log_in_another_format_gives_the_same_traces(form: str, tmp_path: Path) -> None:
    load_log(NAMES[2])
    frame = pd.read_csv(FOLDER / f"{NAMES[2]}.csv")
    path = tmp_path / f"log.{form}"
    if form == "parquet":
        frame.to_parquet(path)
    else:
        records = frame.astype(object).where(frame.notna(), None).to_dict("records")
        content = records if form == "json" else {"strategy": {"LSTM": {"trades": records}}}
        path.write_text(json.dumps(content))
    a = import_file(FOLDER / f"{NAMES[2]}.csv", "x", tmp_path / "a", preset="freqtrade", threshold_pct=0.3)
    b = import_file(path, "x", tmp_path / "b", preset="freqtrade", threshold_pct=0.3)
    first, second = (load_columns(r.output_dir)[0] for r in (a, b))
    assert first.trace_id.tolist() == second.trace_id.tolist()
    np.testing.assert_allclose(first.return_pct, second.return_pct, rtol=0, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["LONG", "SHORT"]), st.floats(1, 1000), st.floats(0.5, 1.5), st.floats(0.1, 20), st.floats(0, 2)
)  # fmt: skip
def test_without_a_return_column_the_return_follows_from_side_fills_leverage_and_fees(
    side: str, bought: float, factor: float, leverage: float, fees: float
) -> None:
    cells = row(0, side=side, bought=bought, sold=bought * factor, leverage=leverage, fees=fees)
    [(_, trace)] = traces_of([(2, cells)], RowReader(PLAIN, cells), "mine", lambda name: 0.3)
    assert trace is not None and not isinstance(trace, str), trace
    move = 100 * (bought * factor / bought - 1)
    assert trace.realized_return_pct == pytest.approx(
        (move if side == "LONG" else -move) * leverage - fees, abs=1e-9
    )
    assert trace.actual_direction == ("LONG" if move > 0.3 else "SHORT" if move < -0.3 else "NOOP")
    own = replace(PLAIN, fields=PLAIN.fields | {"realized_return_pct": 1.25})
    [(_, trace)] = traces_of([(2, cells)], RowReader(own, cells), "mine", lambda name: 0.3)
    assert isinstance(trace, PredictionTrace)
    assert trace.realized_return_pct == 1.25


BAD = {
    "no price": ({"bought": ""}, "entry_price is empty"),
    "a word for a price": ({"sold": "about 5"}, "exit_price is not a number: 'about 5'"),
    "a price of zero": (
        {"bought": 0},
        "entry_price is 0 and no return is stated: nobody can know the move",
    ),
    "an endless price": ({"sold": "inf"}, "exit_price is not finite: 'inf'"),
    "no time": ({"opened": ""}, "entry_time is empty"),
    "a word for a time": ({"closed": "noon"}, "exit_time is not a time: 'noon'"),
    "no symbol": ({"symbol": " "}, "symbol is empty"),
    "no side": ({"side": "FLAT"}, "direction is neither LONG nor SHORT: 'FLAT'"),
    "an exit before the entry": ({"closed": 1_600_000_000}, "lies before entry"),
    "negative leverage": ({"leverage": -1}, "leverage must be > 0, got -1.0"),
}


def test_every_bad_row_is_set_aside_with_its_line_and_reason(tmp_path: Path) -> None:
    rows = [row(0)]
    for i, (changes, _) in enumerate(BAD.values(), 1):
        rows += [row(2 * i, **changes), row(2 * i + 1)]
    path = write_rows(tmp_path / "log.csv", rows)
    report = import_trades(path, PLAIN, "mine", tmp_path / "run", threshold_pct=0.3)
    assert (report.rows, report.written, len(report.bad)) == (len(rows), len(BAD) + 1, len(BAD))
    for k, (bad, (_, reason)) in enumerate(zip(report.bad, BAD.values(), strict=True)):
        assert (bad.line, bad.file) == (3 + 2 * k, str(path))
        assert reason in bad.reason
    assert "10 set aside, first: line 3: entry_price is empty" in report.summary()
    assert len(load_columns(tmp_path / "run")[0]) == len(BAD) + 1


def test_a_torn_archive_gives_what_it_still_holds_and_says_so(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", [row(i, symbol=f"S{i * 7919 % 10007}") for i in range(5000)])
    packed = gzip.compress(path.read_bytes())
    (tmp_path / "log.csv.gz").write_bytes(packed[: len(packed) // 2])
    report = import_trades(tmp_path / "log.csv.gz", PLAIN, "mine", tmp_path / "run", threshold_pct=0.3)
    assert 1000 < report.written < 4000
    assert "cannot be read" in report.bad[-1].reason


def test_a_log_longer_than_the_writers_memory_is_written_whole(tmp_path: Path) -> None:
    n = 45_000
    path = write_rows(tmp_path / "log.csv", [row(i) for i in range(n)])
    report = import_trades(path, PLAIN, "mine", tmp_path / "run", threshold_pct=0.3, mode="live")
    assert (report.written, report.bad) == (n, [])
    columns, loaded = load_columns(tmp_path / "run")
    assert (len(columns), loaded.duplicates, set(columns.modes)) == (n, 0, {"live"})


def test_a_map_that_does_not_fit_leaves_no_directory_behind(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", [row(0)])
    with pytest.raises(ImportMapError, match=r"log.csv is no freqtrade"):
        import_file(path, "mine", tmp_path / "runs", preset="freqtrade", threshold_pct=0.3)
    own = tmp_path / "map.yaml"
    own.write_text(json.dumps({"fields": PLAIN.fields | {"symbol": "pair"}}))
    with pytest.raises(ImportMapError, match=r"symbol: no column 'pair'; there are symbol, side, opened"):
        import_file(path, "mine", tmp_path / "runs", map_file=own, threshold_pct=0.3)
    own.write_text(json.dumps({"fields": PLAIN.fields}))
    with pytest.raises(ValueError, match="mine"):
        import_file(path, "mine", tmp_path / "runs", map_file=own, settings=Settings())
    assert not (tmp_path / "runs").exists()


def test_a_log_may_hold_several_strategies_each_with_its_threshold(tmp_path: Path) -> None:
    rows = [row(i, name=("intraday", "swing")[i % 2], sold=100.4) for i in range(4)]
    path = write_rows(tmp_path / "log.csv", rows)
    (tmp_path / "map.yaml").write_text(json.dumps({"fields": PLAIN.fields | {"strategy": "name"}}))
    report = import_file(path, None, tmp_path / "runs", map_file=tmp_path / "map.yaml", settings=Settings())
    labels = {(t.strategy, t.actual_direction) for t in load_columns(report.output_dir)[0].to_traces()}
    assert labels == {("intraday", "LONG"), ("swing", "NOOP")}


def test_open_positions_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", [row(i, is_open=i > 2) for i in range(5)])
    open_too = replace(PLAIN, where="not is_open")
    report = import_trades(path, open_too, "mine", tmp_path / "run", threshold_pct=0.3)
    assert (report.rows, report.written, report.skipped, report.bad) == (5, 3, 2, [])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_no_text_in_a_map_does_more_than_compute_or_fail_in_one_line(text: str) -> None:
    try:
        cell = expression(text, ["a", "b"], "symbol")
    except ImportMapError as error:
        assert str(error).startswith("symbol: ")
        return
    with suppress(ValueError, ArithmeticError):
        cell({"a": "1", "b": "x"})


def test_an_empty_log_gives_an_empty_run(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(",".join(row(0)) + "\n")
    report = import_trades(tmp_path / "log.csv", PLAIN, "mine", tmp_path / "run", threshold_pct=0.3)
    assert (report.rows, report.written, report.summary()) == (
        0, 0, "0 of 0 rows of log.csv became backtest traces",
    )  # fmt: skip
    (tmp_path / "none.csv").write_text("")
    with pytest.raises(ImportMapError, match="must hold column names"):
        read_trades(tmp_path / "none.csv")
    assert isinstance(FREQTRADE, TradeMap)


KEYED = make_map({"fields": PLAIN.fields | {"quantity": "units", "running_number": "number"}})
UNITS = make_map({"fields": PLAIN.fields | {"quantity": "units"}})
TRADES = st.lists(
    st.builds(
        lambda i, held, sold, units, number: row(
            i, closed=1_700_000_000 + 60 * (i + held), sold=sold, units=units, number=number
        ),
        st.integers(0, 3), st.integers(1, 3), st.sampled_from([99.0, 101.0]), st.sampled_from([1.0, 2.0]), st.integers(1, 3),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


def ids_of(rows: list[dict[str, Any]], trade_map: TradeMap, batch: int = 5_000) -> list[tuple[str, str]]:
    read = read_rows(enumerate(rows, 2), RowReader(trade_map, rows[0]), "mine", lambda name: 0.3, batch=batch)
    traces = [r.got for r in read if isinstance(r.got, PredictionTrace)]
    return [(t.position_id, t.trace_id) for t in traces]


@settings(max_examples=150, deadline=None)
@given(TRADES, st.randoms(use_true_random=False), st.integers(1, 5), st.booleans())
def test_rows_in_any_order_and_batch_have_the_same_ids(
    rows: list[dict[str, Any]], shuffle: Any, batch: int, keyed: bool
) -> None:
    trade_map = KEYED if keyed else UNITS
    once = ids_of(rows, trade_map)
    assert len({trace for _, trace in once}) == len(rows)  # equal lots are as many as they are
    other = shuffle.sample(rows, len(rows))
    if keyed:  # a report counts anew every time
        names = dict(zip((1, 2, 3), shuffle.sample((7, 8, 9), 3), strict=True))
        other = [r | {"number": names[r["number"]]} for r in other]
    assert set(ids_of(other, trade_map, batch)) == set(once)


@settings(max_examples=25, deadline=None)
@given(TRADES, st.randoms(use_true_random=False))
def test_any_cut_of_an_import_counts_every_trade_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], shuffle: Any
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    days = sorted({r["closed"] for r in rows})
    for day in shuffle.sample(days, len(days)):  # twins close at one instant, so they stand in one export
        export = [r for r in rows if r["closed"] == day]
        known = [r for r in rows if r["closed"] in days[: days.index(day)] and shuffle.random() < 0.5]
        whole = [r for r in rows if any(r["closed"] == k["closed"] for k in known)]
        path = write_rows(folder / "log.csv", shuffle.sample(export + whole, len(export + whole)))
        import_trades(path, UNITS, "mine", folder / "live", threshold_pct=0.3, mode="live")
    columns, report = load_columns(folder / "live")
    assert (len(columns), report.duplicates, report.corrections) == (len(rows), 0, 0)
    assert {f"{i:016x}" for i in columns.trace_id.tolist()} == {trace for _, trace in ids_of(rows, UNITS)}


def test_what_is_said_again_with_other_fees_is_a_correction(tmp_path: Path) -> None:
    rows = [row(i, sold=101.0 + i, leverage=1) for i in range(5)]
    told = {"threshold_pct": 0.3, "mode": "live"}
    import_trades(write_rows(tmp_path / "log.csv", rows), PLAIN, "mine", tmp_path / "live", **told)
    rows[2]["fees"] = 0.25
    later = write_rows(tmp_path / "log.csv", [row(7), *reversed(rows)])
    report = import_trades(later, PLAIN, "mine", tmp_path / "live", **told)
    assert "log.csv: 6 trades: 1 new, 1 corrected, 4 known" in report.summary()
    columns, loaded = load_columns(tmp_path / "live")
    assert (len(columns), loaded.corrections) == (6, 1)
    assert sorted(columns.fees_pct.tolist()) == [0.0] * 5 + [0.25]
    changed = [r | ({"sold": 150.0} if i == 3 else {}) for i, r in enumerate(rows)]
    report = import_trades(
        write_rows(tmp_path / "log.csv", changed), PLAIN, "mine", tmp_path / "live", **told
    )
    assert (report.written, report.known) == (1, 4)
    assert "1 trades of the run are not in this log any more" in report.summary()


def test_exits_of_more_than_was_opened_are_noticed(tmp_path: Path) -> None:
    whole = make_map({"fields": PLAIN.fields | {"quantity": "units", "entry_quantity": "opened_units"}})
    rows = [row(0, closed=1_700_000_000 + 60 * k, units=3, opened_units=3) for k in (1, 2, 3)]
    report = import_trades(
        write_rows(tmp_path / "log.csv", rows), whole, "mine", tmp_path / "run", threshold_pct=0.3
    )
    assert "the exits of 1 positions are more than what was opened" in report.summary()
    thirds = [r | {"units": 1} for r in rows]
    report = import_trades(
        write_rows(tmp_path / "log.csv", thirds), whole, "mine", tmp_path / "run2", threshold_pct=0.3
    )
    assert report.notes == ()


def test_a_log_that_contradicts_itself_is_trusted_only_by_word_and_that_is_recorded(tmp_path: Path) -> None:
    rows = [row(i, net=0.01) for i in range(30)]
    fraction = make_map({"fields": PLAIN.fields | {"realized_return_pct": "net"}})
    path = write_rows(tmp_path / "log.csv", rows)
    with pytest.raises(
        ImportMapError, match=r"looks like a fraction.*realized_return_pct: 100 \* net .*--trust"
    ):
        import_trades(path, fraction, "mine", tmp_path / "run", threshold_pct=0.3)
    assert not (tmp_path / "run").exists()
    report = import_trades(path, fraction, "mine", tmp_path / "run", threshold_pct=0.3, trust=True)
    [record] = (tmp_path / "run").glob("run_*.json")
    told = json.loads(record.read_text())["import"]
    assert (report.written, told["trust"], len(told["trusted"]), told["odd"]) == (30, True, 1, 30)
    assert len(load_columns(tmp_path / "run")[0]) == 30  # the table of odd rows is no trace file
