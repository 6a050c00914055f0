"""Whatever was traded, written as a source writes it, comes out as it was: in either order, in either number form."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from trade_telemetry.importers.import_trades import import_file
from trade_telemetry.metrics.record import measure
from trade_telemetry.store.store import load_columns


@dataclass(frozen=True)
class Traded:
    direction: str
    opened: datetime
    closed: datetime
    entry: float
    exit: float
    quantity: int
    costs: float  # Money

    @property
    def points(self) -> float:
        return (self.exit - self.entry) * (1 if self.direction == "LONG" else -1)


def draw(seed: int, n: int = 60) -> list[Traded]:
    """Trades of two months, in ticks of a quarter, never two with the same times."""
    rng, found, when = random.Random(seed), list[Traded](), datetime(2025, 2, 3, 9, 30, tzinfo=UTC)
    for _ in range(n):
        when += timedelta(minutes=rng.randint(60, 2_000))
        entry = 5_000 + rng.randint(-400, 400) / 4
        ends = entry + rng.choice([-1, 1]) * rng.randint(4, 300) / 4
        closed = when + timedelta(minutes=rng.randint(1, 59))
        side, costs = rng.choice(["LONG", "SHORT"]), round(rng.uniform(1, 9), 2)
        found.append(Traded(side, when, closed, entry, ends, rng.randint(1, 5), costs))
    return found


Lines = list[list[str]]


def ninjatrader(trades: Iterable[Traded], comma: bool) -> Lines:
    """One row a trade, money with its sign, twelve hours or the French form."""

    def money(amount: float) -> str:
        digits = f"{abs(amount):,.2f}"
        digits = digits.replace(",", " ").replace(".", ",") + " $" if comma else f"${digits}"
        return f"({digits})" if amount < 0 else digits

    def number(value: float) -> str:
        return f"{value:,.2f}".replace(",", " ").replace(".", ",") if comma else f"{value:.2f}"

    form = "%d/%m/%Y %H:%M:%S" if comma else "%m/%d/%Y %I:%M:%S %p"
    head = "Trade number,Instrument,Account,Strategy,Market pos.,Qty,Entry price,Exit price,Entry time,Exit time,Entry name,Exit name,Profit,Commission"
    lines = [head.split(",")]
    for k, t in enumerate(trades, 1):
        times = [when.strftime(form) for when in (t.opened, t.closed)]
        net = t.points * 50 * t.quantity - t.costs
        lines.append([str(k), "ES 06-25", "Sim101", "mine", t.direction.capitalize(), str(t.quantity), number(t.entry),
                      number(t.exit), *times, "In", "Out", money(net), money(t.costs)])  # fmt: skip
    return lines


def tradingview(trades: Iterable[Traded], comma: bool) -> Lines:
    """Two rows a trade, the exit first."""
    head = "Trade number,Type,Date and time,Signal,Price USD,Size (qty),Net PnL USD,Net PnL %"
    lines = [head.split(",")]
    for k, t in enumerate(trades, 1):
        result = [f"{t.points * t.quantity:.2f}", f"{100 * t.points / t.entry:.4f}"]
        for kind, when, price in (("Exit", t.closed, t.exit), ("Entry", t.opened, t.entry)):
            cells = [f"{kind} {t.direction.lower()}", when.strftime("%Y-%m-%d %H:%M"), "Out"]
            lines.append([str(k), *cells, f"{price:g}", str(t.quantity), *result])
    return lines


def bybit(trades: Iterable[Traded], comma: bool) -> Lines:
    """The direction is that of the closing order, and there is one time."""
    head = "Contracts,Closing Direction,Qty,Entry Price,Exit Price,Closed P&L,Exit Type,Trade Time(UTC+0)"
    lines = [head.split(",")]
    for t in trades:
        closing = "Sell" if t.direction == "LONG" else "Buy"
        net = f"{t.points * t.quantity - t.costs:.6f}"
        lines.append(["BTCUSDT", closing, str(t.quantity), f"{t.entry:g}", f"{t.exit:g}", net, "Trade",
                      t.closed.strftime("%Y-%m-%d %H:%M:%S")])  # fmt: skip
    return lines


SOURCES: dict[str, tuple[Callable[[Iterable[Traded], bool], Lines], float]] = {
    "ninjatrader": (ninjatrader, 50.0),  # money of a point
    "tradingview": (tradingview, 0.0),  # states a return before costs here
    "bybit": (bybit, 1.0),
}


def write(path: Path, lines: Lines, newest_first: bool, rows_each: int, sign: str) -> None:
    head, *rows = lines
    trades = [rows[k : k + rows_each] for k in range(0, len(rows), rows_each)]
    ordered = [row for trade in (reversed(trades) if newest_first else trades) for row in trade]
    text = io.StringIO()
    csv.writer(text, delimiter=sign).writerows([head, *ordered])
    path.write_text(text.getvalue())


@pytest.mark.parametrize(
    ("source", "comma"),
    [("ninjatrader", False), ("ninjatrader", True), ("tradingview", False), ("bybit", False)],
)
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_figures_of_an_export_are_those_of_the_trades(
    source: str, comma: bool, newest_first: bool, seed: int, tmp_path: Path
) -> None:
    traded, (form, point) = draw(seed), SOURCES[source]
    path = tmp_path / f"{source}.csv"
    rows_each = 2 if source == "tradingview" else 1
    write(path, form(traded, comma), newest_first, rows_each, ";" if comma else ",")
    symbol = {"fields": {"symbol": "'ES'"}} if source == "tradingview" else {}
    report = import_file(path, "mine", tmp_path / "to", threshold_pct=0.1, timezone="UTC", **symbol)  # type: ignore[arg-type]
    assert (report.written, report.bad, report.odd) == (len(traded), [], [])

    columns, _ = load_columns(tmp_path / "to")
    order = np.argsort(columns.exit_us)
    expected = [100 * (t.points - (t.costs / (point * t.quantity) if point else 0)) / t.entry for t in traded]
    assert columns.return_pct[order] == pytest.approx(expected, abs=6e-5)
    assert columns.entry_price[order].tolist() == [t.entry for t in traded]
    assert columns.exit_price[order].tolist() == [t.exit for t in traded]
    assert columns.quantity[order].tolist() == [t.quantity for t in traded]
    assert (columns.predicted[order] == 0).tolist() == [t.direction == "LONG" for t in traded]
    closed = [t.closed for t in traded]
    assert columns.exit_us[order].tolist() == [int(when.timestamp()) * 1_000_000 for when in closed]
    opened = closed if source == "bybit" else [t.opened for t in traded]  # it does not export the opening
    assert columns.entry_us[order].tolist() == [int(when.timestamp()) * 1_000_000 for when in opened]

    found = measure(columns, zero_division=float("nan"))
    assert found.win_rate == pytest.approx(np.mean(np.array(expected) > 0))
    assert found.cumulative_return_pct == pytest.approx(sum(expected), abs=6e-5 * len(traded))


def test_an_export_in_either_order_is_the_same_trades(tmp_path: Path) -> None:
    """A second export, newest first, brings nothing new."""
    traded = draw(4)
    for k, newest_first in enumerate((False, True)):
        path = tmp_path / f"{k}.csv"
        write(path, ninjatrader(traded, False), newest_first, 1, ",")
        report = import_file(path, None, tmp_path / "to", threshold_pct=0.1, timezone="UTC", mode="live")
        assert (report.written, report.known) == ((0, len(traded)) if k else (len(traded), 0))
