"""Trades of real frameworks: our figures from their exports and inside them are the totals that they print themselves."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import backtesting
import pandas as pd
import pytest

from trade_telemetry import AccuracyAnalyzer, TelemetryHook, TelemetryWriter
from trade_telemetry.capture.hook import ClosedPosition, build_trace
from trade_telemetry.importers.import_trades import import_file
from trade_telemetry.importers.live import (
    FreqtradeTelemetry,
    backtrader_analyzer,
    freqtrade_close,
    from_backtesting,
    from_pyfolio,
    from_vectorbt,
    known_facts,
    nautilus_handler,
    vectorbt_closes,
)
from trade_telemetry.trace import PredictionTrace

KEPT = Path(__file__).parent / "data" / "frameworks"
NAMES = ["backtesting", "backtrader", "freqtrade", "jesse", "nautilus_trader", "vectorbt"]
MADE = {name: json.loads((KEPT / name / "made.json").read_text(encoding="utf-8")) for name in NAMES}


class Case(NamedTuple):
    """A kept export and what its import has to give: the one table for presets, importers and these tests."""

    framework: str
    file: str
    strategy: str | None  # one of several in the file
    expected: dict[str, Any]


def cases() -> Iterator[Case]:
    for name, made in MADE.items():
        for file, told in made["expected"].items():
            if "trades" in told:
                yield Case(name, file, None, told)
            else:
                yield from (Case(name, file, strategy, one) for strategy, one in told.items())


CASES = list(cases())
CASE_IDS = ["-".join(filter(None, case[:3])) for case in CASES]


class Recorder:
    """A hook that keeps the facts and the traces of each close."""

    def __init__(self, **thresholds_pct: float) -> None:
        self.thresholds_pct, self.facts = thresholds_pct, []

    def position_closed(self, **facts: Any) -> None:
        self.facts.append(facts)

    @property
    def traces(self) -> list[PredictionTrace]:
        return [build_trace(ClosedPosition(**f), self.thresholds_pct[f["strategy"]]) for f in self.facts]


# --- what the frameworks hand over, from what was kept ---


class Analyzer:
    """What `bt.Analyzer` is to us."""

    strategy = type("Cross", (), {})()

    def start(self) -> None: ...


def backtrader_orders() -> Iterator[Any]:
    feed = type("Feed", (), {"_name": "EURUSD", "num2date": staticmethod(datetime.fromisoformat)})()
    for row in json.loads((KEPT / "backtrader" / "orders.json").read_text()):
        bits = [SimpleNamespace(dt=bit["time"], **bit) for bit in row["bits"]]
        yield SimpleNamespace(data=feed, executed=SimpleNamespace(iterpending=lambda bits=bits: iter(bits)))


def nautilus_events() -> Iterator[Any]:
    kind = type("PositionClosed", (SimpleNamespace,), {})
    for told in json.loads((KEPT / "nautilus_trader" / "events.json").read_text()):
        yield kind(**told)


def freqtrade_trades(strategy: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Trades of the kept result with the object that a strategy is given; the funding is on the last order."""
    with zipfile.ZipFile(KEPT / "freqtrade" / "backtest-result.zip") as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".json") and "config" not in n]
        result = json.loads(archive.read(name))["strategy"][strategy]["trades"]
    for number, told in enumerate(result):
        orders = [
            SimpleNamespace(
                order_id=str(k), safe_filled=order["amount"], funding_fee=0.0,
                order_filled_utc=pd.Timestamp(order["order_filled_timestamp"], unit="ms", tz="UTC"), **order,
            )
            for k, order in enumerate(told["orders"])
        ]  # fmt: skip
        orders[-1].funding_fee = told["funding_fees"]
        more = {"entry_side": "sell" if told["is_short"] else "buy", "strategy": strategy, "id": number}
        more |= {"open_date_utc": datetime.fromisoformat(told["open_date"]), "orders": orders}
        yield told, SimpleNamespace(**told | more)


def exits_of(trade: Any) -> list[Any]:
    return [order for order in trade.orders if not order.ft_is_entry]


def backtrader_run() -> Recorder:
    hook = Recorder(Cross=0.3)
    analyzer = backtrader_analyzer(Analyzer, hook)()
    analyzer.start()
    for order in backtrader_orders():
        analyzer.notify_order(order)
    assert analyzer.get_analysis() == {"exits": len(hook.facts)}
    return hook


def nautilus_run() -> Recorder:
    hook = Recorder(Cross=0.3)
    handle = nautilus_handler(hook, strategy="Cross")
    for event in nautilus_events():
        handle(event)
    return hook


def freqtrade_run(strategy: str) -> Recorder:
    hook = Recorder(**{strategy: 0.3})
    base = type("IStrategy", (), {"order_filled": lambda self, **told: "asked"})
    own = type(strategy, (FreqtradeTelemetry, base), {"telemetry": hook})()
    for _, trade in freqtrade_trades(strategy):
        for order in trade.orders:
            assert own.order_filled(trade.pair, trade, order, None) == "asked"
    return hook


def backtesting_stats(file: str) -> dict[str, Any]:
    table = pd.read_csv(KEPT / "backtesting" / file, parse_dates=["EntryTime", "ExitTime"])
    return {"_trades": table}


def vectorbt_portfolio(file: str) -> Any:
    table = pd.read_csv(KEPT / "vectorbt" / file, parse_dates=["Entry Timestamp", "Exit Timestamp"])
    return SimpleNamespace(exit_trades=SimpleNamespace(records_readable=table))


def imported(framework: str, file: str) -> list[PredictionTrace]:
    """Traces of one kept export by the importer that takes over a finished run."""
    if framework == "backtesting":
        return from_backtesting(backtesting_stats(file), "EURUSD", "Cross", threshold_pct=0.3)
    return from_vectorbt(vectorbt_portfolio(file), "Cross", "EURUSD", threshold_pct=0.3)


# --- the tests ---


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.framework in ("backtesting", "vectorbt")],
    ids=lambda case: f"{case.framework}-{case.file}",
)
def test_a_finished_backtest_has_the_trades_wins_and_returns_that_it_printed(case: Case) -> None:
    traces = imported(case.framework, case.file)
    metrics = AccuracyAnalyzer().compute_metrics(traces)
    assert metrics.total_trades == case.expected["trades"]
    assert sum(t.predicted_direction == "LONG" for t in traces) == case.expected["longs"]
    assert 100 * metrics.win_rate == pytest.approx(case.expected["win_rate_pct"], rel=1e-12)
    assert metrics.cumulative_return_pct == pytest.approx(case.expected["return_sum_pct"], rel=1e-9)
    fees = sum(t.fees_pct / 100 * t.quantity * t.entry_price for t in traces if t.fees_pct and t.quantity)
    assert fees == pytest.approx(case.expected["fees"], rel=1e-9)


@pytest.mark.parametrize("name", ["trades.csv", "partial_exits.csv"])
def test_the_printed_totals_are_the_expected_ones(name: str) -> None:
    ours, printed = MADE["backtesting"]["expected"][name], MADE["backtesting"]["printed"][name]
    assert (ours["trades"], ours["win_rate_pct"]) == (printed["# Trades"], printed["Win Rate [%]"])
    assert ours["fees"] == pytest.approx(printed["Commissions [$]"])
    ours, printed = MADE["vectorbt"]["expected"][name], MADE["vectorbt"]["printed"][name]
    assert (ours["trades"], ours["win_rate_pct"]) == (printed["Total Closed Trades"], printed["Win Rate [%]"])
    assert ours["rows"] == printed["Total Trades"]
    mean = [printed[f"Avg {kind} Trade [%]"] for kind in ("Winning", "Losing")]
    lost = ours["trades"] - ours["wins"]
    assert ours["wins"] * mean[0] + lost * mean[1] == pytest.approx(ours["return_sum_pct"], rel=1e-9)


@pytest.mark.filterwarnings("ignore:DatetimeIndex:DeprecationWarning")  # raised inside backtesting
@pytest.mark.filterwarnings("ignore:Some trades remain open:UserWarning")
def test_the_real_backtesting_gives_the_trades_that_were_kept() -> None:
    bars = pd.read_csv(KEPT.parents[2] / "data" / "fx_hourly" / "EURUSD.csv", index_col="Time")
    bars.index = pd.to_datetime(bars.index, format="%d.%m.%Y %H:%M:%S.%f")

    class Cross(backtesting.Strategy):  # type: ignore[misc]
        def init(self) -> None:
            closes = pd.Series(self.data.Close)
            self.fast, self.slow = (self.I(closes.rolling(n).mean, name=str(n)) for n in (24, 240))

        def next(self) -> None:
            side = 1 if self.fast[-1] > self.slow[-1] else -1
            if self.position.size * side <= 0:
                self.position.close()
                (self.buy if side > 0 else self.sell)(size=5000, tag="cross")

    stats = backtesting.Backtest(bars, Cross, cash=10_000, commission=0.0001).run()
    ours = from_backtesting(stats, "EURUSD", threshold_pct=0.3)
    kept = imported("backtesting", "trades.csv")
    assert [t.strategy for t in ours] == ["Cross"] * stats["# Trades"]
    assert [t.realized_return_pct for t in ours] == pytest.approx([t.realized_return_pct for t in kept])
    assert [(t.timestamp, t.exit_timestamp) for t in ours] == [(t.timestamp, t.exit_timestamp) for t in kept]


MAPS: dict[str, dict[str, Any]] = {
    "jesse": {
        "symbol": "symbol", "direction": "type", "entry_time": "opened_at", "exit_time": "closed_at",
        "entry_price": "entry_price", "exit_price": "exit_price", "realized_return_pct": "PNL_percentage", "quantity": "qty",
    },
    "backtrader": {
        "symbol": "ticker", "direction": "dir", "entry_time": "datein", "exit_time": "dateout", "entry_price": "pricein",
        "exit_price": "priceout",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("framework", "file", "total"),
    [
        ("jesse", "trades.json", "return_sum_pct"),
        ("jesse", "halves.json", "return_sum_pct"),
        ("jesse", "trades.csv", "return_sum_pct"),
        ("backtrader", "trades.csv", "gross_return_sum_pct"),  # the file has no commission
        ("backtrader", "daily.csv", "gross_return_sum_pct"),
    ],
)
def test_a_map_reads_the_exports_of_jesse_and_backtrader(
    framework: str, file: str, total: str, tmp_path: Path
) -> None:
    (tmp_path / "map.yaml").write_text(json.dumps({"fields": MAPS[framework]}))
    report = import_file(
        KEPT / framework / file, "Cross", tmp_path / "runs", map_file=tmp_path / "map.yaml", threshold_pct=0.3
    )
    expected = MADE[framework]["expected"][file]
    assert (report.written, report.bad) == (expected["trades"], [])
    analyzer = AccuracyAnalyzer()
    metrics = analyzer.compute_metrics(analyzer.load_traces(tmp_path / "runs"))
    assert metrics.cumulative_return_pct == pytest.approx(expected[total], rel=1e-9)
    if framework == "jesse":
        assert metrics.win_rate == pytest.approx(MADE["jesse"]["printed"][file]["win_rate"])


def test_a_backtrader_analyzer_hears_what_backtrader_prints() -> None:
    hook, printed = backtrader_run(), MADE["backtrader"]["printed"]["trades.csv"]
    returns = [trace.realized_return_pct for trace in hook.traces]
    assert (len(returns), sum(r > 0 for r in returns)) == (printed["total"]["closed"], printed["won"])
    assert sum(facts["direction"] == "LONG" for facts in hook.facts) == printed["long"]
    money = [r / 100 * f["quantity"] * f["entry_price"] for r, f in zip(returns, hook.facts, strict=True)]
    assert sum(money) == pytest.approx(printed["pnl net"], rel=1e-9)
    rows = pd.read_csv(KEPT / "backtrader" / "trades.csv", parse_dates=["datein", "dateout"])
    assert money == pytest.approx(rows["pnl"].tolist(), rel=1e-9)
    for ours, theirs in (("entry_price", "pricein"), ("exit_price", "priceout")):
        assert [facts[ours] for facts in hook.facts] == pytest.approx(rows[theirs].tolist())
    assert [facts["exit_time"] for facts in hook.facts] == rows["dateout"].tolist()


def test_a_nautilus_handler_hears_what_nautilus_prints() -> None:
    hook, printed = nautilus_run(), MADE["nautilus_trader"]["printed"]["positions.csv"]
    returns = [trace.realized_return_pct for trace in hook.traces]
    pnls = printed["pnls"]["USD"]
    # their rate and total hold the position that is still open, with the commission it has cost so far
    assert sum(r > 0 for r in returns) == round(pnls["Win Rate"] * printed["positions"])
    report = pd.read_csv(KEPT / "nautilus_trader" / "positions.csv")
    (still_open,) = report.loc[report["side"] != "FLAT", "realized_pnl"].str.split().str[0].astype(float)
    money = [r / 100 * f["quantity"] * f["entry_price"] for r, f in zip(returns, hook.facts, strict=True)]
    assert sum(money) + still_open == pytest.approx(pnls["PnL (total)"], abs=1e-6)
    closed = report[report["side"] == "FLAT"]
    gross = [r + f["fees_pct"] for r, f in zip(returns, hook.facts, strict=True)]
    assert gross == pytest.approx(
        (100 * closed["realized_return"]).tolist(), abs=6e-4
    )  # printed with five digits
    assert [f["direction"] for f in hook.facts] == closed["entry"].map(
        {"BUY": "LONG", "SELL": "SHORT"}
    ).tolist()


@pytest.mark.parametrize("strategy", ["Cross", "CrossScaled"])
def test_a_freqtrade_strategy_hears_what_freqtrade_prints(strategy: str) -> None:
    printed = MADE["freqtrade"]["printed"][strategy]
    profits = []
    for told, trade in freqtrade_trades(strategy):
        closes = [freqtrade_close(trade, order, None) for order in exits_of(trade)]
        assert sum(close["profit"] for close in closes) == pytest.approx(told["profit_abs"], abs=2e-8)
        assert len({close["position_id"] for close in closes}) == 1
        assert {close["direction"] for close in closes} == {"SHORT" if told["is_short"] else "LONG"}
        if len(trade.orders) == 2:
            assert closes[0]["realized_return_pct"] == pytest.approx(100 * told["profit_ratio"], abs=1e-6)
        profits.append(sum(close["profit"] for close in closes))
    assert (len(profits), sum(p > 0 for p in profits)) == (printed["total_trades"], printed["wins"])
    assert sum(profits) == pytest.approx(printed["profit_total_abs"], abs=1e-5)


def test_a_freqtrade_strategy_tells_the_hook_of_every_exit_and_of_no_entry() -> None:
    for strategy in ("Cross", "CrossScaled"):
        hook = freqtrade_run(strategy)
        assert len(hook.facts) == MADE["freqtrade"]["expected"]["backtest-result.zip"][strategy]["exits"]
        assert {facts["strategy"] for facts in hook.facts} == {strategy}
        assert {facts["exit_reason"] for facts in hook.facts} <= {"exit_signal", "force_exit", "partial_exit"}
    metrics = AccuracyAnalyzer().compute_metrics(freqtrade_run("Cross").traces)
    printed = MADE["freqtrade"]["printed"]["Cross"]
    assert metrics.win_rate == pytest.approx(printed["winrate"])
    assert metrics.avg_return == pytest.approx(100 * printed["profit_mean"], rel=1e-8)


def test_in_a_bot_the_id_of_the_database_names_the_position_and_in_a_backtest_the_first_fill_does() -> None:
    _, trade = next(freqtrade_trades("CrossScaled"))
    last = exits_of(trade)[-1]
    assert freqtrade_close(trade, last, None, lasting=True)["position_id"] == "0"
    assert freqtrade_close(trade, last, None)["position_id"].startswith(
        "CrossScaled EUR/USDT:USDT LONG 2017-01-11T23"
    )


def test_fills_of_backtrader_paired_first_in_first_out_are_its_trades() -> None:
    rows = [
        {"dt": datetime.fromisoformat(bit["time"]), "symbol": "EURUSD", "amount": bit["closed"] + bit["opened"],
         "price": bit["price"], "commission": bit["closedcomm"] + bit["openedcomm"]}
        for row in json.loads((KEPT / "backtrader" / "orders.json").read_text()) for bit in row["bits"]
    ]  # fmt: skip
    traces = from_pyfolio(pd.DataFrame(rows).set_index("dt"), "Cross", threshold_pct=0.3)
    heard = backtrader_run().traces
    assert len(traces) == MADE["backtrader"]["expected"]["trades.csv"]["trades"]
    for ours, theirs in zip(traces, heard, strict=True):
        assert (ours.timestamp, ours.exit_timestamp) == (theirs.timestamp, theirs.exit_timestamp)
        assert ours.realized_return_pct == pytest.approx(theirs.realized_return_pct)


def test_parts_of_one_position_have_one_id_and_as_many_ids_as_the_framework_has_positions() -> None:
    hook = Recorder(Cross=0.3)
    portfolio = vectorbt_portfolio("partial_exits.csv")
    from_vectorbt(portfolio, "Cross", "EURUSD", hook=hook)
    table = portfolio.exit_trades.records_readable
    ids = [facts["position_id"] for facts in vectorbt_closes(portfolio, "Cross", "EURUSD")]
    by_position = defaultdict(set)
    for number, own in zip(table.loc[table["Status"] == "Closed", "Position Id"], ids, strict=True):
        by_position[number].add(own)
    assert {len(found) for found in by_position.values()} == {1}
    assert len(set(ids)) == len(by_position) == MADE["vectorbt"]["expected"]["partial_exits.csv"]["positions"]


@pytest.mark.parametrize("name", ["backtesting", "backtrader", "freqtrade", "nautilus_trader", "vectorbt"])
def test_the_hook_inside_the_running_framework_heard_what_the_framework_printed(name: str) -> None:
    made = MADE[name]
    for run, heard in made["in_process"].items():
        if name == "freqtrade":
            expected = made["expected"]["backtest-result.zip"][run]
            assert heard["rows"] == expected["exits"]
            if expected["exits"] > expected["trades"]:
                continue  # a scaled position is several exits here and one trade there
        else:
            expected = made["expected"][f"{run}.csv"]
            assert heard["rows"] == expected["trades"]
        assert (heard["longs"], heard["wins"]) == (expected["longs"], expected["wins"])
        assert heard["return_sum_pct"] == pytest.approx(expected["return_sum_pct"], rel=1e-9)


def test_inside_and_afterwards_the_same_is_heard() -> None:
    for hook, heard in (
        (backtrader_run(), MADE["backtrader"]["in_process"]["trades"]),
        (nautilus_run(), MADE["nautilus_trader"]["in_process"]["positions"]),
        (freqtrade_run("Cross"), MADE["freqtrade"]["in_process"]["Cross"]),
    ):
        returns = [trace.realized_return_pct for trace in hook.traces]
        assert (len(returns), sum(r > 0 for r in returns)) == (heard["rows"], heard["wins"])
        assert sum(returns) == pytest.approx(heard["return_sum_pct"], rel=1e-9)


def test_closes_reach_the_files_through_the_real_hook(tmp_path: Path) -> None:
    with TelemetryWriter(tmp_path, mode="backtest") as writer:
        hook = TelemetryHook(writer, {"Cross": 0.3})
        handle = nautilus_handler(hook, "Cross")
        for event in nautilus_events():
            handle(event)
        from_vectorbt(vectorbt_portfolio("trades.csv"), "Cross", "EURUSD", hook=hook)
        handle(type("PositionClosed", (), {})())  # an event without a single fact
    stats, expected = writer.stats(), MADE["vectorbt"]["expected"]["trades.csv"]["trades"]
    assert stats.written == MADE["nautilus_trader"]["expected"]["positions.csv"]["trades"] + expected
    assert sum(stats.failed.values()) == 1
    assert len(AccuracyAnalyzer().load_traces(tmp_path)) == stats.written


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_the_kept_exports_are_small_and_have_the_rows_that_their_note_says(case: Case) -> None:
    path = KEPT / case.framework / case.file
    assert path.stat().st_size <= 100_000
    if path.suffix == ".csv":
        rows = len(pd.read_csv(path))
    elif path.suffix == ".json":
        rows = len(json.loads(path.read_text())["trades"])
    elif path.suffix == ".sqlite":
        rows = sqlite3.connect(path).execute("select count(*) from trades").fetchone()[0]
    else:
        rows = len(list(freqtrade_trades(str(case.strategy))))
    assert rows == case.expected["rows"]


def test_only_names_that_the_hook_knows_are_handed_over() -> None:
    for hook in (backtrader_run(), nautilus_run(), freqtrade_run("CrossScaled")):
        assert {name for facts in hook.facts for name in facts} <= set(ClosedPosition._fields)
    assert known_facts({"symbol": "A", "direction": None}) == {"symbol": "A"}


def test_what_runs_inside_a_framework_loads_neither_it_nor_numpy_nor_pandas() -> None:
    code = "import sys, trade_telemetry.importers.live; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(loaded) & {"numpy", "pandas", "pyarrow", "scipy", "pydantic", *NAMES} == set()
