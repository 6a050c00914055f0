"""The hook under attack: whatever it is handed it does not raise, and afterwards every call has a fate."""

from __future__ import annotations

import csv
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trade_telemetry.capture.hook import ClosedPosition, TelemetryHook, open_hook
from trade_telemetry.capture.ledger import MOST_KNOWN, merge_ledgers, read_ledger
from trade_telemetry.capture.writer import TelemetryWriter

NINE_THIRTY = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "symbol": "TCS", "strategy": "s", "direction": "LONG", "entry_time": NINE_THIRTY,
    "exit_time": NINE_THIRTY + timedelta(minutes=5), "entry_price": 100.0, "exit_price": 101.0,
}  # fmt: skip


def rows(directory: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for path in directory.glob("traces_*.csv"):
        with path.open(newline="", encoding="utf-8") as lines:
            found += csv.DictReader(lines)
    return found


class Hostile:
    "Everything about it raises."

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise RuntimeError(f"no {name} today")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


class Liar(dict[str, Any]):
    "A dictionary that cannot be copied, iterated or asked."

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no keys")

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no values")

    def keys(self) -> Any:
        raise RuntimeError("no keys")

    def copy(self) -> Any:
        raise RuntimeError("no copy")


JUNK = [
    None, "", "x", "LONG", -1, 0, 2**70, float("nan"), float("inf"), Decimal("1.5"), np.float64(2.0), np.array([1.0, 2.0]),
    [], {}, {1: {2: object()}}, {"a": b"\xff"}, object(), Hostile(), Liar(a=1), datetime(1, 1, 1), NINE_THIRTY,  # noqa: DTZ001
    True, lambda: None, "\ud800", "a\nb,\"c\"",
]  # fmt: skip
junk = (
    st.sampled_from(range(len(JUNK))).map(lambda i: JUNK[i])
    | st.floats()
    | st.text(max_size=5)
    | st.integers()
)
calls = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([*ClosedPosition._fields, "entryprice", "self_"]), junk, max_size=5),
        st.sets(st.sampled_from(sorted(GOOD)), max_size=2),
        st.booleans(),
    ),
    max_size=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=calls)
def test_nothing_that_is_handed_in_raises_and_every_call_has_a_fate(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[dict[str, Any], set[str], bool]]
) -> None:
    directory = tmp_path_factory.mktemp("junk")
    writer = TelemetryWriter(directory, background=False, sample_rate=0.5)
    hook = TelemetryHook(writer, {"s": 0.3}, fields={name: name for name in ClosedPosition._fields})
    for facts, missing, as_object in calls:
        given_facts = {k: v for k, v in (GOOD | facts).items() if k not in missing}
        if as_object:
            hook.position_object(given_facts)
        else:
            hook.position_closed(**given_facts)
    writer.close()
    stats = writer.stats()
    assert stats.offered + hook.failures.total() >= len(calls)
    assert (stats.accounted, stats.pending) == (stats.offered, 0)
    written = rows(directory)
    assert len(written) == stats.written


@pytest.mark.parametrize("kind", ["none", "number", "text", "object", "hostile", "liar", "list", "good"])
def test_an_object_of_any_kind_is_a_counted_failure_or_a_trace(tmp_path: Path, kind: str) -> None:
    known = {
        "none": None,
        "number": 1,
        "text": "x",
        "object": object(),
        "liar": Liar(),
        "list": [],
        "good": GOOD,
    }
    handed = known.get(kind, Hostile())
    with open_hook(tmp_path, {"s": 0.3}, sample_rate=1.0) as hook:
        hook.position_object(handed)
        hook.position_object(handed, symbol="TCS")
        hook.position_closed(handed)
    stats = hook.writer.stats()
    assert (stats.offered, stats.accounted) == (3, 3)
    assert stats.written == (2 if handed is GOOD else 0)


def test_each_kind_of_failure_is_logged_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_hook(tmp_path, {"s": 0.3}, sample_rate=1.0) as hook:
        for _ in range(50):
            hook.position_closed(**GOOD, entryprice=1.0)  # TypeError
            hook.position_closed(**(GOOD | {"direction": "up"}))  # ValueError
            hook.position_closed(**(GOOD | {"strategy": "unknown"}))  # ValueError
            hook.position_closed(**GOOD)
    stats = hook.writer.stats()
    assert stats.failed == {"trace TypeError": 50, "trace ValueError": 100}
    assert (stats.offered, stats.accounted) == (200, 200)
    said = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 2 and any("entryprice" in r.getMessage() for r in said)


def test_the_account_is_exact_under_threads_that_hand_in_good_and_bad(tmp_path: Path) -> None:
    threads, each = 8, 3_000

    class Half:
        "Its confidence cannot be read, now and then."

        def __init__(self, k: int) -> None:
            self.__dict__.update(GOOD, leg=k)
            self.k = k

        @property
        def confidence(self) -> float:
            if self.k % 3 == 0:
                raise ZeroDivisionError
            return 0.5

    with open_hook(
        tmp_path,
        {"s": 0.3},
        sample_rate=1.0,
        poll_seconds=0.01,
        fields={"confidence": "confidence", "leg": "leg"},
    ) as hook:

        def work(t: int) -> None:
            for k in range(each):
                match k % 4:
                    case 0:
                        hook.position_closed(**GOOD, leg=t * each + k + 1)
                    case 1:
                        hook.position_object(Half(t * each + k + 1))
                    case 2:
                        hook.position_closed(**GOOD, nonsense=1)
                    case _:
                        hook.position_object(None)

        workers = [threading.Thread(target=work, args=(t,)) for t in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    stats, quarter = hook.writer.stats(), threads * each // 4
    assert (stats.offered, stats.accounted, stats.pending) == (4 * quarter, 4 * quarter, 0)
    assert stats.written == 2 * quarter
    assert stats.failed == {"trace TypeError": quarter, "trace AttributeError": quarter}
    unreadable = sum((t * each + k + 1) % 3 == 0 for t in range(threads) for k in range(1, each, 4))
    assert hook.failures == {"field confidence ZeroDivisionError": unreadable}


def test_a_writer_that_raises_is_counted_by_the_hook_under_threads(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def write_trace(self, trace: object) -> None:
            raise MemoryError("no room")

    hook = TelemetryHook(Broken(), {"s": 0.3})  # type: ignore[arg-type]

    def work() -> None:
        for _ in range(1_000):
            hook.position_closed(**GOOD)
            hook.position_object(GOOD)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert hook.failures == {"hook MemoryError": 8_000}
    assert len(caplog.records) == 1


def test_values_are_read_at_the_call_because_the_object_goes_on_living(tmp_path: Path) -> None:
    class Trade:
        def __init__(self) -> None:
            self.__dict__.update(GOOD, features={"x": 1}, exit_price=101.0)

    trade = Trade()
    writer = TelemetryWriter(tmp_path, background=False)
    hook = TelemetryHook(writer, {"s": 0.3})
    hook.position_object(trade)
    trade.exit_price, trade.symbol = 0.0, "OTHER"  # type: ignore[attr-defined]
    trade.features["x"] = 2  # type: ignore[attr-defined]
    writer.close()
    (row,) = rows(tmp_path)
    assert (row["symbol"], row["exit_price"], row["features_json"]) == ("TCS", "101.0", '{"x":1}')


# ---- every exit once


def exits(positions: int) -> list[dict[str, Any]]:
    "Positions of two accounts on the same candles, each closed in three parts, of which two are alike."
    found = []
    for k in range(positions):
        for account in ("u1", "u2"):
            for minute in (5, 5, 9):
                times = {
                    "entry_time": NINE_THIRTY + timedelta(minutes=k),
                    "account": account,
                    "quantity": 1.0,
                }
                times["exit_time"] = times["entry_time"] + timedelta(minutes=minute)
                found.append(GOOD | times | {"exit_price": 100.0 + minute + k})
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(18)), cuts=st.lists(st.integers(0, 18), max_size=3), again=st.integers(0, 18)
)
def test_exits_count_once_in_any_order_over_any_restarts(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: list[int], again: int
) -> None:
    "Each session says again the last of what the one before had said; twins stay in one session."
    directory, all_exits = tmp_path_factory.mktemp("again"), exits(3)
    sorted_exits = [all_exits[k] for k in sorted(order, key=lambda k: (order[k // 3 * 3], k))]
    bounds = [0, *sorted(c // 3 * 3 for c in cuts), 18]
    for low, high in pairwise(bounds):
        with open_hook(directory, {"s": 0.3}, sample_rate=0.5) as hook:
            for facts in sorted_exits[max(0, low - again // 3 * 3) : high]:
                hook.position_closed(**facts)
        stats = hook.writer.stats()
        assert stats.accounted == stats.offered and stats.repeated == min(low, again // 3 * 3)
    lines = merge_ledgers(row for path in directory.glob("ledger_*") for row in read_ledger(path))
    assert sum(sums.closes for sums in lines.values()) == 18
    kept = {row["trace_id"]: row["position_id"] for row in rows(directory)}
    assert set(Counter(kept.values()).values()) <= {3}  # whole positions


def test_what_an_engine_says_again_beyond_the_window_is_said_in_the_record(tmp_path: Path) -> None:
    def session(minutes: range) -> dict[str, Any]:
        with open_hook(tmp_path, {"s": 0.3}, sample_rate=0.0) as hook:
            for k in minutes:
                when = NINE_THIRTY + timedelta(minutes=k)
                hook.position_closed(**(GOOD | {"entry_time": when, "exit_time": when}))
        record = json.loads(max(tmp_path.glob("run_*.json"), key=lambda p: p.stat().st_mtime_ns).read_text())
        return dict(record["counters"])

    assert session(range(5000))["repeats_known_since"] == ""
    again = session(range(4500, 5100))
    assert (again["repeated"], again["sampled_out"]) == (500, 600)
    forgotten = NINE_THIRTY + timedelta(minutes=5000 - MOST_KNOWN - 1)
    assert again["repeats_known_since"] == forgotten.isoformat()


def test_a_recorded_id_of_the_engine_names_the_decision_within_its_account(tmp_path: Path) -> None:
    with open_hook(tmp_path, {"s": 0.3}, sample_rate=1.0) as hook:
        for ticket, account in (
            (17, "u1"),
            ("17", "u1"),
            (17, "u2"),
            (None, "u1"),
            ("None", "u1"),
            ("", "u1"),
        ):
            hook.position_closed(**GOOD, position_id=ticket, account=account)
    found = rows(tmp_path)
    assert len({row["trace_id"] for row in found}) == 6
    assert Counter(Counter(row["position_id"] for row in found).values()) == {3: 1, 2: 1, 1: 1}
    assert sum('"source_position_id":"17"' in row["metadata_json"] for row in found) == 3


def test_optional_facts_arrive_in_their_columns_and_none_is_empty(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "account": "u1", "version": "1.4", "entry_tag": "dip", "decision_time": "2024-01-02T14:29:00Z", "mae_pct": "-0.5",
        "mfe_pct": Decimal("1.5"), "profit": np.float64(12.5), "currency": "EUR", "multiplier": 50, "funding_pct": 0.01,
        "leverage": 2.0,
    }  # fmt: skip
    with open_hook(tmp_path, {"s": 0.3}, sample_rate=1.0) as hook:
        hook.position_closed(**GOOD, **more)
        hook.position_closed(**GOOD, **dict.fromkeys(more), fees_pct=None, confidence=float("nan"))
        hook.position_object(GOOD | more)
    told, nothing, as_object = rows(tmp_path)
    expected = {name: str(value) for name, value in more.items()}
    expected |= {"decision_time": "2024-01-02T14:29:00+00:00", "multiplier": "50.0"}
    assert {name: told[name] for name in more} == expected == {name: as_object[name] for name in more}
    assert {nothing[name] for name in (*more, "fees_pct", "predicted_confidence")} == {""}
    assert hook.failures.total() == 0


def test_a_hook_that_is_handed_fractions_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_hook(tmp_path, {"s": 0.3}, sample_rate=1.0) as hook:
        for _ in range(300):
            hook.position_closed(**GOOD, realized_return_pct=0.01, confidence=58)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split("looks like")[1].split(",")[0].strip() for text in said] == ["a fraction", "percent"]
    assert hook.writer.stats().written == 300
