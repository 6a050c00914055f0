"""Other ways to find a change: river's ADWIN, DDM and Page–Hinkley, trade by trade, and the rule of bets against a bound that came before the monitor.

Each gets what the monitor gets: the trades of the backtest first, then those of the live days, each right or wrong. An alarm counts on
the evening of the day on which a detector reports a change; what it reports during the backtest does not count. They know no direction
(ADWIN) and no day, and nobody told them a rate of false alarms: their parameters are those of river, or tuned with the healthy years
of the same world so that one year of twenty has an alarm, which nobody could do who has a single strategy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trade_telemetry.judgement.sequential import Series, watch_shares

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Days = tuple[Floats, Floats]  # Right calls and calls of each day, shape (series, days)


def trades_of(days: Days, row: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    "Errors of the trades of one series in a random order within each day, and the day of each."
    sums, counts = (part[row].astype(np.int64) for part in days)
    day = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(day)) - np.repeat(np.cumsum(counts) - counts, counts)
    wrong = (place >= sums[day]).astype(np.float64)
    return wrong[np.lexsort((rng.random(len(day)), day))], day


def adwin(delta: float = 0.002) -> Any:
    "River's ADWIN; 0.002 is its default."
    from river.drift import ADWIN

    return ADWIN(delta=delta)


def ddm(threshold: float = 3.0) -> Any:
    "River's DDM; 3 standard deviations are its default."
    from river.drift.binary import DDM

    return DDM(drift_threshold=threshold)


def page_hinkley(threshold: float = 50.0) -> Any:
    "River's Page–Hinkley for errors that rise; 50 is its default."
    from river.drift import PageHinkley

    return PageHinkley(threshold=threshold, mode="up")


DETECTORS: dict[str, tuple[Callable[..., Any], float, tuple[float, float]]] = {
    "ADWIN": (adwin, 0.002, (1e-9, 0.5)),  # made by, default, range in which it is tuned
    "DDM": (ddm, 3.0, (8.0, 0.5)),
    "Page–Hinkley": (page_hinkley, 50.0, (200.0, 1.0)),
}


def detect(name: str, parameter: float, past: Days, live: Days, seed: int = 0) -> Bools:
    "Evenings on which a detector reports a change, shape (series, days)."
    make, raised = DETECTORS[name][0], np.zeros(live[0].shape, dtype=np.bool_)
    for row in range(len(raised)):
        rng = np.random.default_rng([seed, row])
        (before, _), (now, day) = trades_of(past, row, rng), trades_of(live, row, rng)
        detector = make(parameter)
        for wrong in before.tolist():
            detector.update(wrong)
        for wrong, d in zip(now.tolist(), day.tolist(), strict=True):
            detector.update(wrong)
            if detector.drift_detected:
                raised[row, d] = True
    return raised


def old_rule(live: Days, past: Days, budget: float) -> Bools:
    "Evenings with the alarm on by the bets against the bound, shape (series, days)."
    rows = [
        Series(s[m > 0], m[m > 0], a[b > 0], b[b > 0], budget)
        for s, m, a, b in zip(*live, *past, strict=True)
    ]
    raised = np.zeros(live[0].shape, dtype=np.bool_)
    for row, found in enumerate(watch_shares(rows)):
        if found is not None:
            raised[row, live[1][row] > 0] = found.on
    return raised


def tune(
    alarms: Callable[[float], Bools], quiet: float, eager: float, rate: float = 0.05, steps: int = 7
) -> float:
    "The parameter between a quiet and an eager one at which this share of the healthy years has an alarm, by halving on a log scale."
    for _ in range(steps):
        middle = float(np.sqrt(quiet * eager))
        if alarms(middle).any(axis=1).mean() > rate:
            eager = middle
        else:
            quiet = middle
    return quiet
