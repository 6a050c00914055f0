"""The front door: every way in gives the same figures, and what goes out is strict JSON."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import empyrical
import numpy as np
import pandas as pd
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import validate
from sklearn import metrics as sk

from trade_telemetry.analyzer import AccuracyAnalyzer
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.jsonable import to_json_value
from trade_telemetry.metrics.intervals import effective_cases, wilson_interval
from trade_telemetry.metrics.record import AccuracyMetrics
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.days import exit_days
from trade_telemetry.store.frames import as_columns
from trade_telemetry.store.store import TraceStore
from trade_telemetry.testing import simulate_run
from trade_telemetry.trace import DIRECTIONS, Direction, PredictionTrace, exit_time

START = datetime(2025, 1, 6, 10, tzinfo=UTC)
directions = st.sampled_from(DIRECTIONS)
rows = st.lists(
    st.tuples(
        directions,
        directions,
        st.sampled_from(["intraday", "swing", "mine"]),
        st.integers(0, 30 * 1440),
        st.floats(-5, 5).map(lambda x: round(x, 3)),
        st.one_of(st.none(), st.floats(-0.5, 1.5)),
    ),
    max_size=40,
)
Row = tuple[Direction, Direction, str, int, float, float | None]


def traces_of(given_rows: list[Row]) -> list[PredictionTrace]:
    return [
        PredictionTrace(
            START + timedelta(minutes=minute), f"S{i % 3}", strategy, predicted, actual, confidence, 100.0, 101.0, 30, earned,
            trace_id=f"{i:016x}", label_threshold_pct=0.3,
        )
        for i, (predicted, actual, strategy, minute, earned, confidence) in enumerate(given_rows)
    ]  # fmt: skip


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"not strict JSON: {constant}")


@pytest.mark.parametrize("name", NAMES)
def test_the_record_of_a_real_log_equals_scikit_learn_empyrical_and_brute_force(name: str) -> None:
    traces = load_log(name)
    m = AccuracyAnalyzer().compute_metrics(traces)
    actual, predicted = [t.actual_direction for t in traces], [t.predicted_direction for t in traces]
    names = list(DIRECTIONS)
    assert m.confusion_matrix == sk.confusion_matrix(actual, predicted, labels=names).tolist()
    ours = [[d[n] for n in names] for d in (m.precision, m.recall, m.f1_score)]
    theirs = sk.precision_recall_fscore_support(actual, predicted, labels=names, zero_division=0)
    np.testing.assert_allclose(ours, theirs[:3], rtol=0, atol=1e-12)
    assert [m.support[n] for n in names] == theirs[3].tolist()
    head = sk.precision_recall_fscore_support(actual, predicted, labels=names[:2], average="micro")[:3]
    np.testing.assert_allclose(
        [m.headline_precision, m.headline_recall, m.headline_f1], head, rtol=0, atol=1e-12
    )
    for low_high, value in ((m.headline_precision_interval, head[0]), (m.headline_f1_interval, head[2])):
        assert low_high[0] < value < low_high[1]
    path = np.concatenate([[0.0], np.cumsum([t.realized_return_pct for t in sorted(traces, key=exit_key)])])
    instants = (
        pd.Series([t.realized_return_pct for t in traces]).groupby([exit_time(t) for t in traces]).sum()
    )
    steps = np.concatenate([[0.0], instants.sort_index().cumsum()])  # exits at one instant are one step
    brute = min(steps[i] - steps[: i + 1].max() for i in range(len(steps)))
    assert m.max_drawdown == pytest.approx(brute, abs=1e-9)
    assert m.cumulative_return_pct == pytest.approx(path[-1], abs=1e-9)
    assert m.sharpe_ratio == pytest.approx(
        empyrical.sharpe_ratio(daily(traces) / 100, annualization=365), abs=1e-9
    )
    assert (m.confidence_rows, m.mislabelled, m.sampled) == (0, 0, False)


def exit_key(trace: PredictionTrace) -> tuple[datetime, int]:
    assert trace.exit_timestamp is not None
    return trace.exit_timestamp, int(trace.trace_id, 16)


def daily(traces: list[PredictionTrace]) -> Any:
    days = [exit_key(t)[0].date().toordinal() for t in traces]
    return np.bincount(np.array(days) - min(days), [t.realized_return_pct for t in traces])


@pytest.mark.parametrize("name", NAMES[2:])
def test_the_literal_rule_marks_right_shorts_of_a_real_log_as_wrong(name: str) -> None:
    traces = load_log(name)
    market = AccuracyAnalyzer({"freqtrade": 0.3}).compute_metrics(traces)
    literal = AccuracyAnalyzer({"freqtrade": 0.3}, label="position").compute_metrics(traces)
    assert repr(market) == repr(AccuracyAnalyzer().compute_metrics(traces))  # stored labels are the market's
    lost = [t.realized_return_pct < -0.3 for t in traces if t.predicted_direction == "SHORT"]
    assert literal.precision["SHORT"] == pytest.approx(
        np.mean(lost)
    )  # a SHORT is "right" when it loses money
    assert market.precision["SHORT"] > literal.precision["SHORT"] + 0.1
    assert market.precision["LONG"] == pytest.approx(literal.precision["LONG"], abs=0.15)  # costs aside


@settings(max_examples=60, deadline=None)
@given(rows)
def test_list_columns_and_frame_give_the_same_record_in_any_order(given_rows: list[Row]) -> None:
    traces, analyzer = traces_of(given_rows), AccuracyAnalyzer()
    columns = TraceColumns.from_traces(traces)
    m = analyzer.compute_metrics(traces)
    assert repr(analyzer.compute_metrics(columns)) == repr(m)
    assert repr(analyzer.compute_metrics(traces[::-1])) == repr(m)
    if traces:
        assert repr(analyzer.compute_metrics(columns.to_pandas())) == repr(m)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_every_record_is_strict_json_and_the_parts_add_up(given_rows: list[Row]) -> None:
    analyzer = AccuracyAnalyzer()
    m = analyzer.compute_metrics(traces_of(given_rows))
    assert json.loads(json.dumps(m.to_dict(), allow_nan=False)) == m.to_dict()
    parts = analyzer.compute_metrics(traces_of(given_rows), group_by_strategy=True)
    assert sum(p.total_trades for p in parts.values()) == m.total_trades == len(given_rows)
    cells = np.sum([np.array(p.confusion_matrix) for p in parts.values()] or [np.zeros((3, 3))], axis=0)
    assert cells.tolist() == m.confusion_matrix
    assert json.dumps(
        to_json_value(analyzer.compute_comparative_metrics(traces_of(given_rows))), allow_nan=False
    )


POINTS = ("avg_return", "cumulative_return_pct", "max_drawdown", "max_drawdown_daily", "avg_win", "avg_loss")
RATIOS = (
    "win_rate",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "sharpe_per_trade",
    "profit_factor",
    "payoff_ratio",
)


@settings(max_examples=60, deadline=None)
@given(rows, st.floats(0.01, 100))
def test_a_larger_stake_scales_points_and_leaves_calls_and_ratios(
    given_rows: list[Row], stake: float
) -> None:
    traces, analyzer = traces_of(given_rows), AccuracyAnalyzer()
    larger = [replace(t, realized_return_pct=stake * t.realized_return_pct) for t in traces]
    m, scaled = analyzer.compute_metrics(traces), analyzer.compute_metrics(larger)
    assert scaled.confusion_matrix == m.confusion_matrix
    for name in RATIOS:
        np.testing.assert_allclose(getattr(scaled, name), getattr(m, name), rtol=1e-9, err_msg=name)
    for name in POINTS:
        np.testing.assert_allclose(
            getattr(scaled, name), stake * getattr(m, name), rtol=1e-9, atol=1e-9 * stake, err_msg=name
        )


@settings(max_examples=60, deadline=None)
@given(rows)
def test_in_a_mirrored_market_every_short_is_the_long_it_was(given_rows: list[Row]) -> None:
    mirror: dict[Direction, Direction] = {"LONG": "SHORT", "SHORT": "LONG", "NOOP": "NOOP"}
    turned = [(mirror[p], mirror[a], *rest) for p, a, *rest in given_rows]
    m = AccuracyAnalyzer().compute_metrics(traces_of(given_rows))
    other = AccuracyAnalyzer().compute_metrics(traces_of(turned))  # type: ignore[arg-type]  # a row is a row
    for figures in ("precision", "recall", "f1_score", "support", "calls"):
        here, there = getattr(m, figures), getattr(other, figures)
        assert {mirror[name]: value for name, value in there.items()} == here
    same = (
        "headline_precision",
        "headline_f1",
        "mcc",
        "brier_score",
        "avg_return",
        "sharpe_ratio",
        "max_drawdown",
    )
    for name in same:
        np.testing.assert_allclose(getattr(other, name), getattr(m, name), rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(rows, st.integers(0, 40), st.booleans())
def test_trades_split_over_files_and_merged_again_are_the_same_record(
    given_rows: list[Row], cut: int, packed: bool
) -> None:
    traces, analyzer = traces_of(given_rows), AccuracyAnalyzer()
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("one", [traces]), ("two", [traces[:cut], traces[cut:]])):
            for own in part:
                write_run(Path(folder) / name, own, compression=packed)
        one, two = (analyzer.load_columns(Path(folder) / name) for name in ("one", "two"))
    assert repr(analyzer.compute_metrics(two)) == repr(analyzer.compute_metrics(one))
    parts = [TraceColumns.from_traces(traces[:cut]), TraceColumns.from_traces(traces[cut:])]
    whole = analyzer.compute_metrics(traces)
    assert repr(analyzer.compute_metrics(TraceColumns.concat(parts))) == repr(whole)


def test_trades_at_break_even_are_neither_wins_nor_losses(tmp_path: Path) -> None:
    even = traces_of([("LONG", "NOOP", "intraday", 60 * i, 0.0, None) for i in range(10)])
    m = AccuracyAnalyzer().compute_metrics(even)
    assert (m.win_rate, m.avg_return, m.max_drawdown, m.days_under_water) == (0.0, 0.0, 0.0, 0)
    assert (m.longest_winning_streak, m.longest_losing_streak) == (0, 0)
    assert np.isnan([m.profit_factor, m.payoff_ratio, m.sharpe_ratio, m.sortino_ratio, m.calmar_ratio]).all()
    path = AccuracyAnalyzer().export_report(m, tmp_path / "report.json")
    written = json.loads(path.read_text(), parse_constant=refuse)["metrics"]
    assert (written["profit_factor"], written["sharpe_ratio"], written["win_rate"]) == (None, None, 0.0)
    answer = AccuracyAnalyzer().compute_comparative_metrics(even)
    assert answer["comparison"]["verdict"] == "Not comparable: no trades of swing."


def test_break_even_trades_of_a_sampled_run_leave_the_verdict_as_it_is(tmp_path: Path) -> None:
    pattern = (0.0, 0.4, -0.2, 0.0, 0.3)
    traces = [
        replace(t, strategy=name, trace_id=f"{(k * 1000 + i) * 0x9E3779B97F4A7C15 % 2**64:016x}")
        for k, name in enumerate(("intraday", "swing"))
        for i, t in enumerate(
            traces_of([("LONG", "LONG", name, 600 * i, pattern[(i + k) % 5], None) for i in range(150)])
        )
    ]
    write_run(tmp_path / "tenth", traces, sample_rate=0.1)
    write_run(tmp_path / "whole", traces)
    tenth, whole = (
        AccuracyAnalyzer().compute_comparative_metrics(AccuracyAnalyzer().load_columns(tmp_path / name))
        for name in ("tenth", "whole")
    )
    assert tenth["comparison"]["verdict"] == whole["comparison"]["verdict"]


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["schema_version", "generated_at", "metrics"],
    "properties": {
        "schema_version": {"const": 1},
        "metrics": {
            "type": "object",
            "required": ["precision", "confusion_matrix", "sharpe_ratio", "profit_factor", "by_strategy"],
            "properties": {
                "total_trades": {"type": "integer"},
                "precision": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
                "profit_factor": {"type": ["number", "null"]},
                "confusion_matrix": {"type": "array", "minItems": 3, "maxItems": 3},
                "headline_f1_interval": {"type": "array", "minItems": 2, "maxItems": 2},
            },
        },
    },
}


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_a_report_of_any_size_is_strict_json_with_a_schema_version(tmp_path: Path, count: int) -> None:
    traces = traces_of(
        [("LONG", "LONG", "intraday", 60 * i, 0.5, 0.7) for i in range(count)]
    )  # no loss at all
    analyzer = AccuracyAnalyzer()
    path = analyzer.export_report(analyzer.compute_metrics(traces), tmp_path / "deep" / "report.json")
    report = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    validate(report, SCHEMA)
    assert report["metrics"]["profit_factor"] is None
    assert report["metrics"]["total_trades"] == count


def test_what_was_set_aside_while_loading_is_in_the_report_of_the_last_load(tmp_path: Path) -> None:
    traces = traces_of([("LONG", "SHORT", "intraday", 60 * i, -0.5, 0.7) for i in range(5)])
    with TelemetryWriter(tmp_path / "live", mode="live") as writer:
        for t in traces:
            writer.write_trace(t)
    file = next((tmp_path / "live").glob("traces_*.csv"))
    with file.open("a", encoding="utf-8") as out:
        out.write("not,a,trace\n")
    analyzer = AccuracyAnalyzer()
    assert analyzer.last_report.rows == 0
    assert len(analyzer.load_traces(tmp_path)) == 5
    assert [bad.line for bad in analyzer.last_report.bad] == [7]
    assert "1 bad row" in analyzer.last_report.summary()
    with pytest.raises(ValueError, match="traces_intraday"):
        analyzer.load_traces(tmp_path, strict=True)


def test_a_sample_keeps_rates_and_leaves_sums_out() -> None:
    traces = traces_of([("LONG", "LONG" if i % 3 else "SHORT", "swing", 60 * i, 0.1, 0.7) for i in range(90)])
    for t in traces:
        t.sample_rate = 0.1
    m = AccuracyAnalyzer().compute_metrics(traces)
    assert m.sampled
    assert (m.headline_precision, m.win_rate) == pytest.approx((2 / 3, 1.0))
    assert all(np.isnan(x) for x in (m.cumulative_return_pct, m.max_drawdown, m.sharpe_ratio))


def test_naive_times_of_a_frame_are_taken_in_the_zone_of_the_analyzer() -> None:
    frame = as_columns(traces_of([("LONG", "LONG", "swing", 0, 0.1, None)])).to_pandas()
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
    frame["exit_timestamp"] = frame["exit_timestamp"].dt.tz_localize(None)
    m = AccuracyAnalyzer(timezone="Asia/Kolkata").compute_metrics(frame)
    assert m.first_exit == "2025-01-06T05:00:00+00:00"


def test_days_are_counted_by_the_dates_of_the_zone() -> None:
    late = traces_of(
        [("LONG", "LONG", "swing", 13 * 60 + k, 0.1, None) for k in (0, 60)]
    )  # 23:30 and 00:30 UTC
    assert AccuracyAnalyzer().compute_metrics(late).trading_days == 2
    assert AccuracyAnalyzer(timezone="America/New_York").compute_metrics(late).trading_days == 1


def test_pictures_are_drawn_for_every_size_and_form(tmp_path: Path) -> None:
    analyzer = AccuracyAnalyzer()
    many = traces_of(
        [("LONG", "SHORT", s, 60 * i, 0.5 - i, 0.7) for i in range(9) for s in ("intraday", "swing")]
    )
    for name, traces in {"none": [], "one": many[:1], "many": many}.items():
        metrics = analyzer.compute_metrics(traces)
        draw: list[Callable[[], Path]] = [
            lambda m=metrics, n=name: analyzer.plot_confusion_matrix(m, tmp_path / f"{n}_matrix.png"),  # type: ignore[misc]
            lambda t=traces, n=name: analyzer.plot_return_distribution(t, tmp_path / f"{n}_returns.png"),  # type: ignore[misc]
            lambda t=traces, n=name: analyzer.plot_cumulative_returns(t, tmp_path / f"{n}_curves.png"),  # type: ignore[misc]
        ]
        for one in draw:
            assert one().read_bytes()[:4] == b"\x89PNG"


def test_the_names_that_were_promised_are_there() -> None:
    promised = (
        "precision recall f1_score confusion_matrix hit_ratio win_rate avg_return sharpe_ratio max_drawdown "
        "profit_factor total_trades avg_holding_minutes by_strategy"
    )
    assert set(promised.split()) <= set(AccuracyMetrics.__dataclass_fields__)


NEED_ROWS = {"max_drawdown", "longest_winning_streak", "longest_losing_streak", "exposure", "mislabelled"}
ABOUT_ROWS = {"positions", "sampled", "sample_rate", "source", "by_strategy", "strategy"}  # no figures
LEDGER_FIGURES = sorted(set(AccuracyMetrics.__dataclass_fields__) - NEED_ROWS - ABOUT_ROWS)


def assert_same_figures(here: AccuracyMetrics, there: AccuracyMetrics) -> None:
    """Every figure that needs no single trades: 53 of them, gains, costs and calibration among them."""
    for name in LEDGER_FIGURES:
        ours, theirs = getattr(here, name), getattr(there, name)
        if ours is None or theirs is None or isinstance(ours, str):
            assert ours == theirs, name
        elif name.endswith("_interval") and isinstance(ours, dict):
            np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-9, err_msg=name)
        elif isinstance(ours, dict):
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9), name
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=name)


def write_run(folder: Path, traces: list[PredictionTrace], **options: Any) -> None:
    with TelemetryWriter(folder, **options) as writer:
        for trace in traces:
            writer.write_trace(trace)


@settings(max_examples=25, deadline=None)
@given(rows, st.sampled_from([0.0, 0.1, 0.5]))
def test_a_ledger_gives_the_figures_of_the_unsampled_run(given_rows: list[Row], rate: float) -> None:
    traces = traces_of(given_rows)
    for i, trace in enumerate(traces):
        trace.trace_id = f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}"
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder) / "tenth", traces, sample_rate=rate)
        write_run(Path(folder) / "whole", traces)
        tenth, whole = (AccuracyAnalyzer().load_columns(Path(folder) / name) for name in ("tenth", "whole"))
    here, there = (AccuracyAnalyzer().compute_metrics(c) for c in (tenth, whole))
    assert here.by_strategy.keys() == there.by_strategy.keys()
    if traces:
        assert (here.source, there.source) == ("ledger", "rows")
    assert_same_figures(here, there)


def test_a_sampled_run_knows_gains_costs_and_calibration_of_every_trade(tmp_path: Path) -> None:
    """Against the same trades written whole, and against the trades themselves."""
    plain = simulate_run(days=60, mode="live", seed=9)
    traces = [
        replace(t, fees_pct=0.02, slippage_pct=None if i % 5 else 0.01 * (i % 7)) for i, t in enumerate(plain)
    ]
    write_run(tmp_path / "tenth" / "live", traces, mode="live", sample_rate=0.1)
    write_run(tmp_path / "whole" / "live", traces, mode="live")
    tenth, whole = (AccuracyAnalyzer().load_columns(tmp_path / name) for name in ("tenth", "whole"))
    here, there = (AccuracyAnalyzer().compute_metrics(c) for c in (tenth, whole))
    assert (here.source, here.sampled, len(tenth) < len(traces) / 5) == ("ledger", True, True)
    assert_same_figures(here, there)
    r = np.array([t.realized_return_pct for t in traces])
    assert here.profit_factor == pytest.approx(r[r > 0].sum() / -r[r < 0].sum(), rel=1e-12)
    assert (here.avg_win, here.avg_loss) == pytest.approx((r[r > 0].mean(), r[r < 0].mean()), rel=1e-12)
    assert (here.fees_total_pct, here.fees_known) == (pytest.approx(0.02 * len(r)), len(r))
    slipped = [t.slippage_pct for t in traces if t.slippage_pct is not None]
    assert (here.slippage_total_pct, here.slippage_known) == (pytest.approx(sum(slipped)), len(slipped))
    assert here.avg_holding_minutes == pytest.approx(np.mean([t.holding_period_minutes for t in traces]))
    p = np.array([t.predicted_confidence for t in traces], dtype=float)
    right = np.array([t.predicted_direction == t.actual_direction for t in traces])
    assert here.brier_score == pytest.approx(sk.brier_score_loss(right, p), abs=1e-9)
    assert here.log_loss == pytest.approx(sk.log_loss(right, p), abs=1e-8)
    for name in NEED_ROWS - {"mislabelled"}:  # what no sum can tell is not guessed
        assert getattr(here, name) is None or math.isnan(getattr(here, name)), name


def test_a_ledger_of_the_first_version_still_completes_its_rows(tmp_path: Path) -> None:
    """Its file by hand: five numbers a line, of which four figures are exact; gains and costs are of the kept rows."""
    traces = simulate_run(days=40, mode="live", seed=3)
    write_run(tmp_path / "live", traces, mode="live", sample_rate=0.2)
    write_run(tmp_path / "whole" / "live", traces, mode="live")
    kept = AccuracyAnalyzer().load_columns(tmp_path / "live")
    rows: dict[tuple[str, str], dict[tuple[str, ...], list[float]]] = {}
    for t in traces:
        day = exit_time(t).date().isoformat()
        (path,) = (tmp_path / "live").glob(f"ledger_*_{day[:7]}.json")
        key = (t.strategy, t.symbol, day, t.predicted_direction, t.actual_direction)
        sums, r = (
            rows.setdefault((path.name, day[:7]), {}).setdefault(key, [0, 0.0, 0.0, 0, 0.0]),
            t.realized_return_pct,
        )
        for k, value in enumerate((1, r, r * r, r > 0, t.holding_period_minutes)):
            sums[k] += value
    for (name, month), lines in rows.items():
        old = {"schema_version": 1, "mode": "live", "timezone": "UTC", "month": month, "columns": [],
               "rows": [[*key, *sums] for key, sums in lines.items()]}  # fmt: skip
        (tmp_path / "live" / name).write_text(json.dumps(old))
    here = AccuracyAnalyzer().compute_metrics(AccuracyAnalyzer().load_columns(tmp_path / "live"))
    there = AccuracyAnalyzer().compute_metrics(AccuracyAnalyzer().load_columns(tmp_path / "whole"))
    alone = AccuracyAnalyzer().compute_metrics(replace(kept, ledger=None))
    assert here.source == "ledger"
    for name in ("total_trades", "confusion_matrix", "headline_f1", "win_rate", "avg_return", "sharpe_ratio", "max_drawdown_daily", "avg_holding_minutes"):  # fmt: skip
        np.testing.assert_allclose(getattr(here, name), getattr(there, name), rtol=1e-9, atol=1e-9)
    for name in ("profit_factor", "brier_score"):
        assert getattr(here, name) == getattr(alone, name) != getattr(there, name)


def test_writers_with_and_without_a_sample_in_one_directory_are_counted_once_each(tmp_path: Path) -> None:
    traces = load_log(NAMES[2])
    write_run(tmp_path / "live", traces[:200], mode="live")
    write_run(tmp_path / "live", traces[200:400], mode="live", ledger=True)
    write_run(tmp_path / "live", traces[400:], mode="live", sample_rate=0.2)
    write_run(tmp_path / "whole", traces, mode="live")
    here = AccuracyAnalyzer().compute_metrics(AccuracyAnalyzer().load_columns(tmp_path / "live"))
    there = AccuracyAnalyzer().compute_metrics(AccuracyAnalyzer().load_columns(tmp_path / "whole"))
    assert (here.source, here.sampled, here.total_trades) == ("ledger", True, len(traces))
    assert_same_figures(here, there)


def test_without_a_ledger_sums_are_unknown_and_intervals_are_of_the_rows_seen(tmp_path: Path) -> None:
    traces = load_log(NAMES[2])
    write_run(tmp_path / "live", traces, mode="live", sample_rate=0.2, ledger=False)
    columns = AccuracyAnalyzer().load_columns(tmp_path)
    m = AccuracyAnalyzer().compute_metrics(columns)
    assert (m.source, m.sampled, m.total_trades) == ("rows", True, len(columns))
    assert not np.isfinite(
        [m.sharpe_ratio, m.cumulative_return_pct, m.max_drawdown, m.max_drawdown_daily]
    ).any()
    right = sum(m.confusion_matrix[k][k] for k in (0, 1))
    called = columns.take(columns.predicted < 2)
    hits, ones = called.predicted == called.actual, np.ones(len(called))
    cases = effective_cases(hits, ones, ones, exit_days(called.exit_us, "UTC"))
    assert m.headline_precision_interval == pytest.approx(
        wilson_interval(right, m.headline_calls, positions=cases)
    )
    narrow = wilson_interval(right, m.headline_calls)
    assert m.headline_precision_interval[0] <= narrow[0] and narrow[1] <= m.headline_precision_interval[1]


def test_a_store_sees_a_ledger_grow_and_reads_only_the_month_that_changed(tmp_path: Path) -> None:
    traces = [replace(t, position_id=f"{2**63 + i:016x}") for i, t in enumerate(traces_of([("LONG", "LONG", "swing", 60 * 24 * k, 0.5, None) for k in range(60)]))]  # fmt: skip
    store = TraceStore(tmp_path)
    with TelemetryWriter(tmp_path / "live", mode="live", sample_rate=0.1, background=False) as writer:
        for n, trace in enumerate(traces, 1):
            writer.write_trace(trace)
            if n in (20, 40, 60):
                writer.flush()
                before = dict(store.ledgers.files)
                assert store.refresh()
                assert not store.refresh()
                assert AccuracyAnalyzer().compute_metrics(store.columns).total_trades == n
                assert len(store.columns) == 0  # none is in the sample
    kept = [path for path, file in before.items() if store.ledgers.files[path] is file]
    assert len(kept) == 1 and len(store.ledgers.files) == 3
