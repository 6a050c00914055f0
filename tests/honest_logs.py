"""Honest logs of closed trades, drawn by chance: every way in which brokers and engines state a net return that is right."""

from __future__ import annotations

import numpy as np

from trade_telemetry.importers.plausible import TradeFacts

HOUR_US = 3_600_000_000
KINDS = ("linear", "linear", "linear", "inverse", "scaled", "minimum fee")


def honest_log(draw: np.random.Generator) -> tuple[TradeFacts, str]:
    """Facts of a log that is right, and in a few words what it is."""
    kind, n = str(draw.choice(KINDS)), int(draw.choice([1, 2, 3, 5, 8, 15, 40, 150]))
    swing = float(draw.choice([0.05, 0.1, 0.5, 2.0, 10.0]))  # Typical move of a trade, percent
    price = np.exp(draw.uniform(np.log(0.01), np.log(60_000))) * np.exp(draw.normal(0, 0.1, n).cumsum())
    tick = 10.0 ** np.floor(np.log10(price.min() * swing / 100 / 2))  # A market that moves by its ticks
    entry = np.maximum(np.round(price / tick), 1) * tick
    exit_ = np.maximum(np.round(entry * (1 + draw.normal(0, swing / 100, n)) / tick), 1) * tick
    side = np.where(draw.random(n) < draw.choice([0.0, 0.5, 1.0]), 1.0, -1.0)
    leverage = float(draw.choice([1, 1, 1, 3, 5, 10, 20]))
    cost = np.full(
        n, float(draw.choice([0.0, 0.005, 0.02, 0.08, 0.2]))
    )  # Both sides, percent of the notional
    if kind == "minimum fee":  # of a small account: a dollar a ticket, whatever its size
        cost = 100 * 2.0 / np.exp(draw.uniform(np.log(400), np.log(20_000), n))
    earned = side * ((1 - entry / exit_) if kind == "inverse" else (exit_ / entry - 1)) * 100
    if kind == "scaled":  # the price is that of the last exit, the return is of all of them
        earned = earned + draw.normal(0, 0.3 * swing, n)
    funding = draw.normal(0, float(draw.choice([0, 0, 0.01, 0.05])), n)
    digits = int(draw.choice([2, 2, 3, 4, 10]))
    stated = np.round((earned - cost - funding) * leverage, digits)
    knows = draw.random() < 0.5
    fees = np.round(cost * leverage, int(draw.choice([2, 4, 10]))) if knows else np.full(n, np.nan)
    start = 1_740_000_000_000_000 + np.arange(n, dtype=np.int64) * HOUR_US
    facts = TradeFacts(
        side, entry, exit_, start, start + HOUR_US // 2, stated, fees, np.full(n, leverage),
        np.abs(draw.normal(5, 2, n)) + 0.1, np.full(n, np.nan),
    )  # fmt: skip
    return (
        facts,
        f"{kind}, {n} trades, swing {swing:g} %, leverage {leverage:g}, {digits} digits, fees {'known' if knows else 'unknown'}",
    )
