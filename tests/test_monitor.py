"""The monitor against simulated worlds that it knows nothing of, an oracle, and brute force."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Callable
from math import inf, log
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trade_telemetry.judgement.bar import bar_of, draw_bar
from trade_telemetry.judgement.evidence import YEAR, chance_as_promised, evidence_path, learn, read_lower
from trade_telemetry.judgement.monitor import Reading, Stream, e_bh, monitor

ROOT = Path(__file__).parents[1]


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detection", ROOT / "benchmarks" / "detection.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["detection"] = module
    spec.loader.exec_module(module)
    return module


detection = load_benchmark()
IID, DAY, _ = detection.WORLDS


def stream(world: Any, seed: int, live: Any, past_days: int = 250, promised: float = 0.6) -> Stream:
    past = world.calls(np.random.default_rng(1000 + seed % 4), 1, past_days, 10, promised)
    rng = np.random.default_rng(seed)
    now = world.calls(rng, 1, len(live), 10, live)
    return Stream("right", now[0][0], now[1][0], past[0][0], past[1][0])


@pytest.fixture(scope="module")
def grid() -> dict[str, dict[Any, Any]]:
    """Twenty backtests of 120 days and ten years for each, in two worlds."""
    return {w.name: detection.delay_row(w, (1000, 120), 10, 0.52, (20, 10, 199)) for w in (IID, DAY)}


@pytest.mark.parametrize("world", ["iid", "day"])
def test_a_false_alarm_in_a_year_is_as_rare_as_the_budget_says_and_not_much_rarer(
    grid: dict[str, dict[Any, Any]], world: str
) -> None:
    rate, _, high = grid[world]["false"]
    assert rate <= stats.binom.ppf(0.999, 100, 0.07) / 100  # 200 years of 20 backtests: worth about 100
    assert high > 0.02  # a budget that is not spent is delay
    assert grid[world]["theory"] <= rate  # what ln(1/b) would raise
    assert 0.15 < grid[world]["watch"] < 0.5 + 4 * np.sqrt(0.25 / 100)


@pytest.mark.parametrize("world", ["iid", "day"])
def test_a_loss_is_found_within_twice_the_days_of_who_knows_everything_but_the_day(
    grid: dict[str, dict[Any, Any]], world: str
) -> None:
    for loss in (0.2, 0.1):
        best, own = grid[world][loss]
        assert (
            best < own <= 2 * 1.25 * best
        )  # a median of 200 skewed delays is good to about an eighth (2 σ: a quarter)
    assert grid[world]["drift"] < 120


def test_the_case_that_was_seen_is_found_in_a_month() -> None:
    row = detection.seen_case(IID, (20, 10, 199))
    mid, _, within = row["degraded, 5 %"]
    assert mid <= 30 * 1.25 and within[2] >= 0.85 - 3 * np.sqrt(0.85 * 0.15 / 100)
    assert row["oracle"][0] < mid < row["old rule"][0] / 1.5
    assert row["watch, 50 %"][0] < mid
    assert row["verdict"] >= 0.85 - 3 * np.sqrt(0.85 * 0.15 / 100)
    assert row["verdict size"] <= stats.binom.ppf(0.999, 100, 0.06) / 100


def test_each_stream_finds_what_only_it_can_see_on_one_budget() -> None:
    asked = ("nothing", "slippage doubled", "confidence says nothing, -5")
    found = detection.stream_table(IID, (8, 10, 199), asked)
    assert found["slippage doubled"]["all"] <= 8 and found["slippage doubled"]["right"] > 100
    lost = found["confidence says nothing, -5"]
    assert lost["log_score"] <= lost["all"] <= 60 * 1.25 and lost["right"] > 1.5 * lost["all"]
    assert found["nothing"]["all"][0] <= stats.binom.ppf(0.999, 40, 0.07) / 40


@pytest.mark.parametrize("world", [IID, DAY], ids=["iid", "day"])
def test_the_chance_that_is_said_is_true_in_a_world_of_its_own_prior(
    world: Any, counts: Callable[[int, int], int]
) -> None:
    years = counts(1500, 20_000)
    found = detection.curve(world, years)
    for said, true, n in found["bins"]:
        chance = 2.6 * np.sqrt(said * (1 - said) / n)
        assert abs(said - true) < 0.08 + (chance if years < 10_000 else 0.0), (said, true, n)
    rows = [(day * n, size * n, n) for day, size, n in found["inside"].values() if n]
    dated, sized, n = np.sum(rows, axis=0)
    assert min(dated, sized) >= stats.binom.ppf(0.001, n, 0.88)
    _, small, few = found["inside"][
        0.05
    ]  # a small loss that is clear was unlucky: its size is read too large
    assert small * few >= stats.binom.ppf(0.001, few, 0.70)


def test_a_full_discount_for_moods_would_say_too_good_a_chance(counts: Callable[[int, int], int]) -> None:
    """Why a chance has a path of its own: with that of the alarm it is said too high, where days are independent."""
    rng, n = np.random.default_rng(4), counts(4000, 20_000)
    known = learn(*IID.calls(rng, n, 120, 10, 0.52))
    begin = np.where(rng.random(n) < 0.3, 0, rng.integers(0, YEAR, n))
    begin = np.where(rng.random(n) < 0.3, begin, 999)
    loss = rng.choice([0.05, 0.1, 0.2], n)[:, None]
    live = IID.calls(rng, n, 150, 10, 0.52 - loss * (np.arange(150) >= begin[:, None]))
    off = {}
    for likely in (False, True):
        path = evidence_path(*live, known, first=149, likely=likely)[:, 0]
        said = chance_as_promised(path, 150)
        own = (said > 0.1) & (said < 0.9)
        off[likely] = float(said[own].mean() - (begin[own] > 149).mean())
    print(off, own.sum())
    assert off[True] < off[False] and abs(off[True]) < 0.03 + 2.6 * np.sqrt(0.2 / own.sum())


def test_a_backtest_picked_among_five_needs_the_discount() -> None:
    rng, backtests, years = np.random.default_rng(11), 30, 20
    many = IID.calls(rng, 5 * backtests, 120, 10, 0.52)
    best = learn(*many).mean.reshape(backtests, 5).argmax(axis=1) + 5 * np.arange(backtests)
    known = learn(*many).take(best)
    heights = [
        draw_bar(known.take([k]), many[1][best[k]], 10, 199, seed=k).height(0.05) for k in range(backtests)
    ]
    live = IID.calls(rng, backtests * years, YEAR, 10, 0.52)
    rows, bars = np.repeat(np.arange(backtests), years), np.repeat(heights, years)[:, None]
    paths = [evidence_path(live[0], live[1], own.take(rows)) for own in (known, read_lower(known, 5))]
    alarms = [float((path >= bars).any(axis=1).mean()) for path in paths]
    assert alarms[1] < 0.7 * alarms[0] and alarms[1] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_what_was_said_on_an_evening_is_not_changed_by_later_ones() -> None:
    days = np.arange(200)
    whole = stream(DAY, 3, 0.6 - 0.3 * ((days >= 60) & (days < 90)))
    read = monitor({"a": [whole]})["a"].streams[0]
    assert read.alarm.any() and not read.alarm[-1]
    bar_of.__globals__["_drawn"].clear()
    bar = read.bar
    for n in (70, 100, 140):
        part = Stream("right", whole.sums[:n], whole.counts[:n], *whole[3:])
        own = monitor({"a": [part]})["a"].streams[0]
        if own.bar == bar:  # the live rate has not left its step
            np.testing.assert_allclose(own.path, read.path[:n], rtol=1e-9)
            assert own.alarm.tolist() == read.alarm[:n].tolist()


def states(world: Any, seeds: range, live: Any, **how: Any) -> list[Reading]:
    desk = {str(seed): [stream(world, seed, live, **how)] for seed in seeds}
    return list(monitor(desk).values())


def test_healthy_ones_are_healthy_and_without_a_reference_never() -> None:
    with_one = [r.state for r in states(IID, range(20), np.full(80, 0.6))]
    without = [r.state for r in states(IID, range(12), np.full(80, 0.6), past_days=5)]
    assert (
        with_one.count("healthy") >= 12 and "degraded" not in with_one[:5] and with_one.count("degraded") <= 3
    )
    assert "healthy" not in without and without.count("unchanged") >= 7
    assert {r.state for r in states(IID, range(8), np.full(6, 0.6))} <= {"too_early", "watch"}


def test_a_lost_edge_is_degraded_with_its_day_its_size_and_its_stream() -> None:
    live = np.where(np.arange(100) < 60, 0.6, 0.42)
    read = states(IID, range(20), live)
    lost = [r for r in read if r.state == "degraded"]
    assert len(lost) >= 17
    assert all(r.carrier == "right" and r.chance < 0.2 and r.since and r.loss for r in lost)
    inside = sum(r.since[0] <= 60 <= r.since[2] for r in lost if r.since)
    sized = sum(r.loss[0] <= 0.18 <= r.loss[2] for r in lost if r.loss)
    assert min(inside, sized) >= stats.binom.ppf(0.001, len(lost), 0.88)


def test_the_alarm_of_a_loss_that_lasts_stays_on_and_keeps_its_day() -> None:
    """Neither renewed correlations nor the thinned beginnings are a recovery; by a fall of the path six of sixteen cleared."""
    read = states(IID, range(16), np.where(np.arange(260) < 60, 0.6, 0.35))
    alarms = [r.streams[0].alarm for r in read]
    off = sum(not alarm[np.argmax(alarm) :].all() for alarm in alarms if alarm.any())
    assert all(alarm.any() for alarm in alarms) and off <= 1  # of 16; the promise is one of five at most
    assert sum(r.since is not None and abs(r.since[1] - 60) <= 5 for r in read) >= 15


def test_renewed_correlations_do_not_clear_an_alarm() -> None:
    """Days of a steady loss become lumpy: each tells less, all evidence shrinks, and none of it is for "it is over"."""
    days, lumpy = np.arange(240), np.arange(240) >= 120
    right = np.where(days < 40, 12, 7) + np.where(lumpy & (days >= 40), np.where(days % 2, 4, -4), 0)
    past = np.random.default_rng(0).binomial(20, 0.6, 200).astype(np.float64)
    (one,) = monitor({"a": [Stream("right", right * 1.0, np.full(240, 20.0), past, np.full(200, 20.0))]})[
        "a"
    ].streams
    on = int(np.argmax(one.alarm))
    fall = np.maximum.accumulate(one.path[on:]) - one.path[on:]
    assert fall.max() > 10 and one.alarm[on:].all()
    assert one.since is not None and one.since[0] <= 40 <= one.since[2]


def test_a_loss_that_lasts_clears_as_seldom_as_promised_and_one_that_ended_soon() -> None:
    for world, per_day, loss, soon in ((IID, 50, 0.2, 6), (DAY, 10, 0.2, 20)):
        lasts = detection.clearing(world, (1000, 120), per_day, loss, (6, 5, 99))
        ended = detection.clearing(world, (1000, 120), per_day, loss, (6, 5, 99), 60)
        n, within = len(lasts["rule"]), {name: int((x <= YEAR).sum()) for name, x in lasts.items()}
        assert (
            n >= 25
            and within["rule"] <= stats.binom.ppf(0.99, n, 0.2)
            and within["rule"] < within["fall"] / 3
        )
        assert 0 <= detection.median(ended["rule"]) <= soon


def test_a_desk_of_twelve_has_the_two_broken_ones_on_top() -> None:
    row = detection.desks(IID, 3)
    assert row["head"] >= 0.6 and row["found"] >= 0.6 and row["false"] <= 0.6


@given(st.lists(st.floats(-5, 12), max_size=7), st.floats(0.02, 0.5))
def test_e_bh_equals_brute_force(evidence: list[float], rate: float) -> None:
    best: tuple[int, ...] = ()
    for size in range(1, len(evidence) + 1):
        for group in itertools.combinations(range(len(evidence)), size):
            if all(evidence[k] >= log(len(evidence) / (size * rate)) for k in group):
                best = max(best, group, key=len)
    named = e_bh({str(k): e for k, e in enumerate(evidence)}, rate)
    assert len(named) == len(best)
    assert [evidence[int(k)] for k in named] == sorted((evidence[k] for k in best), reverse=True)


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_any_days_give_a_number_and_the_unit_does_not_matter(seed: int, days: int) -> None:
    rng = np.random.default_rng(seed)
    past = rng.normal(-1, 2, (1, 30)), np.ones((1, 30))
    live = rng.normal(-1, 9, (1, days)), rng.integers(0, 4, (1, days)).astype(np.float64)
    live[0][live[1] == 0] = 0.0
    variance = np.array([4.0])
    path = evidence_path(*live, learn(*past, variance))
    assert np.isfinite(path).all() and path.shape == (1, days)
    scaled = evidence_path(100 * live[0], live[1], learn(100 * past[0], past[1], 1e4 * variance))
    np.testing.assert_allclose(scaled, path, rtol=1e-6, atol=1e-9)
    assert inf not in path


def test_the_monitor_loads_without_scipy_and_pandas() -> None:
    code = "import sys, trade_telemetry.judgement.monitor; print(sorted({'scipy', 'pandas', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
