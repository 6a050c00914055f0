"""The story's tests of the analysis, by their names."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from scipy import stats

from trade_telemetry import AccuracyAnalyzer, PredictionTrace, TelemetryWriter
from trade_telemetry.trace import Direction, label_direction, position_return_pct

START = datetime(2025, 1, 6, 10, tzinfo=UTC)  # a Monday
THRESHOLDS = {"intraday": 0.3, "swing": 0.5}


def trade(
    strategy: str, entry: datetime, minutes: int, predicted: Direction, move_pct: float
) -> PredictionTrace:
    return PredictionTrace(
        timestamp=entry,
        symbol="RELIANCE",
        strategy=strategy,
        predicted_direction=predicted,
        actual_direction=label_direction(move_pct, THRESHOLDS[strategy]),
        predicted_confidence=0.6,
        entry_price=100.0,
        exit_price=100.0 * (1 + move_pct / 100),
        holding_period_minutes=minutes,
        realized_return_pct=position_return_pct(predicted, move_pct, fees_pct=0.02),
        exit_timestamp=entry + timedelta(minutes=minutes),
        label_threshold_pct=THRESHOLDS[strategy],
        fees_pct=0.02,
    )


def weekday(k: int) -> datetime:
    return START + timedelta(days=k // 5 * 7 + k % 5)


def mixed_traces(edge_pct: float, days: int = 60, seed: int = 5) -> list[PredictionTrace]:
    """Seven intraday trades a day and a swing trade on two of three days; intraday calls earn `edge_pct` on average."""
    rng, traces = np.random.default_rng(seed), []
    for k in range(days):
        for j in range(7):
            predicted: Direction = "LONG" if rng.random() < 0.5 else "SHORT"
            favorable = rng.normal(edge_pct, 0.6)
            move = favorable if predicted == "LONG" else -favorable
            traces.append(trade("intraday", weekday(k) + timedelta(minutes=45 * j), 40, predicted, move))
        if k % 3:
            predicted = "LONG" if rng.random() < 0.7 else "SHORT"
            nights = 3 if weekday(k).weekday() == 4 else 1
            traces.append(
                trade(
                    "swing", weekday(k) + timedelta(hours=5), nights * 1440, predicted, rng.normal(0.0, 1.5)
                )
            )
    return traces


def of(traces: list[PredictionTrace], strategy: str) -> list[PredictionTrace]:
    return [t for t in traces if t.strategy == strategy]


def returns(traces: list[PredictionTrace]) -> list[float]:
    return [t.realized_return_pct for t in traces]


def precision(traces: list[PredictionTrace]) -> float:
    return float(np.mean([t.predicted_direction == t.actual_direction for t in traces]))


@pytest.fixture
def loaded(tmp_path: Path) -> list[PredictionTrace]:
    """Both strategies, written by the writer into two directories and merged by the analyzer."""
    traces = mixed_traces(edge_pct=0.15)
    for strategy in ("intraday", "swing"):
        with TelemetryWriter(tmp_path / f"backtest_of_{strategy}") as writer:
            for t in of(traces, strategy):
                writer.write_trace(t)
    paths = [tmp_path / "backtest_of_intraday", tmp_path / "backtest_of_swing"]
    analyzer = AccuracyAnalyzer()
    assert {t.strategy for t in analyzer.load_traces(paths, strategy="swing")} == {"swing"}
    merged = analyzer.load_traces(paths, strategy="both")
    assert len(merged) == len(traces) == analyzer.last_report.kept
    assert analyzer.last_report.bad == []
    return merged


def test_strategy_comparative_analysis(loaded: list[PredictionTrace], tmp_path: Path) -> None:
    analyzer = AccuracyAnalyzer()
    intraday, swing = of(loaded, "intraday"), of(loaded, "swing")
    answer = analyzer.compute_comparative_metrics(loaded)
    comparison = answer["comparison"]

    # both records and the deltas, by hand
    assert (
        (comparison["intraday_trades"], comparison["swing_trades"])
        == (len(intraday), len(swing))
        == (420, 40)
    )
    assert answer["intraday"].headline_precision == pytest.approx(precision(intraday), abs=1e-12)
    assert comparison["precision_delta"] == pytest.approx(precision(intraday) - precision(swing), abs=1e-12)
    wins = [float(np.mean([r > 0 for r in returns(part)])) for part in (intraday, swing)]
    assert comparison["win_rate_delta"] == pytest.approx(wins[0] - wins[1], abs=1e-12)
    means = [float(np.mean(returns(part))) for part in (intraday, swing)]
    assert comparison["avg_return_delta"] == pytest.approx(means[0] - means[1], abs=1e-12)
    for name in ("recall", "f1"):
        delta = getattr(answer["intraday"], f"headline_{name}") - getattr(answer["swing"], f"headline_{name}")
        assert comparison[f"{name}_delta"] == pytest.approx(delta, abs=1e-12)

    # significance as scipy computes it
    welch = comparison["statistical_significance"]["welch_t"]
    theirs = stats.ttest_ind(returns(intraday), returns(swing), equal_var=False)
    assert [welch["statistic"], welch["p_value"]] == pytest.approx(
        [theirs.statistic, theirs.pvalue], abs=1e-9
    )
    a, b = daily_on_common_days(intraday, swing)
    paired = stats.ttest_1samp(a - b, 0.0)
    primary = comparison["statistical_significance"]["primary"]
    assert comparison["common_days"] == len(a)
    assert [primary["estimate"], primary["statistic"]] == pytest.approx(
        [(a - b).mean(), paired.statistic], abs=1e-9
    )
    assert primary["p_value"] >= paired.pvalue - 1e-9  # as cautious as Student's table or more
    sharpe = [x.mean() / x.std(ddof=1) * 252**0.5 for x in (a, b)]
    assert comparison["sharpe_delta"] == pytest.approx(sharpe[0] - sharpe[1], abs=1e-9)

    # the leader follows the criterion, the winner needs the test
    assert comparison["better_strategy"] == ("intraday" if a.mean() > b.mean() else "swing") == "intraday"
    assert comparison["significant"] == (primary["p_value"] <= 0.05)
    assert comparison["significant"]
    assert comparison["verdict"].startswith("intraday is better")

    # the same as a report, in strict JSON
    path = analyzer.export_report(answer, tmp_path / "comparison.json")
    report = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert report["schema_version"] == 1
    assert report["metrics"]["comparison"]["better_strategy"] == "intraday"


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"not strict JSON: {constant}")


def daily_on_common_days(first: list[PredictionTrace], second: list[PredictionTrace]) -> tuple[Any, Any]:
    """Daily sums by exit date, Monday to Friday, inside both spans; by hand."""
    days = [[t.exit_timestamp.date() for t in part if t.exit_timestamp] for part in (first, second)]
    weekend = any(d.weekday() >= 5 for part in days for d in part)
    start, end = max(min(d) for d in days), min(max(d) for d in days)
    span = [start + timedelta(days=k) for k in range((end - start).days + 1)]
    span = [d for d in span if weekend or d.weekday() < 5]
    table = []
    for part, own in zip((first, second), days, strict=True):
        sums = dict.fromkeys(span, 0.0)
        for t, day in zip(part, own, strict=True):
            if day in sums:
                sums[day] += t.realized_return_pct
        table.append(np.array([sums[d] for d in span]))
    return table[0], table[1]


def test_the_leader_changes_with_the_edge_and_a_lead_by_noise_names_no_winner() -> None:
    analyzer = AccuracyAnalyzer()
    behind = analyzer.compute_comparative_metrics(mixed_traces(edge_pct=-0.3))["comparison"]
    assert (behind["better_strategy"], behind["winner"]) == ("swing", "swing")
    level = analyzer.compute_comparative_metrics(mixed_traces(edge_pct=0.0, seed=11))["comparison"]
    assert level["better_strategy"] in {"intraday", "swing"}
    assert (level["significant"], level["winner"]) == (False, None)
    assert level["verdict"].startswith("inconclusive")


def test_a_missing_side_has_no_leader_and_still_a_full_answer() -> None:
    only = of(mixed_traces(edge_pct=0.1), "intraday")
    answer = AccuracyAnalyzer().compute_comparative_metrics(only)
    assert answer["swing"].total_trades == 0
    assert answer["comparison"]["better_strategy"] is None
    assert answer["comparison"]["verdict"] == "not comparable: no swing trades"
    assert f"{answer['comparison']['precision_delta']:.2%}" == "nan%"  # prints, as the report's cell does
