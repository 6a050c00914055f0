"""What `compare_figures` asks of the command line, and the traces that it asks about."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT.parent / "shared" / "data" / "trades"
CUTS = [
    "strategy",
    "symbol",
    "exit_reason",
    "weekday",
    "exit_weekday",
    "hour",
    "holding",
    "month",
    "direction",
]
STOCKS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


@dataclass
class Shell:
    "The command line of one environment, without anybody's settings."

    python: str
    folder: Path  # Where it runs

    def run(self, words: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
        command = (
            [self.python] if words[0].startswith("-") else [str(Path(self.python).parent / "trade-telemetry")]
        )
        base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return subprocess.run(
            [*command, *words], cwd=self.folder, env=base | {"TZ": "UTC"} | more, text=True, capture_output=True, check=False
        )  # fmt: skip

    def must(self, words: Sequence[str], **more: str) -> None:
        done = self.run(words, **more)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


# ---------------------------------------------------------------------------------------- what is judged
AS_LIVE = """
import sys
from trade_telemetry import AccuracyAnalyzer, TelemetryWriter
source, target, rate, start = sys.argv[1:5]
traces = [t for t in AccuracyAnalyzer().load_traces(source) if t.timestamp.isoformat() >= start]
with TelemetryWriter(target, mode="live", sample_rate=float(rate)) as writer:
    for trace in sorted(traces, key=lambda t: (t.timestamp, t.symbol, t.strategy)):
        writer.write_trace(trace)
"""


def named(directory: Path, run: str, shell: Shell, words: Sequence[str], **more: str) -> None:
    "Run a verb that makes one run, and give the run a name that does not depend on the clock."
    before = set(directory.iterdir()) if directory.is_dir() else set()
    shell.must(words, **more)
    (made,) = set(directory.iterdir()) - before
    if made.name != run:
        made.rename(directory / run)


def make_demo(shell: Shell, inputs: Path) -> None:
    "The demo's two backtests; a sampled replay by the engine; a half year sampled as live."
    config = ["--config", str(inputs / "demo.yaml")]
    shutil.copy(ROOT / "data" / "demo.yaml", inputs / "demo.yaml")
    past, replay, live = (inputs / name for name in ("demo_history", "demo_replay", "demo_live"))
    bars = ["--data-dir", str(ROOT / "data")]
    telemetry = [*bars, "--enable-telemetry", "--telemetry-dir"]
    euro = ["--symbols", "EURUSD", "--slippage-pct", "0.004", *telemetry]
    stocks = ["--symbols", *STOCKS, "--slippage-pct", "0.02", *telemetry]
    named(
        past,
        "backtest_20250101_000000",
        shell,
        ["backtest", *config, "--strategy", "swing", *stocks, str(past)],
    )
    named(past, "backtest_20250102_000000", shell, ["backtest", *config, *euro, str(past)])
    shutil.copytree(past, inputs / "demo_stocks", ignore=shutil.ignore_patterns("*2025010[2-9]*"))
    shutil.copytree(past, replay)
    engine = ["-m", "trade_telemetry.engine", *euro, str(replay), "--telemetry-sample-rate", "0.1"]
    named(replay, "replay_20250103_000000", shell, engine, TELEMETRY_CONFIG=config[1])
    half = ["backtest", *config, *euro, str(live), "--end-date", "2017-06-30"]
    named(live, "backtest_20250104_000000", shell, half)
    shell.must(
        ["-c", AS_LIVE, str(past / "backtest_20250102_000000"), str(live / "live"), "0.1", "2017-07-01"]
    )


def halves(log: Path, folder: Path) -> list[Path]:
    "A log cut by the time of closing: the first three fifths, and the rest."
    with log.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["close_date"])
    cut, paths = len(rows) * 3 // 5, []
    for name, part in (("past", rows[:cut]), ("now", rows[cut:])):
        paths.append(folder / f"{log.stem}_{name}.csv")
        with paths[-1].open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(part)
    return paths


def make_real(shell: Shell, inputs: Path) -> None:
    "Real logs as history; the same cut into backtest and live, live whole and as a sample of a tenth."
    cut, whole, live, sampled = (inputs / n for n in ("logs", "real_history", "real_live", "real_sampled"))
    cut.mkdir()
    for k, log in enumerate(sorted(LOGS.glob("freqtrade_*.csv"))):
        name = "_".join(log.stem.split("_")[1:3])
        as_trades = ["--preset", "freqtrade", "--strategy", name, "--threshold-pct", "0.3", "--telemetry-dir"]
        past, now = halves(log, cut)
        run = f"backtest_20250201_00000{k}"
        named(whole, run, shell, ["import", str(log), *as_trades, str(whole)])
        named(live, run, shell, ["import", str(past), *as_trades, str(live)])
        shell.must(["import", str(now), *as_trades, str(live), "--mode", "live"])
    shutil.copytree(live, sampled, ignore=shutil.ignore_patterns("live"))
    shell.must(["-c", AS_LIVE, str(live / "live"), str(sampled / "live"), "0.1", ""])


# ------------------------------------------------------------------------------------------ what is asked
@dataclass
class Group:
    "A telemetry directory and what is asked of it."

    name: str
    directory: str
    first: str
    second: str
    symbol: str
    config: bool = False  # With the settings of the demo?
    zone: str = "UTC"

    def questions(self) -> dict[str, list[str]]:
        "Words by a name for the answer."
        cuts = ["metrics", *(w for cut in CUTS for w in ("--by", cut)), "--rolling", "50", "--features"]
        sides = ["--first", self.first, "--second", self.second]
        asked = {"metrics": ["metrics"], "cuts": cuts, "compare": ["compare", *sides],
                 "pairs": ["compare", "--by", "strategy"], "reasons": ["compare", "--by", "exit_reason"],
                 "live": ["compare", "--live-vs-backtest"], "check": ["check"], "judge": ["judge"]}  # fmt: skip
        as_json = {f"{name}-json": [*words, "--json"] for name, words in asked.items()}
        state = {"export": ["export"], "export-symbol": ["export", "--symbol", self.symbol]}
        return asked | as_json | state | {"report": ["report", *sides]}


GROUPS = [
    Group("demo_history", "demo_history", "intraday", "swing", "AAPL", config=True),
    Group("demo_stocks", "demo_stocks", "swing", "intraday", "AAPL", config=True),
    Group("demo_replay", "demo_replay", "intraday", "swing", "EURUSD", config=True),
    Group("demo_live", "demo_live", "intraday", "swing", "EURUSD", config=True),
    Group("demo_zone", "demo_live", "intraday", "swing", "EURUSD", config=True, zone="America/New_York"),
    Group("real_history", "real_history", "spot_15m", "futures_15m", "SOL/USDT:USDT"),
    Group("real_live", "real_live", "spot_15m", "futures_15m", "SOL/USDT:USDT"),
    Group("real_sampled", "real_sampled", "spot_15m", "futures_15m", "SOL/USDT:USDT"),
    Group("real_zone", "real_live", "spot_15m", "futures_15m", "SOL/USDT:USDT", zone="Asia/Kolkata"),
]


class Lines(HTMLParser):
    "The text of a report: a line for each row of a table, card and paragraph."

    LINES = frozenset(
        {"tr", "p", "li", "h1", "h2", "h3", "caption", "div", "section", "header", "table", "ul"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.lines, self.words, self.quiet = list[str](), list[str](), 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.quiet += tag in ("style", "script", "nav", "svg")
        self.line(tag)

    def handle_endtag(self, tag: str) -> None:
        self.quiet -= tag in ("style", "script", "nav", "svg")
        self.line(tag)

    def line(self, tag: str) -> None:
        if tag in self.LINES and (text := " ".join(" ".join(self.words).split())):
            self.lines.append(text)
        self.words = [] if tag in self.LINES else self.words

    def handle_data(self, data: str) -> None:
        if not self.quiet:
            self.words.append(data)


def answer(shell: Shell, inputs: Path, group: Group, name: str, words: list[str]) -> dict[str, Any]:
    "One question put to the command line: its exit code, its JSON, its lines of text."
    words = [words[0], "--telemetry-dir", str(inputs / group.directory), *words[1:]]
    words += ["--config", str(inputs / "demo.yaml")] if group.config else []
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        if name == "report":
            words += ["--out", str(page)]
        done = shell.run(words, TELEMETRY_TIMEZONE=group.zone)
        shown = done.stdout.replace(folder, "")
        if page.exists():
            parser = Lines()
            parser.feed(page.read_text(encoding="utf-8").partition("<body")[2])
            shown += "\n".join(parser.lines)
    kept: dict[str, Any] = {"code": done.returncode, "text": []}
    if shown.startswith("{"):
        kept["json"], shown = json.loads(shown), ""
    text = f"{shown}\n{done.stderr}".replace(str(inputs), "INPUTS")
    return kept | {"text": [line.rstrip() for line in text.splitlines() if line.strip()]}


def cell(text: str) -> Any:
    "A cell of a trace file as its value."
    try:
        return json.loads(text)
    except ValueError:
        return text


def written(shell: Shell, inputs: Path) -> dict[str, Any]:
    "What a backtest writes now: cells by file and column."
    with tempfile.TemporaryDirectory() as folder:
        bars = [
            "--data-dir",
            str(ROOT / "data"),
            "--symbols",
            "EURUSD",
            "--enable-telemetry",
            "--telemetry-dir",
            folder,
        ]
        shell.must(["backtest", "--config", str(inputs / "demo.yaml"), *bars])
        columns = {}
        for path in sorted(Path(folder).rglob("traces_*.csv")):
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            columns[path.name] = {name: [cell(row[name]) for row in rows] for name in rows[0]}
    return {"code": 0, "text": [], "json": columns}


def record(target: Path, inputs: Path, python: str) -> int:
    "Ask everything; one file an answer. Traces are made once."
    target.mkdir(parents=True, exist_ok=True)
    inputs.mkdir(parents=True, exist_ok=True)
    shell = Shell(python, inputs)
    if not (inputs / "demo_live").is_dir():
        make_demo(shell, inputs)
    if not (inputs / "real_sampled").is_dir() and LOGS.is_dir():
        make_real(shell, inputs)
    there = [group for group in GROUPS if (inputs / group.directory).is_dir()]
    for group in GROUPS:
        if group not in there:
            print(f"{group.name} is left out: there are no real trade logs in {LOGS}")

    def ask(job: tuple[Group, str, list[str]]) -> None:
        group, name, words = job
        save(target / group.name / f"{name}.json", answer(shell, inputs, group, name, words))

    jobs = [(group, name, words) for group in there for name, words in group.questions().items()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, jobs))
    save(target / "demo_history" / "written.json", written(shell, inputs))
    print(f"{len(jobs) + 1} answers in {target}")
    return 0


def save(path: Path, kept: dict[str, Any]) -> None:
    "Keep an answer."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
