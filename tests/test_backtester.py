"""The backtester as a whole: processes, faults, files, and what it may not know."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import trade_telemetry.trading.backtester as module
from trade_telemetry.capture.segment import Segment
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.config import Settings
from trade_telemetry.trace import PredictionTrace, from_row
from trade_telemetry.trading.backtester import Backtester, BacktestResult
from trade_telemetry.trading.bars import Bar, Bars
from trade_telemetry.trading.simulation import PlantedSkill, simulate_bars
from trade_telemetry.trading.strategy import Signal, Strategy
from trade_telemetry.trading.trader import Costs

ROOT = Path(__file__).parents[1]
COSTS = Costs(0.01, 0.01)


def settings(**more: object) -> Settings:
    thresholds = {"planted": 0.003, "busy": 0.003, "deadly": 0.003}
    return Settings(telemetry_thresholds=thresholds, **more)  # type: ignore[arg-type]


def traces(directory: Path | None) -> list[PredictionTrace]:
    assert directory is not None
    rows: list[PredictionTrace] = []
    for path in sorted(directory.glob("traces_*.csv")):
        with path.open(newline="") as lines:
            rows += [from_row(row) for row in csv.DictReader(lines)]
    return rows


def record(directory: Path) -> dict[str, object]:
    (path,) = directory.glob("run_*.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


class Busy(Strategy):
    "In and out all the time."

    name, intraday = "busy", False

    def on_bar(self, bar: Bar) -> Signal | None:
        return Signal("LONG", 0.5, max_bars=1, features={"close": bar.close})


class Deadly(Busy):
    "Takes its process with it on one symbol, as a crash in a C library would."

    name = "deadly"

    def on_bar(self, bar: Bar) -> Signal | None:
        if self.symbol == "KILLS":
            os._exit(9)
        if self.symbol == "RAISES":
            raise RuntimeError("cannot cope with this one")
        return super().on_bar(bar)


class Impatient(Busy):
    "Presses Ctrl-C on the second symbol."

    def on_bar(self, bar: Bar) -> Signal | None:
        if self.symbol == "SECOND":
            raise KeyboardInterrupt
        return super().on_bar(bar)


def markets(names: Sequence[str], days: int = 25) -> list[Bars]:
    return [simulate_bars(name, days=days, seed=5, volatility_pct=2.0) for name in names]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_any_number_of_processes_gives_the_same_trades_and_the_same_files(
    tmp_path: Path, workers: int
) -> None:
    bars = markets(["AAA", "BBB", "CCC"])
    results = {}
    for n in (1, workers):
        host = Backtester(
            ["intraday", "swing", PlantedSkill(bars[0])],
            costs=COSTS,
            settings=settings(),
            enable_telemetry=True,
            telemetry_dir=tmp_path / str(n),
            workers=n,
        )
        results[n] = host.run(bars)
    one, many = results[1], results[workers]
    assert one.trades == many.trades and len(one.trades) > 100
    assert (one.bars, one.open_positions, one.expired_entries) == (
        many.bars,
        many.open_positions,
        many.expired_entries,
    )
    assert {t.strategy for t in one.trades} >= {"intraday", "planted"}
    files = [
        {path.name: path.read_bytes() for path in sorted((r.run_dir or tmp_path).glob("traces_*"))}
        for r in (one, many)
    ]
    assert files[0] == files[1] and files[0]


def test_a_symbol_that_fails_and_one_whose_process_dies_are_reported_and_the_others_finish(
    tmp_path: Path,
) -> None:
    bars = markets(["AAA", "RAISES", "KILLS", "BBB", "CCC"], days=2)
    host = Backtester(
        Deadly(),
        settings=settings(),
        workers=2,
        enable_telemetry=True,
        telemetry_dir=tmp_path,
        progress=False,
    )
    result = host.run(bars)
    assert result.failed_symbols == {
        "RAISES": "RuntimeError: cannot cope with this one",
        "KILLS": "its process died",
    }
    assert {t.symbol for t in result.trades} == {"AAA", "BBB", "CCC"}
    alone = Backtester(Deadly(), settings=settings()).run([bars[0], bars[3], bars[4]])
    assert result.trades == alone.trades
    assert {t.symbol for t in traces(result.run_dir)} == {"AAA", "BBB", "CCC"}


def test_control_c_keeps_what_was_written_and_ends_the_record(tmp_path: Path) -> None:
    host = Backtester(Impatient(), settings=settings(), enable_telemetry=True, telemetry_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        host.run(markets(["FIRST", "SECOND", "THIRD"], days=1))
    (directory,) = tmp_path.iterdir()
    assert {t.symbol for t in traces(directory)} == {"FIRST"}
    assert record(directory)["end_reason"] == "error: KeyboardInterrupt"


def test_a_backtest_waits_for_the_disk_instead_of_dropping_traces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    "The queue holds less than one symbol's trades and nobody empties it in the background."

    def narrow(directory: Path, settings: Settings, sample_rate: float) -> TelemetryWriter:
        return TelemetryWriter(directory, background=False, max_pending=10_000, sample_rate=sample_rate)

    monkeypatch.setattr(module, "open_writer", narrow)
    host = Backtester(Busy(), settings=settings(), enable_telemetry=True, telemetry_dir=tmp_path)
    result = host.run(simulate_bars("AAA", days=60))
    assert len(result.trades) > 11_000
    assert result.writer_stats is not None
    assert (result.writer_stats.dropped, result.writer_stats.written) == ({}, len(result.trades))


def test_a_full_disk_changes_no_trade_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = markets(["AAA", "BBB"])
    expected = Backtester("both", costs=COSTS, settings=settings()).run(bars)

    def full(self: Segment, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Segment, "append", full)
    host = Backtester("both", costs=COSTS, settings=settings(), enable_telemetry=True, telemetry_dir=tmp_path)
    result = host.run(bars)
    assert result.trades == expected.trades
    assert result.writer_stats is not None
    assert result.writer_stats.failed == {"write ENOSPC": len(expected.trades)}


def test_sampling_thins_rows_and_never_trades(tmp_path: Path) -> None:
    bars = simulate_bars("AAA", days=10)
    kept: dict[float, set[str]] = {}
    results: list[BacktestResult] = []
    for rate in (1.0, 0.2, 0.1, 0.0):
        host = Backtester(
            Busy(), settings=settings(), enable_telemetry=True, telemetry_dir=tmp_path, sample_rate=rate
        )
        results.append(host.run(bars))
        kept[rate] = {t.trace_id for t in traces(results[-1].run_dir)}
    assert all(r.trades == results[0].trades for r in results)
    assert kept[0.0] == set() < kept[0.1] < kept[0.2] < kept[1.0]
    assert len(kept[1.0]) == len(results[0].trades)
    n = len(kept[1.0])
    assert abs(len(kept[0.2]) - 0.2 * n) < 4 * (0.16 * n) ** 0.5


@pytest.mark.parametrize("name", ["intraday", "swing"])
def test_another_future_changes_no_past_trade_of_a_whole_backtest(name: str) -> None:
    bars = simulate_bars("AAA", days=200, seed=12, minutes=5, volatility_pct=2.5)
    whole = Backtester(name, costs=COSTS).run(bars).trades
    rng = np.random.default_rng(1)
    compared = 0
    for k in rng.integers(len(bars) // 2, len(bars) - 1, 6).tolist():
        factor = np.where(np.arange(len(bars)) > k, rng.uniform(0.7, 1.3, len(bars)), 1.0)
        prices = {p: getattr(bars, p) * factor for p in ("open", "high", "low", "close")}
        other = Bars(**{**vars(bars), **prices})
        now = bars.time[k + 1]  # what was filled at this open, or later, may differ
        past = [t for t in whole if t.exit_time <= bars.end[k] and t.exit_time < now]
        for changed in (other, bars.take(slice(0, k + 1))):
            again = Backtester(name, costs=COSTS).run(changed).trades
            assert [t for t in again if t.exit_time <= bars.end[k] and t.exit_time < now] == past
        compared += len(past)
    assert compared > 10


@pytest.mark.parametrize("session", ["NYSE", "NSE"])
def test_planted_skill_of_sixty_percent_comes_back_through_the_files(
    tmp_path: Path, session: str, counts: Callable[[int, int], int]
) -> None:
    calls: dict[str, list[bool]] = {"LONG": [], "SHORT": []}
    for seed in range(counts(4, 100)):
        bars = simulate_bars("AAA", days=60, seed=seed, session=session)
        host = Backtester(
            PlantedSkill(bars, 0.6, 30, seed=1000 + seed),
            costs=Costs(0.02),
            settings=settings(),
            enable_telemetry=True,
            telemetry_dir=tmp_path,
        )
        for t in traces(host.run(bars).run_dir):
            calls[t.predicted_direction].append(t.actual_direction == t.predicted_direction)
            assert t.predicted_confidence == 0.6
    for right in calls.values():
        assert len(right) > 500
        assert abs(np.mean(right) - 0.6) < 3 * (0.24 / len(right)) ** 0.5


def test_with_stops_every_label_is_that_of_the_stored_prices(tmp_path: Path) -> None:
    host = Backtester("both", costs=COSTS, settings=settings(), enable_telemetry=True, telemetry_dir=tmp_path)
    rows = traces(host.run(markets(["AAA", "BBB"], days=200)).run_dir)
    assert {"stop_loss", "take_profit"} <= {t.exit_reason for t in rows} and len(rows) > 300
    for t in rows:
        threshold = {"intraday": 0.3, "swing": 0.5}[t.strategy]
        move = (t.exit_price / t.entry_price - 1) * 100
        assert t.actual_direction == (
            "LONG" if move > threshold else "SHORT" if move < -threshold else "NOOP"
        )
        sign = 1 if t.predicted_direction == "LONG" else -1
        assert t.realized_return_pct == pytest.approx(sign * move - 0.01 * (1 + t.exit_price / t.entry_price))


def test_two_runs_in_one_second_have_directories_of_their_own(tmp_path: Path) -> None:
    bars = simulate_bars("AAA", days=3)
    host = Backtester(Busy(), settings=settings(), enable_telemetry=True, telemetry_dir=tmp_path)
    first, second = host.run(bars), host.run(bars)
    assert first.run_dir != second.run_dir
    assert len(traces(first.run_dir)) == len(traces(second.run_dir)) == len(first.trades)


def test_the_setting_turns_telemetry_on_and_names_the_directory(tmp_path: Path) -> None:
    on = settings(telemetry_enabled=True, telemetry_storage_path=tmp_path, telemetry_include_features=False)
    result = Backtester(Busy(), settings=on).run(simulate_bars("AAA", days=1))
    assert result.run_dir is not None and result.run_dir.parent == tmp_path
    assert all(t.features == {} for t in traces(result.run_dir))


def test_a_progress_bar_is_drawn_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    bars = markets(["AAA", "BBB"], days=3)
    for workers in (1, 2):
        Backtester(Busy(), settings=settings(), progress=True, workers=workers).run(bars)
        assert "100%" in capsys.readouterr().err
    Backtester(Busy(), settings=settings()).run(bars)
    assert capsys.readouterr().err == ""


def test_a_quiet_backtest_imports_no_heavy_library() -> None:
    code = """
import sys
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.simulation import simulate_bars
import trade_telemetry.engine
Backtester("both").run(simulate_bars("AAA", days=3))
heavy = {"pandas", "scipy", "matplotlib", "seaborn", "tqdm", "pyarrow", "ipywidgets"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_currency_hours_run_through_both_strategies_in_one_directory(tmp_path: Path) -> None:
    fx = Settings(
        intraday_telemetry_threshold=0.001, swing_telemetry_threshold=0.002, symbol_sessions={"EURUSD": "FX"}
    )
    bars, reports, failed = module.load_history(ROOT / "data", ["EURUSD"], fx)
    assert failed == {} and reports[0].rejected == {}
    host = Backtester("both", settings=fx, enable_telemetry=True, telemetry_dir=tmp_path, workers=2)
    result = host.run(bars)
    rows = traces(result.run_dir)
    assert {t.strategy for t in rows} == {"intraday", "swing"}
    assert max(t.holding_period_minutes for t in rows if t.strategy == "intraday") < 1440
    assert max(t.holding_period_minutes for t in rows if t.strategy == "swing") > 1440
    assert {t.label_threshold_pct for t in rows} == {0.1, 0.2}


def test_a_function_of_bars_gives_each_symbol_its_own_strategy() -> None:
    bars = markets(["AAA", "BBB"])
    host = Backtester(partial(PlantedSkill, skill=1.0), settings=settings(), workers=2)
    result = host.run(bars)
    assert result.failed_symbols == {}
    assert {t.symbol for t in result.trades} == {"AAA", "BBB"}
    assert all(t.actual_direction == t.direction for t in result.trades)
