"""What a desk of many strategies costs: a first look, a look of a second process, a look after one new trade, the page; CPU and memory.

python benchmarks/desk.py                       500 strategies, 250 days of backtest, 60 live days, five trades a day
python benchmarks/desk.py --strategies 50 --live-days 250

The first look draws no bars (it is the one that a page makes in a hurry); its answers are kept beside the bars, and every later
look, of this process or another, judges only strategies whose rows changed. The page is that of the notebook `dashboard`, all its
widgets made and refreshed; kilobytes are those of the messages that a refresh sends to the browser.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.testing import simulate_columns
from trade_telemetry.trace import DIRECTIONS

HEADER = (
    "timestamp,symbol,strategy,predicted_direction,actual_direction,predicted_confidence,entry_price,exit_price,"
    "holding_period_minutes,realized_return_pct,exit_timestamp,trace_id,sample_rate,mode,exit_reason,features_json,metadata_json"
)
PAGE = Path(__file__).parents[1] / "nbs" / "dashboard.ipynb"
LOOK = """
import json, os, sys, time
from pathlib import Path
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.memory import give_back
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import StateSource

base, what = Path(sys.argv[1]), sys.argv[2]
sent = []

def memory():
    kinds = ("Rss:", "Private_Clean:", "Private_Dirty:")
    told = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    kb = {words[0]: int(words[1]) for words in told if words[0] in kinds}
    return kb["Rss:"] / 1000, (kb["Private_Clean:"] + kb["Private_Dirty:"]) / 1000

def timed(name, do):
    sent.clear()
    began, start = time.process_time(), time.perf_counter()
    do()
    cpu, wall = time.process_time() - began, time.perf_counter() - start
    rss, uss = memory()
    size = f"{sum(sent) / 1000:>8.0f} kB" if sent else ""
    print(f"{name:38}{cpu:>7.2f} s CPU{wall:>7.2f} s wall{rss:>6.0f} MB RSS{uss:>6.0f} MB USS{size}", flush=True)

def one_more():
    live = sorted((base / "live").glob("traces_*.csv"))[0]
    with live.open("rb") as file:
        file.seek(-2000, os.SEEK_END)
        last = file.read().decode().rstrip("\\n").rpartition("\\n")[2].split(",")
    last[11] = f"{time.time_ns():016x}"[-16:]
    with live.open("a") as file:
        file.write(",".join(last) + "\\n")

def page():
    import ipywidgets
    cells = json.loads(Path(sys.argv[3]).read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    ipywidgets.Widget._send = lambda self, message, buffers=None: sent.append(
        len(json.dumps(message, default=str)) + sum(map(len, buffers or ())))
    desk, shown = names["desk"], names["dashboard"]
    desk._on_message(desk.widget, {"type": "since", "version": 0}, [])  # as a browser asks

    def refresh():
        before = desk.widget.version
        shown.refresh()
        if desk.widget.version != before:
            desk._on_message(desk.widget, {"type": "since", "version": before}, [])

    return refresh

if what == "page":
    kept = []
    timed("the page with all widgets", lambda: kept.append(page()))
    do = kept[0]
else:
    source = StateSource(Settings(telemetry_storage_path=base))
    do = lambda: source.read(Query(hurry=True))
    timed(what, do)
timed("nothing new", do)
for _ in range(2):
    one_more()
    timed("after one new trade", do)
give_back()
timed("nothing new, memory given back", do)
"""


def write(path: Path, rows: TraceColumns, mode: str) -> None:
    "Write rows as a file of traces."
    path.parent.mkdir(parents=True, exist_ok=True)
    entry, exit_ = (
        np.datetime_as_string(us.astype("datetime64[us]"), unit="us").tolist()
        for us in (rows.entry_us, rows.exit_us)
    )
    lines = [HEADER]
    for k in range(len(rows)):
        called, actual = DIRECTIONS[rows.predicted[k]], DIRECTIONS[rows.actual[k]]
        lines.append(
            f"{entry[k]}+00:00,{rows.symbols[rows.symbol[k]]},{rows.strategies[rows.strategy[k]]},{called},{actual},{rows.confidence[k]:.4f},"
            f"{rows.entry_price[k]},{rows.exit_price[k]},{rows.holding_minutes[k]},{rows.return_pct[k]},{exit_[k]}+00:00,{int(rows.trace_id[k]):016x},1.0,{mode},time,{{}},{{}}"
        )
    path.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strategies", type=int, default=500)
    parser.add_argument("--live-days", type=int, default=60)
    args = parser.parse_args()
    names = [f"s{k:03}" for k in range(args.strategies)]
    today = datetime.now(UTC).replace(hour=14, minute=35, second=0, microsecond=0)
    begin = today - timedelta(weeks=args.live_days // 5 + 1, days=today.weekday())
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        past = simulate_columns(250, 5.0, 0.6, strategies=names, start=begin - timedelta(weeks=60))
        live = simulate_columns(args.live_days, 5.0, 0.6, strategies=names, mode="live", start=begin, seed=1)
        write(base / "backtest_1" / "traces_desk_0.csv", past, "backtest")
        write(base / "live" / "traces_desk_0.csv", live, "live")
        print(f"{len(names)} strategies, {len(past) + len(live):,} rows")
        where = {**os.environ, "TELEMETRY_STORAGE_PATH": str(base)}
        for what in ("first look, nothing is known", "a second process", "page"):
            subprocess.run([sys.executable, "-c", LOOK, str(base), what, str(PAGE)], check=True, env=where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
