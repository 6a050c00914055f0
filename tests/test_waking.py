"""A page that is not shown yet: its kernel dies while it starts, and what the page loads until it lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pages import ALL_PANELS, LIMIT, NOTEBOOK, Server, needs_browser, sample_traces, serving, viewing
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_traces(tmp_path_factory.mktemp("waking") / "analytics")


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Server]:
    with serving(NOTEBOOK, base) as started:
        yield started


def kill_one_kernel(server: Server) -> bool:
    "Kill the first kernel that is found, as soon as there is one."
    for member in server.family():
        with suppress(psutil.Error):  # it may end while we look
            if "ipykernel_launcher" in " ".join(member.cmdline()):
                member.kill()
                return True
    return False


@needs_browser
def test_a_page_whose_kernel_dies_while_it_starts_says_so_and_gets_another(
    browser: Browser, base: Path
) -> None:
    with serving(NOTEBOOK, base, "--preheat_kernel=False") as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url, wait_until="commit")
        while not kill_one_kernel(server):
            page.wait_for_timeout(20)
        told = page.locator(".tt-no-kernel")  # or, where the server notices first, a new kernel at once
        page.wait_for_function(
            f"() => document.querySelector('.tt-no-kernel') || ({ALL_PANELS})", timeout=2 * LIMIT
        )
        assert all("Loading it again" in text for text in told.all_inner_texts())
        page.wait_for_function(ALL_PANELS, polling=100, timeout=LIMIT)
        assert told.count() == 0
        assert server.kernels() == 1  # the one that died is not started again for nobody
        page.close(run_before_unload=True)
        context.close()


@needs_browser
def test_editors_formulas_and_three_dimensions_are_not_loaded(browser: Browser, server: Server) -> None:
    "JupyterLab's modules that nothing here uses stay on the server; a page that had to be loaded again takes them all."
    with viewing(browser, server) as (page, seen):
        light = [url for url in seen.requests if url.endswith(".js") or ".js?" in url]
        assert len(light) < 65
        assert seen.complaints == []
        page.add_init_script("sessionStorage.setItem('tt-loaded-again', 'yes')")
        seen.requests.clear()
        page.reload(wait_until="commit")
        page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
        heavy = [url for url in seen.requests if url.endswith(".js") or ".js?" in url]
        assert len(heavy) > len(light) + 25
        assert seen.complaints == []


BUSY = """
const timeout = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = (milliseconds) => {
  const signal = timeout(milliseconds);
  if (!window.wasBusy) {
    const until = performance.now() + 2600;
    while (performance.now() < until);
    window.wasBusy = true;
  }
  return signal;
};
"""


@needs_browser
def test_a_widget_that_begins_late_on_a_busy_machine_is_not_given_up(
    browser: Browser, server: Server
) -> None:
    """Why panels were missing under load: a widget that has not begun two seconds after it was made stays empty."""
    context = browser.new_context()
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(BUSY)
    page.goto(server.url, wait_until="commit")
    page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
    assert page.evaluate("window.wasBusy")
    assert errors == []
    page.close(run_before_unload=True)
    context.close()
