"""How fast the dashboard is: navigation, refresh and symbol change in a real Voilà and a real Chromium.

python benchmarks/dashboard.py            prints the table; needs Chromium and the package's [dev] extras
python benchmarks/dashboard.py --rows 100000 --repeats 2

Navigation is from the request to all panels on the page and the first answer of the kernel, with an empty browser cache; "warm"
finds a kernel in the pool that has run the notebook, "cold" none. The floor is the least that Voilà can do: its stock page with one
line of text and one chart, opened in turn with ours, so that a busy machine slows both. Where the wall clock says little because
others are at work, the processor seconds of browser and kernel beside it still do.
"""

from __future__ import annotations

import argparse
import json
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

import psutil
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
FIRST = "document.querySelector('#tt-first .tt-cards .tt-panel')"  # what the server sends along
FLOOR = "document.querySelector('.floor') && document.querySelector('#rendered_cells svg path')"
FLOOR_SOURCE = """import ipywidgets
from ipecharts import EChartsRawWidget

points = [[i, i * i % 97] for i in range(600)]
chart = EChartsRawWidget(option={"xAxis": {}, "yAxis": {}, "series": [{"type": "line", "data": points}]}, renderer="svg",
                         style={"height": "330px", "width": "100%"})
ipywidgets.VBox([ipywidgets.HTML("<b class='floor'>there</b>"), chart])
"""
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
        "Wait until it listens, its pool was filled so many times, and the kernels in it have come to rest."
        with self.news:
            if not self.news.wait_for(lambda: self.running and self.filled >= filled, seconds):
                raise SystemExit(f"Voilà was not ready within {seconds:.0f} s")
        deadline, quiet, before = time.monotonic() + seconds, 0, cpu_seconds(self.process.pid)
        while quiet < 4 and time.monotonic() < deadline:
            time.sleep(0.25)
            now = cpu_seconds(self.process.pid)
            quiet, before = (quiet + 1 if now - before < 0.03 else 0), now


def cpu_seconds(pid: int) -> float:
    "Processor time of a process and all that it started."
    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return total
    for member in family:
        try:
            total += sum(member.cpu_times()[:2])
        except psutil.Error:
            continue  # it ended while we looked
    return total


def chromium_pid() -> int:
    "The browser's first process: the one that this one started and that is no helper of another."
    own = psutil.Process().children(recursive=True)
    return next(p.pid for p in own if "chrom" in p.name() and "--type=" not in " ".join(p.cmdline()))


def write_floor(folder: Path) -> Path:
    "The notebook of the floor."
    cell = {
        "cell_type": "code",
        "id": "floor",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": FLOOR_SOURCE,
    }
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    path = folder / "floor.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


@contextmanager
def serving(base: Path, warm: bool, notebook: str = "nbs/dashboard.ipynb", *options: str) -> Iterator[Server]:
    "Run Voilà; a warm one has a kernel in its pool that has run the notebook."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "TELEMETRY_STORAGE_PATH": str(base), "DASHBOARD_REFRESH_INTERVAL": "300"}
    env["JUPYTER_PATH"] = str(ROOT / "trade_telemetry" / "share" / "jupyter")
    command = [sys.executable, "-m", "voila", notebook, "--no-browser", f"--port={port}", *options]
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


def navigate(browser: Browser, url: str, there: str = PANELS) -> tuple[float, Page]:
    "Open the page with an empty cache: seconds until it is there, and the page."
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function(there, polling="raf", timeout=120_000)
    return time.perf_counter() - began, page


def close(page: Page) -> None:
    page.close(run_before_unload=True)
    page.context.close()


def loads(
    browser: Browser, base: Path, warm: bool, repeats: int, panels: str = PANELS
) -> tuple[list[float], list[float]]:
    "Navigation to our page and to the floor, in turn: for each median, least, and CPU seconds of browser and of server with kernels."
    ours, floor = [], []
    pid = chromium_pid()
    with (
        serving(base, warm) as page_server,
        serving(base, warm, str(write_floor(base.parent)), "--template=lab") as floor_server,
    ):
        for i in range(repeats):
            for server, there, found in ((page_server, panels, ours), (floor_server, FLOOR, floor)):
                server.wait_for(i + 1 if warm else 0)
                before = cpu_seconds(pid), cpu_seconds(server.process.pid)
                seconds, page = navigate(browser, server.url, there)
                found.append(
                    (seconds, cpu_seconds(pid) - before[0], cpu_seconds(server.process.pid) - before[1])
                )
                close(page)
    one, other = (
        [statistics.median(t), min(t), statistics.median(b), statistics.median(k)]
        for t, b, k in (zip(*found, strict=True) for found in (ours, floor))
    )
    return one, other


def size_of(frame: dict[str, object]) -> float:
    "Bytes of a frame; the debugger tells binary ones in base64."
    length = len(str(frame["payloadData"]))
    return length * 0.75 if frame["opcode"] == 2 else length


def answers(browser: Browser, base: Path, repeats: int) -> dict[str, tuple[float, float, float]]:
    "A refresh with a new row and a change of symbol: median and least milliseconds, CPU of the kernel; kilobytes of all answers."
    with serving(base, True) as server:
        _, page = navigate(browser, server.url)
        page.wait_for_timeout(1000)
        received: list[float] = []
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on(
            "Network.webSocketFrameReceived", lambda event: received.append(size_of(event["response"]))
        )
        refreshes, changes, sizes, kernel = [], [], [], []
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
            before = page.get_attribute(".tt-clock", "data-ack")
            received.clear()
            rows, used = (
                int(page.get_attribute(".tt-clock", "data-rows") or 0),
                cpu_seconds(server.process.pid),
            )
            began = time.perf_counter()
            page.evaluate("document.querySelector('.tt-refresh').click()")
            page.wait_for_function(
                f"(c => c.ack > {before} && c.rows > {rows})(document.querySelector('.tt-clock').dataset)",
                polling="raf",
            )
            refreshes.append(1000 * (time.perf_counter() - began))
            kernel.append(1000 * (cpu_seconds(server.process.pid) - used))
            page.wait_for_timeout(700)  # the comparison with the backtest follows
            sizes.append(sum(received) / 1000)
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
            page.wait_for_timeout(900)
        close(page)
    middle = statistics.median
    return {
        "refresh": (middle(refreshes), min(refreshes), middle(kernel)),
        "kB": (middle(sizes), min(sizes), 0.0),
        "symbol": (middle(changes), min(changes), 0.0),
    }


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
        small, large = Path(folder) / "small" / "data", Path(folder) / "large" / "data"
        write_traces(small, 2000)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
        print(
            f"{'seconds to all panels':26}{'median':>8}{'least':>8}{'target':>8}{'floor':>8}{'least':>8}{'CPU browser':>13}{'floor':>8}{'CPU server':>12}{'floor':>8}"
        )
        show_load("2,000 traces, warm pool", *loads(browser, small, True, args.repeats), 1.5)
        show_load("2,000 traces, first paint", *loads(browser, small, True, args.repeats, FIRST), 1.0)
        show_load("2,000 traces, cold", *loads(browser, small, False, args.repeats), 3.0)
        found = answers(browser, small, args.repeats)
        write_traces(large, args.rows)
        show_load(f"{args.rows:,} traces, warm", *loads(browser, large, True, min(args.repeats, 3)), 2.0)
        browser.close()
    print(f"\n{'once it is open':26}{'median':>8}{'least':>8}{'target':>8}{'CPU kernel':>13}")
    for name, what, target in (
        ("refresh", "refresh, ms", 200),
        ("kB", "refresh, kB", 50),
        ("symbol", "symbol change, ms", 150),
    ):
        median, least, kernel = found[name]
        print(
            f"{what:26}{median:>8.1f}{least:>8.1f}{target:>8g}{kernel or float('nan'):>13.0f}{'' if median <= target else '  missed'}"
        )
    return 0


def show_load(what: str, ours: list[float], floor: list[float], target: float) -> None:
    "Print one line of navigation times."
    times = f"{ours[0]:>8.2f}{ours[1]:>8.2f}{target:>8g}{floor[0]:>8.2f}{floor[1]:>8.2f}"
    print(
        f"{what:26}{times}{ours[2]:>13.2f}{floor[2]:>8.2f}{ours[3]:>12.2f}{floor[3]:>8.2f}{'' if ours[0] <= target else '  missed'}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
