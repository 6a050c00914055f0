"""What it costs to import a log of closed trades, against two floors that only read it, all in one run.

CPU time of the process, fastest of several rounds taken in turns. The plain log has eleven columns and a map; the recognized one is a
list of trades of NinjaTrader, which has to be recognized, brought to percent and counted before it is written. The floors read the same
file and keep nothing: `csv.DictReader`, a dictionary a row, and `pandas.read_csv`, which parses numbers but no times.
`python benchmarks/importing.py [--rows N] [--rounds N]` prints seconds, seconds for a million rows, and both ratios; exit code 1 where
a million plain rows would take more than 20 s, or a million recognized ones more than 60 s, on the machine as it is at the time.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from trade_telemetry.importers.import_trades import import_file

NAMES = ("symbol", "direction", "entry_time", "exit_time", "entry_price", "exit_price", "quantity", "confidence",
         "exit_reason", "realized_return_pct", "fees_pct")  # fmt: skip
NINJATRADER = "Trade number,Instrument,Account,Strategy,Market pos.,Qty,Entry price,Exit price,Entry time,Exit time,Entry name,Exit name,Profit,Cum. net profit,Commission,Clearing Fee,Exchange Fee,IP Fee,NFA Fee,MAE,MFE,ETD,Bars,"
PLAIN, KNOWN = "plain CSV with a map", "NinjaTrader, recognized"
MOST_SECONDS = {PLAIN: 20.0, KNOWN: 60.0}  # Of a million rows


def write_plain(path: Path, rows: int) -> None:
    "A log that needs no second look."
    draw, when = random.Random(1), datetime(2022, 1, 3, tzinfo=UTC)
    with path.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(NAMES)
        for _ in range(rows):
            when += timedelta(seconds=draw.randint(1, 100))
            end, entry = when + timedelta(seconds=draw.randint(60, 7200)), round(draw.uniform(90, 110), 2)
            exit_, side = round(entry * (1 + draw.gauss(0, 0.005)), 2), draw.choice(["LONG", "SHORT"])
            net = (exit_ / entry - 1) * (100 if side == "LONG" else -100) - 0.02
            write((f"S{draw.randint(0, 19)}", side, f"{when:%Y-%m-%dT%H:%M:%S}", f"{end:%Y-%m-%dT%H:%M:%S}", entry, exit_, draw.randint(1, 9),
                   round(draw.random(), 3), draw.choice(["target", "stop", "time"]), round(net, 4), 0.02))  # fmt: skip


def write_known(path: Path, rows: int) -> None:
    "The export of a platform: American dates, dollars, costs in five columns."
    draw, when, total = random.Random(1), datetime(2022, 1, 3, tzinfo=UTC), 0.0

    def money(amount: float) -> str:
        return f"${amount:,.2f}" if amount >= 0 else f"(${-amount:,.2f})"

    def clock(moment: datetime) -> str:
        return f"{moment.month}/{moment.day}/{moment.year} {moment:%I:%M:%S %p}"

    with path.open("w", newline="") as file:
        file.write(NINJATRADER + "\n")
        write = csv.writer(file).writerow
        for k in range(1, rows + 1):
            when += timedelta(seconds=draw.randint(1, 100))
            end, entry = when + timedelta(seconds=draw.randint(60, 7200)), draw.randint(19_600, 20_400) / 4
            exit_, side, lots = entry + round(draw.gauss(0, 20)) / 4, draw.choice([1, -1]), draw.randint(1, 5)
            fees = round(4.5 * lots, 2)
            net = side * (exit_ - entry) * 50 * lots - fees
            total += net
            write((k, "ES 06-25", draw.choice(["Sim101", "Sim102"]), "mine", "Long" if side > 0 else "Short", lots,
                   f"{entry:.2f}", f"{exit_:.2f}", clock(when), clock(end), "In", "Out", money(net), money(total), money(fees),
                   "$0", "$0", "$0", "$0", money(draw.random() * 100), money(draw.random() * 100), "$10.00", 3, ""))  # fmt: skip


def dict_reader(path: Path) -> int:
    "The first floor."
    with path.open(newline="") as file:
        return sum(1 for _ in csv.DictReader(file))


def our_import(path: Path, map_file: Path | None) -> int:
    "Recognize, read, look, name, write."
    with tempfile.TemporaryDirectory() as directory:
        told = {"map_file": map_file} if map_file else {"timezone": "UTC"}
        return import_file(path, "mine", directory, threshold_pct=0.3, **told).written  # type: ignore[arg-type]


def best(calls: dict[str, Callable[[], int]], rows: int, rounds: int) -> dict[str, float]:
    "Least CPU seconds of each, in turns; all must have seen every row."
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            seen = call()
            least[name] = min(least[name], time.process_time() - began)
            if seen != rows:
                raise AssertionError(f"{name} saw {seen:,} of {rows:,} rows")
    return least


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="rows of a log (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the fastest counts (default: %(default)s)"
    )
    args = parser.parse_args()
    is_fast = True
    print(f"{f'{args.rows:,} rows':<28}{'CPU s':>9}{'s a million':>13}{'× DictReader':>14}{'× pandas':>10}")
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / "map.yaml"
        chart.write_text("fields:\n" + "".join(f"  {name}: {name}\n" for name in NAMES))
        for what, write, told in ((PLAIN, write_plain, chart), (KNOWN, write_known, None)):
            log = Path(folder) / "log.csv"
            write(log, args.rows)
            calls: dict[str, Callable[[], int]] = {
                "ours": lambda log=log, told=told: our_import(log, told),  # type: ignore[misc]
                "reader": lambda log=log: dict_reader(log),  # type: ignore[misc]
                "pandas": lambda log=log: len(pd.read_csv(log)),  # type: ignore[misc]
            }
            seconds = best(calls, args.rows, args.rounds)
            million = seconds["ours"] * 1e6 / args.rows
            ratios = [seconds["ours"] / seconds[floor] for floor in ("reader", "pandas")]
            print(f"{what:<28}{seconds['ours']:>9.2f}{million:>13.1f}{ratios[0]:>14.1f}{ratios[1]:>10.1f}")
            is_fast = is_fast and million <= MOST_SECONDS[what]
    limits = ", ".join(f"{what}: {most:.0f} s" for what, most in MOST_SECONDS.items())
    print(f"a million rows within the limits ({limits}): {is_fast}")
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
