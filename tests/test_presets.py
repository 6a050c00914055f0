"""Files of every source that has a preset are recognized and come out with the figures that their own program prints, or that a hand computes."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from trade_telemetry.importers.cells import ImportMapError, Reading, read_zone, truth
from trade_telemetry.importers.fills import paired
from trade_telemetry.importers.framework_presets import PRESETS
from trade_telemetry.importers.import_trades import ImportReport, import_file
from trade_telemetry.importers.sources import Recognized, answered, recognize
from trade_telemetry.importers.trade_map import expression
from trade_telemetry.values import read_side

DATA = Path(__file__).parent / "data"
EXPORTS = DATA / "exports"
FRAMEWORKS = DATA / "frameworks"


def trades(found: Recognized) -> pd.DataFrame:
    """What the map makes of the prepared rows, each field by the importer's own language."""
    columns, rows = found.open()
    cells = {name: expression(text, columns, name) for name, text in found.trade_map.fields.items()}
    where = expression(found.trade_map.where or "left_out == ''", columns, "where")
    kept = [(line, row) for line, row in rows if not isinstance(row, str)]
    read = Reading(read_zone(found.trade_map.timezone), found.trade_map.time_format)
    made = [
        {"line": n, **{f: cell(row) for f, cell in cells.items()}} for n, row in kept if truth(where(row))
    ]
    table = pd.DataFrame(made)
    if len(table):
        table["direction"] = [read_side(side) for side in table.direction]
        times = [read.times(a, b) for a, b in zip(table.entry_time, table.exit_time, strict=True)]
        table["entry_time"], table["exit_time"] = zip(*times, strict=True)
    return table


def reasons(found: Recognized) -> dict[int, str]:
    """Rows that are set aside, by line."""
    return {line: row for line, row in found.open()[1] if isinstance(row, str)}


def known(path: Path, **more: Any) -> Recognized:
    """Recognize a file of which the source is known."""
    found = recognize(path, **more)
    assert found is not None, f"{path.name} was not recognized"
    return found


# ---- exports of real frameworks, against what these printed

REAL = [
    ("backtesting", "trades.csv", "backtesting"), ("backtesting", "partial_exits.csv", "backtesting"),
    ("vectorbt", "trades.csv", "vectorbt"), ("vectorbt", "partial_exits.csv", "vectorbt"),
    ("backtrader", "trades.csv", "backtrader"), ("backtrader", "daily.csv", "backtrader"),
    ("nautilus_trader", "positions.csv", "nautilus"), ("nautilus_trader", "positions_netting.csv", "nautilus"),
    ("jesse", "trades.csv", "jesse"), ("jesse", "trades.json", "jesse"), ("jesse", "halves.json", "jesse"),
]  # fmt: skip


@pytest.mark.parametrize(("framework", "name", "source"), REAL)
def test_a_real_export_comes_out_with_the_totals_of_its_framework(
    framework: str, name: str, source: str
) -> None:
    expected = json.loads((FRAMEWORKS / framework / "made.json").read_text())["expected"][name]
    found = known(FRAMEWORKS / framework / name)
    table = trades(found)
    assert (found.source, found.refusal) == (source, None)
    assert len(table) == expected["trades"]
    assert (table.direction == "LONG").sum() == expected["longs"]
    assert (table.realized_return_pct > 0).sum() == expected["wins"]
    cents = (
        100 * 0.005 * len(table) / 5_000 if source == "nautilus" else 0.0
    )  # it rounds profits, not prices, to cents
    assert table.realized_return_pct.sum() == pytest.approx(expected["return_sum_pct"], rel=1e-9, abs=cents)
    assert table.profit.sum() == pytest.approx(expected["profit"], rel=1e-9)
    if "fees" in expected:
        leverage = table.leverage if "leverage" in table else 1.0
        fees = (table.fees_pct / 100 * table.quantity * table.entry_price / leverage).sum()
        assert fees == pytest.approx(expected["fees"], rel=1e-6)
    decision = table.get("position_id", table.get("running_number"))
    assert decision.nunique() == expected["positions"]
    assert f"{expected['trades']:,} trades" in found.words


@pytest.mark.parametrize(("framework", "name", "source"), REAL)
def test_prices_side_and_costs_of_a_real_export_agree_with_its_return(
    framework: str, name: str, source: str
) -> None:
    table = trades(known(FRAMEWORKS / framework / name))
    sign = table.direction.map({"LONG": 1, "SHORT": -1})
    leverage = table.leverage if "leverage" in table else 1.0
    gross = 100 * sign * (table.exit_price / table.entry_price - 1) * leverage
    fees = table.fees_pct if "fees_pct" in table else 0.0
    assert (gross - fees - table.realized_return_pct).abs().max() < 1e-9


# ---- freqtrade: strategies of one file are kept apart, whatever its door


def test_a_result_of_freqtrade_keeps_its_strategies_apart() -> None:
    expected = json.loads((FRAMEWORKS / "freqtrade" / "made.json").read_text())["expected"][
        "backtest-result.zip"
    ]
    found = known(FRAMEWORKS / "freqtrade" / "backtest-result.zip")
    table = trades(found)
    assert found.strategies == tuple(expected) and found.asks == ()
    assert set(table.strategy) == set(expected)
    for name, want in expected.items():
        one = table[table.strategy == name]
        assert trades(answered(found, strategy=name)).equals(one.reset_index(drop=True))
        assert (len(one), (one.direction == "LONG").sum()) == (want["trades"], want["longs"])
        assert one.realized_return_pct.sum() == pytest.approx(want["return_sum_pct"], rel=1e-9)
        assert one.profit.sum() == pytest.approx(want["profit"], rel=1e-9)
    with pytest.raises(ImportMapError, match=r"holds 2 strategies \(Cross, CrossScaled\)"):
        answered(found, strategy="mine")


@pytest.mark.parametrize("name", ["tradesv3.sqlite", "rest_trades.json"])
def test_database_and_rest_answer_of_freqtrade_come_out_with_its_totals(name: str) -> None:
    expected = json.loads((FRAMEWORKS / "freqtrade" / "made.json").read_text())["expected"][name][
        "CrossScaled"
    ]
    found = known(FRAMEWORKS / "freqtrade" / name)
    table = trades(found)
    assert (found.source, found.strategies, found.asks) == ("freqtrade", ("CrossScaled",), ())
    assert (len(table), table.position_id.nunique()) == (expected["trades"], expected["positions"])
    assert table.realized_return_pct.sum() == pytest.approx(expected["return_sum_pct"], rel=1e-6)
    assert table.profit.sum() == pytest.approx(expected["profit"], rel=1e-6)


def test_a_scaled_position_of_freqtrade_has_the_mean_prices_of_its_orders() -> None:
    with sqlite3.connect(FRAMEWORKS / "freqtrade" / "tradesv3.sqlite") as base:
        orders = pd.read_sql("select * from orders where filled > 0", base)
        rows = pd.read_sql("select id, is_short, close_rate from trades where is_open = 0", base)
    orders["price"] = orders.average.fillna(orders.price)
    orders["money"] = orders.price * orders.filled
    means = orders.groupby(["ft_trade_id", "ft_order_side"])[["money", "filled"]].sum()
    means = (means.money / means.filled).unstack()
    short = rows.set_index("id").is_short.astype(bool)
    table = trades(known(FRAMEWORKS / "freqtrade" / "tradesv3.sqlite")).set_index("position_id").sort_index()
    want_exit = means.buy.where(short, means.sell).loc[table.index]
    want_entry = means.sell.where(short, means.buy).loc[table.index]
    assert (table.exit_price - want_exit).abs().max() < 1e-12
    assert (table.entry_price - want_entry).abs().max() < 1e-12
    last = rows.set_index("id").close_rate.loc[table.index]
    assert (
        (table.exit_price - last).abs() > 1e-9
    ).sum() == 12  # for these the last exit alone would have been wrong


def test_a_page_of_the_rest_answer_says_what_is_missing(tmp_path: Path) -> None:
    page = json.loads((FRAMEWORKS / "freqtrade" / "rest_trades.json").read_text())
    page |= {"trades_count": len(page["trades"]), "total_trades": len(page["trades"]) + 30}
    (tmp_path / "page.json").write_text(json.dumps(page))
    assert "a page of 8: 30 of 38 trades are on other pages" in known(tmp_path / "page.json").words


def notes_in_record(report: ImportReport) -> list[str]:
    [record] = report.output_dir.glob("run_*.json")
    found: list[str] = json.loads(record.read_text())["import"]["notes"]
    return found


def test_what_a_file_lacks_is_in_the_record_of_its_import(tmp_path: Path) -> None:
    page = json.loads((FRAMEWORKS / "freqtrade" / "rest_trades.json").read_text())
    page |= {"trades_count": len(page["trades"]), "total_trades": len(page["trades"]) + 30}
    (tmp_path / "page.json").write_text(json.dumps(page))
    report = import_file(tmp_path / "page.json", None, tmp_path / "t", threshold_pct=0.3)
    assert "30 of 38 trades are on other pages" in report.summary()
    assert any("30 of 38 trades are on other pages" in note for note in notes_in_record(report))


@pytest.mark.parametrize(("other", "said"), [("BNB", 1), ("USD", 0)])
def test_commissions_of_nautilus_in_other_money_are_said(tmp_path: Path, other: str, said: int) -> None:
    log = pd.read_csv(FRAMEWORKS / "nautilus_trader" / "positions.csv", dtype=str)
    paid = log.index[:3]
    log.loc[paid, "commissions"] = f"['0.01 {other}']"
    log.loc[log.index[3], "commissions"] = "['0.22 USD', '0.00 BNB']"  # nothing was paid in the other
    log.to_csv(tmp_path / "positions.csv", index=False)
    report = import_file(tmp_path / "positions.csv", None, tmp_path / "t", threshold_pct=0.3)
    notes = [note for note in notes_in_record(report) if "in other money" in note]
    assert len(notes) == said
    assert all(note.startswith("3 positions paid commissions in other money (BNB)") for note in notes)


@pytest.mark.parametrize(("zone", "said"), [(None, 0), ("UTC", 0), ("America/New_York+7h", 1)])
def test_a_clock_that_overrides_that_of_the_source_is_said(
    tmp_path: Path, zone: str | None, said: int
) -> None:
    report = import_file(
        EXPORTS / "bybit_new.csv", "mine", tmp_path / "t", threshold_pct=0.3, timezone=zone, trust=True
    )
    notes = [note for note in report.notes if "times without an offset are read in" in note]
    assert len(notes) == said
    assert all(note.endswith("where Bybit closed P&L would be in UTC+0") for note in notes)


# ---- files of the documented form, against hands


def test_tradingview_joins_two_rows_in_both_ages_and_leaves_the_open_trade_out() -> None:
    new, old = known(EXPORTS / "tradingview_new.csv"), known(EXPORTS / "tradingview_old.csv")
    assert new.words == "TradingView list of trades, 3 trades; left out: 1 still open"
    assert new.asks == old.asks == ("--strategy", "--symbol", "--timezone")
    table = trades(answered(new, symbol="ES", timezone="America/Chicago")).sort_values("entry_time")
    assert list(table.realized_return_pct) == [3.45, 4.9, -2.1]
    assert list(table.direction) == ["LONG", "LONG", "SHORT"]
    assert (
        list(table.exit_price) == [414, 420, 408]
        and set(table.symbol) == {"ES"}
        and set(table.currency) == {"USD"}
    )
    assert list(table.mae_pct) == [-0.13, -0.75, -2.5] and list(table.mfe_pct) == [3.75, 5.5, 0.5]
    assert str(table.entry_time.iloc[0]) == "2025-04-01 15:00:00+00:00"
    table = trades(answered(old, symbol="DAX"))
    assert list(table.realized_return_pct) == [2.8, -1.17] and list(table.mae_pct) == [-1, -1.46]
    assert list(table.profit) == [2.8, -1.2] and set(table.currency) == {"EUR"}


def test_tradingview_upside_down_is_the_same(tmp_path: Path) -> None:
    head, *rows = (EXPORTS / "tradingview_new.csv").read_text("utf-8-sig").splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([head, *rows[::-1]]))
    tables = [
        trades(answered(known(p), symbol="ES"))
        for p in (EXPORTS / "tradingview_new.csv", tmp_path / "turned.csv")
    ]
    same = [t.drop(columns="line").sort_values("running_number").reset_index(drop=True) for t in tables]
    assert same[0].equals(same[1])


NINJA = {"ES 06-25": 50, "MNQ 06-25": 2, "NQ 09-25": 20, "MNQ 09-25": 2}


@pytest.mark.parametrize(
    ("name", "words", "net"),
    [
        (
            "ninjatrader_us.csv",
            "NinjaTrader 8 trade list, 3 trades, 2 accounts, dates as MM/DD",
            [495.0, -1010.0, 196.3],
        ),
        (
            "ninjatrader_fr.csv",
            "NinjaTrader 8 trade list, 2 trades, dates as DD/MM, decimal comma",
            [195.5, 57.78],
        ),
    ],
)
def test_ninjatrader_in_two_languages(name: str, words: str, net: list[float]) -> None:
    found = known(EXPORTS / name)
    table = trades(answered(found, timezone="America/Chicago"))
    assert found.words == words
    assert list(table.profit) == pytest.approx(net)
    assert list(table.multiplier) == [NINJA[symbol] for symbol in table.symbol]
    notional = table.entry_price * table.quantity * table.multiplier
    assert list(table.realized_return_pct) == pytest.approx(list(100 * pd.Series(net) / notional))
    assert (table.mae_pct <= 0).all() and (table.mfe_pct >= 0).all()
    assert found.asks == (("--timezone",) if "us" in name else ("--strategy", "--timezone"))
    assert table.entry_time.iloc[0].day == (4 if "us" in name else 15)


def test_tradovate_tells_the_side_by_the_times_and_sets_aside_what_has_none() -> None:
    found = known(EXPORTS / "tradovate.csv")
    table = trades(found)
    assert list(table.direction) == ["LONG", "SHORT", "SHORT"]
    sign = table.direction.map({"LONG": 1, "SHORT": -1})
    money = (
        sign
        * (table.exit_price - table.entry_price)
        * table.quantity
        * table.symbol.map({"MNQM5": 2, "MESM5": 5})
    )
    assert list(money) == [40.0, -40.0, 200.0]  # the report's own pnl
    assert reasons(found) == {5: "bought and sold at the same time: the side cannot be known"}
    assert "realized_return_pct" not in found.trade_map.fields  # no fees in the file: the prices alone


def test_ctrader_has_its_clock_in_the_header_and_lots_in_the_quantity() -> None:
    found = known(EXPORTS / "ctrader.csv")
    table = trades(found)
    assert found.asks == ("--strategy",) and found.trade_map.timezone == "UTC+2"
    assert str(table.entry_time.iloc[0]) == "2025-03-03 09:30:00+00:00"
    assert list(table.quantity) == [0.1, 0.5] and list(table.multiplier) == [1e5, 1e5]
    assert list(table.realized_return_pct) == pytest.approx([100 * 24.3 / 10_850, -100 * 54.2 / 54_500])
    assert list(table.position_id) == ["PID101", "PID102"] and set(table.currency) == {"USD"}


METATRADER = ["mt5_history.csv", "mt5_history.html"]


@pytest.mark.parametrize("name", METATRADER)
def test_metatrader_5_reads_the_positions_and_nothing_else(name: str) -> None:
    found = known(EXPORTS / name)
    assert (found.source, found.asks) == ("metatrader5", ("--strategy", "--timezone"))
    table = trades(answered(found, timezone="America/New_York+7h"))
    assert list(map(str, table.position_id)) == ["4711", "4712", "4713"]
    assert list(table.profit) == [96.0, -52.5, 1200.0] and list(table.multiplier) == [1e5, 1e5, 100.0]
    assert list(table.realized_return_pct) == pytest.approx(
        [100 * 96 / 55_000, -100 * 52.5 / 55_100, 100 * 1200 / 29_000]
    )
    assert list(table.fees_pct) == pytest.approx([100 * 4 / 55_000, 100 * 2.5 / 55_100, 0])
    assert (
        str(table.entry_time.iloc[0]) == "2025-03-03 08:00:00+00:00"
    )  # New York is at −5 hours, its broker at +2


def test_metatrader_4_leaves_deposits_and_cancelled_orders_out() -> None:
    found = known(EXPORTS / "mt4_statement.htm")
    table = trades(answered(found, timezone="America/New_York+7h"))
    assert found.source == "metatrader4"
    assert list(map(str, table.position_id)) == ["101", "103"]
    assert "left out: 1 balance row, 1 cancelled order" in found.words
    assert "mostly America/New_York+7h" in found.words
    assert list(table.profit) == pytest.approx([96.0, 495.51])
    assert table.realized_return_pct.iloc[1] == pytest.approx(0.5 - 100 * 7 / (150 * 502.51 / 0.75))


def test_bybit_turns_the_side_of_the_close_in_both_ages() -> None:
    old, new = known(EXPORTS / "bybit_old.csv"), known(EXPORTS / "bybit_new.csv")
    table = trades(old)
    assert list(table.direction) == ["LONG", "SHORT", "LONG"] and old.asks == ("--strategy",)
    assert list(table.realized_return_pct) == pytest.approx(
        [100 * 5.4 / 600, 100 * 5.5 / 610, -100 * 33 / 3000]
    )
    assert (table.fees_pct > 0).all()
    table = trades(new)
    assert list(table.direction) == ["LONG", "SHORT"]
    assert list(table.realized_return_pct) == pytest.approx([100 * 0.875 / 62, 100 * 33.269 / 748])


@pytest.mark.parametrize("name", ["lean_result.json", "lean_trades.csv"])
def test_lean_counts_its_sides_and_states_profit_before_fees(name: str) -> None:
    found = known(EXPORTS / name)
    table = trades(found)
    assert list(table.direction) == ["LONG", "SHORT"] and found.asks == ("--strategy",)
    json_form = name.endswith(".json")
    assert list(table.symbol) == (["SPY", "QQQ"] if json_form else ["SPY", "SPY"])
    assert list(table.realized_return_pct) == pytest.approx([0.96, -1.05 if json_form else -1.04])


# ---- lists of fills


def pair(name: str) -> tuple[Recognized, pd.DataFrame]:
    found = known(EXPORTS / name)
    assert found.refusal is not None and "import with --pair fifo" in found.refusal
    made = paired(found)
    return made, trades(made)


def test_zerodha_is_refused_with_the_way_out_and_paired() -> None:
    made, table = pair("zerodha.csv")
    assert made.refusal is None and made.asks == ("--strategy",)
    assert list(table.profit) == [3000.0, 800.0, 200.0] and list(table.direction) == ["LONG", "LONG", "SHORT"]
    assert table.running_number.nunique() == 2  # two fills of one order are one decision
    assert (
        "5 fills became 3 exits, +20 TCS, +5 INFY remain open and are left out; positions that were open before"
        in made.words
    )
    assert str(table.entry_time.iloc[0]) == "2025-03-03 04:45:00+00:00"


def test_interactive_brokers_keeps_accounts_apart_and_knows_the_contract() -> None:
    _, table = pair("ibkr_flex.csv")
    assert dict(zip(table.account, table.profit, strict=True)) == pytest.approx({"U1": 97.52, "U2": 48.76})
    assert list(table.realized_return_pct) == pytest.approx([100 * 97.52 / 50_000, 100 * 48.76 / 25_000])


def test_pyfolio_and_hummingbot_are_paired() -> None:
    assert list(pair("pyfolio.csv")[1].profit) == [40.0, -60.0]
    table = pair("hummingbot.csv")[1]
    assert list(table.profit) == pytest.approx([9 - 0.9 - 0.909])
    assert str(table.exit_time.iloc[0]) == "2025-03-03 12:06:40+00:00"


def test_deals_of_metatrader_do_not_take_lots_for_units() -> None:
    found = known(EXPORTS / "mt5_history.html", preset="metatrader5-deals")
    made = paired(found)
    table = trades(answered(made, timezone="America/New_York+7h"))
    assert len(table) == 1 and "1 balance row" in found.words
    assert "realized_return_pct" not in table and "profit" not in table


def test_executions_of_ninjatrader_newest_first_are_paired_by_price_alone() -> None:
    made, table = pair("ninjatrader_executions.csv")
    assert list(table.exit_price) == [5005, 5010] and set(table.running_number) == {"o1"}
    assert "fees_pct" not in table and made.asks == ("--strategy", "--timezone")
    assert [str(t)[11:19] for t in table.exit_time] == ["09:41:00", "09:45:00"]


# ---- any file of a kind

PLAIN = [p for p in sorted(EXPORTS.glob("*.csv")) if p.name not in ("ctrader.csv", "mt5_history.csv")]


@pytest.mark.parametrize("path", PLAIN, ids=lambda p: p.name)
def test_neither_the_name_nor_the_order_of_columns_nor_of_rows_matters(path: Path, tmp_path: Path) -> None:
    sign = ";" if path.name == "ninjatrader_fr.csv" else ","
    raw = pd.read_csv(path, sep=sign, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    raw = raw.loc[:, ~raw.columns.str.startswith("Unnamed")]
    turned = raw.sample(frac=1, axis=1, random_state=7)
    if "fills" not in str(known(path).refusal):
        turned = turned.sample(frac=1, random_state=7)
    turned.to_csv(tmp_path / "renamed.txt", sep=sign, index=False)
    was, now = known(path), known(tmp_path / "renamed.txt")
    assert (now.source, now.words, now.asks) == (was.source, was.words, was.asks)
    if was.refusal:
        was, now = paired(was), paired(now)
    a, b = (trades(answered(f, symbol="X")).drop(columns="line") for f in (was, now))
    order = ["entry_time", "exit_time", "entry_price", "exit_price"]
    names = sorted(a.columns)
    pd.testing.assert_frame_equal(
        a.sort_values(order, ignore_index=True)[names], b.sort_values(order, ignore_index=True)[names]
    )


def as_workbook(lines: list[list[object]], path: Path, title: str) -> Path:
    """Write a sheet as spreadsheets hold it: numbers as numbers, times as times."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = title
    for cells in lines:
        book.active.append(cells)
    book.save(path)
    return path


def typed(cell: str) -> object:
    for kind in (float, datetime.fromisoformat):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None


def test_workbooks_of_tradingview_and_metatrader_are_read_like_their_text(tmp_path: Path) -> None:
    text = EXPORTS / "tradingview_new.csv"
    cells = [[typed(c) for c in line.split(",")] for line in text.read_text("utf-8-sig").splitlines()]
    book = as_workbook(cells, tmp_path / "a.xlsx", "List of trades")
    a, b = (trades(answered(known(p), symbol="ES")) for p in (text, book))
    assert list(a.realized_return_pct) == list(b.realized_return_pct) and list(a.entry_time) == list(
        b.entry_time
    )
    text = EXPORTS / "mt5_history.csv"
    cells = [list(line.split("\t")) for line in text.read_text().splitlines()]
    book = as_workbook([[c or None for c in line] for line in cells], tmp_path / "b.xlsx", "Sheet1")
    a, b = (trades(known(p)) for p in (text, book))
    assert list(a.profit) == list(b.profit) and list(a.exit_time) == list(b.exit_time)


# ---- what is not known


def test_a_file_of_nobody_is_not_recognized(tmp_path: Path) -> None:
    for name, text in {
        "a.csv": "symbol,side,opened,closed\n",
        "b.json": "[]",
        "c.txt": "",
        "d.csv": "\x00\x01",
    }.items():
        (tmp_path / name).write_text(text)
        assert recognize(tmp_path / name) is None


def test_every_preset_is_proved_by_a_file_here() -> None:
    seen = {known(path).source for path in EXPORTS.iterdir()} | {source for _, _, source in REAL}
    seen |= {"freqtrade", "metatrader5-deals"}
    assert set(PRESETS) - seen == {"vectorbt-raw"}
