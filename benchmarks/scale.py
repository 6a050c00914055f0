"""What grows with the number of rows: trace files with and without states, a lake, executors; DuckDB and polars beside, all in one run.

python benchmarks/scale.py                          a million rows and ten million
python benchmarks/scale.py --rows 1000000           a million alone
python benchmarks/scale.py --rows 100000000         a hundred million, as a lake alone (2 GB of Parquet)

Every line is a process of its own: CPU of it and its children, what they import included, wall beside it, the largest resident memory of
it or of one of its children, and the files of the directory that it opened in Python. Ratios are against floors of the same run:
`pyarrow.csv.read_csv` and `pyarrow.parquet.read_table` of the columns that the package reads. DuckDB and polars group by the same key and
add up returns, their squares and confidences, in floats and without histograms and positions: less than what a state holds. Wall
times are those of the machine as it is at the time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

BACKTEST, LIVE_ROWS, NEW_YEAR_2024, LAKE_ONLY = "backtest_20250101_000000", 20_000, 19_723, 50_000_000
KEY = ("strategy", "version", "account", "symbol", "day", "predicted_direction", "actual_direction")
READ = (
    "timestamp", "symbol", "strategy", "predicted_direction", "actual_direction", "predicted_confidence", "entry_price", "exit_price",
    "holding_period_minutes", "realized_return_pct", "exit_timestamp", "trace_id", "sample_rate", "mode", "label_threshold_pct",
    "exit_reason", "quantity", "fees_pct", "slippage_pct", "position_id", "account", "version",
)  # fmt: skip
SUMS = (
    "count(*) n, count_if(realized_return_pct > 0) wins, sum(realized_return_pct) r, sum(realized_return_pct * realized_return_pct) rr, "
    "sum(fees_pct) f, sum(slippage_pct) s, sum(holding_period_minutes) h, sum(predicted_confidence) p"
)


# What is measured: each a process of its own, given a folder and a word.


def csv_files(base: Path) -> list[str]:
    return sorted(map(str, (base / "desk" / BACKTEST).glob("traces_*.csv")))


def nothing(base: Path) -> object:
    "What a process costs that does nothing."
    return 0


def floor_csv(base: Path) -> object:
    import pyarrow.csv as pc

    options = pc.ConvertOptions(include_columns=list(READ))
    return sum(
        pc.read_csv(p, read_options=pc.ReadOptions(use_threads=False), convert_options=options).num_rows
        for p in csv_files(base)
    )


def floor_parquet(base: Path) -> object:
    import pyarrow.parquet as pq

    return sum(
        pq.read_table(p, columns=list(READ), use_threads=False).num_rows
        for p in sorted((base / "lake").rglob("*.parquet"))
    )


def rows_of(path: Path) -> object:
    from trade_telemetry.store.store import TraceStore

    store = TraceStore(path)
    store.refresh()
    return len(store.columns)


def rows_csv(base: Path) -> object:
    return rows_of(base / "desk")


def rows_lake(base: Path) -> object:
    return rows_of(base / "lake")


def states(base: Path) -> object:
    from trade_telemetry.scale.folded_store import FoldedStore

    store = FoldedStore(base / "desk")
    store.refresh()
    return len(store.columns)


def desk(base: Path) -> object:
    "The first look of the page that shows the whole desk."
    from trade_telemetry.config import Settings
    from trade_telemetry.dashboard.query import Query
    from trade_telemetry.dashboard.state import StateSource

    source = StateSource(Settings(telemetry_storage_path=base / "desk"))
    return source.read(Query(hurry=True))["rows"]["loaded"]


def verb(base: Path, *words: str) -> object:
    from trade_telemetry.cli.main import main

    with redirect_stdout(StringIO()) as said:
        main([*words, "--telemetry-dir", str(base / "desk"), "--json"])
    return len(said.getvalue()) > 0


def empty_check(base: Path) -> object:
    "What the verb costs that has nothing to judge, its imports above all."
    (base / "empty" / "desk").mkdir(parents=True, exist_ok=True)
    return verb(base / "empty", "check")


def empty_desk(base: Path) -> object:
    (base / "empty" / "desk").mkdir(parents=True, exist_ok=True)
    return desk(base / "empty")


def check(base: Path) -> object:
    return verb(base, "check")


def judge(base: Path) -> object:
    return verb(base, "judge")


def metrics(base: Path) -> object:
    return verb(base, "metrics", "--run", BACKTEST)


def folded(base: Path, pool: Any) -> object:
    "Fold all files; the digest must be that of every other executor."
    from trade_telemetry.scale.fold_files import fold_files
    from trade_telemetry.scale.state import state_digest
    from trade_telemetry.store.files import find_files

    with pool:
        found, _ = find_files([base / "desk" / BACKTEST])
        return state_digest(fold_files({"backtest": found}, pool).state)


def fold_local(base: Path) -> object:
    from trade_telemetry.scale.executors import local_pool

    return folded(base, local_pool())


def fold_processes(base: Path) -> object:
    from trade_telemetry.scale.executors import ProcessPool

    return folded(base, ProcessPool(2))


def fold_dask_1(base: Path) -> object:
    from trade_telemetry.scale.dask_pool import DaskPool

    return folded(base, DaskPool(workers=1))


def fold_dask_2(base: Path) -> object:
    from trade_telemetry.scale.dask_pool import DaskPool

    return folded(base, DaskPool(workers=2))


def fold_lake(base: Path) -> object:
    "Fold the lake, a part at a time, and keep its states; once they are there, open them."
    return states_lake(base)


def states_lake(base: Path) -> object:
    from trade_telemetry.scale.folded_store import FoldedStore

    store = FoldedStore(base / "lake")
    store.refresh()
    return len(store.columns)


def metrics_lake(base: Path) -> object:
    return verb(base, "metrics", "--run", BACKTEST, "--lake", str(base / "lake"))


def duckdb_csv(base: Path) -> object:
    import duckdb

    with duckdb.connect(config={"threads": 2}) as connection:
        days = f"SELECT *, exit_timestamp::DATE AS day FROM read_csv('{base}/desk/{BACKTEST}/*.csv', all_varchar = false)"
        return len(
            connection.execute(f"SELECT {', '.join(KEY)}, {SUMS} FROM ({days}) GROUP BY ALL").fetchall()
        )


def duckdb_lake(base: Path) -> object:
    import duckdb

    with duckdb.connect(config={"threads": 2}) as connection:
        days = f"SELECT *, exit_timestamp::DATE AS day FROM read_parquet('{base}/lake/kind=*/**/*.parquet', hive_partitioning = false)"
        return len(
            connection.execute(f"SELECT {', '.join(KEY)}, {SUMS} FROM ({days}) GROUP BY ALL").fetchall()
        )


def polars_sums(frame: Any) -> object:
    import polars as pl

    r, day = pl.col("realized_return_pct"), pl.col("exit_timestamp")
    days = day.str.slice(0, 10) if frame.collect_schema()["exit_timestamp"] == pl.String else day.dt.date()
    sums = [pl.len(), (r > 0).sum().alias("w"), r.sum(), (r * r).sum().alias("rr")]
    sums += [
        pl.col(name).sum()
        for name in ("fees_pct", "slippage_pct", "holding_period_minutes", "predicted_confidence")
    ]
    return frame.with_columns(day=days).group_by(*KEY).agg(*sums).collect(engine="streaming").height


def polars_csv(base: Path) -> object:
    import polars as pl

    return polars_sums(pl.scan_csv(csv_files(base)))


def polars_lake(base: Path) -> object:
    import polars as pl

    return polars_sums(pl.scan_parquet(str(base / "lake" / "**" / "*.parquet"), hive_partitioning=False))


# The process that measures one of them.


def measured(call: Callable[[Path], object], base: Path) -> dict[str, Any]:
    "Cost of a call: CPU with children, wall, largest memory, files opened."
    opened = 0

    def note(event: str, args: tuple[Any, ...]) -> None:
        nonlocal opened
        opened += event == "open" and isinstance(args[0], str) and args[0].startswith(str(base))

    sys.addaudithook(note)
    own, wall = time.process_time(), time.perf_counter()
    gave = call(base)
    wall, own = time.perf_counter() - wall, time.process_time() - own
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own_peak = next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return {
        "cpu": own + children.ru_utime + children.ru_stime, "wall": wall, "peak_mb": max(own_peak, children.ru_maxrss) / 1024,
        "opened": opened, "gave": gave,
    }  # fmt: skip


def measure(name: str, base: Path) -> dict[str, Any]:
    "Have another process measure."
    words = [sys.executable, str(Path(__file__).resolve()), "--child", name, str(base)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"POLARS_MAX_THREADS": "2"})
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# The tables.

Lines = dict[str, dict[str, Any]]
LEFT_OUT = set[str]()  # Names that nobody asked for


def table(title: str, rows: int, names: dict[str, str], base: Path) -> Lines:
    "Measure some, and print a line each as soon as it is there."
    print(f"\n{title}\n{'':44}{'CPU s':>9}{'wall s':>9}{'µs/row':>9}{'peak MB':>9}{'opened':>8}", flush=True)
    found = {}
    for name, words in names.items():
        if name in LEFT_OUT:
            continue
        own = found[name] = measure(name, base)
        each = 1e6 * own["cpu"] / rows
        print(
            f"{words:44}{own['cpu']:>9.2f}{own['wall']:>9.2f}{each:>9.3f}{own['peak_mb']:>9.0f}{own['opened']:>8}",
            flush=True,
        )
    return found


def size_of(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def touch(base: Path, rows: int) -> None:
    "One new file of a hundred rows."
    sys.path.insert(0, str(Path(__file__).parent))
    from scale_data import segments

    for path in segments(base / "new", 100, 1, strategies=1, seed=rows, run=BACKTEST):
        place = base / "desk" / BACKTEST / f"traces_new{time.time_ns()}_0.csv"
        path.rename(place)


def files_table(rows: int, files: int, base: Path) -> Lines:
    "Trace files: cold, warm, one new file."
    from scale_data import segments

    segments(base / "desk", rows, files)
    segments(base / "desk", LIVE_ROWS, 4, run="live", first_day=NEW_YEAR_2024, seed=1)
    size = size_of(base / "desk", "*.csv")
    print(
        f"\n{rows:,} rows of a backtest and {LIVE_ROWS:,} live ones in {files + 4:,} CSV files, {size / 1e6:,.0f} MB",
        flush=True,
    )
    found = table("Trace files, every row", rows, {
        "nothing": "a process that does nothing", "floor_csv": "pyarrow.csv.read_csv, the same columns",
        "rows_csv": "rows in memory (TraceStore)", "fold_local": "folded, this process", "fold_processes": "folded, 2 processes",
        "fold_dask_1": "folded, dask, 1 worker", "fold_dask_2": "folded, dask, 2 workers", "duckdb_csv": "DuckDB, sums in floats, 2 threads",
        "polars_csv": "polars, sums in floats, 2 threads",
    }, base)  # fmt: skip
    digests = {found[name]["gave"] for name in found if name.startswith("fold_")}
    print(f"the digest of every executor is the same: {len(digests) == 1}")
    found |= {
        f"cold_{name}": own
        for name, own in table("States", rows, {"states": "no states yet: read and folded"}, base).items()
    }
    kept = size_of(base / "desk" / ".states")
    print(f"states: {kept / 1e6:,.1f} MB, {kept / rows:.1f} bytes a row")
    os.environ["TELEMETRY_STATES"] = "always"
    found |= table("States, each a new process", rows, {
        "states": "states there, nothing new", "empty_check": "check, an empty directory", "empty_desk": "the page, an empty directory", "metrics": "metrics --run", "check": "check", "judge": "judge", "desk": "the page, first look",
    }, base)  # fmt: skip
    touch(base, rows)
    found |= {
        f"new_{name}": own
        for name, own in table(f"One new file among {files:,}", rows, {"states": "refresh"}, base).items()
    }
    return found


def lake_table(rows: int, base: Path) -> Lines:
    "The same rows as a lake."
    from scale_data import lake

    began = time.process_time()
    parts = lake(base / "lake", rows)
    size = size_of(base / "lake", "*.parquet")
    print(
        f"\n{rows:,} rows in {parts:,} Parquet parts, {size / 1e6:,.0f} MB ({size / rows:.1f} bytes a row), made in {time.process_time() - began:.0f} s CPU",
        flush=True,
    )
    names = {
        "floor_parquet": "pyarrow.parquet.read_table, the same columns", "rows_lake": "rows in memory (TraceStore)",
        "fold_lake": "folded the first time", "states_lake": "states there, nothing new", "metrics_lake": "metrics --run, states there",
        "duckdb_lake": "DuckDB, sums in floats, 2 threads", "polars_lake": "polars, sums in floats, 2 threads",
    }  # fmt: skip
    if rows > LAKE_ONLY:
        del names["rows_lake"], names["metrics_lake"]  # a drawdown needs every row, in order
    return table("A lake, every row", rows, names, base)


def verdicts(found: Lines, rows: int) -> bool:
    "Ratios against the floors and the targets of the design; True where all are met."

    def cpu(name: str) -> float:
        return float(found[name]["cpu"])

    lines = [
        ("rows from CSV / pyarrow.csv.read_csv", "rows_csv", lambda: cpu("rows_csv") / cpu("floor_csv"), 2.0),
        ("folded from CSV / pyarrow.csv.read_csv", "fold_local", lambda: cpu("fold_local") / cpu("floor_csv"), 0.0),
        ("rows from Parquet, µs of CPU a row", "rows_lake", lambda: 1e6 * cpu("rows_lake") / rows, 0.6),
        ("folded from Parquet, µs of CPU a row", "fold_lake", lambda: 1e6 * cpu("fold_lake") / rows, 0.0),
        ("cold start with states, s of CPU", "states", lambda: cpu("states"), 1.0),
        ("check, s of CPU", "check", lambda: cpu("check"), 2.0),
        ("judge, s of CPU", "judge", lambda: cpu("judge"), 2.0),
        ("page, first look, s of CPU", "desk", lambda: cpu("desk"), 2.0),
        ("largest memory of these with states, MB", "states", lambda: max(found[n]["peak_mb"] for n in ("states", "check", "judge", "desk")), 500.0),
        ("memory of folding the lake, MB", "fold_lake", lambda: found["fold_lake"]["peak_mb"], 4096.0),
        ("files opened for one new file", "new_states", lambda: found["new_states"]["opened"], 8.0),
    ]  # fmt: skip
    print(f"\n{'':52}{'found':>10}{'target':>10}")
    good = True
    for words, name, value, most in lines:
        if name in found:
            met = value() <= most or not most
            good &= met
            print(f"{words:52}{value():>10.2f}{most or '':>10}{'' if met else '   missed'}")
    return good


# How cost grows, and what that says of ten billion rows.


def growth(runs: dict[int, Lines]) -> None:
    "Fit CPU = a · rows^b between sizes; b = 1 is proportional."
    sizes = sorted(runs)
    print(f"\nhow CPU grows from {sizes[0]:,} to {sizes[-1]:,} rows: CPU ~ rows^b (b = 1: in proportion)")
    for name in runs[sizes[0]]:
        if name in runs[sizes[-1]] and name != "nothing":
            few, many = (runs[size][name]["cpu"] for size in (sizes[0], sizes[-1]))
            if few > 0.02:
                print(f"  {name:20}b = {math.log(many / few) / math.log(sizes[-1] / sizes[0]):.2f}")


ASSUMED = """
Ten billion rows on paper. Assumed, and not measured: cost a row stays what it is at {rows:,} rows; parts hold a million rows; strategies
× symbols × days stay as they are, so that sums do not grow; a worker reads its parts at the speed of a core, not of the network. What does
not hold: whoever merges writes the ids of all rows to a file, about 42 bytes a row (the exit, its position and when), block by block. Beyond a
billion rows ids would have to stay with their {parts:,} parts."""


def on_paper(found: Lines, rows: int, lake_bytes: float) -> None:
    "Multiply."
    many = 10_000_000_000
    print(ASSUMED.format(rows=rows, parts=many // 1_000_000))
    each = found["fold_lake"]["cpu"] / rows
    print(f"  Parquet            {many * lake_bytes / 1e12:8.2f} TB")
    print(f"  ids of all states  {many * 42 / 1e9:8.0f} GB")
    print(
        f"  folded once        {many * each / 3600:8.1f} hours of one core, {many * each / 3600 / 100:.2f} on a hundred"
    )
    print("  a new day of 10 million rows  " + f"{1e7 * each:6.0f} s of one core; nothing old is read")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument(
        "--files",
        type=int,
        default=10_000,
        help="trace files of the largest size; smaller ones have in proportion",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the rows are made; a temporary folder, removed again, if not given"
    )
    parser.add_argument("--without", nargs="*", default=[], help="lines to leave out, such as fold_dask_1")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(globals()[args.child[0]], Path(args.child[1]))))
        return 0
    sys.path.insert(0, str(Path(__file__).parent))
    LEFT_OUT.update(args.without)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    runs, good, lake_bytes = dict[int, Lines](), True, 0.0
    for rows in sorted(args.rows):
        files = max(4, round(args.files * min(rows, 10_000_000) / min(max(args.rows), 10_000_000)))
        base = Path(tempfile.mkdtemp(dir=args.folder))
        try:
            runs[rows] = files_table(rows, files, base) if rows < LAKE_ONLY else {}
            shutil.rmtree(base / "desk", ignore_errors=True)
            runs[rows] |= lake_table(rows, base)
            lake_bytes = size_of(base / "lake", "*.parquet") / rows
        finally:
            with suppress(OSError):
                shutil.rmtree(base)
        good &= verdicts(runs[rows], rows)
    if len(runs) > 1:
        growth(runs)
    on_paper(runs[max(runs)], max(runs), lake_bytes)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
