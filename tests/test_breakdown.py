"""Groups are a partition of the trades, whatever they are cut by, on made-up trades and on real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from test_analyzer import Row, rows, traces_of

from trade_telemetry import breakdown as tt
from trade_telemetry.store import TraceColumns

ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"])


@given(rows, st.sampled_from(tt.KEYS), ZONES)
def test_counts_and_sums_of_the_groups_are_those_of_all_trades(
    given_rows: list[Row], by: str, zone: str
) -> None:
    columns = TraceColumns.from_traces(traces_of(given_rows))
    groups = tt.breakdown(columns, by, zone)
    assert sum(g.trades for g in groups) == len(columns)
    assert sum(g.calls for g in groups) == np.count_nonzero(columns.predicted != 2)
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
