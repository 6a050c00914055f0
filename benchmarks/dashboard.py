"""How fast the dashboard is: navigation, refresh and symbol change in a real Voilà and a real Chromium.

python benchmarks/dashboard.py            prints the table; needs Chromium and the package's [dev] extras
python benchmarks/dashboard.py --rows 100000 --repeats 2

Navigation is from the request to all panels on the page, with an empty browser cache; "warm" finds a kernel in the pool, "cold" none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
PANELS = """document.querySelector('.tt-clock')?.dataset.ack > 0
  && ['.tt-cards .tt-panel', '.tt-curve svg', '.tt-confusion .tt-panel', '.tt-alerts .tt-head'].every(p => document.querySelector(p))"""
HEADER = (
    "timestamp,symbol,strategy,predicted_direction,actual_direction,predicted_confidence,entry_price,exit_price,"
    "holding_period_minutes,realized_return_pct,features_json,metadata_json,exit_timestamp,trace_id,sample_rate,mode"
)


def write_traces(base: Path, rows: int) -> None:
    "Write a backtest of 1,000 rows and `rows` live ones over the last year."
    random, end = Random(1), datetime.now(UTC).replace(microsecond=0)
    for run, mode, count, days in (
        ("backtest_20250112_143022", "backtest", 1000, 700),
        ("live", "live", rows, 365),
    ):
        (base / run).mkdir(parents=True)
        for strategy in ("intraday", "swing"):
            lines = [HEADER]
            for i in range(count // 2):
                entry = end - timedelta(days=days * (1 - i / (count // 2)), minutes=41)
                called = random.choice(("LONG", "SHORT"))
                move = random.choice((0.7, 0.7, -0.7, 0.1))
                actual = (
                    "NOOP" if move == 0.1 else called if move > 0 else "SHORT" if called == "LONG" else "LONG"
                )
                price = 100 + (move if called == "LONG" else -move)
                lines.append(
                    f"{entry.isoformat()},S{i % 40},{strategy},{called},{actual},0.6,100.0,{price:.2f},40.0,{move},{{}},{{}},"
                    f"{(entry + timedelta(minutes=40)).isoformat()},{random.getrandbits(64):016x},1.0,{mode}"
                )
            (base / run / f"traces_{strategy}_0.csv").write_text("\n".join(lines) + "\n")


class Server:
    "A Voilà whose log is read along."

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url, self.filled, self.running = process, url, 0, False
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self._listen, daemon=True)
        self.reader.start()

    def _listen(self) -> None:
        for line in self.process.stderr or ():
            with self.news:
                self.filled += "is filled with" in line
                self.running |= "is running at" in line
                self.news.notify_all()

    def wait_for(self, filled: int, seconds: float = 90.0) -> None:
        "Wait until it listens and its pool was filled so many times."
        with self.news:
            if not self.news.wait_for(lambda: self.running and self.filled >= filled, seconds):
                raise SystemExit(f"Voilà was not ready within {seconds:.0f} s")


@contextmanager
def serving(base: Path, warm: bool) -> Iterator[Server]:
    "Run Voilà; a warm one has a kernel in its pool that has run the notebook."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "TELEMETRY_STORAGE_PATH": str(base), "DASHBOARD_REFRESH_INTERVAL": "300"}
    env["JUPYTER_PATH"] = str(ROOT / "trade_telemetry" / "share" / "jupyter")
    command = [sys.executable, "-m", "voila", "nbs/dashboard.ipynb", "--no-browser", f"--port={port}"]
    command += [] if warm else ["--preheat_kernel=False"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        server = Server(process, f"http://127.0.0.1:{port}/")
        try:
            server.wait_for(int(warm))
            yield server
        finally:
            process.terminate()
            server.reader.join(10)


def navigate(browser: Browser, url: str) -> tuple[float, Page]:
    "Open the page with an empty cache: seconds until all panels are there, and the page."
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function(PANELS, polling="raf", timeout=120_000)
    return time.perf_counter() - began, page


def close(page: Page) -> None:
    page.close(run_before_unload=True)
    page.context.close()


def loads(browser: Browser, base: Path, warm: bool, repeats: int) -> float:
    "Median time of navigation."
    times = []
    with serving(base, warm) as server:
        for i in range(repeats):
            server.wait_for(i + 1 if warm else 0)
            seconds, page = navigate(browser, server.url)
            times.append(seconds)
            close(page)
    return statistics.median(times)


def answers(browser: Browser, base: Path, repeats: int) -> dict[str, float]:
    "Milliseconds and kilobytes of a refresh, and milliseconds of a change of symbol."
    with serving(base, True) as server:
        _, page = navigate(browser, server.url)
        page.wait_for_timeout(1000)
        received = [0]
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on(
            "Network.webSocketFrameReceived",
            lambda e: received.__setitem__(0, received[0] + len(e["response"]["payloadData"])),
        )
        refreshes, changes, sizes = [], [], []
        live = base / "live" / "traces_swing_0.csv"
        last = live.read_text().rstrip("\n").rpartition("\n")[2].split(",")
        # The page is reopened with a socket that this session can see.
        page.reload(wait_until="commit")
        page.wait_for_function(PANELS, polling="raf", timeout=120_000)
        page.wait_for_timeout(1500)
        for i in range(repeats):
            last[13] = f"{i:016x}"
            with live.open("a") as file:
                file.write(",".join(last) + "\n")
            before, received[0] = page.get_attribute(".tt-clock", "data-ack"), 0
            began = time.perf_counter()
            page.evaluate("document.querySelector('.tt-refresh').click()")
            page.wait_for_function(
                f"document.querySelector('.tt-clock').dataset.ack > {before}", polling="raf"
            )
            refreshes.append(1000 * (time.perf_counter() - began))
            page.wait_for_timeout(300)
            sizes.append(received[0] / 1000)
            symbol = f"S{i + 1}"
            began = time.perf_counter()
            page.select_option(".tt-symbol select", label=symbol)
            page.wait_for_function(
                f"document.querySelector('.tt-alerts .tt-note').textContent.includes('{symbol}')",
                polling="raf",
            )
            changes.append(1000 * (time.perf_counter() - began))
            page.select_option(".tt-symbol select", label="All")
            page.wait_for_function(
                "document.querySelector('.tt-alerts .tt-note').textContent.includes('all')", polling="raf"
            )
        close(page)
    middle = statistics.median
    return {"refresh ms": middle(refreshes), "refresh kB": middle(sizes), "symbol ms": middle(changes)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of the large case (default: 1,000,000)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="measurements behind each median (default: 5)")
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        small, large = Path(folder) / "small", Path(folder) / "large"
        write_traces(small, 2000)
        rows = [("2,000 traces, warm pool, s", loads(browser, small, True, args.repeats), 1.5)]
        rows.append(("2,000 traces, cold, s", loads(browser, small, False, args.repeats), 3.0))
        found = answers(browser, small, args.repeats)
        rows += [("refresh, ms", found["refresh ms"], 200), ("refresh, kB", found["refresh kB"], 50)]
        rows.append(("symbol change, ms", found["symbol ms"], 150))
        write_traces(large, args.rows)
        rows.append(
            (f"{args.rows:,} traces, warm pool, s", loads(browser, large, True, min(args.repeats, 3)), 3.0)
        )
        browser.close()
    print(f"{'what':34}{'measured':>10}{'target':>9}")
    for what, value, target in rows:
        print(f"{what:34}{value:>10.2f}{target:>9g}{'' if value <= target else '  missed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
