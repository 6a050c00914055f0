"""Reported tests against scipy and brute force, on random and on real trades."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import ceil

import numpy as np
import pytest
from freqtrade_logs import load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trade_telemetry.judgement.paired_days import paired_days_test
from trade_telemetry.judgement.significance import (
    autocorrelated_critical_value,
    autocorrelated_p_value,
    autocorrelation_inflation,
    cliffs_delta,
    days_needed,
    exact_u_tail,
    hedges_g,
    holm_adjusted,
    mann_whitney_u,
    permutation_t,
    proportion_p_value,
    welch_t,
)

samples = st.lists(st.floats(-20, 20).map(lambda x: round(x, 1)), min_size=2, max_size=40)


@settings(max_examples=80, deadline=None)
@given(samples, samples)
def test_mann_whitney_equals_scipy_and_brute_force_with_and_without_ties(
    a: list[float], b: list[float]
) -> None:
    ours = mann_whitney_u(a, b)
    if min(len(a), len(b)) <= 8 and len(set(a + b)) == len(a + b):
        theirs = stats.mannwhitneyu(a, b, method="exact")
    else:
        theirs = stats.mannwhitneyu(a, b, method="asymptotic")
    assert (ours.statistic, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), abs=1e-9)
    pairs = [np.sign(x - y) for x in a for y in b]
    assert cliffs_delta(a, b) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert -1 <= ours.low <= ours.estimate + 1e-12
    assert ours.estimate - 1e-12 <= ours.high <= 1


@pytest.mark.parametrize(("n", "m"), [(2, 3), (3, 3), (1, 4), (4, 2)])
def test_the_exact_tail_counts_arrangements(n: int, m: int) -> None:
    values = [sum(x > y for x in order[:n] for y in order[n:]) for order in permutations(range(n + m))]
    for u in range(n * m + 1):
        assert exact_u_tail(u, n, m) == pytest.approx(np.mean([v >= u for v in values]), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(samples, samples)
def test_exchanging_the_sides_turns_the_sign_and_nothing_else(a: list[float], b: list[float]) -> None:
    for test in (welch_t, mann_whitney_u, hedges_g):
        one, other = test(a, b), test(b, a)
        assert (one.estimate, one.low, one.high) == pytest.approx(
            (-other.estimate, -other.high, -other.low), abs=1e-9, nan_ok=True
        )
        assert one.p_value == pytest.approx(other.p_value, abs=1e-9, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: dict[str, float]) -> None:
    adjusted = holm_adjusted(p_values)
    rejected, left = set(), dict(p_values)
    while left and min(left.values()) <= 0.05 / len(left):  # the procedure as Holm wrote it
        name = min(left, key=lambda n: left[n])
        rejected.add(name)
        del left[name]
    close = {n for n, p in adjusted.items() if abs(p - 0.05) < 1e-9}
    assert {n for n, p in adjusted.items() if p <= 0.05} - close == rejected - close


def test_two_real_logs_are_tested_as_scipy_tests_them() -> None:
    quarter, half = (load_log(f"freqtrade_futures_{minutes}m_long_short") for minutes in (15, 30))
    a, b = ([t.realized_return_pct for t in part] for part in (quarter, half))
    theirs = stats.mannwhitneyu(a, b)
    ours = mann_whitney_u(a, b)
    assert (ours.statistic, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), abs=1e-9)
    assert permutation_t(a, b).p_value == pytest.approx(
        stats.ttest_ind(a, b, equal_var=False).pvalue, abs=0.05
    )
    right = [[t.predicted_direction == t.actual_direction for t in part] for part in (quarter, half)]
    table = [[sum(r), len(r) - sum(r)] for r in right]
    assert proportion_p_value(*(k for r in right for k in (sum(r), len(r)))) == pytest.approx(
        stats.chi2_contingency(table, correction=False).pvalue, abs=1e-9
    )


@pytest.mark.parametrize("days", [20, 60])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.2])
def test_days_that_are_like_the_day_before_get_a_winner_in_no_more_than_five_percent(
    days: int, correlation: float, counts: Callable[[int, int], int]
) -> None:
    """The primary test on daily differences that follow the day before and whose mean is zero."""
    times, found = counts(200, 4000), 0
    for seed in range(times):
        noise = np.random.default_rng([seed, days, int(10 * correlation)]).normal(size=days)
        d = noise.copy()
        for k in range(1, days):
            d[k] = correlation * d[k - 1] + (1 - correlation**2) ** 0.5 * noise[k]
        found += paired_days_test(d, draws=399, seed=seed).p_value <= 0.05
    assert found <= stats.binom.ppf(0.999, times, 0.05), f"{found} of {times}"


@settings(max_examples=60, deadline=None)
@given(st.floats(-1, 1), st.integers(2, 400), st.floats(0.5, 0.99), st.floats(-8, 8))
def test_the_discount_for_days_alike_never_makes_bolder(r: float, n: int, level: float, t: float) -> None:
    factor = autocorrelation_inflation(r, n)
    assert 1 <= factor <= 19.0000001
    assert autocorrelated_p_value(t, n, factor) >= 2 * stats.t.sf(abs(t), n - 1) - 1e-12
    assert autocorrelated_p_value(
        autocorrelated_critical_value(n, factor, level), n, factor
    ) == pytest.approx(1 - level, abs=1e-9)


@pytest.mark.parametrize("edge", [0.2, 0.35, 0.6])
def test_the_stated_days_give_the_stated_power(edge: float, counts: Callable[[int, int], int]) -> None:
    """A declared daily edge is found four times in five after the days that `trades_needed` states."""
    times, days = counts(150, 2000), ceil(days_needed(edge, 1.0, conservative=True))
    found = sum(
        paired_days_test(np.random.default_rng([k, 8]).normal(edge, 1.0, days), draws=399, seed=k).p_value
        <= 0.05
        for k in range(times)
    )
    chance = 4 * (0.8 * 0.2 / times) ** 0.5
    assert 0.8 - 0.03 - chance <= found / times <= 0.8 + 0.03 + chance
