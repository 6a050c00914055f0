"""Twenty viewers and five hundred refreshes: no memory grows, no page loses a panel."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pages import (
    ALL_PANELS,
    LIMIT,
    NOTEBOOK,
    ROOT,
    Server,
    append,
    make_traces,
    needs_browser,
    sample_traces,
    serving,
)
from playwright.sync_api import Browser, Page

VIEWERS, REFRESHES = 20, 500
WAY = (40, REFRESHES // 2, REFRESHES)  # refreshes behind a page when memory is looked at
IMPATIENT = (
    "setInterval(() => document.querySelector('.tt-refresh').click(), 800)"  # the shortest setting is 5 s
)
MB = 1024 * 1024


def kernels_of(server: Server) -> list[int]:
    "Memory of each kernel, bytes."
    return [m.memory_info().rss for m in server.family() if "ipykernel_launcher" in " ".join(m.cmdline())]


def browser_bytes() -> int:
    "Memory of the browser's processes, bytes; what they share counts once."
    own = psutil.Process().children(recursive=True)
    return sum(p.memory_full_info().pss for p in own if "chrom" in p.name())


def memory(server: Server, pages: list[Page]) -> dict[str, float]:
    "Megabytes of kernels, server, browser and scripts, and the number of nodes of a page."
    heaps, nodes = [], []
    for page in pages:
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        heaps.append(found["JSHeapUsedSize"] / MB)
        nodes.append(page.evaluate("document.querySelectorAll('*').length"))
        session.detach()
    kernels = [one / MB for one in kernels_of(server)]
    return {
        "kernel, median": statistics.median(kernels),
        "kernel, most": max(kernels),
        "server": psutil.Process(server.process.pid).memory_info().rss / MB,
        "browser": browser_bytes() / MB,
        "script of a page, median": statistics.median(heaps),
        "script of a page, most": max(heaps),
        "nodes of a page, most": max(nodes),
    }


def beats(pages: list[Page]) -> list[int]:
    "Refreshes that each page has seen answered."
    return [int(page.get_attribute(".tt-clock", "data-ack") or 0) for page in pages]


def report(rows: list[dict[str, float]], seconds: list[float], acks: list[list[int]]) -> str:
    "The table of the measurements."
    lines = [f"{'MB':26}" + "".join(f"{min(ack):>12}+" for ack in acks)]
    lines += [f"{name:26}" + "".join(f"{row[name]:>13.1f}" for row in rows) for name in rows[0]]
    lines += [f"{'seconds':26}" + "".join(f"{at:>13.0f}" for at in seconds)]
    return "\n".join(lines)


@pytest.mark.soak
@needs_browser
def test_twenty_viewers_see_five_hundred_refreshes_and_nothing_grows(
    browser: Browser, tmp_path: Path
) -> None:
    base = sample_traces(tmp_path / "analytics")
    file, complaints = base / "live" / "traces_swing_0.csv", list[str]()
    with serving(NOTEBOOK, base) as server:
        pages = [
            browser.new_context(viewport={"width": 1280, "height": 980}).new_page() for _ in range(VIEWERS)
        ]
        for page in pages:
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(server.url, wait_until="commit", timeout=8 * LIMIT)
        for page in pages:
            page.wait_for_function(ALL_PANELS, polling=200, timeout=20 * LIMIT)
            page.evaluate(IMPATIENT)
        found: list[dict[str, float]] = []
        when, acks, began, written = list[float](), list[list[int]](), time.monotonic(), 0
        for goal in WAY:
            while min(beats(pages)) < goal:
                written += 1
                append(file, make_traces("swing", 1, 0.74, days=0.01, seed=1000 + written))
                pages[0].wait_for_timeout(5000)
                states = {page.get_attribute(".tt-clock", "data-state") for page in pages}
                assert states <= {"live", "stale", "historical"}, states  # neither lost nor in error
            acks.append(beats(pages))
            found.append(memory(server, pages))
            when.append(time.monotonic() - began)
            print(report(found, when, acks), flush=True)
        told: dict[str, Any] = {"memory": found, "seconds": when, "refreshes": acks, "rows_added": written}
        folder = ROOT / ".tmp"
        folder.mkdir(exist_ok=True)
        (folder / "soak.json").write_text(json.dumps(told, indent=1))
        for page in pages:
            assert page.evaluate(ALL_PANELS)
            page.wait_for_function(
                f"document.querySelector('.tt-clock').dataset.rows === '{3200 + written}'", timeout=4 * LIMIT
            )
            page.close(run_before_unload=True)
        assert complaints == []
        start, _, end = found
        for name, room in (("kernel, most", 12), ("server", 25), ("script of a page, most", 5)):
            assert end[name] <= 1.05 * start[name] + room, (name, start[name], end[name])
        assert end["nodes of a page, most"] <= start["nodes of a page, most"] + 50
