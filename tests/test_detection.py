"""Small versions of the tables of `benchmarks/detection.py`: all streams, a loss that creeps in, other rates, and the peers."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[1]


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detection", ROOT / "benchmarks" / "detection.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["detection"] = module
    spec.loader.exec_module(module)
    return module


detection = load_benchmark()
IID, DAY, MOOD = detection.WORLDS
Size = Callable[[int, int], int]
NOISE = 1.25  # a median of so few skewed delays is good to about an eighth (2 σ: a quarter)


@pytest.mark.parametrize("reference", detection.REFERENCES, ids=lambda r: f"{r[1]} days")
def test_all_streams_find_a_loss_within_the_stated_multiple_of_the_oracle(
    reference: tuple[int, int], counts: Size
) -> None:
    row = detection.grid_row(
        IID, reference, 10, (counts(6, 100), counts(20, 10), counts(99, 499)), losses=(0.2, 0.1)
    )
    goal = detection.GOALS[reference[1]]
    for loss in (0.2, 0.1):
        best, right, every = row[loss]
        assert best < right <= goal * NOISE * best, (loss, row[loss])
        assert best < every <= goal * NOISE * 1.2 * best, (loss, row[loss])  # six streams share one budget
    best, right, every = row["drift"]
    if reference[1] >= 120:
        assert best <= right * 1.05 and every <= detection.DRIFT_GOAL * NOISE * best, row["drift"]
    alone, together = (rate for rate, _, _ in row["false"])
    assert max(alone, together) <= stats.binom.ppf(0.999, row["n"] // 2, 0.07) / (row["n"] // 2)


def test_a_rate_unlike_the_backtests_and_heavy_tails_keep_the_budget(counts: Size) -> None:
    """Years of one backtest are alike, so that they count as half as many."""
    size = (counts(6, 100), counts(25, 10), counts(99, 499))
    for world, reference, per_day in (
        (IID, (1200, 120), 30),
        (detection.HEAVY, (1200, 120), 10),
        (DAY, (240, 120), 2),
    ):
        row = detection.false_row(world, reference, per_day, size)
        n = size[0] * size[1] // 2
        for name in ("right", "all"):
            assert row[name][0] <= stats.binom.ppf(0.999, n, 0.07) / n, (world.name, name, row)
        assert row["all"][0] < row["watch"][0] <= 0.5 + 4 * np.sqrt(0.25 / n)


def test_the_oracle_of_a_creeping_loss_knows_more_than_that_of_a_step(counts: Size) -> None:
    """Against a step CUSUM with the final loss, run on the same kind of years; both keep the budget by construction."""
    rng = np.random.default_rng(3)
    slope = detection.median(detection.drift_oracle(IID, rng, 10, 0.52, 60))
    assert (
        24 < slope < 90
    )  # slower than for a step, and not slower than waiting for the whole loss and a step's delay
    step = detection.oracle(IID, rng, 10, 0.52, 0.1, 60)
    assert detection.median(step) < slope


def test_gains_are_log_likelihood_ratios() -> None:
    right, calls = np.array([[3.0, 0.0, 7.0]]), np.array([[5.0, 2.0, 9.0]])
    lost = stats.binom.logpmf(right, calls, 0.42) - stats.binom.logpmf(right, calls, 0.52)
    np.testing.assert_allclose(detection.gain_of(IID, right, calls, 5, 0.52, 0.1), lost)
    together = detection.gain_of(DAY, right, calls, 5, 0.52, 0.1)
    variance = 0.52 * 0.48 * calls * (1 + (calls - 1) * 0.05)
    expected = [stats.norm.logpdf(right, calls * p, np.sqrt(variance)) for p in (0.42, 0.52)]
    np.testing.assert_allclose(together, expected[0] - expected[1])


def test_returns_of_days_are_those_of_the_package() -> None:
    from trade_telemetry.judgement.streams import DaySums, day_scores

    rng = np.random.default_rng(1)

    def made(days: int) -> DaySums:
        closes = rng.poisson(6, days) + 1
        none = np.zeros(days)
        known = np.zeros(days, dtype=np.int64)
        return DaySums(
            np.arange(days), closes, rng.normal(0.1, 1, days) * closes, none, known, none, known, none
        )

    base, live = made(50), made(20)
    mean, usual = base.earned.sum() / base.closes.sum(), base.closes.mean()
    own = detection.day_returns(live.earned[None], live.closes[None] * 1.0, mean, usual)[0]
    np.testing.assert_allclose(own[0], day_scores(live, base))


@pytest.fixture(scope="module")
def beside() -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = detection.peer_rows(IID, (8, 10, 99), years=60)
    return rows


def test_peers_are_slower_as_they_come_and_the_monitor_is_between_them_and_the_oracle(
    beside: dict[str, dict[str, Any]],
) -> None:
    best, own = beside["oracle"], beside["monitor, degraded"]
    assert best["−20"] < own["−20"] and best["−10"] < own["−10"] < 2 * NOISE * best["−10"]
    for name, row in beside.items():
        if "as it comes" in name:
            assert row["−20"] > 1.2 * own["−20"] or row["false"][0] > 0.07, name
    assert beside["monitor, watch"]["−10"] < own["−10"]


def test_tuned_peers_have_the_false_alarms_that_they_were_tuned_to(beside: dict[str, dict[str, Any]]) -> None:
    rates = {name: row["false"][0] for name, row in beside.items() if "tuned" in name}
    assert len(rates) == 4 and all(rate <= 0.05 for rate in rates.values()), rates
    assert max(rates.values()) > 0.01
    assert all(row["−20"] < inf for name, row in beside.items() if name in rates)
