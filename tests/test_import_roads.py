"""An import by column writes the bytes that an import row by row writes: files of all kinds, both roads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trade_telemetry.capture.line_format import slow_line
from trade_telemetry.importers import imported_rows, presets, tally
from trade_telemetry.importers.import_trades import ImportReport, import_file
from trade_telemetry.importers.row_ids import RowIds
from trade_telemetry.trace import PredictionTrace

NAMES = (
    "sym",
    "side",
    "opened",
    "closed",
    "bought",
    "sold",
    "units",
    "net",
    "fees",
    "lev",
    "why",
    "sure",
    "acc",
    "extra",
)
FIELDS = {
    "symbol": "sym", "direction": "side", "entry_time": "opened", "exit_time": "closed", "entry_price": "bought",
    "exit_price": "sold", "quantity": "units", "realized_return_pct": "net", "fees_pct": "fees", "leverage": "lev",
    "exit_reason": "why", "confidence": "sure", "account": "acc", "metadata": {"note": "extra"},
}  # fmt: skip


@contextmanager
def row_by_row() -> Iterator[None]:
    """The import as it would be without columns: one call for each row and each cell."""

    def read_column(
        name: str, cell: Callable[[Any], Any], rows: Sequence[Any], how: Callable[[Any], Any], faults: dict[int, str], quick: Any = None
    ) -> list[Any]:  # fmt: skip
        found: list[Any] = []
        for i, row in enumerate(rows):
            value = None
            try:
                value = how(cell(row))
            except ZeroDivisionError:
                faults.setdefault(i, f"{name} divides by zero")
            except (ValueError, ArithmeticError) as error:
                faults.setdefault(i, f"{name} {error}")
            found.append(value)
        return found

    def traces(facts: Mapping[str, Sequence[Any]], limits: Mapping[str, float]) -> list[Any]:
        return list(imported_rows.one_by_one(facts, range(len(facts["symbol"])), limits))

    def lines(traces: Sequence[PredictionTrace], form: Any) -> list[bytes]:
        return [slow_line(t, t.trace_id, t.position_id, form) for t in traces]

    def name(self: RowIds, traces: Sequence[PredictionTrace]) -> None:
        for trace in traces:
            self.name(trace, self.position(trace, ""))

    def plain(rows: Sequence[Any], plan: presets.Plan) -> list[Any]:
        return [presets.plain_row(row, plan) for row in rows]

    with (
        patch.object(imported_rows, "read_column", read_column),
        patch.object(imported_rows, "traces_by_column", traces),
        patch.object(tally, "lines_of_many", lines),
        patch.object(RowIds, "name_by_content", name),
        patch.object(presets, "plain_rows", plain),
    ):
        yield


def written(folder: Path, report: ImportReport) -> dict[str, Any]:
    """Everything that an import leaves, without the names of this moment."""
    run = report.output_dir
    tables = {p.name.split("_2")[0]: p.read_bytes() for p in run.iterdir() if p.suffix in (".csv", ".tsv")}
    [record] = run.glob("run_*.json")
    content = json.loads(record.read_text())
    counters = {name: n for name, n in content["counters"].items() if not name.startswith("write_seconds")}
    notes = [note.replace(str(run), "").split("odd_rows")[0] for note in report.notes]
    facts = content["import"] | {"notes": notes}
    first = [t.to_dict() for t in report.first]
    return {
        "tables": tables,
        "counters": counters,
        "facts": facts,
        "bad": report.bad,
        "odd": report.odd,
        "first": first,
    }


def both(folder: Path, log: Path, **told: Any) -> tuple[Any, Any]:
    """What the two roads leave, or the line that stops them."""

    def one(where: Path) -> Any:
        try:
            return written(where, import_file(log, "mine", where, **told))
        except ValueError as error:
            return str(error)

    with row_by_row():
        slow = one(folder / "rows")
    return one(folder / "columns"), slow


ODD = [
    "",
    " ",
    "-",
    "nan",
    "n/a",
    "NA",
    "?",
    "1,234",
    "1_0",
    "inf",
    "0",
    "-1",
    '"',
    "ü",
    "\N{MINUS SIGN}3",
    "x" * 50,
]
PRICES = st.one_of(
    st.floats(0.5, 2000).map(lambda x: f"{x:.2f}"),
    st.sampled_from(["100", "$1,234.50", "(2.00)", "1e-3", *ODD]),
)
TIMES = st.sampled_from(["2025-03-03 10:00", "2025-03-03T11:00:00+01:00", "1741000000", "2024-11-03 01:10", "1987-10-19 10:00", "20250303", *ODD])  # fmt: skip
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["ES", "NA", "BTC/USDT", "", 'a "b", c']), st.sampled_from(["LONG", "short", "b", "sell", "0", "?"]),
        TIMES, TIMES, PRICES, PRICES, st.sampled_from(["1", "2.5", "", "?"]),
        st.one_of(st.floats(-5, 5).map(lambda x: f"{x:.3f}"), st.sampled_from(ODD)), st.sampled_from(["0.1", "", "0"]),
        st.sampled_from(["1", "", "3", "0", "-2"]), st.sampled_from(["stop", "", "line\nfeed"]),
        st.sampled_from(["0.5", "", "1"]), st.sampled_from(["a", "", "b"]), st.sampled_from(["", "7", "true", "text"]),
    ),
    min_size=1, max_size=30,
)  # fmt: skip


@pytest.mark.parametrize("clock", ["UTC", "America/New_York"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, clean=st.integers(0, 25), trust=st.booleans())
def test_any_log_leaves_the_same_bytes_by_column_as_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, clock: str, rows: list[tuple[str, ...]], clean: int, trust: bool
) -> None:
    folder = tmp_path_factory.mktemp("roads")
    plain = (
        "ES",
        "LONG",
        "2025-03-03 10:00",
        "2025-03-03 11:00",
        "100.00",
        "101.00",
        "1",
        "1.0",
        "",
        "1",
        "stop",
        "0.5",
        "a",
        "7",
    )
    log, chart = folder / "log.csv", folder / "map.yaml"
    with log.open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *[plain] * clean, *rows])
    chart.write_text(json.dumps({"fields": FIELDS, "timezone": clock}))
    fast, slow = both(folder, log, map_file=chart, threshold_pct=0.3, trust=trust)
    assert fast == slow


NINJA = "Trade number,Instrument,Account,Strategy,Market pos.,Qty,Entry price,Exit price,Entry time,Exit time,Entry name,Exit name,Profit,Cum. net profit,Commission,MAE,MFE,"
MONEY = st.one_of(
    st.floats(-5000, 5000).map(lambda x: f"${x:,.2f}" if x >= 0 else f"(${-x:,.2f})"),
    st.sampled_from(["$0", "", "soon", "12.5", "1,000"]),
)
CLOCK = st.tuples(
    st.integers(1, 12),
    st.integers(1, 28),
    st.integers(1, 12),
    st.integers(0, 59),
    st.sampled_from(["AM", "PM"]),
)
WHEN = st.one_of(
    CLOCK.map(lambda t: f"{t[0]}/{t[1]}/2025 {t[2]}:{t[3]:02}:00 {t[4]}"),
    st.sampled_from(["", "3/13/2025 13:00:00 PM"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 6).map(str), st.sampled_from(["ES", "NQ", ""]), st.sampled_from(["A", "B"]), st.sampled_from(["s", ""]),
            st.sampled_from(["Long", "Short", "?"]), st.sampled_from(["1", "2", "0"]), PRICES, PRICES, WHEN, WHEN,
            st.just("In"), st.just("Out"), MONEY, MONEY, MONEY, MONEY, MONEY, st.just(""),
        ),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_a_recognized_log_leaves_the_same_bytes_by_column_as_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("known")
    log = folder / "trades.csv"
    sure = "1,ES,A,s,Long,1,5000.00,5010.00,3/13/2025 9:30:00 AM,3/13/2025 9:45:00 AM,In,Out,$500.00,$500.00,$0.00,$10.00,$20.00,\n"
    with log.open("w", newline="") as file:
        file.write(f"{NINJA}\n{sure}")
        csv.writer(file).writerows(rows)
    fast, slow = both(folder, log, timezone="America/Chicago", threshold_pct=0.3, trust=True)
    assert fast == slow
