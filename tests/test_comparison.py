"""The verdict in worlds where the truth is known, and on real trades."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.judgement.comparison import (
    Comparison,
    VerdictRule,
    compare,
    compare_groups,
    compare_samples,
    split_by,
)
from trade_telemetry.judgement.paired_days import paired_days_test
from trade_telemetry.judgement.significance import welch_t
from trade_telemetry.metrics.intervals import newcombe_difference
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.store import load_columns
from trade_telemetry.trace import PredictionTrace

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
DAY = 86_400_000_000
RULE = VerdictRule(draws=399, reported=False)


def normal(scale: float) -> Draw:
    return lambda rng, n: rng.normal(0.0, scale, n)


def lognormal(rng: np.random.Generator, n: int) -> Floats:
    return rng.lognormal(0.0, 1.0, n) - np.exp(0.5)


def rare_win(chance: float) -> Draw:
    """One large win among many losses of 1, mean zero."""
    return lambda rng, n: np.where(rng.random(n) < chance, (1 - chance) / chance, -1.0)


def rare_loss(chance: float) -> Draw:
    return lambda rng, n: np.negative(rare_win(chance)(rng, n))


# trades and payoff of the first, of the second, and a shock that all trades of a day share
NULL_WORLDS: dict[str, tuple[int, Draw, int, Draw, float]] = {
    "normal": (100, normal(1.0), 100, normal(1.0), 0.0),
    "20 wide against 450 narrow": (20, normal(3.0), 450, normal(0.3), 0.0),
    "20 narrow against 450 wide": (20, normal(0.3), 450, normal(3.0), 0.0),
    "large wins": (450, normal(0.3), 60, lognormal, 0.0),
    "large losses": (450, normal(0.3), 60, lambda rng, n: -lognormal(rng, n), 0.0),
    "opposite skew": (100, lognormal, 100, lambda rng, n: -lognormal(rng, n), 0.0),
    "take profit three times the stop": (300, normal(0.3), 60, rare_win(0.25), 0.0),
    "lottery": (450, normal(0.3), 40, rare_win(0.05), 0.0),
    "rare crash": (450, normal(0.3), 40, rare_loss(0.05), 0.0),
    "shocks shared within days": (300, normal(0.5), 60, normal(1.0), 1.0),
}


def one_side(
    rng: np.random.Generator, trades: int, draw: Draw, shock: float, days: int, name: str
) -> TraceColumns:
    """Trades at random times of random weekdays."""
    template = TraceColumns.from_traces(
        [PredictionTrace(datetime(2025, 1, 6, tzinfo=UTC), "X", name, "LONG", "LONG", None, 1.0, 1.0, 0, 0.0)]
    )
    rows = template.take(np.zeros(trades, dtype=np.int64))
    day = rng.integers(0, days, trades)
    exit_us = template.exit_us[0] + (day // 5 * 7 + day % 5) * DAY + rng.integers(0, DAY, trades)
    returns = draw(rng, trades) + shock * rng.normal(0.0, 1.0, days)[day]
    return replace_columns(
        rows,
        exit_us=exit_us,
        return_pct=returns,
        trace_id=(ids := rng.integers(0, 2**63, trades)),
        position_id=ids,
    )


def replace_columns(columns: TraceColumns, **changes: Any) -> TraceColumns:
    return replace(columns, **changes)


@pytest.mark.parametrize("days", [20, 60])
@pytest.mark.parametrize("world", NULL_WORLDS)
def test_equally_good_strategies_get_a_winner_in_no_more_than_five_percent(
    world: str, days: int, counts: Callable[[int, int], int]
) -> None:
    trades_a, draw_a, trades_b, draw_b, shock = NULL_WORLDS[world]
    times, named = counts(120, 4000), 0
    for seed in range(times):
        rng = np.random.default_rng([seed, days])
        a = one_side(rng, trades_a, draw_a, shock, days, "a")
        b = one_side(rng, trades_b, draw_b, shock, days, "b")
        named += compare_samples(a, b, ("a", "b"), rule=RULE)["significant"]
    assert named <= stats.binom.ppf(0.999, times, 0.05), f"{named} winners in {times}"


@pytest.mark.parametrize("days", [120, 250])
@pytest.mark.parametrize(
    "world", ["normal", "large losses", "lottery", "rare crash", "shocks shared within days"]
)
def test_many_days_hold_their_five_percent_too(
    world: str, days: int, counts: Callable[[int, int], int]
) -> None:
    trades_a, draw_a, trades_b, draw_b, shock = NULL_WORLDS[world]
    times, named = counts(60, 2000), 0  # of log-normal days 6 % was measured at 120 days, see the notebook
    for seed in range(times):
        rng = np.random.default_rng([seed, days])
        a = one_side(rng, trades_a * days // 60, draw_a, shock, days, "a")
        b = one_side(rng, trades_b * days // 60, draw_b, shock, days, "b")
        named += compare_samples(a, b, ("a", "b"), rule=RULE)["significant"]
    assert named <= stats.binom.ppf(0.999, times, 0.06), f"{named} winners in {times}"


def test_days_that_follow_each_other_are_discounted_at_many_days(counts: Callable[[int, int], int]) -> None:
    """A third of each day's luck lasts and decays by 0.6 a day: correlation of successive days 0.2."""
    times, found = counts(300, 2000), np.zeros(2)
    for seed in range(times):
        rng, luck = np.random.default_rng([seed, 8]), 0.0
        days = np.empty(250)
        for day in range(250):
            luck = 0.6 * luck + 0.8 * rng.standard_normal()
            days[day] = luck / 3**0.5 + (2 / 3) ** 0.5 * rng.standard_normal()
        answer = paired_days_test(days, draws=199, seed=seed)
        found += [answer.p_value <= 0.05, stats.ttest_1samp(days, 0.0).pvalue <= 0.05]
    assert found[0] <= stats.binom.ppf(0.999, times, 0.07) < found[1], found


# trades a day of both, days, and what equally good strategies earn a trade
CRASHES: dict[str, tuple[Draw, int, Draw, int, int]] = {
    "beside small trades": (rare_loss(0.05), 2, normal(0.3), 22, 20),
    "beside trades alike": (rare_loss(0.02), 2, normal(1.0), 2, 40),
    "on both sides": (rare_loss(0.10), 1, rare_loss(0.10), 1, 40),
}


@pytest.mark.parametrize("world", CRASHES)
def test_a_crash_that_nobody_has_seen_lets_no_winner_be_named(
    world: str, counts: Callable[[int, int], int]
) -> None:
    draw_a, per_day_a, draw_b, per_day_b, days = CRASHES[world]
    times, named = counts(150, 2000), 0
    for seed in range(times):
        rng = np.random.default_rng([seed, 11])
        a = one_side(rng, per_day_a * days, draw_a, 0.0, days, "a")
        b = one_side(rng, per_day_b * days, draw_b, 0.0, days, "b")
        named += compare_samples(a, b, ("a", "b"), rule=RULE)["significant"]
    assert named <= stats.binom.ppf(0.999, times, 0.05), f"{named} winners in {times}"


def test_frequent_winners_are_told_apart_before_five_losing_days(counts: Callable[[int, int], int]) -> None:
    """Both win the same and lose the same; one wins 95 of 100 trades, the other 80."""

    def payoff(chance: float) -> Draw:
        return lambda rng, n: np.where(rng.random(n) < chance, 1.0, -4.0)

    times, named = counts(60, 1000), {True: 0, False: 0}
    for seed in range(times):
        rng = np.random.default_rng([seed, 12])
        a, b = (
            one_side(rng, 80, payoff(chance), 0.0, 40, name) for chance, name in ((0.95, "a"), (0.80, "b"))
        )
        answer = compare_samples(a, b, ("a", "b"), rule=RULE)
        lost = len(np.unique(a.exit_us[a.return_pct < 0] // DAY))
        named[lost >= 5] += answer["winner"] == "a"
        assert answer["winner"] != "b"
    assert named[False] > 0.05 * times, named


@pytest.mark.parametrize("edge", [0.4, -0.4])
def test_a_real_daily_edge_is_found_with_the_power_of_the_textbook(
    edge: float, counts: Callable[[int, int], int]
) -> None:
    times, days, found = counts(150, 3000), 60, 0
    noncentral = edge * days**0.5
    critical = stats.t.ppf(0.975, days - 1)
    textbook = stats.nct.sf(critical, days - 1, abs(noncentral))
    for seed in range(times):
        rng = np.random.default_rng([seed, 7])
        answer = paired_days_test(rng.normal(edge, 1.0, days), draws=399, seed=seed)
        found += answer.p_value <= 0.05 and answer.estimate * edge > 0
    allowed = 4 * (textbook * (1 - textbook) / times) ** 0.5
    assert textbook - 0.06 - allowed <= found / times <= textbook + allowed


def test_the_interval_covers_the_true_daily_difference(counts: Callable[[int, int], int]) -> None:
    times, covered = counts(300, 4000), 0
    for seed in range(times):
        d = np.random.default_rng([seed, 3]).lognormal(0.0, 0.7, 40) - 0.5
        answer = paired_days_test(d, draws=399, seed=seed)
        covered += answer.low <= np.exp(0.245) - 0.5 <= answer.high
    assert covered >= stats.binom.ppf(0.001, times, 0.95)


# --- properties ---

samples = st.lists(st.floats(-20, 20).map(lambda x: round(x, 2)), min_size=2, max_size=40)


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_welch_equals_scipy_wherever_there_is_spread(a: list[float], b: list[float]) -> None:
    if len(set(a)) == 1 and len(set(b)) == 1:
        assert np.isnan(welch_t(a, b).p_value)
        return
    ours = welch_t(a, b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns where one side is constant
        theirs = stats.ttest_ind(a, b, equal_var=False)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(samples, st.integers(0, 5))
def test_the_paired_test_agrees_with_its_interval_and_with_its_mirror(d: list[float], seed: int) -> None:
    answer, mirror = (
        paired_days_test(d, draws=199, seed=seed),
        paired_days_test([-x for x in d], draws=199, seed=seed),
    )
    assert (answer.p_value <= 0.05) == (not answer.low <= 0.0 <= answer.high)
    assert (answer.p_value, answer.estimate) == pytest.approx((mirror.p_value, -mirror.estimate))
    assert (answer.low, answer.high) == pytest.approx((-mirror.high, -mirror.low), rel=1e-6, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50), st.integers(1, 50))
def test_a_difference_of_precisions_stays_between_minus_one_and_one(
    h1: int, m1: int, h2: int, m2: int
) -> None:
    answer = newcombe_difference(h1, h1 + m1, h2, h2 + m2)
    assert -1 <= answer.low <= answer.estimate <= answer.high <= 1


def test_the_answer_does_not_depend_on_the_order_of_rows_or_on_other_strategies() -> None:
    rng = np.random.default_rng(1)
    parts = [
        one_side(rng, n, normal(1.0), 0.0, 60, name)
        for n, name in ((200, "intraday"), (50, "swing"), (90, "other"))
    ]
    whole = compare(TraceColumns.concat(parts), rule=RULE)
    shuffled = TraceColumns.concat(parts[:2]).take(rng.permutation(250))
    assert repr(compare(shuffled, rule=RULE).to_dict()) == repr(whole.to_dict())


# --- edges ---


def test_a_run_without_a_common_day_is_not_comparable_however_large_the_difference() -> None:
    rng = np.random.default_rng(2)
    early = one_side(rng, 100, lambda r, n: r.normal(1.0, 0.3, n), 0.0, 30, "intraday")
    late = one_side(rng, 100, lambda r, n: r.normal(-1.0, 0.3, n), 0.0, 30, "swing")
    late = replace_columns(late, exit_us=late.exit_us + 70 * DAY)
    answer = compare_samples(early, late, ("intraday", "swing"))
    assert answer.verdict.code == "no common days"
    assert answer["verdict"] == "Not comparable: no common trading days."
    assert (answer["significant"], answer["winner"], answer["common_days"]) == (False, None, 0)


def test_identical_samples_are_inconclusive() -> None:
    one = one_side(np.random.default_rng(3), 300, lognormal, 1.0, 60, "a")
    answer = compare_samples(one, one, ("a", "b"))
    assert (answer.verdict.code, answer["better_strategy"]) == ("no difference", None)
    assert answer["statistical_significance"]["primary"]["p_value"] == 1.0


def test_thinned_rows_leave_the_criterion_unbiased() -> None:
    rng = np.random.default_rng(4)
    full = one_side(rng, 4000, lambda r, n: r.normal(0.5, 1.0, n), 0.0, 60, "a")
    other = one_side(rng, 60, normal(1.0), 0.0, 60, "b")
    values = []
    for seed in range(60):
        kept = np.random.default_rng(seed).random(4000) < 0.1
        thin = replace_columns(full.take(kept), sample_rate=np.full(int(kept.sum()), 0.1))
        answer = compare_samples(thin, other, ("a", "b"), rule=VerdictRule(draws=99))
        assert answer["sampled"]
        assert answer["incomplete"]
        assert np.isnan(answer["sharpe_delta"])
        values.append(answer["criterion_values"]["a"])
    truth = compare_samples(full, other, ("a", "b"), rule=VerdictRule(draws=99))["criterion_values"]["a"]
    assert np.mean(values) == pytest.approx(truth, rel=0.05)


def write_run(folder: Path, columns: TraceColumns, **options: Any) -> None:
    with TelemetryWriter(folder, mode="live", **options) as writer:
        for trace in columns.to_traces():
            writer.write_trace(trace)


def assert_same_answer(ours: Comparison, theirs: Comparison) -> None:
    """Every figure but those that need single returns."""
    for key, value in theirs.items():
        if isinstance(value, float):
            assert ours[key] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), key
        elif isinstance(value, str | int | None) and key not in ("sampled", "verdict"):
            assert ours[key] == value, key
    assert ours["verdict"] == theirs["verdict"]
    assert ours["criterion_values"] == pytest.approx(theirs["criterion_values"], rel=1e-9, nan_ok=True)
    assert ours["trades_needed"].keys() == theirs["trades_needed"].keys()
    for key, need in theirs["trades_needed"].items():
        assert ours["trades_needed"][key]["days"] == pytest.approx(need["days"], rel=1e-9, nan_ok=True)
    for name in ("primary", "welch_t", "precision", "sharpe", "hedges_g"):
        test, other = ours["statistical_significance"][name], theirs["statistical_significance"][name]
        for part in ("estimate", "low", "high", "p_value", "statistic"):
            assert test[part] == pytest.approx(other[part], rel=1e-7, abs=1e-9, nan_ok=True), (name, part)


@pytest.mark.parametrize("rate", [0.1, 0.0])
@pytest.mark.parametrize("shift", [0.0, 1.8])
def test_a_sample_with_its_ledger_compares_like_the_whole_run(
    tmp_path: Path, rate: float, shift: float
) -> None:
    rng = np.random.default_rng([4, int(10 * shift)])
    sides = [
        one_side(rng, 2000, lambda r, n: r.normal(shift / 10, 1.0, n), 0.1, 60, "intraday"),
        one_side(rng, 80, normal(1.0), 0.1, 60, "swing"),
    ]
    columns = TraceColumns.concat(sides)
    columns = replace_columns(
        columns, actual=rng.integers(0, 3, len(columns)).astype(np.int8), id_stored=np.ones(len(columns), dtype=np.bool_),
        entry_us=columns.exit_us, threshold_pct=np.full(len(columns), 0.3),
        trace_id=(ids := rng.integers(0, 2**64, len(columns), dtype=np.uint64)), position_id=ids,  # all of the range that is sampled from
    )  # fmt: skip
    write_run(tmp_path / "tenth", columns, sample_rate=rate)
    write_run(tmp_path / "whole", columns)
    tenth, whole = (load_columns(tmp_path / name)[0] for name in ("tenth", "whole"))
    assert len(tenth) < 0.2 * len(whole)
    ours, theirs = compare(tenth), compare(whole)
    assert_same_answer(ours, theirs)
    assert (ours["sampled"], theirs["sampled"], ours["incomplete"]) == (True, False, False)
    assert theirs["significant"] == (shift > 0)
    for by in ("strategy", "symbol", "mode"):
        assert split_by(tenth, by).keys() == split_by(whole, by).keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_real_log_kept_to_a_tenth_compares_its_symbols_like_the_whole(name: str, tmp_path: Path) -> None:
    columns = TraceColumns.from_traces(load_log(name))
    for folder, rate in (("tenth", 0.1), ("whole", 1.0)):
        write_run(tmp_path / folder, columns, sample_rate=rate)
    tenth, whole = (load_columns(tmp_path / folder)[0] for folder in ("tenth", "whole"))
    first, second = list(split_by(whole, "symbol"))[:2]
    pairs = [
        compare_groups({s: split_by(c, "symbol")[s] for s in (first, second)})["pairs"][0]
        for c in (tenth, whole)
    ]
    assert_same_answer(*pairs)


def test_every_reported_test_is_there_and_adjusted_for_the_family() -> None:
    rng = np.random.default_rng(6)
    a, b = (one_side(rng, n, normal(1.0), 0.3, 60, name) for n, name in ((300, "a"), (60, "b")))
    answer = compare_samples(a, b, ("a", "b"))
    tests = answer["statistical_significance"]
    assert list(tests) == [
        "primary", "welch_t", "precision", "mann_whitney_u", "permutation_t", "hedges_g", "sharpe",
    ]  # fmt: skip
    made = {name: t["p_value"] for name, t in tests.items() if not np.isnan(t["p_value"])}
    for rank, name in enumerate(sorted(made, key=lambda n: made[n])):
        assert tests[name]["p_holm"] >= min(1.0, made[name] * (len(made) - rank)) - 1e-12
    assert tests["sharpe"]["estimate"] == pytest.approx(answer["sharpe_delta"], abs=1e-9)


@pytest.mark.parametrize("per_day", [0.5, 8.0])
def test_what_is_needed_follows_rate_and_edge_and_not_the_observed_lead(per_day: float) -> None:
    rng, days = np.random.default_rng(8), 200
    count = int(per_day * days)
    a, b = (one_side(rng, count, normal(1.0), 0.0, days, name) for name in "ab")
    a, b = (replace_columns(x, actual=rng.integers(0, 2, count).astype(np.int8)) for x in (a, b))
    small, large = (
        compare_samples(a, b, ("a", "b"), rule=VerdictRule(minimum_edge_points=points))["trades_needed"][
            "precision"
        ]
        for points in (5.0, 10.0)
    )
    assert small["days"] == pytest.approx(4 * large["days"])
    assert small["trades"]["a"] == pytest.approx(small["days"] * per_day, rel=0.05)
    assert small["reachable"] == (small["days"] <= 2 * 252)
    lead = replace_columns(a, return_pct=a.return_pct + 9.0)
    assert compare_samples(lead, b, ("a", "b"))["trades_needed"]["precision"] == small


def test_among_equally_good_groups_a_winner_anywhere_is_rare(counts: Callable[[int, int], int]) -> None:
    times, named = counts(60, 1000), 0
    for seed in range(times):
        rng = np.random.default_rng([seed, 5])
        rows = TraceColumns.concat([one_side(rng, 120, normal(1.0), 0.0, 40, f"s{k}") for k in range(5)])
        pairs = compare_groups(split_by(rows), rule=RULE)["pairs"]
        assert len(pairs) == 10
        named += any(pair["significant"] for pair in pairs)
    assert named <= stats.binom.ppf(0.999, times, 0.05), f"{named} of {times}"


# --- real trades ---


def test_two_real_logs_of_the_same_month_are_compared_as_scipy_would() -> None:
    quarter, half = (load_log(f"freqtrade_futures_{minutes}m_long_short") for minutes in (15, 30))
    first, second = (TraceColumns.from_traces(part) for part in (quarter, half))
    answer = compare_samples(first, second, ("15m", "30m"))
    theirs = stats.ttest_ind(first.return_pct, second.return_pct, equal_var=False)
    welch = answer["statistical_significance"]["welch_t"]
    assert welch["statistic"] == pytest.approx(theirs.statistic, abs=1e-9)
    assert welch["p_value"] == pytest.approx(theirs.pvalue, abs=1e-9)
    assert [welch["low"], welch["high"]] == pytest.approx(list(theirs.confidence_interval(0.95)), abs=1e-9)
    by_day: list[dict[date, float]] = [{}, {}]
    for table, part in zip(by_day, (quarter, half), strict=True):
        for t in part:
            assert t.exit_timestamp is not None
            table[t.exit_timestamp.date()] = table.get(t.exit_timestamp.date(), 0.0) + t.realized_return_pct
    start, end = max(min(t) for t in by_day), min(max(t) for t in by_day)
    days = [start + timedelta(days=k) for k in range((end - start).days + 1)]
    d = np.array([by_day[0].get(day, 0.0) - by_day[1].get(day, 0.0) for day in days])
    primary = answer["statistical_significance"]["primary"]
    assert (answer["common_days"], primary["estimate"]) == (len(days), pytest.approx(d.mean(), abs=1e-9))
    assert primary["statistic"] == pytest.approx(stats.ttest_1samp(d, 0.0).statistic, abs=1e-9)
    assert primary["p_value"] >= stats.ttest_1samp(d, 0.0).pvalue - 1e-9
    assert answer["better_strategy"] == ("15m" if d.mean() > 0 else "30m")


def test_a_real_log_against_itself_is_inconclusive_and_against_its_losses_is_not() -> None:
    traces = load_log("freqtrade_futures_15m_long_short")
    columns = TraceColumns.from_traces(traces)
    assert not compare_samples(columns, columns, ("a", "b"))["significant"]
    worse = replace_columns(columns, return_pct=columns.return_pct - 1.0)
    answer = compare_samples(columns, worse, ("a", "b"))
    assert answer["winner"] == "a", answer["verdict"]
