"""Groups are a partition of the trades, whatever they are cut by, on made-up trades and on real ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from test_analyzer import Row, rows, traces_of

import trade_telemetry.metrics.breakdown as tt
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.store import load_columns

ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"])


@settings(deadline=None)
@given(rows, st.sampled_from(tt.KEYS), ZONES)
def test_counts_and_sums_of_the_groups_are_those_of_all_trades(
    given_rows: list[Row], by: str, zone: str
) -> None:
    columns = TraceColumns.from_traces(traces_of(given_rows))
    groups = tt.breakdown(columns, by, zone)
    assert sum(g.trades for g in groups) == len(columns)
    assert sum(g.calls for g in groups) == np.count_nonzero(columns.predicted != 2)
    assert all(g.win_rate_interval[0] <= g.win_rate <= g.win_rate_interval[1] for g in groups)
    np.testing.assert_allclose(sum(g.total_return_pct for g in groups), columns.return_pct.sum(), atol=1e-9)
    assert str(tt.breakdown(TraceColumns.from_traces(traces_of(given_rows)[::-1]), by, zone)) == str(groups)


@pytest.mark.parametrize("name", NAMES)
def test_groups_of_a_real_log_are_those_of_pandas_and_scikit_learn(name: str) -> None:
    columns = TraceColumns.from_traces(load_log(name))
    frame = columns.to_pandas()
    frame["month"] = frame["exit_timestamp"].dt.strftime("%Y-%m")
    frame["hour"] = frame["timestamp"].dt.strftime("%H:00")
    for by in ("symbol", "exit_reason", "month", "hour"):
        groups = tt.breakdown(columns, by)
        table = (
            frame.groupby(frame[by].astype(str))["realized_return_pct"].agg(["count", "mean"]).sort_index()
        )
        assert [g.name for g in groups] == table.index.tolist()
        assert [g.trades for g in groups] == table["count"].tolist()
        np.testing.assert_allclose([g.avg_return for g in groups], table["mean"], atol=1e-9)
        for group in groups:
            own = frame[frame[by].astype(str) == group.name]
            theirs = sk.precision_score(
                own["actual_direction"], own["predicted_direction"], labels=["LONG", "SHORT"], average="micro"
            )
            assert group.precision == pytest.approx(theirs, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(rows, st.sampled_from(tt.KEYS), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_ledger_gives_the_groups_of_the_whole_run_where_it_knows_them(
    given_rows: list[Row], by: str, rate: float
) -> None:
    traces = traces_of(given_rows)
    for i, trace in enumerate(traces):
        trace.trace_id = f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}"
    with tempfile.TemporaryDirectory() as folder:
        for name, kept in (("tenth", rate), ("whole", 1.0)):
            with TelemetryWriter(Path(folder) / name, sample_rate=kept) as writer:
                for trace in traces:
                    writer.write_trace(trace)
        tenth, whole = (load_columns(Path(folder) / name)[0] for name in ("tenth", "whole"))
    here, there = tt.breakdown(tenth, by), tt.breakdown(whole, by)
    if by not in tt.LEDGER_KEYS:
        assert sum(g.trades for g in here) == len(tenth)
        assert all(g.sampled and np.isnan(g.total_return_pct) for g in here)
        return
    assert [(g.name, g.trades, g.calls, g.sampled) for g in here] == [
        (g.name, g.trades, g.calls, False) for g in there
    ]
    for ours, theirs in zip(here, there, strict=True):
        for figure in ("precision", "win_rate", "avg_return", "total_return_pct", "avg_return_interval"):
            np.testing.assert_allclose(getattr(ours, figure), getattr(theirs, figure), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(rows, st.integers(1, 12))
def test_windows_are_the_rolling_figures_that_share_no_trade(given_rows: list[Row], window: int) -> None:
    columns = TraceColumns.from_traces(traces_of(given_rows))
    found, path = tt.windows(columns, window, most=100), tt.rolling(columns, window)
    assert len(found) == len(columns) // window
    np.testing.assert_allclose(
        [g.avg_return for g in found], path.avg_return[::-1][::window][::-1], atol=1e-9
    )


@settings(deadline=None)
@given(rows, st.integers(1, 12))
def test_rolling_figures_are_those_of_pandas(given_rows: list[Row], window: int) -> None:
    columns = TraceColumns.from_traces(traces_of(given_rows))
    got = tt.rolling(columns, window)
    ordered = columns.take(np.lexsort((columns.trace_id, columns.exit_us)))
    expected = pd.Series(ordered.return_pct, dtype=float).rolling(window).mean().dropna()
    np.testing.assert_allclose(got.avg_return, expected, atol=1e-9)
    assert len(got.exit_us) == len(got.precision) == len(got.win_rate) == len(expected)


def test_a_session_clock_counts_from_the_opening_in_local_time_across_the_change_of_the_clocks() -> None:
    columns = TraceColumns.from_traces(traces_of([("LONG", "LONG", "mine", 0, 1.0, None)])).take(
        np.zeros(3, dtype=np.int64)
    )
    stamps = ["2025-03-07 14:30", "2025-03-10 13:30", "2025-03-10 14:29"]  # 9:30, 9:30 and 10:29 in New York
    entry = pd.to_datetime(stamps).as_unit("us").asi8
    object.__setattr__(columns, "entry_us", entry)
    place, names = tt.keys_of(columns, "hour", "America/New_York", session_open="09:30")
    assert [names[k] for k in place] == ["hour 1"] * 3
