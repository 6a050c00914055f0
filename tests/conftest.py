"""What all tests share: full counts for `./run soak`, small ones otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SOAK = os.environ.get("TRADE_TELEMETRY_SOAK", "") not in {"", "0"}


BROWSERS = (  # start servers and browsers
    "test_as_of_page",
    "test_care",
    "test_dashboard",
    "test_dashboard_long",
    "test_desk_first",
    "test_desk_page",
    "test_docs",
    "test_early_press",
    "test_launch",
    "test_soak",
    "test_strategy_page",
    "test_tabs",
    "test_waking",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "soak" in item.keywords and not SOAK:
            item.add_marker(pytest.mark.skip(reason="long; ./run soak runs it"))
    items.sort(key=lambda item: item.path.stem not in BROWSERS)  # side by side, the longest files begin


@pytest.fixture(scope="session")
def counts() -> Callable[[int, int], int]:
    """`counts(small, full)`: how many kills, simulations or viewers this run makes; both can fail, only the size differs."""
    return lambda small, full: full if SOAK else small


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of one file; most files do without and do not load what drives it."""
    from pages import CHROMIUM, FLAGS
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()
