"""Inputs of the shapes that traders have: the right figure, or one line that names the contradiction."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trade_telemetry.cli.main import main
from trade_telemetry.store.store import load_columns

FIELD = Path(__file__).resolve().parents[2] / "shared" / "field"
pytestmark = pytest.mark.skipif(not FIELD.is_dir(), reason=f"the inputs of the field are not here: {FIELD}")


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def call(*words: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(map(str, words)))
    return Done(code, out.getvalue(), err.getvalue())


def imported(folder: Path, file: str, chart: str | None = None, *more: object) -> Done:
    how = () if chart is None else ("--map", FIELD / chart)
    words = ("import", FIELD / file, *how, "--threshold-pct", "0.3", "--telemetry-dir", folder, *more)
    return call(*words, *(() if "--strategy" in more or chart is None else ("--strategy", "mine")))


def figures(folder: Path, *more: object) -> dict[str, Any]:
    done = call("metrics", "--telemetry-dir", folder, "--json", *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def answer(name: str) -> dict[str, float]:
    return json.loads((FIELD / "answers.json").read_text())[name]  # type: ignore[no-any-return]


def same(found: dict[str, Any], right: dict[str, float]) -> None:
    """A figure of ours is that of pandas, or it is left out."""
    assert found["total_trades"] == right["trades"]
    assert found["hit_ratio"] * right["trades"] == pytest.approx(right["right"])
    assert found["win_rate"] * right["trades"] == pytest.approx(right["winners"])
    assert found["cumulative_return_pct"] == pytest.approx(right["cumulative"], abs=1e-4)
    assert found["max_drawdown"] == pytest.approx(right["drawdown"], abs=1e-4)


def test_two_strategies_of_one_document_stay_apart(tmp_path: Path) -> None:
    file = "01_freqtrade_two_strategies.json"
    refused = imported(tmp_path / "one", file, None, "--strategy", "mine")
    assert refused.returncode == 2
    assert "holds 2 strategies (Winner, Loser): choose one by --strategy" in refused.stderr
    assert imported(tmp_path, file).returncode == 0
    for name in ("Winner", "Loser"):
        same(figures(tmp_path, "--strategy", name), answer(f"01 {name}"))
        assert imported(tmp_path / name, file, None, "--strategy", name).returncode == 0
        same(figures(tmp_path / name), answer(f"01 {name}"))


def test_a_list_of_trades_with_two_rows_each_is_refused_by_a_naive_map_and_recognized_without(
    tmp_path: Path,
) -> None:
    file = "04_tradingview_list_of_trades.csv"
    naive = imported(tmp_path, file, "04_tradingview_list_of_trades.yaml")
    assert (naive.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "entry_price and exit_price are the same" in naive.stderr
    asked = imported(tmp_path, file)
    assert re.search(
        r"trade-telemetry import \S+ .*--strategy mine --symbol SYMBOL --timezone America/New_York",
        asked.stderr,
    )
    done = imported(tmp_path, file, None, "--strategy", "mine", "--symbol", "ES", "--timezone", "UTC")
    assert re.search(r"TradingView list of trades, 2 trades.*1 still open", done.stdout)
    same(figures(tmp_path), answer("04 closed only"))


def test_a_side_that_is_counted_is_refused_until_the_source_is_known(tmp_path: Path) -> None:
    counted = imported(tmp_path / "a", "07_lean_result.json", "07_lean_result.yaml")
    assert (counted.returncode, (tmp_path / "a").exists()) == (2, False)
    assert "direction is 0 and 1" in counted.stderr
    assert imported(tmp_path / "b", "07_lean_result.json", None, "--strategy", "mine").returncode == 0
    right = answer("07 json")
    fees = 4 * 100 * 2 / 5000  # the source is known, so its fees are taken off
    same(figures(tmp_path / "b"), right | {"cumulative": right["cumulative"] - fees})
    chart = tmp_path / "map.yaml"
    chart.write_text((FIELD / "07_lean_result.yaml").read_text() + "zero_is_long: true\n")
    words = ("--map", chart, "--strategy", "mine", "--threshold-pct", 0.3, "--telemetry-dir", tmp_path / "c")
    assert call("import", FIELD / "07_lean_result.json", *words).returncode == 0
    same(figures(tmp_path / "c"), answer("07 json"))


@pytest.mark.parametrize("form", ["yyyymmdd", "excel_serial"])
def test_dates_written_as_numbers_are_dates(form: str, tmp_path: Path) -> None:
    assert imported(tmp_path, f"09_dates_{form}.csv", "09_dates.yaml").returncode == 0
    columns, _ = load_columns(tmp_path)
    times = np.stack([columns.entry_us, columns.exit_us], axis=1).ravel().astype("datetime64[us]")
    right = json.loads((FIELD / "answers.json").read_text())["09 dates"][form]
    assert times.tolist() == [datetime.fromisoformat(text) for text in right]


def test_numbers_of_bars_are_refused_by_name(tmp_path: Path) -> None:
    done = imported(tmp_path, "09_dates_bar_numbers.csv", "09_dates.yaml")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "entry_time 120 is no time: as a count since 1970 it would be 1970-01-01 00:02" in done.stderr


def test_one_date_written_as_a_number_among_dates_is_one(tmp_path: Path) -> None:
    assert imported(tmp_path, "09_one_row_in_1970.csv", "plain.yaml").returncode == 0
    found = figures(tmp_path)
    same(found, answer("09 one row"))
    assert found["sharpe_ratio"] == pytest.approx(answer("09 one row")["sharpe"], abs=1e-4)


@pytest.mark.parametrize("order", ["newest_first", "only_new"])
def test_a_position_closed_in_three_parts_is_imported_day_by_day(order: str, tmp_path: Path) -> None:
    for day in ("1", f"2_{order}", f"3_{order}", f"3_{order}"):
        done = imported(tmp_path, f"11_day{day}.csv", "plain.yaml", "--mode", "live")
        assert done.returncode == 0, done.stderr
    assert "0 new, 0 corrected" in done.stdout
    same(figures(tmp_path), answer("11 both orders"))
    columns, report = load_columns(tmp_path)
    assert (len(set(columns.position_id.tolist())), report.duplicates) == (1, 0)


def test_prices_at_and_below_zero_are_kept(tmp_path: Path) -> None:
    assert imported(tmp_path, "12_negative_prices.csv", "plain.yaml").returncode == 0
    same(figures(tmp_path), answer("12"))


def test_a_trade_over_a_split_keeps_its_return_and_is_listed(tmp_path: Path) -> None:
    done = imported(tmp_path, "15_over_a_split.csv", "plain.yaml")
    assert done.returncode == 0, done.stderr
    assert "looks like a split 10:1 between entry and exit" in done.stdout
    assert "2 trades over a split: their labels cannot be known from the prices" in done.stdout
    [table] = tmp_path.rglob("odd_rows_*.tsv")
    assert [line.split("\t")[0] for line in table.read_text().splitlines()] == ["line", "2", "3"]
    found = figures(tmp_path)
    assert (found["total_trades"], found["cumulative_return_pct"]) == (3, pytest.approx(10.08))
    assert found["mislabelled"] == 2  # what later verbs say of it


def test_or_in_a_map_means_or(tmp_path: Path) -> None:
    assert imported(tmp_path, "19_or_in_a_map.csv", "19_or_in_a_map.yaml").returncode == 0
    same(figures(tmp_path), answer("19"))


def test_two_accounts_on_one_candle_are_two_trades(tmp_path: Path) -> None:
    for account in "ab":
        words = ("--mode", "live", "--account", account)
        assert imported(tmp_path, f"20_account_{account}.csv", "plain.yaml", *words).returncode == 0
    same(figures(tmp_path), answer("20 two accounts"))
    for _ in range(2):  # the very same trade in two accounts, imported again
        for account in "ab":
            words = ("--mode", "live", "--account", account)
            assert imported(tmp_path / "x", "20_account_a.csv", "plain.yaml", *words).returncode == 0
    assert figures(tmp_path / "x")["total_trades"] == 2


def test_the_side_of_the_closing_order_is_refused_and_mended_by_the_line_that_is_said(tmp_path: Path) -> None:
    file, chart = "21_bybit_closed_pnl.csv", "21_bybit_closed_pnl.yaml"
    done = imported(tmp_path / "a", file, chart)
    assert (done.returncode, (tmp_path / "a").exists()) == (2, False)
    told = re.search(r"direction: \"'LONG' if .*? else 'SHORT'\"", done.stderr)
    assert told
    text = re.sub("direction: Closing Direction", lambda _: told[0], (FIELD / chart).read_text())
    (tmp_path / "map.yaml").write_text(text)
    words = (
        "--map",
        tmp_path / "map.yaml",
        "--strategy",
        "mine",
        "--threshold-pct",
        0.3,
        "--telemetry-dir",
        tmp_path / "b",
    )
    assert call("import", FIELD / file, *words).returncode == 0
    same(figures(tmp_path / "b"), answer("21"))
    assert imported(tmp_path / "c", file, None, "--strategy", "mine").returncode == 0
    same(figures(tmp_path / "c"), answer("21"))
    trusted = imported(tmp_path / "d", file, chart, "--trust")
    assert (trusted.returncode, "trusted as it is: direction looks like" in trusted.stdout) == (0, True)


@pytest.mark.parametrize("exits", ["one", "five"])
def test_forty_decisions_have_one_interval_whatever_the_number_of_their_exits(
    exits: str, tmp_path: Path
) -> None:
    assert (
        imported(tmp_path, f"23_{exits}_exit{'s' * (exits == 'five')}_each.csv", "plain.yaml").returncode == 0
    )
    columns, _ = load_columns(tmp_path)
    assert len(set(columns.position_id.tolist())) == 40
    found = figures(tmp_path)
    same(found, json.loads((FIELD / "answers.json").read_text())["23"][exits])
    assert found["headline_precision_interval"] == pytest.approx([0.329, 0.625], abs=5e-4)


def test_nothing_of_a_dry_run_is_written_and_its_figures_are_those_of_the_import(tmp_path: Path) -> None:
    done = imported(tmp_path / "dry", "11_day3_newest_first.csv", "plain.yaml", "--dry-run")
    assert (done.returncode, (tmp_path / "dry").exists()) == (0, False)
    assert "nothing was written" in done.stdout
    assert re.search(r"cumulative return +−25\.00 %", done.stdout)


def test_partial_exits_through_the_hook_are_three_trades() -> None:
    done = subprocess.run(
        [sys.executable, FIELD / "28_hook_partial_exits.py"], capture_output=True, text=True, check=False
    )
    numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", done.stdout)]
    assert numbers == pytest.approx([3, 5, -10, -20, 3]), done.stderr
