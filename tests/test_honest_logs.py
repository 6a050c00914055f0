"""A log that is right is not refused, one that contradicts itself is: how often, over logs of many kinds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from honest_logs import honest_log

from trade_telemetry.importers.plausible import TradeFacts, doubts, gross_pct

SOAK = os.environ.get("TRADE_TELEMETRY_SOAK") == "1"


def test_one_honest_log_in_five_hundred_at_most_is_refused() -> None:
    draw, logs = np.random.default_rng(11), 50_000 if SOAK else 1_000
    refused = [
        (what, found[0])
        for facts, what in (honest_log(draw) for _ in range(logs))
        if (found := doubts(facts))
    ]
    assert len(refused) <= logs / 500, refused[:20]


DISHONEST: dict[str, Callable[[TradeFacts], TradeFacts]] = {
    "fraction": lambda facts: replace(facts, return_pct=facts.return_pct / 100),
    "closing side": lambda facts: replace(facts, side=-facts.side),
    "money": lambda facts: replace(facts, return_pct=facts.side * (facts.exit_price - facts.entry_price) * facts.quantity),
    "base": lambda facts: replace(facts, return_pct=facts.return_pct / 12.5),
    "unexplained": lambda facts: replace(facts, return_pct=np.roll(facts.return_pct, 7)),
}  # fmt: skip


@pytest.mark.parametrize("kind", DISHONEST)
def test_nearly_every_log_that_contradicts_itself_is_refused(kind: str) -> None:
    """Of logs that can tell: enough trades, with moves above what costs may be."""
    draw, told, refused = np.random.default_rng(5), 0, 0
    while told < (2_000 if SOAK else 150):
        facts, what = honest_log(draw)
        moves = np.abs(gross_pct(facts)) / facts.leverage
        if len(facts) >= 15 and np.median(moves) > 1.0 and "scaled" not in what:
            told, refused = told + 1, refused + bool(doubts(DISHONEST[kind](facts)))
    assert refused >= 0.98 * told, (refused, told)
