"""The dashboard over a long time: viewers who come and go, crash, or stay all day. Few of them by default, full counts in `./run soak`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pages import (
    ALL_PANELS,
    LIMIT,
    NOTEBOOK,
    ROOT,
    append,
    make_traces,
    needs_browser,
    rows,
    sample_traces,
    serving,
    until,
    viewing,
)
from playwright.sync_api import Browser


@needs_browser
def test_viewers_in_turn_leave_no_kernel_and_a_long_stay_grows_neither_kernel_nor_page(
    browser: Browser, tmp_path: Path, counts: Callable[[int, int], int]
) -> None:
    base = sample_traces(tmp_path / "analytics")
    refreshes = counts(30, 500)
    heap = "(window.gc?.(), performance.memory.usedJSHeapSize / 1e6)"
    nodes = "document.querySelectorAll('*').length"
    click = "document.querySelector('.tt-refresh').click()"
    with serving(NOTEBOOK, base) as server:
        for _ in range(counts(2, 20)):
            with viewing(browser, server) as (page, seen):
                assert rows(page) >= 3200
                assert seen.complaints == []
        idle = browser.new_page()
        assert until(lambda: server.kernels() == 1, idle)  # the one that waits for the next viewer
        idle.close()
        with viewing(browser, server) as (page, seen):

            def stay(times: int) -> tuple[float, float, int]:
                for i in range(times):
                    if i % 10 == 0:
                        fresh = make_traces("swing", 1, 0.7, days=0.01, seed=10_000 + rows(page))
                        append(base / "live" / "traces_swing_0.csv", fresh)
                    beat = int(page.get_attribute(".tt-clock", "data-ack") or 0)
                    page.evaluate(click)
                    page.wait_for_function(
                        f"document.querySelector('.tt-clock').dataset.ack > {beat}", polling=20
                    )
                kernels = [p for p in server.family() if "ipykernel_launcher" in " ".join(p.cmdline())]
                kernel = max(p.memory_info().rss for p in kernels if psutil.pid_exists(p.pid)) / 1e6
                return kernel, page.evaluate(heap), page.evaluate(nodes)

            stay(15)  # caches fill first
            looks = [stay(refreshes // 5) for _ in range(5)]
            print(f"{refreshes} refreshes: kernel and heap in MB, nodes: {looks}")
            kernel, heap_mb, nodes_now = (series[-1] - series[0] for series in zip(*looks, strict=True))
            assert kernel < 8, looks
            assert heap_mb < 8, looks
            assert nodes_now < 60, looks
            assert seen.complaints == []


@needs_browser
def test_the_kernel_of_a_crashed_page_is_culled_and_the_next_viewer_is_served(
    browser: Browser, tmp_path: Path
) -> None:
    base = sample_traces(tmp_path / "analytics")
    short = ("--MappingKernelManager.cull_idle_timeout=4", "--MappingKernelManager.cull_interval=1")
    with serving(NOTEBOOK, base, "--preheat_kernel=False", *short) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url, wait_until="commit")
        page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
        assert server.kernels() == 1
        idle = browser.new_page()
        context.close()  # the page goes without a farewell, as in a crash
        assert until(lambda: server.kernels() == 0, idle)
        idle.close()
        with viewing(browser, server) as (page, seen):
            assert rows(page) == 3200
            assert seen.complaints == []


@pytest.mark.parametrize(("ci", "outcome"), [("true", "error"), ("", "skipped")])
def test_without_a_browser_the_tests_fail_in_ci_and_are_skipped_elsewhere(
    ci: str, outcome: str, tmp_path: Path
) -> None:
    env = {**os.environ, "PATH": str(tmp_path), "CI": ci, "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    chosen = "tests/test_as_of_page.py::test_the_keyboard_moves_plays_stops_and_leaves"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", chosen],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert f"1 {outcome}" in done.stdout, done.stdout
    assert (done.returncode != 0) == (ci == "true")
