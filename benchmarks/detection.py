"""How soon the monitor speaks, and how often in vain: simulated worlds that it knows nothing of, beside an oracle and its peers.

`python benchmarks/detection.py [--quick | --full] [--only PART,PART] [--backtests N] [--years N] [--draws N]` prints tables; progress
goes to stderr. Parts: *delay* (all streams on, right/wrong alone beside it, and the oracle), *false* (false alarms in a year), *seen*
(52 % to 40 % after 30 days), *streams* (what each of them finds), *peers* (river's detectors and the old rule), *curve* (is the chance
that is said true), *desk* (twelve strategies), *clear* (when an alarm ends), *right* (right/wrong alone, more losses, without the other streams), *cost*. As it stands no
part takes ten minutes of one core; `--full` has the counts of a claim (1,000 years and more for each false-alarm rate), and hours.

Worlds: trades of a day are Poisson, the precision of a day is p + sqrt(rho p (1 - p)) z, calls are binomial. *iid*: rho = 0. *day*:
rho = 0.05. *heavy*: the same with z from Student's t with 3 degrees of freedom. *mood*: rho = 0.05 and z follows the day before so that
daily shares have a correlation of 0.2 (z's own at most 0.6). Sizes of wins and losses are |t| with 3 degrees of freedom everywhere.
The oracle is a CUSUM that knows both precisions, rho and the discount for moods, its bar simulated to the same budget: nobody can be
faster, except where the loss is there from the first day. Against a loss that creeps in it is the likelihood ratio, over all days, that
knows the slope. Delays are evenings with the first alarm on or after the change, among years without one before it; a year in which it
never comes counts as infinite. False alarms: healthy years with an alarm, Wilson's 95 % interval with years of one backtest counted as
one cluster (design effect, at least 1).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import ceil, inf, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trade_telemetry.judgement.bar import RATE_STEP, Bar, draw_bar
from trade_telemetry.judgement.evidence import (
    Learned,
    chance_as_promised,
    change,
    evidence_path,
    evidence_steps,
    learn,
)
from trade_telemetry.judgement.monitor import (
    FALSE_CLEAR,
    Stream,
    budgets,
    expected_false_alarms,
    monitor,
    recovery,
)
from trade_telemetry.testing import simulate_columns

sys.path.insert(0, str(Path(__file__).parent))
import peers

Floats = npt.NDArray[np.float64]
Days = tuple[Floats, Floats]
Bools = npt.NDArray[np.bool_]
Counts = tuple[int, int, int]  # Backtests, live years of each, drawn years of a bar
YEAR = 252
REFERENCES = ((5000, 500), (1000, 120), (250, 60))


@dataclass(frozen=True)
class World:
    "A kind of market."

    name: str
    rho: float = 0.0  # Correlation of two trades of a day
    alike: float = 0.0  # Of the shares of successive days
    heavy: bool = False  # Is the luck of a day Student's t with 3 degrees of freedom?

    def follow(self, per_day: float) -> float:
        "Correlation of the luck of successive days."
        return min(0.6, self.alike * (self.rho + (1 - self.rho) / per_day) / self.rho) if self.rho else 0.0

    def luck(self, rng: np.random.Generator, series: int, days: int, per_day: float) -> Floats:
        "Luck of each day, variance 1, shape (series, days)."
        if self.heavy:
            return np.asarray(rng.standard_t(3, (series, days)) / sqrt(3), dtype=np.float64)
        z, follow = rng.standard_normal((days, series)), self.follow(per_day)
        for day in range(1, days if follow else 0):
            z[day] = follow * z[day - 1] + sqrt(1 - follow**2) * z[day]
        return np.asarray(z.T, dtype=np.float64)

    def calls(
        self, rng: np.random.Generator, series: int, days: int, per_day: float, share: npt.ArrayLike
    ) -> tuple[Floats, Floats]:
        "Right calls and calls of each day, shape (series, days)."
        p = np.asarray(share, dtype=np.float64)
        p = np.clip(p + np.sqrt(self.rho * p * (1 - p)) * self.luck(rng, series, days, per_day), 0.001, 0.999)
        counts = rng.poisson(per_day, (series, days))
        return rng.binomial(counts, p).astype(np.float64), counts.astype(np.float64)


WORLDS = (World("iid"), World("day", 0.05), World("mood", 0.05, 0.2))
HEAVY = World("heavy", 0.05, heavy=True)


def say(text: str) -> None:
    "Tell how far it is."
    print(f"{time.process_time():6.0f} s CPU  {text}", file=sys.stderr, flush=True)


def wilson(hits: float, n: float) -> tuple[float, float]:
    "95 % interval of a share."
    z, p = 1.96, hits / n
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return max(0.0, low), min(1.0, high)


def false_rate(alarmed: npt.NDArray[np.bool_], backtests: int) -> tuple[float, float, float]:
    "Share of healthy years with an alarm and its interval; years of one backtest are alike."
    p, n = float(alarmed.mean()), len(alarmed)
    own = alarmed.reshape(backtests, -1).mean(axis=1)
    effect = (
        max(1.0, float(own.var(ddof=1)) * n / backtests / max(p * (1 - p), 1e-9)) if backtests > 1 else 1.0
    )
    return (p, *wilson(p * n / effect, n / effect))


def first_alarm(raised: npt.NDArray[np.bool_], after: int) -> Floats:
    "Delays in the years that were quiet before; inf: never."
    quiet = ~raised[:, :after].any(axis=1)
    late = raised[quiet, after:]
    return np.where(late.any(axis=1), late.argmax(axis=1) + 1.0, inf)


def median(delays: Floats, level: float = 0.5) -> float:
    "A delay that this share of the years does not exceed."
    return float(np.sort(delays)[ceil(level * len(delays)) - 1]) if len(delays) else inf


def days_text(days: float) -> str:
    "A number of days, or never."
    return "never" if days == inf else f"{days:.0f}"


def oracle(
    world: World,
    rng: np.random.Generator,
    per_day: float,
    p: float,
    loss: float,
    after: int,
    budget: float = 0.05,
) -> Floats:
    "Delays of somebody who knows everything but the day."

    def level(calls: tuple[Floats, Floats]) -> Floats:
        gain = gain_of(world, *calls, per_day, p, loss)
        out = np.zeros_like(gain)
        for day in range(gain.shape[1]):
            out[:, day] = np.maximum(0.0, (out[:, day - 1] if day else 0.0) + gain[:, day])
        return out

    height = np.quantile(level(world.calls(rng, 4000, YEAR, per_day, p)).max(axis=1), 1 - budget)
    share = np.where(np.arange(YEAR) < after, p, p - loss)
    return first_alarm(level(world.calls(rng, 2000, YEAR, per_day, share)) >= height, after)


def gain_of(world: World, s: Floats, m: Floats, per_day: float, p: float, loss: npt.ArrayLike) -> Floats:
    "Log likelihood ratio of each day, for a loss or one for each day."
    lost = np.asarray(loss, dtype=np.float64)
    if not world.rho:
        return np.asarray(
            s * np.log((p - lost) / p) + (m - s) * np.log((1 - p + lost) / (1 - p)), dtype=np.float64
        )
    together = 1 + np.maximum(m - 1, 0) * world.rho
    seen, follow = (
        world.rho * m / together,
        world.follow(per_day),
    )  # share of a day's variance that is its luck
    discount = 1 + 2 * follow / (1 - follow) * float(seen.mean())
    return np.asarray(
        (lost * (m * p - s) - lost**2 * m / 2) / (p * (1 - p) * together * discount), dtype=np.float64
    )


def creeping(days: npt.ArrayLike, loss: float = 0.1, ramp: int = 60) -> Floats:
    "A loss that creeps in: nothing before day 0, all of it after the ramp."
    return np.asarray(loss * np.clip((np.asarray(days) + 1) / ramp, 0, 1), dtype=np.float64)


def drift_oracle(
    world: World, rng: np.random.Generator, per_day: float, p: float, after: int, budget: float = 0.05
) -> Floats:
    "Delays of somebody who knows everything of a loss that creeps in, but the day on which it began."

    def level(calls: tuple[Floats, Floats]) -> Floats:
        s, m = calls
        best = np.zeros_like(s)
        for began in range(YEAR):
            lost = creeping(np.arange(YEAR - began))
            path = np.cumsum(gain_of(world, s[:, began:], m[:, began:], per_day, p, lost), axis=1)
            np.maximum(best[:, began:], path, out=best[:, began:])
        return best

    height = np.quantile(level(world.calls(rng, 1500, YEAR, per_day, p)).max(axis=1), 1 - budget)
    share = p - creeping(np.arange(YEAR) - after)
    return first_alarm(level(world.calls(rng, 1000, YEAR, per_day, share)) >= height, after)


def bar_for(known: Learned, row: int, counts: Floats, per_day: float, draws: int) -> Bar:
    "The bar of one of many references, its rate in steps as the product has it."
    with_trades = per_day / (1 - np.exp(-per_day))
    rate = RATE_STEP ** round(log(with_trades) / log(RATE_STEP))
    return draw_bar(known.take([row]), counts, rate, draws, seed=row)


@dataclass(frozen=True)
class Cell:
    "Backtests of one kind with their bars."

    known: Learned  # One row for each live year
    bars: list[Bar]  # One for each backtest
    years: int

    def heights(self, budget: float) -> Floats:
        "Bar of each live year, shape (series, 1)."
        return np.repeat([bar.height(budget) for bar in self.bars], self.years)[:, None]


def make_cell(
    world: World, rng: np.random.Generator, reference: tuple[int, int], per_day: float, p: float,
    backtests: int, years: int, draws: int,
) -> Cell:  # fmt: skip
    "Draw backtests, learn from them, and draw their bars."
    trades, days = reference
    sums, counts = world.calls(rng, backtests, days, trades / days, p)
    known = learn(sums, counts)
    bars = [bar_for(known, row, counts[row], per_day, draws) for row in range(backtests)]
    return Cell(known.take(np.repeat(np.arange(backtests), years)), bars, years)


def delay_row(
    world: World,
    reference: tuple[int, int],
    per_day: float,
    p: float,
    counts: Counts,
    seed: int = 0,
) -> dict[str, Any]:
    "False alarms and delays of right/wrong alone, of the whole budget, beside the oracle."
    rng, (backtests, years, draws) = np.random.default_rng(seed), counts
    cell = make_cell(world, rng, reference, per_day, p, backtests, years, draws)
    heights, n = cell.heights(0.05), backtests * years
    tops = evidence_path(*world.calls(rng, n, YEAR, per_day, p), cell.known)
    row: dict[str, Any] = {"false": false_rate((tops >= heights).any(axis=1), backtests), "n": n}
    row["theory"] = float((tops.max(axis=1) >= log(20)).mean())
    row["watch"] = float((tops >= cell.heights(0.5)).any(axis=1).mean())
    for loss in (0.2, 0.1, 0.05):
        share = np.where(np.arange(YEAR) < 60, p, p - loss)
        path = evidence_path(*world.calls(rng, n, YEAR, per_day, share), cell.known)
        row[loss] = median(oracle(world, rng, per_day, p, loss, 60)), median(first_alarm(path >= heights, 60))
    share = p - creeping(np.arange(YEAR) - 60)
    path = evidence_path(*world.calls(rng, n, YEAR, per_day, share), cell.known)
    row["drift"] = median(first_alarm(path >= heights, 60))
    return row


def print_delays(counts: Counts, rates: list[float], worlds: list[str], p: float = 0.52) -> None:
    "The grid: change on day 60."
    print(
        "\n| world | backtest | a day | -20: oracle / ours | -10 | -5 | drift to -10 | false a year | at 20 : 1 | watch | n |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for world in (w for w in WORLDS if w.name in worlds):
        for reference in REFERENCES:
            for per_day in rates:
                row = delay_row(world, reference, per_day, p, counts)
                cells = []
                for loss in (0.2, 0.1, 0.05):
                    best, own = row[loss]
                    ratio = f" ({own / best:.1f})" if own < inf else ""
                    cells.append(f"{days_text(best)} / {days_text(own)}{ratio}")
                rate, low, high = row["false"]
                print(
                    f"| {world.name} | {reference[0]}/{reference[1]} | {per_day:g} | {' | '.join(cells)} | {days_text(row['drift'])} "
                    f"| {rate:.1%} ({low:.1%}–{high:.1%}) | {row['theory']:.1%} | {row['watch']:.0%} | {row['n']} |",
                    flush=True,
                )


def seen_case(world: World, counts: Counts, seed: int = 1) -> dict[str, Any]:
    "Precision 0.52 → 0.40 on day 30, ten a day, backtest of 120 days: delays and the verdict of one look on day 60."
    rng, (backtests, years, draws) = np.random.default_rng(seed), counts
    cell = make_cell(world, rng, (1200, 120), 10, 0.52, backtests, years, draws)
    n, share = backtests * years, np.where(np.arange(YEAR) < 30, 0.52, 0.40)
    path = evidence_path(*world.calls(rng, n, YEAR, 10, share), cell.known)
    healthy = evidence_path(*world.calls(rng, n, YEAR, 10, 0.52), cell.known)
    looks = np.repeat([bar.looks[59] for bar in cell.bars], years)
    row: dict[str, Any] = {"n": n, "verdict": float((path[:, 59] > looks).mean())}
    row["verdict size"] = float((healthy[:, 59] > looks).mean())
    for name, budget in (
        ("degraded, 5 %", 0.05),
        ("2 of a desk, 2 %", 0.02),
        ("half of 5 %", 0.025),
        ("watch, 50 %", 0.5),
    ):
        found = first_alarm(path >= cell.heights(budget), 30)
        row[name] = median(found), median(found, 0.8), [float((found <= d).mean()) for d in (20, 30, 60)]
    found = oracle(world, rng, 10, 0.52, 0.12, 30)
    row["oracle"] = median(found), median(found, 0.8), [float((found <= d).mean()) for d in (20, 30, 60)]
    past = world.calls(rng, 240, 120, 10, 0.52)
    found = first_alarm(peers.old_rule(world.calls(rng, 240, YEAR, 10, share), past, 0.05 / 3), 30)
    row["old rule"] = median(found), median(found, 0.8), [float((found <= d).mean()) for d in (20, 30, 60)]
    return row


def seen_by_all(world: World, counts: Counts, seed: int = 8) -> tuple[float, float, list[float]]:
    "The same case with all streams on one budget."
    rng = np.random.default_rng(seed)
    desk = make_desk(world, rng, (1200, 120), 10, counts)
    found = first_alarm(desk.raised(desk.paths(rng, world, 10, since(30, Trades(0.40)))), 30)
    return median(found), median(found, 0.8), [float((found <= d).mean()) for d in (20, 30, 60)]


def print_seen(counts: Counts) -> None:
    "The case that was seen."
    print(
        "\n| -12 points after day 30 | world | median | 80 % | found in 20 / 30 / 60 days |\n|---|---|---|---|---|"
    )
    for world in WORLDS[:2]:
        row = seen_case(world, counts) | {"all streams, 5 %": seen_by_all(world, counts)}
        for name in (
            "oracle",
            "degraded, 5 %",
            "all streams, 5 %",
            "half of 5 %",
            "2 of a desk, 2 %",
            "watch, 50 %",
            "old rule",
        ):
            mid, most, within = row[name]
            text = " / ".join(f"{x:.0%}" for x in within)
            print(f"| {name} | {world.name} | {days_text(mid)} | {days_text(most)} | {text} |")
        print(
            f"| one look on day 60 says worse | {world.name} | {row['verdict']:.0%} | healthy: {row['verdict size']:.1%} | n = {row['n']} |",
            flush=True,
        )


@dataclass(frozen=True)
class Trades:
    "What a trade is like, by live day; every field is a number or has shape (days,)."

    precision: Any = 0.52
    slippage: Any = 0.02  # Mean, in percent
    informed: Any = 1.0  # 1: the confidence is calibrated; 0: it says nothing
    wins: Any = 1.0  # Size of a win over that of the backtest
    losses: Any = 1.0
    outcomes: Any = 0.8  # Share of trades with a directional outcome


CLIPS = {"return": (-0.55, 0.55), "slippage": 0.06}  # 5 and 95 % of a backtest of these worlds


def day_sums(
    rng: np.random.Generator, world: World, series: int, days: int, per_day: float, like: Trades
) -> dict[str, tuple[Floats, Floats, Floats]]:
    "Sums, counts and summed squares by day of every stream, shape (series, days)."
    counts = rng.poisson(per_day, (series, days))
    day = np.repeat(np.arange(series * days), counts.ravel())

    def each(value: Any) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (series, days)).ravel()[day]

    p = each(like.precision)
    luck = each(np.sqrt(world.rho * 0.25) * world.luck(rng, series, days, per_day))
    told = rng.normal(0, 0.12, len(day))
    confidence = np.clip(0.52 + told, 0.05, 0.95)
    right = rng.random(len(day)) < np.clip(p + each(like.informed) * told + luck, 0.01, 0.99)
    size = 0.2 * np.abs(rng.standard_t(3, len(day)))
    gain = np.where(right, size * each(like.wins), -size * each(like.losses))
    slip = rng.exponential(1.0, len(day)) * each(like.slippage)
    directional = rng.random(len(day)) < each(like.outcomes)
    scores = {
        "right": right.astype(np.float64),
        "return": np.clip(gain, *CLIPS["return"]),
        "log_score": np.where(right, np.log(confidence), np.log(1 - confidence)),
        "slippage": -np.minimum(slip, CLIPS["slippage"]),
        "outcomes": directional.astype(np.float64),
    }

    def summed(x: Floats) -> Floats:
        return np.bincount(day, x, series * days).reshape(series, days)

    m = counts.astype(np.float64)
    found = {name: (summed(x), m, summed(x * x)) for name, x in scores.items()}
    return {**found, "day_return": (summed(gain - slip), m, m)}  # raw; see `day_returns`


STREAMS = ("right", "return", "day_return", "log_score", "slippage", "outcomes")
SHARES = ("right", "outcomes")
CHANGES: dict[str, Trades] = {
    "nothing": Trades(),
    "precision -20": Trades(precision=0.32),
    "precision -10": Trades(precision=0.42),
    "precision -12": Trades(precision=0.40),
    "slippage doubled": Trades(slippage=0.04),
    "confidence says nothing, -5": Trades(precision=0.47, informed=0.0),
    "confidence says nothing": Trades(informed=0.0),
    "losses grow by 30 %": Trades(losses=1.3),
}


def day_returns(total: Floats, counts: Floats, mean: Floats, usual: Floats) -> tuple[Floats, Floats, Floats]:
    "Returns of days brought to the usual number of trades, one score a day; `mean` and `usual` of the backtest, shape (series, 1)."
    ratio = usual / np.maximum(counts, 1)
    score = mean * usual + (total - mean * counts) * np.minimum(np.sqrt(ratio), ratio)
    closed = (counts > 0).astype(np.float64)
    return score * closed, closed, (score * closed) ** 2


@dataclass(frozen=True)
class Desk:
    "Backtests of one kind, with what each teaches of every stream and its bars."

    cells: dict[str, Cell]
    mean: Floats  # Return of a trade in each backtest, shape (backtests,)
    usual: Floats  # Trades of an average day, shape (backtests,)

    def paths(
        self, rng: np.random.Generator, world: World, per_day: float, like: Trades
    ) -> dict[str, Floats]:
        "Evidence of every stream in the live years of each backtest, shape (series, days)."
        years, found = self.cells["right"].years, []
        step = max(1, int(2.5e6 / (YEAR * per_day * years)))  # backtests whose trades fit into memory
        for k in range(0, len(self.mean), step):
            own = np.repeat(np.arange(k, min(k + step, len(self.mean))), years)
            live = day_sums(rng, world, len(own), YEAR, per_day, like)
            raw, m, _ = live["day_return"]
            live["day_return"] = day_returns(raw, m, self.mean[own, None], self.usual[own, None])
            rows = slice(k * years, k * years + len(own))
            found.append({n: evidence_path(*live[n][:2], self.cells[n].known.take(rows)) for n in STREAMS})
        return {name: np.concatenate([part[name] for part in found]) for name in STREAMS}

    def raised(self, paths: dict[str, Floats], budget: float = 0.05) -> Bools:
        "Evenings above any bar, all streams on one budget; a quieter market raises no alarm, but has its share."
        shares = zip(STREAMS, budgets(len(STREAMS), budget), strict=True)
        alarms = [paths[name] >= self.cells[name].heights(b) for name, b in shares if name != "outcomes"]
        return np.asarray(np.any(alarms, axis=0), dtype=np.bool_)


def make_desk(
    world: World, rng: np.random.Generator, reference: tuple[int, int], per_day: float, counts: Counts
) -> Desk:
    "Draw backtests, learn every stream from them, and draw the bars for a live rate."
    (backtests, years, draws), (trades, days) = counts, reference
    past = day_sums(rng, world, backtests, days, trades / days, Trades())
    raw, m, _ = past["day_return"]
    mean, usual = raw.sum(axis=1) / m.sum(axis=1), m.sum(axis=1) / (m > 0).sum(axis=1)
    past["day_return"] = day_returns(raw, m, mean[:, None], usual[:, None])
    cells = {}
    for name in STREAMS:
        sums, m, squares = past[name]
        n = m.sum(axis=1)
        variance = None if name in SHARES else squares.sum(axis=1) / n - (sums.sum(axis=1) / n) ** 2
        known, rate = learn(sums, m, variance), 1.0 if name == "day_return" else per_day
        bars = [bar_for(known, row, m[row], rate, draws) for row in range(backtests)]
        cells[name] = Cell(known.take(np.repeat(np.arange(backtests), years)), bars, years)
    return Desk(cells, mean, usual)


def since(after: int, like: Trades) -> Trades:
    "Trades as they were, and from a day on as they are."
    was, late = Trades(), np.arange(YEAR) >= after
    return Trades(
        **{f.name: np.where(late, getattr(like, f.name), getattr(was, f.name)) for f in fields(Trades)}
    )


def stream_table(
    world: World, counts: Counts, changes: tuple[str, ...], reference: tuple[int, int] = (1200, 120),
    after: int = 30, seed: int = 2,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    "All streams on one budget, and each alone with the whole of it."
    rng = np.random.default_rng(seed)
    desk = make_desk(world, rng, reference, 10, counts)
    found: dict[str, dict[str, Any]] = {}
    for label in changes:
        paths = desk.paths(rng, world, 10, since(after, CHANGES[label]))
        raised = {name: paths[name] >= desk.cells[name].heights(0.05) for name in STREAMS}
        raised["all"] = desk.raised(paths)
        found[label] = {
            name: false_rate(on.any(axis=1), counts[0])
            if label == "nothing"
            else median(first_alarm(on, after))
            for name, on in raised.items()
        }
        say(f"streams, {world.name}, {label}")
    return found


def print_streams(counts: Counts) -> None:
    "What each stream finds."
    print(f"\n| backtest 1200/120, 10 a day, day 30 | world | {' | '.join(STREAMS)} | all on one budget |")
    print("|---" * (len(STREAMS) + 3) + "|")
    for world in WORLDS[:2]:
        for label, row in stream_table(world, counts, tuple(CHANGES)).items():
            cells = [rate_text(x) if isinstance(x, tuple) else days_text(x) for x in row.values()]
            name = "*false a year*" if label == "nothing" else label
            print(f"| {name} | {world.name} | {' | '.join(cells)} |", flush=True)


def rate_text(rate: tuple[float, float, float]) -> str:
    "A rate with its interval."
    return f"{rate[0]:.1%} ({rate[1]:.1%}–{rate[2]:.1%})"


def grid_row(
    world: World, reference: tuple[int, int], per_day: float, counts: Counts, losses: tuple[float, ...] = (0.2, 0.1), seed: int = 5
) -> dict[Any, Any]:  # fmt: skip
    "False alarms and delays of all streams on one budget, and of right/wrong with the whole of it, beside the oracle; change on day 60."
    rng, p, after = np.random.default_rng(seed), Trades().precision, 60
    desk = make_desk(world, rng, reference, per_day, counts)
    height = desk.cells["right"].heights(0.05)

    def both(like: Trades) -> tuple[Bools, Bools]:
        paths = desk.paths(rng, world, per_day, like)
        return paths["right"] >= height, desk.raised(paths)

    fine = both(Trades())
    row: dict[Any, Any] = {"false": [false_rate(on.any(axis=1), counts[0]) for on in fine], "n": len(fine[0])}
    for loss in losses:
        best = median(oracle(world, rng, per_day, p, loss, after))
        row[loss] = best, *(median(first_alarm(on, after)) for on in both(since(after, Trades(p - loss))))
    ramp = Trades(p - creeping(np.arange(YEAR) - after))
    row["drift"] = (
        median(drift_oracle(world, rng, per_day, p, after)),
        *(median(first_alarm(on, after)) for on in both(ramp)),
    )
    return row


GOALS = {500: 1.5, 120: 2.0, 60: 3.0}  # Most that a delay may be over the oracle's, by days of the backtest
DRIFT_GOAL = 1.4  # The same of a loss that creeps in, backtests of 120 days and more


def over(delays: tuple[float, float, float]) -> str:
    "Oracle, right/wrong alone, all streams; and the last over the first."
    best, right, every = delays
    ratio = f" (**{every / best:.1f}**)" if every < inf else ""
    return f"{days_text(best)} / {days_text(right)} / {days_text(every)}{ratio}"


def print_grid(counts: Counts, rates: list[float], worlds: list[str]) -> None:
    "Median delays with all streams on."
    print(
        "\noracle / right/wrong alone / all streams (over the oracle); change on day 60; false alarms a year"
    )
    print(
        "\n| world | backtest | a day | −20 points | −10 points | −10 within 60 days | right/wrong alone | all streams | n |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for world in (w for w in (*WORLDS, HEAVY) if w.name in worlds):
        for reference in REFERENCES:
            for per_day in rates:
                row = grid_row(world, reference, per_day, counts)
                cells = [over(row[name]) for name in (0.2, 0.1, "drift")] + [
                    rate_text(x) for x in row["false"]
                ]
                print(
                    f"| {world.name} | {reference[0]}/{reference[1]} | {per_day:g} | {' | '.join(cells)} | {row['n']} |",
                    flush=True,
                )
                say(f"delay, {world.name}, {reference[0]}/{reference[1]}, {per_day:g} a day")


FALSE_CELLS = (  # Backtest (trades, days), live trades a day
    ((240, 120), 2), ((1200, 120), 10), ((6000, 120), 50), ((1200, 120), 3), ((1200, 120), 30), ((5000, 500), 10), ((600, 60), 10),
)  # fmt: skip


def false_row(
    world: World, reference: tuple[int, int], per_day: float, counts: Counts, seed: int = 6
) -> dict[str, tuple[float, float, float]]:
    "False alarms a year of right/wrong alone and of all streams, and false words of the softer level."
    rng = np.random.default_rng(seed)
    desk = make_desk(world, rng, reference, per_day, counts)
    paths = desk.paths(rng, world, per_day, Trades())
    alarms = {
        "right": paths["right"] >= desk.cells["right"].heights(0.05),
        "all": desk.raised(paths),
        "watch": desk.raised(paths, 0.5),
    }
    return {name: false_rate(on.any(axis=1), counts[0]) for name, on in alarms.items()}


def print_false(counts: Counts, worlds: list[str]) -> None:
    "False alarms a year, world by world."
    print("\nhealthy years with an alarm (95 % interval); budget 5 %, of *watch* 50 %")
    print(
        "\n| world | backtest | live a day | right/wrong alone | all streams | watch, all streams | n |\n|---|---|---|---|---|---|---|"
    )
    for world in (w for w in (*WORLDS, HEAVY) if w.name in worlds):
        for reference, per_day in FALSE_CELLS:
            row = false_row(world, reference, per_day, counts)
            print(
                f"| {world.name} | {reference[0]}/{reference[1]} | {per_day} | {' | '.join(map(rate_text, row.values()))} "
                f"| {counts[0] * counts[1]} |",
                flush=True,
            )
            say(f"false, {world.name}, {reference[0]}/{reference[1]}, {per_day} a day")


def peer_rows(
    world: World, counts: Counts, years: int = 200, per_day: float = 10, seed: int = 7
) -> dict[str, dict[str, Any]]:
    "River's detectors and the old rule, by default and tuned to one healthy year of twenty, beside monitor and oracle: right/wrong."
    rng, p, after = np.random.default_rng(seed), 0.52, 60
    past, trades = world.calls(rng, years, 120, per_day, p), round(120 * per_day)
    day = np.arange(YEAR)
    lost = {"−20": 0.2 * (day >= after), "−10": 0.1 * (day >= after), "drift": creeping(day - after)}
    fine = world.calls(rng, years, YEAR, per_day, p)
    live = {name: world.calls(rng, years, YEAR, per_day, p - loss) for name, loss in lost.items()}
    cell = make_cell(world, rng, (trades, 120), per_day, p, *counts)

    def monitored(share: Any, budget: float) -> Bools:
        n = counts[0] * counts[1]
        path = evidence_path(*world.calls(rng, n, YEAR, per_day, share), cell.known)
        return np.asarray(path >= cell.heights(budget), dtype=np.bool_)

    def row(healthy: Bools, changed: dict[str, Bools], groups: int) -> dict[str, Any]:
        found: dict[str, Any] = {"false": false_rate(healthy.any(axis=1), groups)}
        return found | {name: median(first_alarm(on, after)) for name, on in changed.items()}

    rows: dict[str, dict[str, Any]] = {"oracle": {"false": (0.05, 0.05, 0.05)}}
    for name, loss in (("−20", 0.2), ("−10", 0.1)):
        rows["oracle"][name] = median(oracle(world, rng, per_day, p, loss, after))
    rows["oracle"]["drift"] = median(drift_oracle(world, rng, per_day, p, after))
    for name, budget in (("monitor, degraded", 0.05), ("monitor, watch", 0.5)):
        changed = {key: monitored(p - loss, budget) for key, loss in lost.items()}
        rows[name] = row(monitored(p, budget), changed, counts[0])
    say(f"peers, {world.name}, monitor")

    def add(
        name: str, alarms: Callable[[Days, float], Bools], usual: float, span: tuple[float, float]
    ) -> None:
        tuned = peers.tune(lambda x: alarms(fine, x), *span)
        for how, x in (("as it comes", usual), ("tuned", tuned)):
            label = f"{name}, {how} ({x:.2g})"
            rows[label] = row(alarms(fine, x), {key: alarms(days, x) for key, days in live.items()}, years)
        say(f"peers, {world.name}, {name}")

    for name, (_, usual, span) in peers.DETECTORS.items():
        add(name, lambda days, x, name=name: peers.detect(name, x, past, days), usual, span)  # type: ignore[misc]
    add("old rule", lambda days, x: peers.old_rule(days, past, x), 0.05 / 3, (1e-3, 0.999))
    return rows


def print_peers(counts: Counts, years: int) -> None:
    "Beside others, at two rates: what suits one need not suit the other."
    print(
        "\nright/wrong alone, backtest of 120 days at the same rate, change on day 60; median days until found; in brackets the parameter"
    )
    print(
        "\n| who | world | a day | false a year | −20 points | −10 points | −10 within 60 days |\n|---|---|---|---|---|---|---|"
    )
    for world in WORLDS[:2]:
        for per_day in (10, 50):
            for name, row in peer_rows(
                world, counts, years if per_day == 10 else years // 2, per_day
            ).items():
                rate = "5 %" if name == "oracle" else rate_text(row["false"])
                cells = " | ".join(days_text(row[key]) for key in ("−20", "−10", "drift"))
                print(f"| {name} | {world.name} | {per_day} | {rate} | {cells} |", flush=True)


def curve(world: World, series: int, seed: int = 3) -> dict[str, Any]:
    "Said against true chance, and how often the interval of the day covers, in a world drawn from the prior."
    rng = np.random.default_rng(seed)
    known = learn(*world.calls(rng, series, 120, 10, 0.52))
    begin = np.where(rng.random(series) < 0.3, 0, rng.integers(0, YEAR, series))
    begin = np.where(rng.random(series) < 0.3, begin, 999)
    loss = rng.choice([0.05, 0.1, 0.2], series)
    live = world.calls(rng, series, YEAR, 10, 0.52 - loss[:, None] * (np.arange(YEAR) >= begin[:, None]))
    path, asked = evidence_path(*live, known, likely=True), rng.integers(0, YEAR, series)
    said, true = chance_as_promised(path[np.arange(series), asked], asked + 1), begin > asked
    bins = []
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 0.97), (0.97, 1.01)):
        own = (said >= low) & (said < high)
        bins.append((float(said[own].mean()), float(true[own].mean()), int(own.sum())))
    sure = np.flatnonzero((said < 0.1) & ~true)
    inside = {}
    for size in (0.05, 0.1, 0.2):
        rows = [k for k in sure if loss[k] == size]
        hits, lost = [], []
        for k in rows:
            n = asked[k] + 1
            one = change(live[0][[k], :n], live[1][[k], :n], known.take([k]))
            hits.append(one.day[0, 0] <= begin[k] <= one.day[0, 2])
            lost.append(one.loss[0, 0] <= size <= one.loss[0, 2])
        inside[size] = (
            (float(np.mean(hits)), float(np.mean(lost)), len(rows)) if rows else (np.nan, np.nan, 0)
        )
    return {"bins": bins, "inside": inside}


def print_curve(series: int) -> None:
    "The chance that it still is as promised."
    for world in WORLDS[:2]:
        found = curve(world, series)
        print(
            f"\n{world.name}: said / true (n): "
            + ", ".join(f"{a:.0%} / {b:.0%} ({n})" for a, b, n in found["bins"])
        )
        print("covers (day, size, n) where it is clear: " + ", ".join(
            f"-{100 * size:.0f}: {a:.0%}, {b:.0%}, {n}" for size, (a, b, n) in found["inside"].items()
        ), flush=True)  # fmt: skip


def desks(world: World, repeats: int, seed: int = 4) -> dict[str, Any]:
    "Twelve strategies of which two lost 18 points 25 days ago, six a day; and one that lost 18 points, ten a day."
    rng = np.random.default_rng(seed)
    head, quiet, degraded, watch = [], [], [], []
    for _ in range(repeats):
        past = world.calls(rng, 12, 250, 6, 0.60)
        share = np.full((12, 85), 0.60)
        share[:2, 60:] = 0.42
        live = world.calls(rng, 12, 85, 6, share)
        desk = {str(k): [Stream("right", live[0][k], live[1][k], past[0][k], past[1][k])] for k in range(12)}
        read = monitor(desk)
        order = sorted(read, key=lambda name: read[name].chance)
        raised = {name for name, r in read.items() if r.state in ("degraded", "watch")}
        head.append(set(order[:2]) == {"0", "1"} and {"0", "1"} <= raised)
        quiet.append(sum(read[name].state == "degraded" for name in order if name not in "01"))
        watch.append(sum(read[name].state == "watch" for name in order if name not in "01"))
        degraded.append(sum(read[name].state == "degraded" for name in "01"))
    return {
        "head": np.mean(head),
        "false": np.mean(quiet),
        "watch": np.mean(watch),
        "found": np.mean(degraded) / 2,
    }


def print_desks(repeats: int) -> None:
    "A desk of twelve."
    for correlation in (0.0, 0.05):
        found = planted(12 if repeats < 10 else 24, correlation)
        print(
            f"\nplanted, correlation {correlation}: " + ", ".join(f"{k} {v:.3g}" for k, v in found.items()),
            flush=True,
        )
    for world in WORLDS[:2]:
        row = desks(world, repeats)
        print(
            f"\ndesk of twelve, {world.name}, {repeats} desks: both head the list and are raised in {row['head']:.0%}; degraded of the "
            f"broken {row['found']:.0%}; of the ten others {row['false']:.2f} degraded and {row['watch']:.2f} on watch; "
            "of twelve healthy ones {:.2f} false alarms a year are expected, and any in {:.0%} of all years".format(
                *expected_false_alarms(12, 0.05)
            ),
            flush=True,
        )


def planted_stream(seed: int, days: int, lost_on: int | None, correlation: float = 0.0) -> Stream:
    "Right/wrong of a run of `trade_telemetry.testing` and of its backtest of 250 days, ten trades a day."
    rows = []
    for length, drop, own in ((days, lost_on, 2 * seed), (250, None, 2 * seed + 1)):
        c = simulate_columns(
            length, 10, 0.60, loss_of_skill_on_day=drop, precision_after=None if drop is None else 0.42,
            day_correlation=correlation, seed=own,
        )  # fmt: skip
        told = c.actual < 2  # a direction came of it
        _, day = np.unique(c.exit_us // 86_400_000_000, return_inverse=True)
        right = np.bincount(day, told & (c.actual == c.predicted), length)
        rows += [right.astype(np.float64), np.bincount(day, told, length).astype(np.float64)]
    return Stream("right", *rows)


def planted(seeds: int, correlation: float = 0.0) -> dict[str, float]:
    "A desk that loses 18 points on day 60, and healthy ones, as the package's own simulation makes them."
    lost = monitor({str(k): [planted_stream(k, 130, 60, correlation)] for k in range(seeds)})
    fine = monitor({str(k): [planted_stream(500 + k, 130, None, correlation)] for k in range(2 * seeds)})
    alarms = [first_alarm(r.streams[0].alarm[None], 60) for r in lost.values()]
    looks = [first_alarm(r.streams[0].path[None, 60:] >= r.streams[0].watch_bar, 0) for r in lost.values()]
    return {
        "degraded within 35 days": float(np.mean([len(x) > 0 and x[0] <= 35 for x in alarms])),
        "watch within 20 days": float(np.mean([x[0] <= 20 for x in looks])),
        "healthy ones degraded": float(np.mean([r.streams[0].alarm.any() for r in fine.values()])),
        "seeds": seeds,
    }


def cost() -> dict[str, float]:
    "CPU seconds of an evening for 5,000 pairs, of a year from scratch for 500, and of a bar."
    rng, world = np.random.default_rng(5), WORLDS[1]
    known = learn(*world.calls(rng, 5000, 120, 10, 0.52))
    live = world.calls(rng, 5000, YEAR, 10, 0.52)
    past = world.calls(rng, 1, 500, 10, 0.52)
    one = learn(*past)

    def best(call: Any, rounds: int = 3) -> float:
        took = []
        for _ in range(rounds):
            began = time.process_time()
            call()
            took.append(time.process_time() - began)
        return min(took)

    return {
        "an evening for 5,000 pairs": best(lambda: evidence_path(*live, known, first=YEAR - 1)),
        "a year of 500 from scratch": best(
            lambda: evidence_path(live[0][:500], live[1][:500], known.take(slice(500)))
        ),
        "a bar": best(lambda: draw_bar(one, past[1][0], 10)),
    }


def clearing(
    world: World, reference: tuple[int, int], per_day: float, loss: float, counts: Counts, lasts: int | None = None, seed: int = 0,
) -> dict[str, Floats]:  # fmt: skip
    "Evenings from an alarm to the one that clears it (with `lasts`: from the end of the loss), by the rule and by a fall of the path."
    rng, (backtests, years, draws) = np.random.default_rng(seed), counts
    cell, days, p = (
        make_cell(world, rng, reference, per_day, 0.52, backtests, years, draws),
        np.arange(460),
        0.52,
    )
    lost = (days >= 60) & (days < 60 + (lasts or 999))
    live = world.calls(rng, backtests * years, len(days), per_day, p - loss * lost)
    paths, steps, bars = (
        evidence_path(*live, cell.known), evidence_steps(*live, cell.known), cell.heights(0.05)[:, 0]
    )  # fmt: skip
    found: dict[str, list[float]] = {"rule": [], "fall": []}
    for path, step, bar in zip(paths, steps, bars, strict=True):
        rise = int(np.argmax(path >= bar)) if path.max() >= bar else 0
        if not 60 <= rise < min(60 + (lasts or 999), 200):
            continue
        over = np.array(recovery(step[rise + 1 :].tolist())) >= YEAR / FALSE_CLEAR
        fall = np.maximum.accumulate(path[rise:]) - path[rise:] >= max(bar, 5.0)
        for name, off in (("rule", over), ("fall", fall[1:])):
            at = rise + 1 + int(np.argmax(off)) if off.any() else inf
            found[name].append(at - (60 + lasts if lasts else rise))
    return {name: np.array(rows) for name, rows in found.items()}


def print_clearing(counts: Counts) -> None:
    "How often an alarm clears although the loss lasts, and how soon after it ended."
    print(
        f"\nAn alarm clears, by the rule (at most {FALSE_CLEAR:.0%} a year while the loss lasts) / by a fall of the path by 5 or the bar"
        "\n| world | backtest | a day | loss | within a year while it lasts | before the end of 60 days | days from the end, of the others | n |"
        "\n|---|---|---|---|---|---|---|---|"
    )
    for world in WORLDS:
        for reference in REFERENCES[:2]:
            for per_day, loss in ((10, 0.2), (10, 0.1), (50, 0.2), (50, 0.1)):
                lasts, ended = (clearing(world, reference, per_day, loss, counts, n) for n in (None, 60))
                cells = [" / ".join(f"{np.mean(x <= YEAR):.1%}" for x in lasts.values())]
                cells += [" / ".join(f"{np.mean(x < 0):.0%}" for x in ended.values())]
                cells += [" / ".join(days_text(median(x[x >= 0])) for x in ended.values())]
                print(
                    f"| {world.name} | {reference[0]}/{reference[1]} | {per_day:g} | −{100 * loss:.0f} | {' | '.join(cells)} | {len(lasts['rule'])}, {len(ended['rule'])} |",
                    flush=True,
                )


PARTS = ("cost", "seen", "delay", "false", "streams", "peers", "curve", "desk", "clear", "right")


def main() -> int:
    "Print the tables."
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small counts, to see that it works")
    size.add_argument("--full", action="store_true", help="the counts of a claim, hours")
    parser.add_argument(
        "--only", default=",".join(PARTS[:-1]), help=f"parts, with commas between: {', '.join(PARTS)}"
    )
    parser.add_argument("--backtests", type=int, help="other counts than those")
    parser.add_argument("--years", type=int, help="live years of each backtest")
    parser.add_argument("--draws", type=int, help="drawn years of a bar")
    parser.add_argument("--worlds", help="of delay, false and right: iid, day, mood, heavy")
    parser.add_argument("--rates", default="10,50", help="trades a day of delay and right")
    args = parser.parse_args()
    asked = args.only.split(",")
    if wrong := set(asked) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(wrong))}; there are {', '.join(PARTS)}")
    rates, n = [float(x) for x in args.rates.split(",")], 0 if args.quick else 2 if args.full else 1

    def counts(*of: Counts) -> Counts:
        backtests, years, draws = of[n]
        return args.backtests or backtests, args.years or years, args.draws or draws

    def worlds(usual: str) -> list[str]:
        return (args.worlds or usual).split(",")

    if "cost" in asked:
        took = cost()
        print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()))
        if took["an evening for 5,000 pairs"] > 0.3 or took["a bar"] > 0.5:
            print("slower than 0.3 s and 0.5 s")
    run: dict[str, Callable[[], None]] = {
        "seen": lambda: print_seen(counts((8, 5, 99), (40, 10, 199), (100, 10, 499))),
        "delay": lambda: print_grid(
            counts((3, 8, 99), (12, 20, 199), (100, 10, 499)), rates, worlds("iid,day")
        ),
        "false": lambda: print_false(
            counts((4, 10, 99), (20, 30, 199), (100, 10, 499)), worlds("iid,day,heavy,mood")
        ),
        "streams": lambda: print_streams(counts((6, 8, 99), (30, 10, 199), (100, 10, 499))),
        "peers": lambda: print_peers(counts((8, 5, 99), (50, 10, 199), (100, 10, 499)), (40, 300, 1000)[n]),
        "curve": lambda: print_curve((500, 4000, 20000)[n]),
        "desk": lambda: print_desks((3, 20, 100)[n]),
        "clear": lambda: print_clearing(counts((3, 8, 99), (10, 15, 199), (100, 10, 499))),
        "right": lambda: print_delays(
            counts((8, 5, 99), (20, 10, 199), (100, 10, 499)), rates, worlds("iid,day,mood")
        ),
    }
    for part in (part for part in PARTS if part in asked and part in run):
        run[part]()
        say(f"{part} done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
