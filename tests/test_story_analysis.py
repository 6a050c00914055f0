"""The story's tests of the analysis, by their names."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from scipy import stats
from sklearn import metrics

from trade_telemetry import AccuracyAnalyzer, PredictionTrace, Settings, TelemetryWriter, plots
from trade_telemetry.report import comparison as compared
from trade_telemetry.report.render import execute, report_notebook, with_parameters
from trade_telemetry.report.scope import Report, open_report
from trade_telemetry.testing import make_trace
from trade_telemetry.trace import Direction

START = datetime(2025, 1, 6, 10, tzinfo=UTC)  # a Monday


def trade(
    strategy: str, entry: datetime, minutes: int, predicted: Direction, move_pct: float
) -> PredictionTrace:
    return make_trace(
        timestamp=entry, symbol="RELIANCE", strategy=strategy, predicted_direction=predicted,
        exit_price=100.0 * (1 + move_pct / 100), holding_period_minutes=minutes, fees_pct=0.02,
    )  # fmt: skip


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
    assert level.verdict.code == "not significant"
    assert level["verdict"].startswith("Inconclusive: ")


def test_a_missing_side_has_no_leader_and_still_a_full_answer() -> None:
    only = of(mixed_traces(edge_pct=0.1), "intraday")
    answer = AccuracyAnalyzer().compute_comparative_metrics(only)
    assert answer["swing"].total_trades == 0
    assert answer["comparison"]["better_strategy"] is None
    assert answer["comparison"]["verdict"] == "Not comparable: no trades of swing."
    assert f"{answer['comparison']['precision_delta']:.2%}" == "nan%"  # prints, as the report's cell does


def cells_of(block: Any) -> dict[str, list[str]]:
    """The rows of a table as shown: title and figures."""
    rows = BeautifulSoup(block.html, "html.parser").select("tbody tr")
    return {r.th.get_text(): [c.get_text() for c in r.find_all("td")] for r in rows if r.th is not None}


def shown_number(text: str) -> float:
    """The figure before its unit."""
    return float(text.replace("−", "-").replace(",", "").split()[0])


def test_notebook_cross_strategy_analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-5: the notebook runs on telemetry of both strategies and shows figures that other tools compute, too."""
    traces = mixed_traces(edge_pct=0.15)
    for strategy in ("intraday", "swing"):
        with TelemetryWriter(tmp_path / "data" / f"backtest_of_{strategy}", mode="backtest") as writer:
            for t in of(traces, strategy):
                writer.write_trace(t)
    parameters = {"telemetry_dir": str(tmp_path / "data")}

    # every cell runs, in a kernel of its own, as the command runs it
    notebook = execute(with_parameters(nbformat.read(report_notebook(), as_version=4), parameters))
    outputs = {c.id: c.outputs for c in notebook.cells if c.cell_type == "code"}
    assert [i for i, found in outputs.items() if any(o.output_type == "error" for o in found)] == []
    section = [
        "both",
        "comparative",
        "side-by-side",
        "by-date",
        "by-trade",
        "histograms",
        "tests",
        "recommendation",
    ]
    at = [list(outputs).index(cell) for cell in section]
    assert at == sorted(at)  # in the order of FR-5
    assert all(outputs[cell] for cell in section)

    # the same figures here, where the pictures can be looked into
    drawn: dict[str, Any] = {}
    for name in ("cumulative_returns", "return_histogram"):
        original = getattr(plots, name)

        def remember(*args: Any, _name: str = name, _original: Any = original) -> Any:
            drawn.setdefault(_name, []).append(_original(*args))
            return drawn[_name][-1]

        monkeypatch.setattr(plots, name, remember)
    report = open_report(tmp_path / "data", settings=Settings())
    shown = [
        compared.compared_curves(report),
        compared.compared_curves(report, "trade"),
        compared.compared_histograms(report),
    ]
    assert all("<img" in block.html for block in shown)
    names = ("strategy", "predicted_direction", "actual_direction", "realized_return_pct", "exit_timestamp")
    frame = pd.DataFrame([{name: getattr(t, name) for name in names} for t in traces])
    frame["exit"] = pd.to_datetime(frame["exit_timestamp"], utc=True)
    sides = {name: frame[frame["strategy"] == name].sort_values("exit") for name in ("intraday", "swing")}
    check_charts(drawn, sides)
    check_table(cells_of(compared.side_by_side(report)), sides)
    check_tests_and_advice(report, sides)


def check_charts(drawn: dict[str, Any], sides: dict[str, Any]) -> None:
    """Both curves lie over each other in one pane, by date and by trade number, and both histograms hold every trade."""
    for figure in drawn["cumulative_returns"]:
        (ax,) = figure.axes
        assert [text.get_text().split(" ")[0] for text in ax.get_legend().get_texts()] == [
            "intraday",
            "swing",
        ]
        for line, side in zip(ax.lines[:2], sides.values(), strict=True):
            assert line.get_ydata()[1:] == pytest.approx(np.cumsum(side["realized_return_pct"]), abs=1e-9)
    by_date, by_trade = (figure.axes[0].lines for figure in drawn["cumulative_returns"])
    for k, side in enumerate(sides.values()):
        assert by_trade[k].get_xdata()[1:].tolist() == list(range(1, len(side) + 1))
        days = (side["exit"] - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
        assert by_date[k].get_xdata()[1:] == pytest.approx(days.to_numpy(), abs=1e-6)
    panes = drawn["return_histogram"][0].axes
    assert [sum(bar.get_height() for bar in ax.patches) for ax in panes] == [420, 40]


def check_table(table: dict[str, list[str]], sides: dict[str, Any]) -> None:
    """The side-by-side table equals scikit-learn and pandas, to the digits shown."""
    for k, side in enumerate(sides.values()):
        truth, call = side["actual_direction"], side["predicted_direction"]
        daily = side.groupby(side["exit"].dt.date)["realized_return_pct"].sum()
        daily.index = pd.DatetimeIndex(daily.index)
        daily = daily.reindex(pd.bdate_range(daily.index.min(), daily.index.max()), fill_value=0.0)
        path = np.concatenate([[0.0], np.cumsum(side["realized_return_pct"])])
        labels: dict[str, Any] = {"labels": ["LONG", "SHORT"], "average": "micro", "zero_division": 0}
        longs: dict[str, Any] = {"labels": ["LONG"], "average": "macro", "zero_division": 0}
        expected = {
            "trades": len(side),
            "precision": 100 * metrics.precision_score(truth, call, **labels),
            "recall": 100 * metrics.recall_score(truth, call, **labels),
            "F1": 100 * metrics.f1_score(truth, call, **labels),
            "precision LONG": 100 * metrics.precision_score(truth, call, **longs),
            "recall LONG": 100 * metrics.recall_score(truth, call, **longs),
            "F1 LONG": 100 * metrics.f1_score(truth, call, **longs),
            "Sharpe ratio": daily.mean() / daily.std(ddof=1) * 252**0.5,
            "max drawdown": (path - np.maximum.accumulate(path)).min(),
            "win rate": 100 * (side["realized_return_pct"] > 0).mean(),
            "average trade": side["realized_return_pct"].mean(),
            "cumulative return": side["realized_return_pct"].sum(),
        }
        for title, value in expected.items():
            digits = len(table[title][k].split()[0].partition(".")[2])
            assert shown_number(table[title][k]) == pytest.approx(value, abs=0.51 * 10**-digits), title


def check_tests_and_advice(report: Report, sides: dict[str, Any]) -> None:
    """Welch's line is scipy's, and the recommendation says what the verdict says and no more."""
    rows = cells_of(compared.significance_section(report))
    first, second = (side["realized_return_pct"] for side in sides.values())
    theirs = stats.ttest_ind(first, second, equal_var=False)
    welch = rows["average trade, Welch's t-test"]
    assert shown_number(welch[0]) == pytest.approx(first.mean() - second.mean(), abs=6e-4)
    assert shown_number(welch[2]) == pytest.approx(theirs.pvalue, abs=6e-4)
    ends = [shown_number(end) for end in welch[1].split(" to ")]
    assert ends == pytest.approx(list(theirs.confidence_interval()), abs=6e-4)
    advice = repr(compared.recommendation(report))
    assert report.comparison["winner"] == "intraday"
    assert "- Prefer intraday to swing where capital can go to only one of them. intraday is better" in advice
    assert "These are backtests" in advice


def test_the_recommendation_names_nobody_where_the_verdict_does_not(tmp_path: Path) -> None:
    with TelemetryWriter(tmp_path / "backtest_1", mode="backtest") as writer:
        for t in mixed_traces(edge_pct=0.0, seed=11):
            writer.write_trace(t)
    report = open_report(tmp_path, settings=Settings())
    advice = repr(compared.recommendation(report))
    assert report.comparison["winner"] is None
    assert "- No change is recommended. Inconclusive" in advice
    assert "would be a bet on noise" in advice and "A difference of 5 points in precision" in advice
    assert "Prefer" not in advice
