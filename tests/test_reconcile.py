"""Why live differed: planted differences come back to the cent, and nothing is explained where nothing was planted."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from itertools import permutations
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linear_sum_assignment

from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.cli.main import main
from trade_telemetry.config import Settings
from trade_telemetry.judgement.gap import CAUSES, OF_PAIRS, lines_of, terms_of
from trade_telemetry.judgement.gap_evidence import cause_gap, dtw_distance
from trade_telemetry.judgement.pairs import Tolerance, assign, match_positions, positions_of
from trade_telemetry.judgement.reconcile import Reconciliation, reconcile
from trade_telemetry.judgement.reconcile_replay import replay_gap, replay_side
from trade_telemetry.judgement.reconcile_sides import read_side
from trade_telemetry.judgement.reconcile_words import SCHEMA, headline
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.testing import START, make_trace
from trade_telemetry.timezones import utc_of
from trade_telemetry.trace import PredictionTrace
from trade_telemetry.trading.backtester import Backtester
from trade_telemetry.trading.bars import Bars
from trade_telemetry.trading.broker import Fill, Order
from trade_telemetry.trading.feeds import ReplayFeed
from trade_telemetry.trading.live_loop import Engine, EngineConfig
from trade_telemetry.trading.simulation import simulate_bars
from trade_telemetry.trading.trader import Costs, fill_price

LOGS = Path(__file__).resolve().parents[2] / "shared" / "data" / "trades"
FRAMEWORKS = Path(__file__).parent / "data" / "frameworks"
NAMES = (
    "freqtrade_spot_1m_long",
    "freqtrade_spot_15m_long",
    "freqtrade_futures_15m_long_short",
    "freqtrade_futures_30m_long_short",
)
Facts = dict[str, Any]


@cache
def log_of(name: str) -> list[PredictionTrace]:
    path = LOGS / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"real trade logs are not here: {path}")
    return read_side(path, "backtest").columns.to_traces()


# What a trade is made of, in money per point of its size, and the way back


def facts_of(trace: PredictionTrace) -> Facts:
    size = (trace.quantity or 0.0) * (trace.multiplier or 1.0)
    stake = size * trace.entry_price / (trace.leverage or 1.0)
    side = 1.0 if trace.predicted_direction == "LONG" else -1.0
    fees, funding = stake * (trace.fees_pct or 0.0) / 100, stake * (trace.funding_pct or 0.0) / 100
    rest = (trace.profit or 0.0) - size * side * (trace.exit_price - trace.entry_price) + fees + funding
    return {
        "side": side, "entry": trace.entry_price, "exit": trace.exit_price, "size": size,
        "fees": fees / size, "funding": funding / size, "other": rest / size,
    }  # fmt: skip


def earned(f: Facts) -> float:
    price = f["side"] * (f["exit"] - f["entry"])
    return float(f["size"] * (price - f["fees"] - f["funding"] + f["other"]))


def trace_of(trace: PredictionTrace, f: Facts, **more: Any) -> PredictionTrace:
    stake = f["size"] * f["entry"] / (trace.leverage or 1.0)
    return replace(
        trace, entry_price=f["entry"], exit_price=f["exit"], quantity=f["size"] / (trace.multiplier or 1.0), profit=earned(f),
        realized_return_pct=100 * earned(f) / stake, fees_pct=100 * f["fees"] * f["size"] / stake,
        funding_pct=100 * f["funding"] * f["size"] / stake, **{"trace_id": "", "position_id": ""} | more,
    )  # fmt: skip


def blame(back: Facts, live: Facts) -> dict[str, float]:
    """Shapley's value by its definition: swap the facts that differ in every order, and average."""
    players = [name for name in ("entry", "exit", "size", "fees") if live[name] != back[name]]
    shares = dict.fromkeys(players, 0.0)
    orders = list(permutations(players))
    for order in orders:
        now, before = dict(back), earned(back)
        for name in order:
            now[name] = live[name]
            shares[name] += (earned(now) - before) / len(orders)
            before = earned(now)
    return shares


KINDS = ("slippage", "late", "exit", "missing", "extra", "size", "fees")


class Planted:
    "A log against itself with differences that the test draws, and what they come to."

    def __init__(self, log: list[PredictionTrace], kinds: tuple[str, ...], seed: int) -> None:
        self.rng, self.log = np.random.default_rng(seed), log
        self.sums, self.counts = dict.fromkeys(CAUSES, 0.0), {"missing": 0, "extra": 0, "late": 0}
        self.bar = 60.0 * next(
            m for m in (30, 15, 1) if all(t.timestamp.timestamp() % (60 * m) == 0 for t in log)
        )
        self.near = Tolerance(self.bar, 2 * self.bar)
        self.live = [done for t in log if (done := self.changed(t, kinds)) is not None]
        if "extra" in kinds:
            self.live += self.extras()

    def changed(self, trace: PredictionTrace, kinds: tuple[str, ...]) -> PredictionTrace | None:
        back, more, where = facts_of(trace), dict[str, Any](), {"entry": "entry_price", "exit": "exit_price"}
        live, luck, rng = dict(back), self.rng.random(4), self.rng
        if "missing" in kinds and luck[0] < 0.1:
            self.sums["missing"] -= earned(back)
            self.counts["missing"] += 1
            return None
        if "slippage" in kinds:
            live["entry"] *= 1 + live["side"] * 0.0005
        if "late" in kinds and luck[1] < 0.1 and trace.holding_period_minutes * 60 > 4 * self.bar:
            live["entry"] *= 1 + rng.normal(0, 0.002)
            more["timestamp"], where["entry"] = trace.timestamp + timedelta(seconds=self.bar), "late_entry"
            self.counts["late"] += 1
        if "exit" in kinds and luck[2] < 0.2:
            live["exit"] *= 1 + rng.normal(0, 0.004)
            more["exit_reason"], where["exit"] = "by hand", "exit_decision"
        if "size" in kinds:
            live["size"] /= 2
        if "fees" in kinds:
            live["fees"] *= 2
        for name, share in blame(back, live).items():
            self.sums[where.get(name, name)] += share
        return trace_of(trace, live, **more)

    def extras(self) -> list[PredictionTrace]:
        times: dict[str, list[float]] = {}
        for t in self.log:
            times.setdefault(t.symbol, []).append(t.timestamp.timestamp())
        made = []
        for t in self.log:
            at = t.timestamp + timedelta(seconds=5 * self.bar)
            apart = min(abs(at.timestamp() - other) for other in times[t.symbol]) > 3 * self.bar
            if (
                apart
                and self.rng.random() < 0.06
                and at + ((t.exit_timestamp or at) - t.timestamp) < self.log[-1].timestamp
            ):
                times[t.symbol].append(at.timestamp())
                facts = facts_of(t) | {"exit": t.entry_price * (1 + self.rng.normal(0, 0.01))}
                end = at + ((t.exit_timestamp or at) - t.timestamp)
                made.append(
                    trace_of(t, facts, timestamp=at, exit_timestamp=end, position_id=f"{len(made):016x}")
                )
                self.sums["extra"] += earned(facts)
        self.counts["extra"] = len(made)
        return made

    def reconciled(self) -> Reconciliation:
        near = {"tolerance_seconds": self.near.seconds, "window_seconds": self.near.window_seconds}
        return reconcile(self.live, self.log, **near)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [*((NAMES[k % 3 + 1], (kind,)) for k, kind in enumerate(KINDS)), *((name, KINDS) for name in NAMES)],
)
def test_planted_differences_come_back_exactly(name: str, kinds: tuple[str, ...]) -> None:
    planted = Planted(log_of(name), kinds, seed=len(kinds[0]))
    found = planted.reconciled()
    scale = float(found.lines.gross.sum()) if found.lines is not None else 0.0
    totals = {cause: found.causes[cause].total if cause in found.causes else 0.0 for cause in CAUSES}
    assert totals == pytest.approx(planted.sums, abs=1e-9 * scale)
    counted = {kind: found.classes[kind] for kind in planted.counts}
    assert counted == planted.counts
    assert found.classes["flipped"] == found.classes["early"] == 0
    assert found.classes["matched"] + planted.counts["late"] + planted.counts["missing"] == len(planted.log)
    assert found["residual"] <= 1e-9
    assert all(planted.sums[cause] for cause in found.causes)  # nothing else is blamed


@pytest.mark.parametrize("name", NAMES)
def test_a_log_against_itself_is_all_matched_without_a_gap_and_earns_its_profit_abs(name: str) -> None:
    log = log_of(name)
    found = reconcile(LOGS / f"{name}.csv", log)
    assert (found.classes["matched"], found.differs, found.gap.total) == (len(log), False, 0.0)
    assert found["similarity"]["dtw"] == 0.0
    with (LOGS / f"{name}.csv").open(newline="") as file:
        profit = sum(float(row["profit_abs"]) for row in csv.DictReader(file) if row["is_open"] == "False")
    assert found["live"]["result"] == pytest.approx(profit, rel=1e-9) == found["backtest"]["result"]


@pytest.mark.parametrize(
    ("framework", "file"),
    [
        ("backtesting", "trades.csv"),
        ("vectorbt", "trades.csv"),
        ("jesse", "trades.json"),
        ("nautilus_trader", "positions.csv"),
    ],
)
def test_totals_are_those_kept_with_the_exports_of_frameworks(framework: str, file: str) -> None:
    expected = json.loads((FRAMEWORKS / framework / "made.json").read_text())["expected"][file]
    path = FRAMEWORKS / framework / file
    found = reconcile(
        path, path, strategy="mine", options={"timezone": "UTC", "fields": {"symbol": "'EURUSD'"}}
    )
    assert found.classes["matched"] == expected["positions"]
    assert (found.differs, found.unit) == (False, "money")
    assert found["live"]["result"] == pytest.approx(expected["profit"], rel=1e-6)


# The split


finite = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 4))


@st.composite
def trades(draw: Any) -> PredictionTrace:
    entry = draw(st.floats(1, 500)) * draw(st.sampled_from([1, 1, 1, -1]))
    exit_ = entry + draw(finite)
    leverage, multiplier = draw(st.sampled_from([None, 1.0, 3.5])), draw(st.sampled_from([None, 50.0]))
    quantity, side = draw(st.floats(0.01, 1000)), draw(st.sampled_from(["LONG", "SHORT"]))
    fees, funding = draw(st.sampled_from([None, 0.0, 0.2])), draw(st.sampled_from([None, 0.0, -0.3, 0.4]))
    profit = draw(st.one_of(st.none(), finite))
    return make_trace(
        0, predicted_direction=side, entry_price=entry, exit_price=exit_, leverage=leverage, multiplier=multiplier,
        quantity=quantity, fees_pct=fees, funding_pct=funding, profit=profit, realized_return_pct=draw(finite),
        exit_reason=draw(st.sampled_from(["", "stop", "target"])),
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(live=trades(), back=trades(), unit=st.sampled_from(["money", "percent"]))
def test_the_causes_of_any_pair_add_up_to_its_gap(
    live: PredictionTrace, back: PredictionTrace, unit: Any
) -> None:
    sides = [positions_of(TraceColumns.from_traces([t])) for t in (live, back)]
    pairs = match_positions(sides[0], sides[1], Tolerance(60, 300))
    lines = lines_of(pairs, sides[0], sides[1], unit)
    ours, theirs = (terms_of(side, unit) for side in sides)
    assert float(lines.gap.sum()) == pytest.approx(float(ours.result.sum() - theirs.result.sum()))
    rounding = 1e-9 * float(lines.gross.sum()) + 1e-2 * float(lines.noise.sum())
    rounding += 1e-15 * float(
        np.abs(lines.amounts).sum()
    )  # large causes that cancel: a few units of their last place
    assert abs(lines.amounts.sum() - lines.gap.sum()) <= rounding
    swapped = lines_of(match_positions(sides[1], sides[0], Tolerance(60, 300)), sides[1], sides[0], unit)
    if lines.kind.tolist() == ["matched"]:  # the split knows no order: swapping the sides changes all signs
        assert swapped.amounts == pytest.approx(-lines.amounts, rel=1e-9, abs=max(rounding, 1e-12))


# The assignment


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0.02, 1))
def test_the_assignment_is_the_best_there_is(seed: int, n: int, m: int, dense: float) -> None:
    rng = np.random.default_rng(seed)
    table = np.where(rng.random((n, m)) < dense, np.round(4 * rng.random((n, m)), 2), inf)
    i, j = np.nonzero(np.isfinite(table))
    made = assign(i, j, table[i, j])
    assert len(set(i[made])) == len(set(j[made])) == len(made)
    ours = table[i[made], j[made]].sum() + 1.5 * (n + m - 2 * len(made))
    padded = np.zeros((n + m, n + m))
    padded[:n, :m], padded[:n, m:], padded[n:, :m] = np.where(np.isfinite(table), table, 99), 1.5, 1.5
    assert ours == pytest.approx(padded[linear_sum_assignment(padded)].sum())


def sides_of(n: int, seed: int) -> TraceColumns:
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    few = [make_trace(symbol=f"S{k}", quantity=1.0, fees_pct=0.0) for k in range(20)]
    rows = TraceColumns.from_traces(few).take(rng.integers(0, 20, n))
    at = 60_000_000 * np.sort(rng.integers(0, 40 * n, n))
    late = 60_000_000 * own.integers(0, 3, n) * (own.random(n) < 0.2)
    ids = np.arange(n).astype(np.uint64) + np.uint64(seed * n)
    price = 100 + own.normal(0, 0.1, n)
    return replace(
        rows,
        entry_us=rows.entry_us + at + late,
        exit_us=rows.exit_us + at,
        trace_id=ids,
        position_id=ids,
        entry_price=price,
    )


def test_thousands_of_trades_a_side_are_matched_at_once_each_at_most_once() -> None:
    live, back = (positions_of(sides_of(5000, seed)) for seed in (1, 2))
    pairs = match_positions(live, back)
    assert len(np.unique(pairs.live)) == len(np.unique(pairs.back)) == len(pairs) > 4900
    assert len(pairs) + len(pairs.live_alone) == 5000
    assert (live.rows.symbol[pairs.live] == back.rows.symbol[pairs.back]).all()


# Intervals, and what is no finding


def amounts(rng: np.random.Generator, days: int, kind: str) -> tuple[Any, Any, float]:
    "What a cause made of trades, about six a day whose luck is shared, and its true mean per day."
    count = rng.poisson(6, days)
    day, news = np.repeat(np.arange(20_000, 20_000 + days), count), np.repeat(rng.normal(0, 0.5, days), count)
    if kind == "skewed":
        return -rng.exponential(1, len(day)) * (1 + np.abs(news)), day, -6 * (1 + 0.5 * (2 / np.pi) ** 0.5)
    if kind == "rare":
        return np.where(rng.random(len(day)) < 0.1, rng.normal(-3, 3, len(day)), 0.0), day, -1.8
    return news + rng.normal(-1, 1, len(day)), day, -6.0


@pytest.mark.parametrize("kind", ["even", "skewed", "rare"])
def test_intervals_of_90_percent_cover_in_85_to_95_percent_of_seeds(
    kind: str, counts: Callable[[int, int], int]
) -> None:
    times, hits = counts(150, 2000), 0
    for seed in range(times):
        made, day, truth = amounts(np.random.default_rng([seed, 40]), 40, kind)
        calendar = (np.arange(20_000, 20_040), np.zeros(40))
        found = cause_gap(made, day, np.zeros(len(made)), calendar, 0.9, 299).per_day
        hits += found.low <= truth <= found.high
    assert stats.binom.ppf(0.001, times, 0.85) <= hits <= stats.binom.ppf(0.999, times, 0.95), hits / times


def test_three_bad_fills_are_no_finding_and_worse_entries_every_day_are() -> None:
    rng = np.random.default_rng(2)
    back = [make_trace(timestamp=START + timedelta(days=k // 6, minutes=40 * (k % 6)), exit_price=100 + rng.normal(), quantity=10.0, fees_pct=0.0) for k in range(240)]  # fmt: skip
    bad = [replace(t, trace_id="", entry_price=104.0, realized_return_pct=100 * (t.exit_price / 104 - 1)) if k in (9, 99, 199) else t for k, t in enumerate(back)]  # fmt: skip
    few = reconcile(bad, back, tolerance_seconds=60, window_seconds=300)
    assert few.causes["entry_price"].verdict == "too few"
    worse = [trace_of(replace(t, profit=t.realized_return_pct * 10), facts_of(replace(t, profit=t.realized_return_pct * 10)) | {"entry": 100 + 0.1 * rng.random()}) for t in back]  # fmt: skip
    found = reconcile(worse, back, tolerance_seconds=60, window_seconds=300)
    assert found.causes["entry_price"].verdict == "costs"
    assert "Clear of chance: entry price" in headline(found)


def test_time_warping_is_that_of_dtaidistance() -> None:
    dtw = pytest.importorskip("dtaidistance.dtw", reason="dtaidistance is not installed")
    rng = np.random.default_rng(4)
    for n, m in ((1, 5), (30, 30), (80, 55)):
        a, b = rng.normal(size=n).cumsum(), rng.normal(size=m).cumsum()
        assert dtw_distance(a, b) == pytest.approx(dtw.distance(a, b))


# The bundled engine


class WorseBroker:
    "Fills at random distances of a known mean, and is not there on one day."

    fills: Literal["next_open", "at_once"] = "next_open"

    def __init__(self, mean_pct: float, down: int) -> None:
        self.mean_pct, self.down, self.rng = mean_pct, down, np.random.default_rng(0)

    def price(self, order: Order) -> float:
        return fill_price(
            order.price, order.direction, order.opening, float(self.rng.exponential(self.mean_pct))
        )

    def open(self, order: Order) -> Fill:
        if order.time // 86_400_000_000 == self.down:
            raise ConnectionError("down")
        price = self.price(order)
        return Fill(price, order.time, order.stake / price, 0.01)

    def close(self, order: Order) -> Fill:
        return Fill(self.price(order), order.time, order.quantity, 0.01)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Bars], str]:
    "A backtest of the bundled strategy, and its engine with such a broker on the same bars."
    folder = tmp_path_factory.mktemp("desk")
    bars = [simulate_bars(name, days=60, seed=seed) for seed, name in enumerate("ABC")]
    settings = Settings()
    stored: dict[str, Any] = {"enable_telemetry": True, "telemetry_dir": folder / "traces"}
    Backtester("intraday", costs=Costs(0.01), settings=settings, sample_rate=1.0, **stored).run(bars)
    down = sorted({bar.time // 86_400_000_000 for bar in bars[0].rows()})[30]
    config = EngineConfig(
        list("ABC"), "intraday", ReplayFeed(bars), Costs(0.01), settings, broker=WorseBroker(0.05, down)
    )
    logging.disable(logging.CRITICAL)
    Engine(config, telemetry_sample_rate=1.0, **stored).run()
    logging.disable(logging.NOTSET)
    for one in bars:
        lines = [f"{utc_of(bar.time).isoformat()},{bar.open!r},{bar.high!r},{bar.low!r},{bar.close!r},{bar.volume!r}" for bar in one.rows()]  # fmt: skip
        (folder / f"{one.symbol}.csv").write_text(
            "\n".join(["timestamp,open,high,low,close,volume", *lines]) + "\n"
        )
    return folder, bars, str(np.datetime64(down, "D"))


def test_known_slippage_is_recovered_and_a_planted_outage_named(desk: tuple[Path, list[Bars], str]) -> None:
    folder, _, down = desk
    found = reconcile(folder / "traces", folder / "traces")
    share = found.classes["matched"] / sum(found.classes.values())
    entry = found.causes["entry_price"]
    assert entry.verdict == "costs"
    assert entry.per_100.low <= -100 * share * 10_000 * 0.05 / 100 <= entry.per_100.high
    assert [day["day"] for day in found["missing_trades"]["days"]] == [down]
    assert found["missing_trades"]["by_reason"] == {
        "no live trade that day": {
            "trades": found.classes["missing"],
            "gap": found["missing_trades"]["days"][0]["gap"],
        }
    }
    assert found.classes["extra"] == found.classes["late"] == found.classes["flipped"] == 0
    assert set(found.causes) <= {"entry_price", "exit_price", "missing", "size", "fees"}


def test_a_replay_says_that_signals_agree_and_only_executions_differ(
    desk: tuple[Path, list[Bars], str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, bars, _ = desk
    words = ("--telemetry-dir", folder / "traces", "--replay", "--data-dir", folder, "--fee-pct", 0.01)
    code, out, _ = answer(capsys, *words, "--json")
    told = json.loads(out)
    assert (code, told["replay"]["verdict"], told["replay"]["decisions_that_differ"]) == (
        1,
        "signals agree",
        0,
    )
    assert told["replay"]["signals"]["gap"] == pytest.approx(0, abs=1e-9)
    assert told["replay"]["executions"]["gap"] == pytest.approx(told["gap"]["total"])
    assert "Signals agree" in answer(capsys, *words)[1]
    sides = [read_side(folder / "traces", role) for role in ("live", "backtest")]
    again = replay_side(
        bars[:2], "intraday", costs=Costs(0.01), settings=Settings()
    )  # a symbol that was left out
    assert replay_gap(sides[0], sides[1], again).verdict == "signals agree"
    holes = replace(sides[1], columns=sides[1].columns.take(np.arange(len(sides[1].columns)) % 5 > 0))
    assert replay_gap(sides[0], holes, again).verdict == "signals differ"


# The command


def record(folder: Path, mode: str, traces: list[PredictionTrace], rate: float = 1.0) -> Path:
    with TelemetryWriter(folder, mode=mode, sample_rate=rate, background=False) as writer:
        for trace in traces:
            writer.write_trace(trace)
    return folder


def many(n: int = 200, **more: Any) -> list[PredictionTrace]:
    times = [START + timedelta(days=k // 8, minutes=30 * (k % 8)) for k in range(n)]
    facts = [{"exit_price": 100 + (7 * k % 11 - 5) / 5} | more for k in range(n)]
    return [make_trace(timestamp=at, **own) for at, own in zip(times, facts, strict=True)]


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["reconcile", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_json_of_the_command_keeps_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validator = import_module("jsonschema").Draft202012Validator
    record(tmp_path / "backtest_20250106_000000", "backtest", many(quantity=2.0))
    record(tmp_path / "live", "live", many(180, quantity=1.0))
    code, out, _ = answer(capsys, "--telemetry-dir", tmp_path, "--json")
    validator(SCHEMA).validate(json.loads(out))
    assert code in (0, 1)
    code, out, _ = answer(capsys, tmp_path / "live", "backtest_20250106_000000", "--telemetry-dir", tmp_path)
    assert out.startswith("Live earned ")
    assert "The gap by cause:" in out


def test_a_sample_is_reconciled_from_its_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "backtest_20250106_000000", "backtest", many(), rate=0.3)
    record(
        tmp_path / "live",
        "live",
        [replace(t, realized_return_pct=t.realized_return_pct - 0.1) for t in many()],
        rate=0.5,
    )
    code, out, _ = answer(capsys, "--telemetry-dir", tmp_path, "--json")
    found = json.loads(out)
    assert (found["method"], found["unit"]) == ("sums", "percent")
    assert found["causes"]["average"]["total"] == pytest.approx(-20.0, abs=1e-6)
    assert found["gap"]["total"] == pytest.approx(-20.0, abs=1e-6)
    assert found["live"]["trades"] == found["backtest"]["trades"] == 200
    assert code in (0, 1)
    _, out, _ = answer(capsys, "--telemetry-dir", tmp_path)
    assert "LIVE_TELEMETRY_SAMPLE_RATE=1 and TELEMETRY_SAMPLE_RATE=1 record all" in out
    assert json.loads(answer(capsys, "--telemetry-dir", tmp_path, "--json")[1])["gap"]["trades"] == 200


@pytest.mark.parametrize(
    ("live", "back", "words", "said"),
    [
        (many(5), [replace(t, timestamp=t.timestamp + timedelta(days=400), exit_timestamp=None) for t in many(5)], [], "no common period"),
        (many(5), [], [], "side has no trades"),
        (many(5, quantity=1.0, profit=1.0, currency="EUR"), many(5, quantity=1.0, profit=1.0, currency="USD"), [], "different currencies"),
        (many(5), many(5), ["--unit", "money"], "money needs the quantity"),
        (many(5, symbol="A"), many(5, symbol="B"), [], "no common symbol"),
        ([replace(t, account=f"U{k % 2}") for k, t in enumerate(many(6))], many(6), [], "accounts overlap"),
        (many(5), many(5), ["--account", "nobody"], "no account 'nobody'"),
        (many(5), many(5), ["--tolerance", "0"], "number of seconds above 0"),
        (many(5), many(5), ["--pairs", "pairs.csv"], "would be taken for traces"),
        (many(5, entry_price=10_000.0, exit_price=10_100.0), many(5), [], "different units"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_clear_line(
    live: list[PredictionTrace],
    back: list[PredictionTrace],
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record(tmp_path / "live", "live", live)
    record(tmp_path / "backtest_20250106_000000", "backtest", back)
    code, out, err = answer(capsys, tmp_path / "live", tmp_path / "backtest_20250106_000000", *words)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert said in err


def test_another_engines_log_is_a_side_and_accounts_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FRAMEWORKS / "freqtrade" / "backtest-result.zip"
    code, out, _ = answer(capsys, path, path, "--strategy", "Cross", "--json")
    found = json.loads(out[out.index("{") :])
    expected = json.loads((FRAMEWORKS / "freqtrade" / "made.json").read_text())["expected"][
        "backtest-result.zip"
    ]["Cross"]
    assert (code, found["classes"]["matched"], found["differs"]) == (0, expected["positions"], False)
    assert found["live"]["result"] == pytest.approx(expected["profit"], rel=1e-6)
    two = [replace(t, account="A") for t in many(60)] + [replace(t, account="B") for t in many(60)]
    record(tmp_path / "live", "live", two)
    record(tmp_path / "backtest_20250106_000000", "backtest", many(60))
    code, out, _ = answer(capsys, "--telemetry-dir", tmp_path, "--account", "A", "--json")
    assert (code, json.loads(out)["classes"]["matched"]) == (0, 60)


def test_logs_that_do_not_say_their_symbol_or_name_it_differently_are_told_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    jesse, nautilus = FRAMEWORKS / "jesse" / "trades.csv", FRAMEWORKS / "nautilus_trader" / "positions.csv"
    code, _, err = answer(capsys, jesse, nautilus)
    assert (code, "no common symbol" in err) == (2, True)
    _, out, _ = answer(capsys, jesse, nautilus, "--symbol", "EURUSD", "--json")
    found = json.loads(out[out.index("{") :])
    assert (found["symbols"], found["classes"]["matched"]) == (["EURUSD"], 43)
    silent = FRAMEWORKS / "backtesting" / "trades.csv"
    code, _, err = answer(capsys, silent, silent, "--strategy", "mine")
    assert (code, "does not say symbol" in err) == (2, True)
    words = ("--strategy", "mine", "--symbol", "EURUSD", "--source-timezone", "UTC")
    assert "Live did exactly what the backtest did: 44 trades" in answer(capsys, silent, silent, *words)[1]


def test_fills_of_one_position_stand_against_one_trade() -> None:
    whole = many(40, quantity=3.0)
    fills = [
        replace(t, quantity=q, position_id=f"{k:016x}", trace_id="")
        for k, t in enumerate(whole) for q in (1.0, 0.5, 1.5)
    ]  # fmt: skip
    found = reconcile(fills, whole, tolerance_seconds=60, window_seconds=300)
    assert (found.classes["matched"], found.classes["extra"]) == (40, 0)
    assert found.gap.total == pytest.approx(0, abs=1e-9)
    assert [note.code for note in found.notes] == ["fees implied", "joined"]


def test_the_record_of_a_writer_says_that_nobody_was_at_work(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    back = [make_trace(timestamp=now - timedelta(minutes=10 * k), exit_timestamp=now - timedelta(minutes=10 * k - 1)) for k in range(40, 0, -1)]  # fmt: skip
    folder = record(
        tmp_path / "live", "live", [t for k, t in enumerate(back) if not 10 <= k < 12 and k != 30]
    )
    (path,) = folder.glob("run_*.json")
    first, second = json.loads(path.read_text()), json.loads(path.read_text())
    first |= {"started_at": (back[0].timestamp - timedelta(hours=1)).isoformat(), "ended_at": (back[9].timestamp + timedelta(minutes=5)).isoformat()}  # fmt: skip
    second |= {"started_at": (back[11].timestamp + timedelta(minutes=5)).isoformat()}
    path.write_text(json.dumps(first))
    path.with_name("run_20990101T000000_1_aaaaaaaa.json").write_text(json.dumps(second))
    found = reconcile(folder, back, tolerance_seconds=60, window_seconds=120)
    assert {why: one["trades"] for why, one in found["missing_trades"]["by_reason"].items()} == {
        "no process was running": 2, "unknown": 1,
    }  # fmt: skip


def test_a_kind_of_pair_is_one_of_the_causes() -> None:
    assert set(OF_PAIRS) < set(CAUSES)
    with pytest.raises(TypeError):
        reconcile([], [], colour="red")
