"""Files of any kind become the rows that pandas wrote into them; a broken file costs what is broken and nothing else."""

from __future__ import annotations

import csv
import gzip
import io
import sqlite3
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trade_telemetry.importers.log_files import read_trades
from trade_telemetry.importers.trade_map import ImportMapError, ReadOptions

TABLE = pd.DataFrame({
    "symbol": ["NAN", "NULL", "NA", "ES 03-25"], "note": ["", 'he said "no"', "a\nb", "ü; x"], "price": [1.5, -2.25, 1e-7, 12345678.5],
})  # fmt: skip

PAGE = TABLE.replace({"note": {"a\nb": "a b"}}).to_html(index=False)


def pages(path: Path) -> None:
    path.write_text(f"<html><body><table><tr><td>menu</td></tr></table>{PAGE}", "utf-16")


def base(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        TABLE.to_sql("closed", connection, index=False)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("x/log.csv", TABLE.to_csv(index=False))
        packed.writestr("__MACOSX/log.csv", "junk")
        packed.writestr("readme.md", "junk")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda p: TABLE.to_csv(p, index=False),
    "b.csv": lambda p: TABLE.to_csv(p, index=False, sep=";", encoding="utf-8-sig", quoting=csv.QUOTE_ALL),
    "c.txt": lambda p: TABLE.to_csv(p, index=False, sep="\t", encoding="utf-16"),
    "d.tsv": lambda p: TABLE.to_csv(p, index=False, sep="\t", lineterminator="\r\n"),
    "e.csv.gz": lambda p: TABLE.to_csv(p, index=False),
    "f.zip": archive,
    "g.json": lambda p: TABLE.to_json(p, orient="records"),
    "h.json": lambda p: TABLE.to_json(p, orient="columns"),
    "i.json": lambda p: TABLE.to_json(p, orient="split"),
    "j.json": lambda p: TABLE.to_json(p, orient="records", indent=2),
    "k.jsonl": lambda p: TABLE.to_json(p, orient="records", lines=True),
    "l.jsonl.gz": lambda p: TABLE.to_json(p, orient="records", lines=True),
    "m.parquet": lambda p: TABLE.to_parquet(p),
    "n.xlsx": lambda p: TABLE.to_excel(p, index=False),
    "o.html": pages,
    "p.xls": pages,
    "q.sqlite": base,
    "r.db": base,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_what_pandas_writes_comes_back(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    columns, rows = read_trades(tmp_path / name)
    got = [row for _, row in rows]
    assert columns == list(TABLE.columns)
    flat = "html" in name or "xls" in name  # pages have no line breaks, a workbook no empty text
    for row, expected in zip(got, TABLE.to_dict("records"), strict=True):
        assert not isinstance(row, str)
        assert row["symbol"] == expected["symbol"]
        assert (
            (row["note"] or "").split() == expected["note"].split()
            if flat
            else row["note"] == expected["note"]
        )
        assert float(row["price"]) == pytest.approx(
            expected["price"], rel=1e-6 if name.endswith("json") or flat else 1e-12, abs=1e-8
        )


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]), st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
@example([["\x0c", "", ""]], ",", "utf-8", "\n")  # a row of blanks only, once kept
def test_any_table_comes_back_with_its_true_lines(
    table: list[list[str]], sign: str, encoding: str, end: str
) -> None:
    text, starts = io.StringIO(), []
    writer = csv.writer(text, delimiter=sign, lineterminator=end)
    for cells in [["first", "second", "third"], *table]:
        starts.append(len(io.StringIO(text.getvalue(), newline="").readlines()) + 1)
        writer.writerow(cells)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.csv")
        path.write_bytes(text.getvalue().encode(encoding))
        columns, rows = read_trades(path, delimiter=sign)
        found = [(line, list(row.values()) if not isinstance(row, str) else row) for line, row in rows]
    assert columns == ["first", "second", "third"]
    expected = [
        (line, cells) for line, cells in zip(starts[1:], table, strict=True) if any(map(str.strip, cells))
    ]
    assert found == expected


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(WRITERS)), st.floats(0, 1), st.binary(max_size=20), st.booleans())
def test_a_torn_or_damaged_file_gives_rows_reasons_or_one_line(
    name: str, where: float, junk: bytes, cut: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        WRITERS[name](path)
        data = path.read_bytes()
        at = int(where * len(data))
        path.write_bytes(data[:at] + junk + (b"" if cut else data[at + len(junk) :]))
        try:
            _, rows = read_trades(path)
            for line, row in rows:
                assert isinstance(line, int)
                assert isinstance(row, str) or hasattr(row, "keys")
        except ImportMapError as error:
            assert path.name.removesuffix(".gz") in str(error) or "log.csv" in str(error)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(
        [
            "x.csv",
            "x.json",
            "x.jsonl",
            "x.parquet",
            "x.xlsx",
            "x.html",
            "x.sqlite",
            "x.zip",
            "x.txt",
            "x",
            "x.csv.gz",
        ]
    ),
)
def test_any_bytes_under_any_name_give_no_traceback(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(data)
        try:
            list(read_trades(Path(folder, name))[1])
        except ImportMapError as error:
            assert name in str(error)


@pytest.mark.parametrize(
    ("library", "name"), [("openpyxl", "n.xlsx"), ("lxml", "o.html"), ("pyarrow", "m.parquet")]
)
def test_a_missing_library_is_a_line_that_says_what_to_install(library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    WRITERS[name](tmp_path / name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportMapError, match=rf"need[s]? {library}: install trade_telemetry\[import\]"):
        read_trades(tmp_path / name)


def test_a_database_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "bot's db.sqlite"
    base(path)
    with closing(sqlite3.connect(path)) as running:
        running.execute("pragma journal_mode=wal")
        running.execute("insert into closed values ('X', '', 1)")
        running.commit()
        before = path.read_bytes()
        assert len(list(read_trades(path)[1])) == len(TABLE) + 1
        assert path.read_bytes() == before


def test_the_positions_of_a_terminal_s_page_are_found_among_its_tables(tmp_path: Path) -> None:
    """Cells that are not shown, titles over columns, sections below each other, as MetaTrader 5 has them."""
    head = [
        "Time",
        "Position",
        "Symbol",
        "Type",
        "",
        "Volume",
        "Price",
        "S / L",
        "T / P",
        "Time",
        "Price",
        "Commission",
        "Swap",
        "Profit",
    ]
    row = [
        "2025.03.03 10:00:00",
        "77",
        "EURUSD",
        "buy",
        "",
        "0.10",
        "1.0841",
        "",
        "",
        "2025.03.03 12:00:00",
        "1.0862",
        "- 0.08",
        "0.00",
        "1 021.00",
    ]

    def tr(cells: list[str]) -> str:
        shown = [
            f'<td class="hidden" colspan="8">{c}</td>'
            if k == 4
            else f"<td{' colspan=2' * (k == 13)}><b>{c}</b></td>"
            for k, c in enumerate(cells)
        ]
        return f"<tr>{''.join(shown)}</tr>"

    def title(text: str) -> str:
        return f'<tr><th colspan="14"><div>{text}</div></th></tr>'

    orders = "<tr><td>Open Time</td><td>Order</td><td>Symbol</td></tr><tr><td>2025.03.03 10:00:00</td><td>5</td><td>EURUSD</td></tr>"
    page = (
        "<html><table><tr><td>Name:</td><td>J. Doe</td></tr></table><table>"
        + title("Positions")
        + tr(head)
        + tr(row)
        + tr(row)
        + title("Orders")
        + orders
    )
    (tmp_path / "report.html").write_text(page, "utf-16")
    columns, rows = read_trades(tmp_path / "report.html", options=ReadOptions(section="Positions"))
    found = [row for _, row in rows]
    assert columns == [
        "Time",
        "Position",
        "Symbol",
        "Type",
        "Volume",
        "Price",
        "S / L",
        "T / P",
        "Time.1",
        "Price.1",
        "Commission",
        "Swap",
        "Profit",
    ]
    assert len(found) == 2
    assert not isinstance(found[0], str)
    assert [found[0][c] for c in ("Time.1", "Price", "Price.1", "Commission", "Profit")] == [
        "2025.03.03 12:00:00",
        "1.0841",
        "1.0862",
        "- 0.08",
        "1 021.00",
    ]


def test_rows_that_end_in_a_comma_keep_their_columns(tmp_path: Path) -> None:
    """pandas would take the first column for an index and shift all others by one."""
    (tmp_path / "nt.csv").write_text(
        "Trade number,Instrument,Profit\n1,ES 03-25,($250.00),\n2,NQ 03-25,$1100.00,\n3,NQ\n"
    )
    _, rows = read_trades(tmp_path / "nt.csv")
    assert [row if isinstance(row, str) else row["Instrument"] for _, row in rows] == [
        "ES 03-25",
        "NQ 03-25",
        "expected 3 columns, got 2",
    ]


def test_a_packed_freqtrade_result_is_one_table(tmp_path: Path) -> None:
    result = '{"strategy": {"A": {"trades": [{"pair": "X"}]}, "B": {"trades": [{"pair": "Y"}]}}}'
    with zipfile.ZipFile(tmp_path / "backtest-result-2025.zip", "w") as packed:
        for name, text in {"": result, "_config": "{}", "_A": '{"x": 1}'}.items():
            packed.writestr(f"backtest-result-2025{name}.json", text)
        packed.writestr("backtest-result-2025_A.py", "pass")
    columns, rows = read_trades(tmp_path / "backtest-result-2025.zip", "strategy.*.trades")
    assert (columns, [row for _, row in rows]) == (
        ["*", "pair"],
        [{"*": "A", "pair": "X"}, {"*": "B", "pair": "Y"}],
    )


def test_a_torn_archive_of_lines_gives_what_it_holds(tmp_path: Path) -> None:
    lines = b"".join(b'{"symbol": "S%d"}\n' % (k * 7919 % 10007) for k in range(5000))
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
    *rows, (_, last) = read_trades(tmp_path / "log.jsonl.gz")[1]
    assert 1000 < len(rows) < 5000
    assert str(last).startswith("cannot be read")


def test_reading_costs_no_more_than_twice_the_plain_reader_of_python(tmp_path: Path) -> None:
    """A million rows have to be read in seconds: what judges and accounts for lines must be cheap for each."""
    path, times = tmp_path / "log.csv", dict[str, list[float]]()
    names = [f"column {k}" for k in range(12)]
    path.write_text(
        "\n".join(",".join(cells) for cells in [names, *[[str(k * 1.5) for k in range(12)]] * 40_000])
    )

    def plain() -> int:
        with path.open(newline="") as handle:
            return sum(1 for _ in csv.DictReader(handle))

    for _ in range(3):
        for who, read in {"plain": plain, "ours": lambda: sum(1 for _ in read_trades(path)[1])}.items():
            start = time.process_time()
            assert read() == 40_000
            times.setdefault(who, []).append(time.process_time() - start)
    assert min(times["ours"]) < 2 * min(times["plain"])
