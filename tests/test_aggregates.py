"""Sums of trades: whatever road they came on and however they were split, integers are equal to the last digit, bytes are equal, and
figures agree with pandas, scikit-learn, scipy and fractions computed apart."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import trade_telemetry.metrics.classification as cl
from trade_telemetry.aggregate import (
    Aggregate,
    Ledgers,
    aggregate_of_lines,
    covers,
    empty,
    forget,
    from_bytes,
    merge,
    restrict,
)
from trade_telemetry.aggregate_file import canonical_bytes, document_of, read_aggregate
from trade_telemetry.aggregate_form import (
    MINUTE,
    MOST_PERCENT,
    ONE,
    PERCENT,
    Lines,
    add_close,
    close_of,
    merge_lines,
)
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.judgement.comparison import side_of
from trade_telemetry.judgement.live_measures import measured
from trade_telemetry.metrics import day_figures as dy
from trade_telemetry.metrics import figures as fg
from trade_telemetry.metrics import rank_figures as rk
from trade_telemetry.metrics.aggregates import fold, fold_rows
from trade_telemetry.metrics.record import AccuracyMetrics, f1_of_days, measure
from trade_telemetry.metrics.returns import daily_returns
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.days import exit_days
from trade_telemetry.store.store import load_columns
from trade_telemetry.timezones import LocalDays
from trade_telemetry.trace import DIRECTIONS, PredictionTrace

START = datetime(2024, 3, 30, 18, tzinfo=UTC)  # the night on which Europe's clocks go forward is near
ZONES = ("UTC", "Asia/Kolkata", "America/New_York", "Europe/Berlin", "America/Sao_Paulo")

percents = st.one_of(
    st.just(0.0),
    st.just(-0.0),
    st.floats(-5, 5),
    st.floats(-MOST_PERCENT, MOST_PERCENT),
    st.integers(-(10**6), 10**6).map(lambda k: (2 * k + 1) * 0.5 / PERCENT),  # halves of a unit: ties
    st.sampled_from([1e-11, -1e-11, 5e-12, MOST_PERCENT, -MOST_PERCENT, 1000.0, -1000.0, 1013.7]),
)
costs = st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.floats(-10, 10), st.just(0.0))
claims = st.one_of(
    st.none(),
    st.just(math.nan),
    st.floats(0, 1),
    st.sampled_from([0.0, 1.0, 1e-16, 1 - 1e-16, 0.5, 0.3, 0.999, 0.9999999999, -0.1, 1.1]),
)
names = st.one_of(st.sampled_from(["swing", "intraday", "Börse", ""]), st.text(max_size=3))


@st.composite
def closes(draw: st.DrawFn) -> PredictionTrace:
    entry = START + timedelta(microseconds=draw(st.integers(0, 3 * 86_400_000_000)))
    return PredictionTrace(
        entry,
        draw(names),
        draw(names),
        draw(st.sampled_from(DIRECTIONS)),
        draw(st.sampled_from(DIRECTIONS)),
        draw(claims),
        100.0,
        101.0,
        draw(st.floats(0, 1e6)),
        draw(percents),
        fees_pct=draw(costs),
        slippage_pct=draw(costs),
        exit_timestamp=entry + timedelta(microseconds=draw(st.integers(0, 86_400_000_000))),
    )


def alone(traces: list[PredictionTrace]) -> list[PredictionTrace]:
    "Ids that make every close a position of its own."
    return [replace(trace, trace_id=f"{k:016x}") for k, trace in enumerate(traces)]


def lines_of(traces: list[PredictionTrace], zone: str) -> Lines:
    lines: Lines = {}
    days = LocalDays(zone)
    for trace in traces:
        add_close(lines, close_of(trace, days))
    return lines


def one_by_one(traces: list[PredictionTrace], zone: str = "UTC") -> Aggregate:
    return aggregate_of_lines(lines_of(traces, zone), [zone])


def same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


@settings(max_examples=150, deadline=None)
@given(st.lists(closes(), max_size=25).map(alone), st.sampled_from(ZONES), st.randoms(use_true_random=False))
def test_rows_and_the_recording_thread_give_the_same_bytes_in_any_split_and_order(
    traces: list[PredictionTrace], zone: str, rng: random.Random
) -> None:
    whole = fold_rows(TraceColumns.from_traces(traces), zone)
    by_hand = lines_of(traces, zone)
    assert whole.to_bytes() == canonical_bytes(document_of(by_hand, [zone]))
    assert from_bytes(whole.to_bytes()).to_bytes() == whole.to_bytes()
    assert read_aggregate(whole.to_bytes()).lines == by_hand
    groups: list[list[PredictionTrace]] = [[] for _ in range(4)]
    for trace in traces:
        groups[rng.randrange(4)].append(trace)
    parts = [
        (fold_rows(TraceColumns.from_traces(g), zone) if k % 2 else one_by_one(g, zone))
        for k, g in enumerate(groups)
    ]
    rng.shuffle(parts)
    nested = merge(parts[0], merge(empty(), merge(parts[1], parts[2])), parts[3])
    for other in (merge(*parts), nested):
        assert other.to_bytes() == whole.to_bytes()
        assert other.digest() == whole.digest()
        assert same(rk.all_figures(other), rk.all_figures(whole))
    assert merge_lines(*(lines_of(g, zone) for g in groups)) == by_hand
    assert all(covers(whole, part) for part in parts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(closes(), max_size=25).map(alone),
    st.sampled_from(ZONES),
    st.sampled_from(["swing", "Börse", "nobody"]),
)
def test_choosing_before_and_after_adding_up_is_the_same(
    traces: list[PredictionTrace], zone: str, name: str
) -> None:
    whole, days = one_by_one(traces, zone), LocalDays(zone)
    middle = days.day(close_of(traces[0], days).exit_us) if traces else 0
    for chosen, keep in (
        (restrict(whole, strategies=[name]), lambda t: t.strategy == name),
        (restrict(whole, symbols=[name]), lambda t: t.symbol == name),
        (restrict(whole, called=[1, 2]), lambda t: t.predicted_direction != "LONG"),
        (restrict(whole, days=(None, middle)), lambda t: close_of(t, days).key.day <= middle),
        (restrict(whole, versions=[""], accounts=[""]), lambda t: True),
    ):
        assert chosen.to_bytes() == one_by_one([t for t in traces if keep(t)], zone).to_bytes()
    together = forget(whole, "strategy", "symbol")
    renamed = one_by_one([replace(t, strategy="", symbol="") for t in traces], zone)
    assert together.to_bytes() == renamed.to_bytes()


def exact_figures(traces: list[PredictionTrace]) -> dict[str, float]:
    """The figures by fractions and floats of single trades, without a sum of ours."""
    r = [Fraction(round(t.realized_return_pct * PERCENT), PERCENT) for t in traces]
    won, lost, n = [x for x in r if x > 0], [x for x in r if x < 0], len(r)
    spread = sum((x - sum(r) / n) ** 2 for x in r) / (n - 1)
    stated = [
        (Fraction(round(t.predicted_confidence * 1e9), ONE), t.predicted_direction == t.actual_direction)
        for t in traces
        if t.predicted_confidence is not None and 0 <= t.predicted_confidence <= 1
    ]
    fees = [
        Fraction(round(t.fees_pct * PERCENT), PERCENT)
        for t in traces
        if t.fees_pct is not None and math.isfinite(t.fees_pct)
    ]
    found = {
        "average_return": sum(r) / n,
        "cumulative_return": sum(r),
        "return_variance": spread,
        "win_rate": Fraction(len(won), n),
        "average_holding_minutes": sum(
            Fraction(round(t.holding_period_minutes * MINUTE), MINUTE) for t in traces
        )
        / n,
    }
    if lost and won:
        found |= {
            "profit_factor": sum(won) / -sum(lost),
            "average_win": sum(won) / len(won),
            "average_loss": sum(lost) / len(lost),
            "payoff_ratio": (sum(won) / len(won)) / -(sum(lost) / len(lost)),
        }
    if stated:
        found["brier_score"] = sum((p - right) ** 2 for p, right in stated) / len(stated)
    if fees:
        found |= {"fees_total": sum(fees), "average_fees": sum(fees) / len(fees)}
    return {name: float(value) for name, value in found.items()}


@settings(max_examples=150, deadline=None)
@given(st.lists(closes(), min_size=2, max_size=25))
def test_figures_are_those_of_fractions_of_single_trades(traces: list[PredictionTrace]) -> None:
    found = rk.all_figures(fold_rows(TraceColumns.from_traces(traces)))
    for name, value in exact_figures(traces).items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-300), name


@settings(max_examples=60, deadline=None)
@given(st.lists(closes(), min_size=1, max_size=40))
def test_scores_of_confidence_are_those_of_scikit_learn(traces: list[PredictionTrace]) -> None:
    columns = TraceColumns.from_traces(traces)
    a, rows = fold_rows(columns), cl.confidence_rows(columns.confidence, columns.actual, columns.predicted)
    if not len(rows.stated):
        assert all(math.isnan(of(a)) for of in (fg.brier_score, fg.log_loss, fg.auc, fg.calibration_error))
        return
    units = np.round(rows.stated * 1e9)
    bins, tenths = np.minimum(units // 1e6, 999), np.minimum(units // 1e8, 9)
    assert fg.brier_score(a) == pytest.approx(sk.brier_score_loss(rows.right, rows.stated), abs=3e-9)
    assert fg.log_loss(a) == pytest.approx(cl.log_loss(rows), abs=1e-9)
    if 0 < rows.right.sum() < len(rows.right):
        assert fg.auc(a) == pytest.approx(sk.roc_auc_score(rows.right, bins), abs=1e-12)
    gaps = [abs((rows.right[tenths == k] - rows.stated[tenths == k]).sum()) for k in range(10)]
    assert fg.calibration_error(a) == pytest.approx(sum(gaps) / len(units), abs=1e-9)
    terms = fg.brier_terms(a)
    identity = terms.reliability - terms.resolution + terms.uncertainty
    identity += terms.within_variance - terms.within_covariance
    assert identity == pytest.approx(fg.brier_score(a), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(closes(), min_size=1, max_size=40), st.sampled_from(ZONES))
def test_days_are_those_of_pandas(traces: list[PredictionTrace], zone: str) -> None:
    columns = TraceColumns.from_traces(traces)
    days = dy.days_of(fold_rows(columns, zone))
    frame = pd.DataFrame(
        {
            "day": pd.to_datetime(columns.exit_us, unit="us", utc=True)
            .tz_convert(zone)
            .tz_localize(None)
            .floor("D"),
            "units": np.round(columns.return_pct * PERCENT),
            "call": columns.predicted < 2,
            "right": (columns.predicted == columns.actual) & (columns.predicted < 2),
            "won": columns.return_pct * PERCENT > 0.5,
            "exit": columns.exit_us,
        }
    ).groupby("day")
    assert days.day.tolist() == [(day - pd.Timestamp(0)).days for day in frame.groups]
    assert days.closes.tolist() == frame.size().tolist()
    assert days.calls.tolist() == frame.call.sum().tolist()
    assert days.right.tolist() == frame.right.sum().tolist()
    assert days.last_us.tolist() == frame.exit.max().tolist()
    assert days.return_sum == pytest.approx(frame.units.sum().to_numpy() / PERCENT, rel=1e-12, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(closes(), max_size=20), st.lists(closes(), max_size=20))
def test_ranks_do_not_depend_on_the_side_that_asks(
    first: list[PredictionTrace], second: list[PredictionTrace]
) -> None:
    a, b = one_by_one(first), one_by_one(second)
    there, back = rk.mann_whitney(a, b), rk.mann_whitney(b, a)
    if first and second:
        assert there.u + back.u == len(first) * len(second)
        assert there.p_value == pytest.approx(back.p_value, abs=1e-15)


def doubled(a: Aggregate, times: int) -> Aggregate:
    for _ in range(times):
        a = merge(a, a)
    return a


def test_a_billion_trades_of_a_hundred_percent_fit_and_are_exact() -> None:
    rows = [
        PredictionTrace(START, "TCS", "swing", "LONG", "LONG", 0.9, 100.0, 200.0, 1e5, r, fees_pct=100.0)
        for r in (100.0, -100.0, 100.0 - 1e-11)
    ]
    a = doubled(one_by_one(rows), 29)
    n = 3 << 29
    assert n > 10**9
    assert a.total("closes") == n
    assert a.total("square_sum") == (2 * 10**4 * PERCENT**2 + (100 * PERCENT - 1) ** 2) << 29
    assert a.total("gain_sum") == (200 * PERCENT - 1) << 29
    assert a.total("holding_sum") == n * 10**5 * MINUTE
    assert from_bytes(a.to_bytes()).digest() == a.digest()
    assert fg.return_variance(a) == pytest.approx(80000 / 9, rel=1e-9)
    assert same({k: v for k, v in rk.all_figures(a).items() if k in ("profit_factor", "win_rate", "brier_score")},
                {k: v for k, v in rk.all_figures(one_by_one(rows)).items() if k in ("profit_factor", "win_rate", "brier_score")})  # fmt: skip


def test_sums_beyond_the_bound_are_refused_and_not_wrapped() -> None:
    a = one_by_one(
        [PredictionTrace(START, "TCS", "swing", "LONG", "LONG", None, 1.0, 1.0, 1.0, MOST_PERCENT)]
    )
    with pytest.raises(OverflowError, match="too large"):
        doubled(a, 40)


def test_long_columns_are_folded_in_blocks_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = random_columns(5000)
    whole = fold_rows(columns)
    for block, piece in ((700, 64), (5000, 333), (1, 1)):
        monkeypatch.setattr("trade_telemetry.metrics.aggregates.BLOCK", block)
        monkeypatch.setattr("trade_telemetry.metrics.aggregates.PIECE", piece)
        rows = columns if block > 1 else columns.take(slice(0, 40))
        assert fold_rows(rows).to_bytes() == (whole if block > 1 else one_block(rows, monkeypatch)).to_bytes()


def one_block(rows: TraceColumns, monkeypatch: pytest.MonkeyPatch) -> Aggregate:
    monkeypatch.setattr("trade_telemetry.metrics.aggregates.BLOCK", 1 << 22)
    return fold_rows(rows)


def random_columns(n: int, seed: int = 0, digits: int = 3) -> TraceColumns:
    """Trades of two strategies over a hundred days, claims of three digits."""
    rng = np.random.default_rng(seed)
    one = PredictionTrace(START, "A", "swing", "LONG", "LONG", None, 100.0, 101.0, 5.0, 1.0)
    exits = 1_704_153_600_000_000 + np.sort(rng.integers(0, 100 * 86_400_000_000, n))
    predicted, hit = rng.integers(0, 2, n), rng.random(n) < 0.55
    return replace(
        TraceColumns.from_traces([one]).take(np.zeros(n, dtype=np.int64)),
        exit_us=exits,
        entry_us=exits - 300_000_000,
        predicted=predicted.astype(np.int8),
        actual=np.where(hit, predicted, (predicted + rng.integers(1, 3, n)) % 3).astype(np.int8),
        strategy=rng.integers(0, 2, n).astype(np.int32),
        strategies=["swing", "intraday"],
        symbol=rng.integers(0, 3, n).astype(np.int32),
        symbols=["TCS", "INFY", "Börse"],
        return_pct=np.where(rng.random(n) < 0.03, 0.0, rng.standard_t(4, n) + 0.05),
        confidence=np.where(rng.random(n) < 0.9, rng.beta(5, 4, n).round(digits), np.nan),
        fees_pct=np.where(rng.random(n) < 0.8, 0.02, np.nan),
        slippage_pct=rng.normal(0.01, 0.02, n),
        holding_minutes=rng.random(n) * 300,
        trace_id=(ids := rng.integers(0, 2**62, n).astype(np.uint64)),
        position_id=ids,
    )


MADE_OF_THE_MATRIX = {"position_matrix",
    "precision", "recall", "f1_score", "support", "calls", "confusion_matrix", "headline_precision", "headline_recall",
    "headline_f1", "headline_calls", "headline_support",
    "hit_ratio", "balanced_accuracy", "mcc", "cohen_kappa",
}  # fmt: skip
SAME_FIGURE = {
    "brier_score": "brier_score", "calibration_error": "calibration_error", "log_loss": "log_loss", "auc": "auc",
    "brier_reliability": "brier_reliability", "brier_resolution": "brier_resolution", "brier_uncertainty": "brier_uncertainty",
    "win_rate": "win_rate", "avg_return": "average_return", "cumulative_return_pct": "cumulative_return",
    "sharpe_ratio": "sharpe_ratio", "sharpe_per_trade": "sharpe_per_trade", "max_drawdown_daily": "max_drawdown_daily",
    "profit_factor": "profit_factor", "payoff_ratio": "payoff_ratio", "avg_holding_minutes": "average_holding_minutes",
    "sortino_ratio": "sortino_ratio", "calmar_ratio": "calmar_ratio", "probabilistic_sharpe_ratio": "probabilistic_sharpe_ratio",
    "days_under_water": "days_under_water", "avg_win": "average_win", "avg_loss": "average_loss",
    "fees_total_pct": "fees_total", "slippage_total_pct": "slippage_total",
}  # fmt: skip
OTHERWISE = {"positions",   # Fields of the record that are no number of their own
    "strategy", "total_trades", "sampled", "sample_rate", "source", "by_strategy", "confidence_rows", "fees_known", "slippage_known",
    "trading_days", "first_exit", "last_exit", "win_rate_interval", "avg_return_interval", "headline_f1_interval",
    "headline_precision_interval", "headline_recall_interval", "precision_interval", "recall_interval",  # made by days
}  # fmt: skip


def test_every_figure_of_the_record_comes_from_sums_or_says_why_not() -> None:
    names = {f.name for f in fields(AccuracyMetrics)}
    told = MADE_OF_THE_MATRIX | set(SAME_FIGURE) | OTHERWISE | set(rk.ROWS_ONLY)
    assert names - told == set()
    assert set(SAME_FIGURE.values()) <= set(fg.FIGURES)
    assert set(rk.ROWS_ONLY) & set(fg.FIGURES) == set()


def compare_with_record(columns: TraceColumns, zone: str = "UTC") -> None:
    """Today's record of some trades against figures of their sums."""
    record, folded = measure(columns, timezone=zone, zero_division=math.nan), fold(columns, zone)
    a = folded.returns
    assert fg.matrix(folded.calls).tolist() == record.confusion_matrix
    assert (fg.trades(a), dy.trading_days(a), folded.sampled) == (
        record.total_trades, record.trading_days, record.sampled,
    )  # fmt: skip
    assert dy.average_return_interval(a) == pytest.approx(
        record.avg_return_interval, rel=1e-9, abs=1e-9, nan_ok=True
    )
    for name, figure in SAME_FIGURE.items():
        need = fg.FIGURES[figure]
        source = folded.calls if "confidence" in need.parts else a
        for part in need.parts:
            source = folded.knowing(part)
        theirs = getattr(record, name)
        theirs = math.nan if theirs is None else theirs
        ours = getattr(next(room for room in (fg, dy, rk) if hasattr(room, figure)), figure)(source)
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-10, nan_ok=True), name


def test_figures_are_those_of_the_record_from_rows() -> None:
    columns = random_columns(6000)
    compare_with_record(columns)
    compare_with_record(columns, "America/New_York")
    compare_with_record(columns.only(strategy="swing"))
    compare_with_record(columns.take(slice(0, 1)))
    compare_with_record(columns.take(slice(0, 0)))
    lines = rk.weighted_lines(fold_rows(columns))
    record = measure(columns)
    assert f1_of_days(lines.day, lines.called, lines.actual, lines.closes) == pytest.approx(
        record.headline_f1_interval
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[TraceColumns, TraceColumns]:
    """All trades, and what a writer leaves of them that keeps one in five: rows and a ledger."""
    folder, whole = tmp_path_factory.mktemp("sampled"), random_columns(4000, 7)
    with TelemetryWriter(folder / "live", sample_rate=0.2, mode="live", background=False) as writer:
        for trace in whole.to_traces():
            writer.write_trace(replace(trace, trace_id=""))
    return whole, load_columns(folder)[0]


def test_figures_of_a_sample_are_those_of_the_record(sample: tuple[TraceColumns, TraceColumns]) -> None:
    whole, rows = sample
    compare_with_record(rows)
    compare_with_record(replace(rows, ledger=None))
    assert fold(rows).returns.total("closes") == len(whole)


def test_a_sample_with_its_ledger_knows_what_all_rows_know(
    sample: tuple[TraceColumns, TraceColumns],
) -> None:
    """Through the real writer and its files: one row in five, and to the byte the sums of all of them."""
    whole, rows = sample
    complete, known = fold_rows(whole), fold(rows)
    assert known.returns.to_bytes() == complete.to_bytes()
    assert same(rk.all_figures(known.returns), rk.all_figures(complete))
    assert known.sampled
    assert covers(complete, known.kept)


def test_days_of_a_comparison_are_those_of_the_rows(sample: tuple[TraceColumns, TraceColumns]) -> None:
    whole, rows = sample
    alone = replace(rows, ledger=None)
    for columns, shown, weight in ((whole, whole, 1.0), (rows, whole, 1.0), (alone, alone, 5.0)):
        folded, r = fold(columns), shown.return_pct
        days, daily = daily_returns(shown.exit_us, weight * r, "UTC")
        ours = dy.estimated_daily(folded)
        assert (ours[0] == days).all()
        assert ours[1] == pytest.approx(daily, rel=1e-9, abs=1e-9)
        won, lost = dy.days_won_and_lost(folded)
        own = exit_days(shown.exit_us, "UTC")
        assert won.tolist() == np.unique(own[r > 0]).tolist()
        assert lost.tolist() == np.unique(own[r < 0]).tolist()
        side = side_of("one", folded, np.empty(0))
        assert (len(won), len(lost)) == (side.winning_days, side.losing_days)


def test_daily_calls_are_those_of_the_rows(sample: tuple[TraceColumns, TraceColumns]) -> None:
    """Counted by pandas from all rows; a sample with its ledger gives the same."""
    whole, rows = sample
    claim, right = whole.confidence, whole.predicted == whole.actual
    stated = (claim >= 0) & (claim <= 1)
    table = pd.DataFrame({
        "strategy": np.array(whole.strategies)[whole.strategy], "symbol": np.array(whole.symbols)[whole.symbol],
        "day": exit_days(whole.exit_us, "UTC"), "last_us": whole.exit_us, "calls": 1, "right": right,
        "moved": whole.actual != 2, "stated": stated, "gap": np.where(stated, claim - right, 0.0),
    })[whole.predicted != 2]  # fmt: skip
    for names in (["strategy"], ["strategy", "symbol"]):
        theirs = table.groupby([*names, "day"]).agg(
            {"last_us": "max", **dict.fromkeys(("calls", "right", "moved", "stated", "gap"), "sum")}
        )
        for columns in (whole, rows):
            ours = dy.by_day(restrict(fold(columns).calls, called=[0, 1]), *names)
            assert sum(len(days.day) for days in ours.values()) == len(theirs)
            for key, days in ours.items():
                other = theirs.loc[key]
                assert days.day.tolist() == other.index.tolist()
                for name in ("last_us", "calls", "right", "moved", "stated"):
                    assert getattr(days, name).tolist() == other[name].tolist(), name
                assert days.gap == pytest.approx(other["gap"].to_numpy(), abs=1e-6)


def test_day_means_are_those_of_rows() -> None:
    columns = random_columns(3000, 3)
    theirs, called = measured(fold(columns)), columns.predicted != 2
    right, claim = columns.predicted == columns.actual, columns.confidence
    stated = (claim >= 0) & (claim <= 1)
    rows = {
        "precision": (right[called].mean(), called),
        "expectancy": (columns.return_pct.mean(), slice(None)),
        "calibration": ((claim - right)[stated].mean(), stated),
        "directional": ((columns.actual != 2).mean(), slice(None)),
        "slippage": (np.nanmean(columns.slippage_pct), np.isfinite(columns.slippage_pct)),
        "fees": (np.nanmean(columns.fees_pct), np.isfinite(columns.fees_pct)),
        "holding": (np.nanmean(columns.holding_minutes), np.isfinite(columns.holding_minutes)),
    }
    day = exit_days(columns.exit_us, "UTC")
    for name, (mean, there) in rows.items():
        assert theirs[name].mean == pytest.approx(mean, rel=1e-9, abs=1e-9), name
        assert theirs[name].days == len(np.unique(day[there])), name


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(ZONES), st.lists(st.integers(-(10**15), 3 * 10**15), min_size=1, max_size=20))
def test_scalar_days_are_the_days_of_arrays(zone: str, moments: list[int]) -> None:
    days = LocalDays(ZoneInfo(zone))
    assert [days.day(us) for us in moments] == exit_days(np.array(moments), zone).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_real_trades_are_those_of_the_record(name: str) -> None:
    traces = load_log(name)
    columns = TraceColumns.from_traces(traces)
    compare_with_record(columns, "Asia/Kolkata")
    assert fold_rows(columns, "Asia/Kolkata").to_bytes() == one_by_one(traces, "Asia/Kolkata").to_bytes()


def test_a_relabelled_ledger_keeps_the_money_and_loses_the_calls(
    sample: tuple[TraceColumns, TraceColumns],
) -> None:
    whole, rows = sample
    ledger: Any = Ledgers({("live", "live"): fold_rows(whole)}, labelled=False)
    flipped = replace(rows, ledger=ledger, actual=((rows.actual + 1) % 3).astype(np.int8))
    folded = fold(flipped)
    assert fg.matrix(folded.calls).tolist() == cl.confusion_matrix(flipped.actual, flipped.predicted).tolist()
    assert fg.cumulative_return(folded.returns) == pytest.approx(whole.return_pct.sum(), rel=1e-9)
    assert fg.brier_score(folded.knowing("confidence")) == pytest.approx(
        cl.brier_score(cl.confidence_rows(flipped.confidence, flipped.actual, flipped.predicted)), abs=1e-9
    )


def test_version_and_account_are_in_the_key_where_a_trace_or_a_row_has_them() -> None:
    plain = random_columns(200).to_traces()
    traces = [*plain[1::2], *(replace(t, version="2.1", account="paper") for t in plain[::2])]
    by_hand = one_by_one(traces)
    assert fold_rows(TraceColumns.from_traces(traces)).to_bytes() == by_hand.to_bytes()
    assert restrict(by_hand, versions=["2.1"], accounts=["paper"]).total("closes") == 100
    assert restrict(by_hand, versions=["2.1"], accounts=[""]).total("closes") == 0


def test_the_recording_thread_sums_without_numpy() -> None:
    code = "import sys; import trade_telemetry.aggregate_form, trade_telemetry.timezones; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
