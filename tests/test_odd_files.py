"""Files as people have them, each a little different from those that everybody thinks of: the figures are those of pandas."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trade_telemetry.importers.import_trades import import_file
from trade_telemetry.store.store import load_columns

FIELDS = {
    "symbol": "sym", "direction": "side", "entry_time": "in", "exit_time": "out", "entry_price": "p1", "exit_price": "p2",
    "quantity": "qty", "realized_return_pct": "net",
}  # fmt: skip
TIMES = ["in", "out"]
Made = tuple[str | bytes, dict[str, Any]]


def trades(n: int = 12) -> pd.DataFrame:
    draw = np.random.default_rng(8)
    opened = pd.date_range("2025-03-03 10:00", periods=n, freq="37min")
    log = pd.DataFrame(
        {"sym": draw.choice(["ES", "NQ"], n), "side": draw.choice(["Buy", "Sell"], n), "in": opened}
    )
    log["out"], log["p1"] = log["in"] + pd.Timedelta("25min"), np.round(draw.uniform(90, 110, n), 2)
    log["p2"], log["qty"] = np.round(log.p1 * (1 + draw.normal(0, 0.01, n)), 2), draw.integers(1, 5, n)
    sign = np.where(log.side == "Buy", 1, -1)
    return log.assign(net=np.round(sign * (log.p2 / log.p1 - 1) * 100 - 0.02, 4))


LOG = trades()
SAID = LOG.astype(dict.fromkeys(TIMES, str))


def workbook(path: Path) -> None:
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"Account": ["x"]}).to_excel(book, sheet_name="Summary", index=False)
        LOG.to_excel(book, sheet_name="Trades", index=False, startrow=4)  # the rows above are empty


def serials(path: Path) -> None:
    days = {name: (LOG[name] - pd.Timestamp("1899-12-30")) / pd.Timedelta("1D") for name in TIMES}
    LOG.assign(**days).to_excel(path, index=False)


def database(path: Path) -> None:
    with sqlite3.connect(path) as base:
        SAID.to_sql("my trades", base, index=False)
        pd.DataFrame({"a": [1]}).to_sql("other", base, index=False)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("jan.csv", LOG.head(3).to_csv(index=False))
        packed.writestr("feb.csv", LOG.to_csv(index=False))
        packed.writestr("readme.md", "hello")


def nested() -> str:
    rows = [
        {"i": {"s": r.sym}, "side": r.side, "t": [int(o.timestamp()) * 1000, int(c.timestamp()) * 1000], "px": {"in": r.p1, "out": r.p2}, "net": r.net}
        for r, o, c in zip(LOG.itertuples(), LOG["in"], LOG["out"], strict=True)
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows))


TWINS = LOG[["sym", "side", "in", "p1", "out", "p2", "qty", "net"]].set_axis(["sym", "side", "Time", "Price", "Time", "Price", "qty", "net"], axis=1)  # fmt: skip
BY_TWINS = FIELDS | {
    "entry_time": "Time",
    "exit_time": "Time.1",
    "entry_price": "Price",
    "exit_price": "Price.1",
}
INSIDE = {
    "symbol": "i.s",
    "entry_time": "t[0]",
    "exit_time": "t[1]",
    "entry_price": "px.in",
    "exit_price": "px.out",
}
DATES = LOG.assign(**{name: pd.date_range(day, periods=len(LOG)).strftime("%Y%m%d") for name, day in zip(TIMES, ("2024-01-02", "2024-01-05"), strict=True)})  # fmt: skip
GROUPED = LOG.assign(**{name: [f"{100 * x:,.2f}" for x in LOG[name]] for name in ("p1", "p2")})
FILES: dict[str, tuple[str, str | bytes | Callable[[Path], None], dict[str, Any]]] = {
    "bars between the cells": ("log.txt", LOG.to_csv(sep="|", index=False), {}),
    "two byte order marks and tabs": ("log.csv", ("\ufeff" + LOG.to_csv(sep="\t", index=False)).encode("utf-16"), {}),
    "twin columns with commas": ("log.csv", TWINS.to_csv(index=False, sep=";", decimal=","), {"fields": BY_TWINS, "decimal": ","}),
    "days as numbers": ("log.csv", DATES.to_csv(index=False), {}),
    "days of a spreadsheet": ("log.xlsx", serials, {}),
    "a sheet below empty rows": ("log.xlsx", workbook, {"table": "Trades", "header_row": "sym"}),
    "the second table of a page": ("log.html", f"<html><table><tr><td>x</td></tr></table>{LOG.to_html(index=False)}</html>", {"header_row": "sym"}),
    "a table with a blank in its name": ("log.db", database, {"table": "my trades"}),
    "one of several in an archive": ("log.zip", archive, {"table": "feb.csv"}),
    "members with words of Python": ("log.jsonl", nested(), {"fields": {k: v for k, v in (FIELDS | INSIDE).items() if k != "quantity"}}),
    "columns of JSON": ("log.json", SAID.to_json(orient="columns"), {}),
    "split JSON": ("log.json", SAID.to_json(orient="split"), {}),
    "a section with a total below": ("log.csv", f"Report\n\nTrades\n{GROUPED.to_csv(index=False)}\n\nTotal,,,,,,,12\n", {"section": "Trades"}),
    "minus signs of typesetters": ("log.csv", LOG.assign(net=[f"{x:.4f}".replace("-", "\N{MINUS SIGN}") for x in LOG.net]).to_csv(index=False), {}),
    "lines that end as on an old Mac": ("log.csv", LOG.to_csv(index=False, lineterminator="\r"), {}),
    "losses in brackets with percent": ("log.csv", LOG.assign(net=[f"({-x:.4f} %)" if x < 0 else f"{x:.4f} %" for x in LOG.net]).to_csv(index=False), {}),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_a_file_of_an_unusual_form_has_the_figures_of_pandas(tmp_path: Path, what: str) -> None:
    name, content, told = FILES[what]
    if callable(content):
        content(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "map.yaml").write_text(json.dumps({"fields": FIELDS} | told))
    report = import_file(
        tmp_path / name, "mine", tmp_path / "t", map_file=tmp_path / "map.yaml", threshold_pct=0.3
    )
    columns, _ = load_columns(report.output_dir)
    assert (report.written, len(report.bad)) == (len(LOG), "total" in what)  # which is no trade, and said
    assert columns.return_pct.sum() == pytest.approx(LOG.net.sum(), abs=1e-9)
    assert sorted(columns.entry_price) == pytest.approx(sorted(100 * LOG.p1 if "section" in what else LOG.p1))


def test_partial_exits_of_two_accounts_newest_first_are_all_there(tmp_path: Path) -> None:
    """Twelve positions in each of two accounts, those of the first closed in two parts."""
    later = LOG.assign(out=LOG["out"] + pd.Timedelta("9min"), p2=np.round(LOG.p1 * 1.01, 2))
    later["net"] = np.round(np.where(later.side == "Buy", 1, -1) * (later.p2 / later.p1 - 1) * 100, 4)
    log = pd.concat([LOG.assign(acc="A"), later.assign(acc="A"), LOG.assign(acc="B")])
    log = log.assign(opened=2 * log.qty)
    (tmp_path / "map.yaml").write_text(
        json.dumps({"fields": FIELDS | {"account": "acc", "entry_quantity": "opened"}})
    )
    told: dict[str, Any] = {"map_file": tmp_path / "map.yaml", "threshold_pct": 0.3, "mode": "live"}
    for day, part in enumerate((log.sort_values("out").head(20), log.sort_values("out", ascending=False))):
        part.to_csv(tmp_path / f"{day}.csv", index=False)
        report = import_file(tmp_path / f"{day}.csv", "mine", tmp_path / "t", **told)
    columns, _ = load_columns(report.output_dir)
    assert (len(columns), report.known, len(set(columns.position_id.tolist()))) == (36, 20, 24)
    assert columns.return_pct.sum() == pytest.approx(log.net.sum(), abs=1e-9)
    assert report.notes == ()  # no position closes more than it opened


@pytest.mark.parametrize(("opened", "said"), [("opened", True), (None, False)])
def test_exits_above_the_units_opened_are_said_where_they_are_known(
    tmp_path: Path, opened: str | None, said: bool
) -> None:
    """The price of an exit changes between two imports: it stands beside the old one, which the log does not say any more."""
    fields = FIELDS | ({"entry_quantity": opened} if opened else {})
    (tmp_path / "map.yaml").write_text(json.dumps({"fields": fields}))
    told: dict[str, Any] = {"map_file": tmp_path / "map.yaml", "threshold_pct": 0.3, "mode": "live"}
    changed = LOG.assign(p2=LOG.p2.where(LOG.index != 3, np.round(LOG.p2 * 1.001, 2)), opened=LOG.qty).drop(
        columns="net"
    )
    for day, part in enumerate((LOG.assign(opened=LOG.qty).drop(columns="net"), changed.iloc[3:4])):
        part.to_csv(tmp_path / f"{day}.csv", index=False)
        fields.pop("realized_return_pct", None)
        (tmp_path / "map.yaml").write_text(json.dumps({"fields": fields}))
        report = import_file(tmp_path / f"{day}.csv", "mine", tmp_path / "t", **told)
    assert (
        any("the exits of 1 positions are more than what was opened" in note for note in report.notes) is said
    )
