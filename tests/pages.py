"""What the tests of the page share: traces to show, a real Voilà that serves them, a real Chromium that looks.

Screenshots of the states of the page are left in `.tmp/screenshots`.
"""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from trade_telemetry.dashboard.server import VOILA
from trade_telemetry.testing import make_trace, write_run
from trade_telemetry.trace import PredictionTrace, to_row

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "nbs" / "dashboard.ipynb"
SHOTS = ROOT / ".tmp" / "screenshots"
EVIL = '<img src=x onerror="window.hacked=1">'
CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",  # a page of a stranger who gives his name to this machine
    "--js-flags=--expose-gc",
    "--enable-precise-memory-info",
]
LIMIT = 60_000  # milliseconds that any single wait may take: it ends when what it waits for is there
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium here; CI must have one"
)
expect.set_options(timeout=LIMIT)  # what comes ends the wait; only a failure takes this long


def make_traces(
    strategy: str,
    count: int,
    skill: float,
    *,
    mode: str = "live",
    days: float = 40.0,
    seed: int = 0,
    symbols: tuple[str, ...] = ("SPY", "BAC", "AIG"),
    ending: datetime | None = None,
) -> list[PredictionTrace]:
    "Closed trades, one after the other, of which a share `skill` called the direction right."
    random, end = Random(seed), (ending or datetime.now(UTC)).replace(microsecond=0)
    traces = []
    for i in range(count):
        entry = end - timedelta(days=days * (1 - i / count), minutes=41)
        direction = random.choice(("LONG", "SHORT"))
        size = random.uniform(0.6, 1.4) if random.random() > 0.15 else 0.1
        move = size if (direction == "LONG") == (random.random() < skill) else -size
        traces.append(
            make_trace(
                timestamp=entry,
                symbol=symbols[i % len(symbols)],
                strategy=strategy,
                predicted_direction=direction,
                exit_price=100.0 + move,
                holding_period_minutes=40.0,
                mode=mode,
                label_threshold_pct=0.5,
                fees_pct=0.02,
            )
        )
    return traces


def write(directory: Path, *groups: list[PredictionTrace], sample_rate: float = 1.0) -> None:
    "Write traces as the package does."
    write_run(directory, [trace for group in groups for trace in group], sample_rate=sample_rate)


def append(path: Path, traces: list[PredictionTrace]) -> None:
    "Append rows to a trace file, as a running engine would."
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(to_row(trace) for trace in traces)


def sample_traces(base: Path) -> Path:
    "A backtest, and 2,000 live trades in which the intraday strategy is worse than its backtest."
    past = datetime.now(UTC) - timedelta(days=200)
    write(
        base / "backtest_20250112_143022",
        make_traces("intraday", 900, 0.72, mode="backtest", seed=1, ending=past),
        make_traces("swing", 300, 0.72, mode="backtest", days=150, seed=2, ending=past),
    )
    write(base / "live", make_traces("intraday", 1600, 0.5, seed=3), make_traces("swing", 400, 0.74, seed=4))
    return base


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@dataclass
class Server:
    "A Voilà that serves a dashboard on the loopback interface."

    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def wait_for(self, words: str, seconds: float = LIMIT / 500) -> None:
        "Wait until a line of the log contains `words`."
        with self.changed:
            there = self.changed.wait_for(lambda: any(words in line for line in self.lines), seconds)
        assert there, "".join(self.lines[-20:])

    def family(self) -> list[psutil.Process]:
        "The server, its kernels, and whatever else it started."
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kernels(self) -> int:
        "Kernels that are running."
        count = 0
        for member in self.family():
            with suppress(psutil.Error):  # it may end while we look
                count += "ipykernel_launcher" in " ".join(member.cmdline())
        return count

    def connections(self) -> set[str]:
        "Addresses that the server or one of its kernels is connected to."
        found = set()
        for member in self.family():
            with suppress(psutil.Error):
                found |= {c.raddr.ip for c in member.net_connections("inet") if c.raddr}
        return found

    def stop(self) -> None:
        "End the server and its kernels by their ids, whatever state they are in."
        family = self.family()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for member in family:
            with suppress(psutil.Error):
                member.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(
    notebook: Path, base: Path, *options: str, by_hand: bool = False, **environment: str
) -> Iterator[Server]:
    "Serve a notebook from the root of the project: as `trade-telemetry dashboard` does, or by hand with `voila NOTEBOOK`."
    template = str(ROOT / "trade_telemetry" / "share" / "jupyter")
    port = free_port()
    env = {
        **os.environ,
        "JUPYTER_PATH": template,
        "TELEMETRY_STORAGE_PATH": str(base),
        "DASHBOARD_REFRESH_INTERVAL": "5",
        **environment,
    }
    voila = ["-m", "voila"] if by_hand else ["-c", VOILA]
    command = [sys.executable, *voila, str(notebook), "--no-browser", f"--port={port}", *options]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        server = Server(process, f"http://127.0.0.1:{port}/")
        reader = threading.Thread(target=server.listen, daemon=True)
        reader.start()
        try:
            server.wait_for(
                "is running at:" if "--preheat_kernel=False" in options else "is filled with 1 kernel"
            )
            yield server
        finally:
            server.stop()
            reader.join(10)


@dataclass
class Watched:
    "What a page asked for and complained about."

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def off_host(self) -> list[str]:
        hosts = {urlsplit(url).hostname for url in self.requests if not url.startswith(("data:", "blob:"))}
        return sorted(str(host) for host in hosts - {"127.0.0.1"})


ALL_PANELS = """
document.querySelector('.tt-clock')?.dataset.ack > 0
  && ['.tt-cards .tt-panel', '.tt-curve svg', '.tt-confusion .tt-panel', '.tt-alerts .tt-head', '.tt-symbol select']
       .every(panel => document.querySelector(panel))
"""


@contextmanager
def viewing(browser: Browser, server: Server, **options: Any) -> Iterator[tuple[Page, Watched]]:
    "Open the dashboard and wait until it is complete."
    context = browser.new_context(
        **{"viewport": {"width": 1280, "height": 980}, "color_scheme": "light", **options}
    )
    context.set_default_timeout(LIMIT)
    page, seen = context.new_page(), Watched()

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.complaints.append(message.text)

    def asked(request: Request) -> None:
        seen.requests.append(request.url)

    page.on("console", complain)
    page.on("request", asked)
    page.on("websocket", lambda socket: seen.requests.append(socket.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    try:
        page.goto(server.url, wait_until="commit")
        page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
        yield page, seen
    finally:
        with page.expect_event("close"):
            page.close(
                run_before_unload=True
            )  # as a viewer does it; closing the context would skip the farewell
        context.close()


CONTRAST = """
  const box = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    box.clearRect(0, 0, 1, 1); box.fillStyle = color; box.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = box.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (e) => {
    const under = ground(e), own = over(rgba(getComputedStyle(e).color), under);
    const [dim, bright] = [light(own), light(under)].sort((a, b) => a - b);
    return (bright + 0.05) / (dim + 0.05);
  };
"""  # `ratio(element)`: text on its ground, and on whatever stands behind a transparent one


def shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def until(there: Callable[[], bool], page: Page, seconds: float = LIMIT / 1000) -> bool:
    "Wait for something outside the page, letting its events through meanwhile."
    deadline = time.monotonic() + seconds
    while not there() and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    return there()


def rows(page: Page) -> int:
    return int(page.get_attribute(".tt-clock", "data-rows") or -1)
