"""What a desk of many strategies costs: a first look, a look of a second process, a look after one new trade; CPU seconds and memory.

python benchmarks/desk.py                       500 strategies, 250 days of backtest, 60 live days, five trades a day
python benchmarks/desk.py --strategies 50 --live-days 250

The first look draws no bars (it is the one that a page makes in a hurry); its answers are kept beside the bars, and every later
look, of this process or another, judges only strategies whose rows changed.
"""

from __future__ import annotations

import argparse
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
LOOK = """
import sys, time
from pathlib import Path
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import StateSource

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def look(name, hurry=True):
    began = time.process_time()
    source.read(Query(hurry=hurry))
    print(f"{name:36}{time.process_time() - began:>8.2f} s CPU{resident():>8.0f} MB", flush=True)

source = StateSource(Settings(telemetry_storage_path=Path(sys.argv[1])))
look(sys.argv[2])
live = sorted((Path(sys.argv[1]) / "live").glob("traces_*.csv"))[0]
last = live.read_text().rstrip("\\n").rpartition("\\n")[2].split(",")
for k in range(2):
    last[11] = f"{time.time_ns():016x}"[-16:]
    with live.open("a") as file:
        file.write(",".join(last) + "\\n")
    look("after one new trade")
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
        for what in ("first look, nothing is known", "a second process"):
            subprocess.run([sys.executable, "-c", LOOK, str(base), what], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
