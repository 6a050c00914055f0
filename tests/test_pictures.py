"""Pictures of a trader's questions against pandas, scipy and brute force, over trades of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ks_2samp, spearmanr

from trade_telemetry.config import Settings
from trade_telemetry.judgement.significance import holm_adjusted
from trade_telemetry.metrics.breakdown import breakdown
from trade_telemetry.metrics.calendar import calendar, month_grid, rows_of_day, week_grid
from trade_telemetry.metrics.day_cells import holm
from trade_telemetry.metrics.day_correlation import correlation_grid
from trade_telemetry.metrics.distribution import distribution
from trade_telemetry.metrics.group_tables import group_table
from trade_telemetry.metrics.picture import QUESTIONS, Picture
from trade_telemetry.metrics.pictures import pictures_of
from trade_telemetry.metrics.streaks import streaks
from trade_telemetry.metrics.trade_scatter import (
    excursion_scatter,
    holding_scatter,
    rank_correlation,
    thinned,
)
from trade_telemetry.report.picture_figures import figure_of
from trade_telemetry.report.questions import earn_section, when_section, which_section
from trade_telemetry.report.scope import open_report
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.store import load_columns
from trade_telemetry.testing import make_ledger, make_traces, simulate_columns, simulate_run
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bars import Bars
from trade_telemetry.trading.simulation import simulate_bars
from trade_telemetry.trading.strategy import Signal, Strategy
from trade_telemetry.trading.trader import Costs, Trade

EVIL = "<script>alert(1)</script>"
ZONES = ("UTC", "America/New_York", "Asia/Kolkata")


def some_columns(n: int, seed: int, symbols: int = 3, days: int = 40) -> TraceColumns:
    """Trades at any hour of any day, some at exactly 0, with tags and reasons."""
    rng = np.random.default_rng(seed)
    base = TraceColumns.from_traces(make_traces(20))
    rows = base.take(np.resize(np.arange(len(base)), n))
    entry = 1_730_000_000_000_000 + rng.integers(0, days * 86_400_000_000, n)
    held = rng.exponential(90, n).round(1)
    return replace(
        rows, extras=None, entry_us=entry, exit_us=entry + (held * 60e6).astype(np.int64), holding_minutes=held,
        return_pct=np.where(rng.random(n) < 0.1, 0.0, rng.standard_t(3, n)), trace_id=rng.permutation(n).astype(np.uint64) + np.uint64(1),
        position_id=rng.permutation(n).astype(np.uint64), symbol=rng.integers(0, symbols, n).astype(np.int32),
        symbols=[f"S{k}" for k in range(symbols)], entry_tag=rng.integers(0, 2, n).astype(np.int32), entry_tags=["gap", ""],
        exit_reason=rng.integers(0, 3, n).astype(np.int32), exit_reasons=["stop_loss", "take_profit", "time"],
        strategy=rng.integers(0, 2, n).astype(np.int32), strategies=["one", "two"],
    )  # fmt: skip


def frame_of(columns: TraceColumns, zone: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "exit": pd.to_datetime(columns.exit_us, unit="us", utc=True).tz_convert(zone),
            "entry": pd.to_datetime(columns.entry_us, unit="us", utc=True).tz_convert(zone),
            "r": columns.return_pct,
            "symbol": [columns.symbols[c] for c in columns.symbol],
            "exit_reason": [columns.exit_reasons[c] for c in columns.exit_reason],
            "strategy": [columns.strategies[c] for c in columns.strategy],
        }
    )


def every_picture(columns: TraceColumns, zone: str = "UTC", **more: Any) -> list[Picture]:
    return [p for question in QUESTIONS for p in pictures_of(columns, zone, question, **more)]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 80), seed=st.integers(0, 10**6), zone=st.sampled_from(ZONES))
def test_tables_days_months_and_hours_are_those_of_pandas(n: int, seed: int, zone: str) -> None:
    columns = some_columns(n, seed)
    frame = frame_of(columns, zone)
    for by in ("symbol", "exit_reason", "strategy"):
        truth = frame.groupby(by).r.agg(["size", "sum", "mean"]).sort_values("sum")
        table = group_table(columns, by, zone)
        assert (table is None) == (len(truth) < 2)
        if table is not None:
            keys = {str(row[0]): row for row in table["data"]["keys"]}
            assert set(keys) == set(truth.index)
            sums = [float(row[5] or 0.0) for row in table["data"]["keys"]]
            assert sums == sorted(sums)  # the worst first
            for name, row in truth.iterrows():
                assert keys[str(name)][1] == row["size"]
                assert keys[str(name)][4:6] == pytest.approx([row["mean"], row["sum"]], rel=1e-5, abs=1e-9)
    days = calendar(columns, zone)
    by_day = frame.groupby(frame.exit.dt.strftime("%Y-%m-%d")).r.agg(["sum", "size"])
    assert days is not None and days["data"]["days"] == by_day.index.tolist()
    assert days["data"]["return_pct"] == pytest.approx(by_day["sum"].tolist(), rel=1e-5, abs=1e-9)
    assert days["data"]["trades"] == by_day["size"].tolist()
    assert [len(rows_of_day(columns, day, zone)) for day in by_day.index] == by_day["size"].tolist()
    months = month_grid(columns, zone)
    assert months is not None
    for (year, month), total in frame.groupby([frame.exit.dt.year, frame.exit.dt.month]).r.sum().items():  # type: ignore[misc]
        row = months["data"]["rows"].index(str(year))
        assert months["data"]["values"][row][int(month) - 1] == pytest.approx(total, rel=1e-5, abs=1e-9)
    hours = week_grid(columns, zone)
    assert hours is not None and sum(map(sum, hours["data"]["counts"])) == n
    for (weekday, hour), own in frame.groupby([frame.entry.dt.day_of_week, frame.entry.dt.hour]).r:  # type: ignore[misc]
        place = hours["data"]["columns"].index(f"{hour:02d}:00")
        assert hours["data"]["counts"][weekday][place] == len(own)
        assert hours["data"]["values"][weekday][place] == pytest.approx(own.mean(), rel=1e-5, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_every_picture_is_strict_json_with_whole_rows_and_does_not_care_for_the_order_of_trades(
    n: int, seed: int
) -> None:
    columns = some_columns(n, seed)
    turned = columns.take(np.random.default_rng(seed).permutation(n)) if n else columns
    for one, other in zip(every_picture(columns), every_picture(turned), strict=True):
        json.dumps(one, allow_nan=False)
        assert {len(row) for row in one["rows"]} <= {len(one["header"])}
        assert all(isinstance(cell, str) for row in one["rows"] for cell in row)
        assert (one["title"], one["note"], one["rows"]) == (other["title"], other["note"], other["rows"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_of_arrays_is_holm_of_names(p: list[float]) -> None:
    known = holm_adjusted(dict(enumerate(p)))
    assert holm(p).tolist() == pytest.approx([known[k] for k in range(len(p))])
    assert (holm(p) >= false_discovery_control(p) - 1e-12).all() if p else True  # Holm is the stricter one


def test_a_table_says_what_the_command_line_says() -> None:
    columns = some_columns(900, 3)
    for by in ("symbol", "exit_reason", "entry_tag"):
        table = group_table(columns, by, "UTC")
        assert table is not None
        words = {row[0]: row for row in table["rows"]}
        for g in breakdown(columns, by):
            assert words[g.name][1] == f"{g.trades:,}"
            keys = next(row for row in table["data"]["keys"] if row[0] == g.name)
            assert keys[3:6] == pytest.approx([g.win_rate, g.avg_return, g.total_return_pct], rel=1e-5)


def test_a_loss_on_one_weekday_and_in_one_tag_becomes_the_title_and_chance_does_not() -> None:
    columns = some_columns(1500, 1, days=150)
    quiet = [p["title"] for p in every_picture(columns)]
    assert not any(" lost: " in title or " stands" in title for title in quiet)
    friday = np.asarray(pd.to_datetime(columns.entry_us, unit="us").day_of_week) == 4
    worse = replace(columns, return_pct=columns.return_pct - 1.2 * friday - 1.0 * (columns.entry_tag == 0))
    titles = {p["name"]: (p["title"], p["note"]) for p in every_picture(worse)}
    assert titles["hours"][0].startswith("Fridays lost: −") and "Holm's correction for" in titles["hours"][1]
    assert titles["by_entry_tag"][0].startswith("gap lost: −")


def test_the_same_bins_test_and_correlation_as_scipy() -> None:
    rng = np.random.default_rng(0)
    live, back = some_columns(300, 1), some_columns(500, 2)
    picture = distribution(
        replace(live, strategy=live.strategy * 0), "UTC", replace(back, strategy=back.strategy * 0)
    )
    assert picture is not None and len(picture["data"]["edges"]) <= 41
    for side, own in zip(picture["data"]["sides"], (live, back), strict=True):
        assert side["quantiles"] == pytest.approx(
            np.quantile(own.return_pct, [0.05, 0.25, 0.5, 0.75, 0.95]), abs=1e-5
        )
    told = ks_2samp(live.return_pct, back.return_pct).pvalue <= 0.001
    assert told or "no clear difference" in picture["note"]
    x, y = rng.lognormal(size=(2, 400))
    assert rank_correlation(x, y, np.arange(400))[0] == pytest.approx(spearmanr(x, y).statistic)
    kept = thinned(x, y, 50)
    assert {x.argmin(), x.argmax(), y.argmin(), y.argmax()} <= set(kept.tolist()) and len(kept) <= 50


def test_a_ledger_completes_days_months_and_symbols_and_a_sample_without_one_says_so() -> None:
    traces = simulate_run(60, 6, 0.55, strategies=["one", "two"], seed=9)
    whole = TraceColumns.from_traces(traces)
    kept = whole.take(np.arange(len(whole)) % 4 == 0)
    sample = replace(kept, sample_rate=np.full(len(kept), 0.25))
    counted = replace(sample, ledger=make_ledger(traces, run="", mode="backtest"))
    for make in (calendar, month_grid, correlation_grid, lambda c, z: group_table(c, "symbol", z)):
        exact, known, unknown = (make(c, "UTC") for c in (whole, counted, sample))
        assert exact is not None and known is not None and unknown is not None
        assert (known["title"], known["rows"]) == (exact["title"], exact["rows"])
        assert unknown["rows"] != exact["rows"]
    for picture in every_picture(sample):
        if picture["name"] in ("calendar", "months", "streaks", "by_symbol", "by_exit_reason"):
            assert any("— (sampled)" in cell for row in picture["rows"] for cell in row), picture["name"]


def test_names_from_files_are_harmless_in_words_and_spelled_as_given_in_data() -> None:
    columns = some_columns(200, 5)
    names = [EVIL, "IPY_MODEL_x", "a\u202eb" + "y" * 70]
    odd = replace(columns, symbols=names, strategies=["$x$_^{", names[2]], exit_reasons=names)
    for picture in every_picture(odd):
        texts = [picture["title"], picture["note"], *(cell for row in picture["rows"] for cell in row)]
        assert not any("\u202e" in text or text.startswith("IPY_MODEL_") for text in texts)
        if (figure := figure_of(picture)) is not None:
            figure.canvas.draw()
    table = group_table(odd, "symbol", "UTC")
    assert table is not None and sorted(table["data"]["names"]) == sorted(names)


def test_five_thousand_symbols_and_a_hundred_thousand_trades_stay_small() -> None:
    many = some_columns(100_000, 7, symbols=5_000, days=900)
    for picture in every_picture(many, reference=many):
        assert len(json.dumps(picture)) < 100_000, picture["name"]
    table = group_table(many, "symbol", "UTC")
    assert table is not None and len(table["rows"]) == 31 and table["data"]["left_out"] == 4_970
    total = np.bincount(many.symbol, many.return_pct)
    assert table["data"]["names"][0] == many.symbols[int(total.argmin())]
    assert sum(float(row[5] or 0.0) for row in table["data"]["keys"]) == pytest.approx(
        many.return_pct.sum(), rel=1e-4
    )


def test_a_streak_is_counted_trade_by_trade_and_parts_of_a_position_once() -> None:
    columns = simulate_columns(40, 6, 0.5, seed=3)
    picture = streaks(columns)
    assert picture is not None
    signs = "".join(
        "-" if r < 0 else "+" if r > 0 else "0" for r in columns.return_pct[np.argsort(columns.exit_us)]
    )
    assert picture["rows"][0][2] == str(max(map(len, signs.replace("0", "+").split("+"))))
    doubled = TraceColumns.concat(
        [columns, replace(columns, trace_id=columns.trace_id + np.uint64(1), exit_us=columns.exit_us + 1)]
    )
    again = streaks(doubled)  # every position is closed in two parts, a microsecond apart
    assert again is not None and [row[2] for row in again["rows"]] == [row[2] for row in picture["rows"]]


class Restless(Strategy):
    "Long or short at random, with a near stop and target, or a few bars long."

    name, intraday = "restless", False

    def start(self, symbol: str, threshold_pct: float) -> None:
        super().start(symbol, threshold_pct)
        self.rng = np.random.default_rng(7)

    def on_bar(self, bar: Any) -> Signal | None:
        if self.rng.random() > 0.3:
            return None
        side = 1 if self.rng.random() < 0.5 else -1
        near = (
            (bar.close * (1 - side * 0.004), bar.close * (1 + side * 0.006))
            if self.rng.random() < 0.6
            else (None, None)
        )
        return Signal(
            "LONG" if side > 0 else "SHORT", 0.5, stop_loss=near[0], take_profit=near[1], max_bars=6
        )


def lived_through(bars: Bars, t: Trade) -> tuple[float, float]:
    """Worst and best move of a trade, bar by bar: bars that ended before the exit, and the fill itself."""
    seen = [t.exit_price]
    for k in range(len(bars)):
        inside = bars.time[k] >= t.entry_time and bars.end[k] <= t.exit_time
        touched = t.exit_reason in ("stop_loss", "take_profit") and bars.end[k] == t.exit_time
        if inside and not touched:  # within the bar that touched, nobody knows what came first
            seen += [float(bars.low[k]), float(bars.high[k])]
    moves = [(1 if t.direction == "LONG" else -1) * 100 * (p / t.entry_price - 1) for p in seen]
    return min(0.0, *moves), max(0.0, *moves)


def test_excursions_of_the_backtester_are_right_and_are_written_and_drawn(tmp_path: Path) -> None:
    bars = simulate_bars("AAA", days=12, seed=5, minutes=15, volatility_pct=2.5)
    known = Settings(telemetry_thresholds={"restless": 0.003})
    host = Backtester(
        Restless(), costs=Costs(0.01, 0.02), settings=known, enable_telemetry=True, telemetry_dir=tmp_path
    )
    result = host.run(bars)
    assert len(result.trades) > 40 and {t.exit_reason for t in result.trades} >= {
        "stop_loss",
        "take_profit",
        "time",
    }
    for t in result.trades:
        assert (t.mae_pct, t.mfe_pct) == pytest.approx(lived_through(bars, t), abs=1e-9)
    columns, _ = load_columns(tmp_path)
    picture = excursion_scatter(columns)
    assert picture is not None and picture["data"]["total"] == len(result.trades)
    drawn = {tuple(p) for s in picture["data"]["series"] for p in s["points"]}
    assert drawn == {
        (float(f"{-t.mae_pct:.5g}"), float(f"{t.mfe_pct:.5g}"))
        for t in result.trades
        if t.mae_pct is not None and t.mfe_pct is not None
    }


def test_the_report_draws_fills_on_bars_of_a_folder_and_the_words_of_the_pictures(tmp_path: Path) -> None:
    bars = simulate_bars("AAA", days=30, seed=2, minutes=5)
    known = Settings(telemetry_thresholds={"restless": 0.003})
    Backtester(Restless(), settings=known, enable_telemetry=True, telemetry_dir=tmp_path / "data").run(bars)
    stamps = [datetime.fromtimestamp(us / 1e6, UTC).isoformat() for us in bars.time.tolist()]
    folder = tmp_path / "bars"
    folder.mkdir()
    prices = pd.DataFrame(
        {"timestamp": stamps, "open": bars.open, "high": bars.high, "low": bars.low, "close": bars.close}
    )
    prices.to_csv(folder / "AAA.csv", index=False)
    report = open_report(tmp_path / "data", settings=known)
    shown = which_section(report, folder)
    assert "AAA: " in shown.text and "under water" in shown.text and shown.html.count("<img") == 2
    assert "No bars" in which_section(report, tmp_path / "data").text
    for section, question in ((earn_section, "earn"), (when_section, "when")):
        text = section(report).text
        for picture in pictures_of(report.figure, report.zone, question, clock="America/New_York"):  # type: ignore[arg-type]
            assert picture["title"] in text


@pytest.mark.parametrize("make", [calendar, month_grid, week_grid, holding_scatter, distribution, streaks])
def test_nothing_and_one_trade(make: Callable[[TraceColumns], Picture | None]) -> None:
    columns = some_columns(3, 0)
    assert make(columns.take(slice(0))) is None
    one = make(columns.take(slice(0, 1)))
    assert one is not None and one["rows"]
