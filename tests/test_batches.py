"""Many traces at once and one after the other: the same bytes, the same fates, whatever is handed in."""

from __future__ import annotations

import enum
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trade_telemetry.capture.hook import ClosedPosition, TelemetryHook
from trade_telemetry.capture.intake import Intake
from trade_telemetry.capture.run_record import WriterOptions
from trade_telemetry.capture.writer import TelemetryWriter
from trade_telemetry.trace import PredictionTrace

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
EXAMPLES = 400 if os.environ.get("TRADE_TELEMETRY_SOAK", "") not in {"", "0"} else 10
SLACK = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


class Word(str, enum.Enum):  # noqa: UP042  as people have them
    SWING = "swing"
    LONG = "LONG"


class Silent:
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Cell(NamedTuple):
    "What may stand in a field."

    usual: st.SearchStrategy[Any]
    odd: tuple[Any, ...]


def often(usual: st.SearchStrategy[Any], *odd: Any) -> Cell:
    return Cell(usual, odd)


def rows_of(make: Callable[..., Any], cells: dict[str, Cell]) -> st.SearchStrategy[list[Any]]:
    "Rows that are odd in a field or two, if in any: else no group would ever go by column."

    def rows(odd: set[str]) -> st.SearchStrategy[list[Any]]:
        drawn = {
            name: st.one_of(cell.usual, cell.usual, st.sampled_from(cell.odd)) if name in odd else cell.usual
            for name, cell in cells.items()
        }
        return st.lists(st.builds(make, **drawn), min_size=12, max_size=30)

    few = st.sets(st.sampled_from(sorted(cells)), max_size=1)
    return st.lists(few.flatmap(rows), min_size=1, max_size=3).map(
        lambda parts: [row for part in parts for row in part]
    )


minutes = st.integers(0, 3).map(lambda k: START + timedelta(minutes=k))  # few, so that lots are alike
AGAIN = datetime(2024, 10, 27, 2, 30, fold=1)  # noqa: DTZ001  the hour that happens twice
times = often(
    minutes, START.replace(tzinfo=None), AGAIN, START.astimezone(BERLIN),
    START.replace(tzinfo=timezone(timedelta(0), "other")), pd.Timestamp(START), pd.Timestamp("2024-01-02"),
    np.datetime64("2024-01-02T14:30"), "2024-01-02T14:30:00", 1_704_205_800_000, "noon", None, datetime(1, 1, 1, tzinfo=UTC),
)  # fmt: skip
prices = often(
    st.sampled_from((100.0, 100.5, 99.25)), 100, "100", Decimal("99.5"), np.float64(101), np.int64(99), 0.0, -37.63, float("nan"),
    float("inf"), True, None, 1e308, 2**70, [1.0],
)  # fmt: skip
maybe = often(
    st.one_of(st.none(), st.floats(-3, 3, width=32)), 1, 0, -0.0, 1e-7, 1e22, float("nan"), float("-inf"), Decimal("0.1"),
    Decimal("NaN"), np.float32(0.5), "0.5", "", "much", True, 2**70, Silent(), [1, 2], np.array([1.0, 2.0]), START,
)  # fmt: skip
units = Cell(st.sampled_from((None, 1.0)), maybe.odd)  # few, so that lots are alike
words = often(
    st.sampled_from(("", "main", "time")), 'a"b', "a,b", "a\nb", "a\rb", " a ", "é", "\ud800", None, 7, 1.0, True, Word.SWING,
    Silent(), "x" * 50,
)  # fmt: skip
names = often(
    st.sampled_from(("swing", "intraday", "swing")),
    "a b",
    Word.SWING,
    "unheard of",
    "\ud800",
    "",
    1,
    1.0,
    None,
)
sides = often(st.sampled_from(("LONG", "SHORT")), "buy", "short", Word.LONG, "NOOP", "flat", 1, None)
values = st.one_of(
    st.floats(-9, 9), st.integers(-5, 5), st.text(max_size=3), st.none(), st.booleans(),
    st.sampled_from((START, Decimal("0.1"), np.float64(0.1), {1, 2}, object, float("nan"), [1, {"a": None}], "\0", '"')),
)  # fmt: skip
keys = st.sampled_from(("a", "b", 'c"', "é", "\0"))
dicts = often(
    st.dictionaries(keys, values, max_size=3), {}, None, [1, 2], "text", {1: 2}, {"leg": 1}, {"leg": "tp1"}, {"a": Silent()},
    {"f": orjson.Fragment(b"1,\0,2")}, {"exit_time": "2024-01-02T15:00:00+00:00"}, {"exit_reason": "mine"}, {"a": 2**70}, {"b": b"x"},
)  # fmt: skip
ids = often(st.just(""), "0123456789abcdef", "ticket 7", "a,b", 17, None)

times_or_none = Cell(st.one_of(st.none(), minutes), times.odd)
trace_cells = {
    "timestamp": times, "symbol": often(st.sampled_from(("TCS", "INFY")), 'a"b', "a\nb", 7, None), "strategy": names,
    "predicted_direction": sides, "actual_direction": sides, "predicted_confidence": maybe, "entry_price": prices,
    "exit_price": prices, "holding_period_minutes": often(st.sampled_from((5.0, 7.5)), 5, "5", None, float("nan")),
    "realized_return_pct": often(st.floats(-5, 5), 1, "1", float("nan"), None), "features": dicts, "metadata": dicts,
    "exit_timestamp": times_or_none, "trace_id": ids, "label_threshold_pct": often(st.sampled_from((0.3, 0.5)), None, 1, "x"),
    "exit_reason": words, "quantity": units, "fees_pct": maybe, "slippage_pct": maybe, "position_id": ids, "account": words,
    "version": words, "entry_tag": words, "decision_time": times_or_none, "mae_pct": maybe, "mfe_pct": maybe, "profit": maybe,
    "currency": words, "leverage": maybe, "multiplier": maybe, "funding_pct": maybe,
}  # fmt: skip
later = often(
    st.integers(3, 4).map(lambda k: START + timedelta(minutes=k)), START - timedelta(days=1), "noon", None
)
leverages = often(st.sampled_from((None, 1.0)), 2.0, 0, -1.0, "3", 1)
fact_cells = {name: cell for name, cell in trace_cells.items() if name in ClosedPosition._fields} | {
    "direction": sides, "entry_time": Cell(minutes, times.odd), "exit_time": later, "confidence": maybe, "leverage": leverages,
    "realized_return_pct": often(st.one_of(st.none(), st.floats(-5, 5)), 1, "1", float("nan")),
    "leg": often(st.just(0), 1, "tp1", [1]), "position_id": often(st.none(), 17, "x", "None", 1.5),
}  # fmt: skip
traces, facts = rows_of(PredictionTrace, trace_cells), rows_of(dict, fact_cells)
junk = st.sampled_from((None, "nonsense", (None,), (), object(), (lambda queued: queued,), [1]))
options = st.fixed_dictionaries(
    {
        "sample_rate": st.sampled_from((1.0, 1.0, 0.5)), "include_features": st.sampled_from((True, True, False)),
        "mode": st.sampled_from(("live", "backtest")), "timezone": st.sampled_from((UTC, BERLIN)),
        "ledger": st.sampled_from((None, True)),
    }
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # whatever is handed in is logged once
    yield
    logging.disable(logging.NOTSET)


def fates(intake: Intake) -> dict[str, Any]:
    "Everything that an intake knows."
    ledger = intake.ledger
    return {
        "lines": {strategy: b"".join(lines.chunks) for strategy, lines in intake.lines.items()},
        "counts": {strategy: lines.count for strategy, lines in intake.lines.items()},
        "waiting": intake.waiting, "sampled out": intake.sampled_out, "failed": dict(intake.failed),
        "twins": list(intake.identity.twins.seen.items()),
        "ledger": ledger and {month: sums.lines for month, sums in ledger.months.items()},
        "closes": intake.counting and (list(intake.counting.counted.last), intake.counting.repeated),
    }  # fmt: skip


def compare(items: list[Any], directory: Path, given_options: dict[str, Any], size: int) -> Intake:
    "Take items one by one and in groups of a size; both must know the same."
    wanted = TelemetryWriter(directory, background=False, **given_options)
    made = WriterOptions(output_dir=directory, **given_options)
    alone, together = (
        Intake(made, type(ledger)(directory, name, made.mode, made.timezone) if (ledger := wanted._background.sink.ledger) else None)
        for name in ("alone", "together")
    )  # fmt: skip
    wanted.close()
    for item in items:
        alone.add(item)
    for k in range(0, len(items), size):
        together.add_many(items[k : k + size])
    assert fates(together) == fates(alone)
    assert together.settled == len(items)
    return together


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLACK)
@given(traces, st.lists(junk, max_size=2), options, st.integers(8, 60))
def test_traces_in_groups_are_the_traces_one_by_one(
    tmp_path_factory: pytest.TempPathFactory,
    items: list[Any],
    more: list[Any],
    given_options: dict[str, Any],
    size: int,
) -> None:
    items[len(items) // 2 : len(items) // 2] = more
    compare(items, tmp_path_factory.mktemp("t"), given_options, size)


class Kept:
    "A writer that keeps what it is given."

    def __init__(self) -> None:
        self.items: list[Any] = []

    def write_trace(self, item: Any) -> None:
        self.items.append(item)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLACK)
@given(
    st.lists(st.one_of(facts, facts, facts, traces), max_size=60),
    options,
    st.integers(8, 60),
    st.integers(0, 3),
)
def test_facts_in_groups_are_the_facts_one_by_one(
    tmp_path_factory: pytest.TempPathFactory,
    told: list[Any],
    given_options: dict[str, Any],
    size: int,
    watched: int,
) -> None:
    kept = Kept()
    hook = TelemetryHook(kept, {"swing": 0.5, "intraday": 0.3}, given_options["timezone"])  # type: ignore[arg-type]
    hook._made.first.left = 20 * watched  # of the first positions each is looked at by itself
    for closed in told:
        if isinstance(closed, dict):
            hook.position_closed(**closed)
        else:
            kept.write_trace(closed)
    left = hook._made.first.left
    directory = tmp_path_factory.mktemp("h")
    alone = compare(kept.items[: len(kept.items) // 2], directory / "a", given_options, size)
    hook._made.first.left = left
    together = compare(kept.items, directory / "b", given_options, size)
    assert together.settled >= alone.settled


def test_usual_facts_and_traces_go_by_column(tmp_path: Path) -> None:
    "Else the two tests above would compare one road with itself."
    kept = Kept()
    hook = TelemetryHook(kept, {"swing": 0.5, "intraday": 0.3})  # type: ignore[arg-type]
    hook._made.first.left = 0
    for k in range(200):
        at = START + timedelta(minutes=k // 2)
        hook.position_closed(
            symbol="TCS", strategy=("swing", "intraday")[k % 2], direction="LONG", entry_time=at, exit_time=at, entry_price=100.0,
            exit_price=101.0, features={"a": k}, metadata={"b": "c"}, leverage=(1.0, 2.0)[k // 150], position_id=(None, k)[k // 190],
        )  # fmt: skip
    built = [hook._made(item) for item in kept.items]
    for items in (kept.items, built, [t for pair in zip(built, kept.items, strict=True) for t in pair]):
        together = compare(items, tmp_path, {}, 100)
        chunks = sum(len(lines.chunks) for lines in together.lines.values())
        assert chunks <= 2 * len(items) / 100
        assert together.waiting == len(items)


def test_a_queue_of_any_length_is_written_as_one_after_the_other(tmp_path: Path) -> None:
    rows = {}
    for background, few in ((False, 10**9), (True, 8)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("trade_telemetry.capture.intake.FEW", few)
            with TelemetryWriter(tmp_path / str(few), background=background, buffer_size=70) as writer:
                hook = TelemetryHook(writer, {"swing": 0.5})
                for k, strategy in zip(range(3000), repeat("swing")):
                    at = START + timedelta(minutes=k // 3)
                    hook.position_closed(
                        symbol="TCS", strategy=strategy, direction="SHORT", entry_time=at, exit_time=at, entry_price=100.0,
                        exit_price=100.0 + k % 3,
                    )  # fmt: skip
        assert writer.stats().written == 3000
        rows[few] = b"".join(p.read_bytes() for p in sorted((tmp_path / str(few)).glob("traces_*")))
    assert rows[8] == rows[10**9]


# ---- broken in the middle of a group


def close_one(hook: TelemetryHook, k: int, symbol: str = "TCS") -> None:
    at = START + timedelta(seconds=k)
    hook.position_closed(
        symbol=symbol,
        strategy="swing",
        direction="LONG",
        entry_time=at,
        exit_time=at + timedelta(minutes=5),
        entry_price=100.0,
        exit_price=101.0,
    )


def rows_in(directory: Path) -> int:
    "Whole rows in all files of a directory."
    texts = [path.read_bytes() for path in directory.glob("traces_*")]
    assert all(text.endswith(b"\n") for text in texts)
    return sum(text.count(b"\n") - 1 for text in texts)


@pytest.mark.parametrize(
    ("where", "nth"),
    [
        ("intake.in_columns", 3), ("intake.as_columns", 1), ("intake.put_many", 2), ("intake.quick_lines", 2),
        ("intake.is_sampled", 300), ("ledger.Ledger.add", 1), ("ledger.Ledger.add", 600),
    ],
)  # fmt: skip
def test_an_interrupt_in_the_middle_of_a_group_leaves_the_account_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, nth: int
) -> None:
    "Ctrl-C in `flush`, which works in the caller's time."
    writer = TelemetryWriter(tmp_path, background=False, sample_rate=0.5, buffer_size=70)
    hook = TelemetryHook(writer, {"swing": 0.3})
    for k in range(900):
        close_one(hook, k)
    target = f"trade_telemetry.capture.{where}"
    room, _, name = where.partition(".")
    owner: Any = __import__(f"trade_telemetry.capture.{room}", fromlist=[name])
    for part in name.split("."):
        owner = getattr(owner, part)
    calls: list[None] = []

    def interrupted(*args: Any, **more: Any) -> Any:
        calls.append(None)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return owner(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(target, interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    account = writer.stats()
    assert account.accounted == account.offered == 900
    writer.close()
    account = writer.stats()
    assert (account.accounted, account.pending) == (900, 0)
    assert 0 < account.failed["trace KeyboardInterrupt"] <= 250  # the rest of one group
    assert rows_in(tmp_path) == account.written


def test_a_close_in_the_middle_of_eight_hooks_counts_every_call(tmp_path: Path) -> None:
    for n in range(3):
        directory = tmp_path / str(n)
        writer = TelemetryWriter(directory, mode="live", max_pending=2000, poll_seconds=0.001)
        begun = threading.Barrier(9)

        def work(symbol: str, begun: threading.Barrier = begun, writer: TelemetryWriter = writer) -> None:
            hook = TelemetryHook(writer, {"swing": 0.3})
            begun.wait()
            for k in range(1500):
                close_one(hook, k, symbol)

        threads = [threading.Thread(target=work, args=(f"S{t}",)) for t in range(8)]
        for t in threads:
            t.start()
        begun.wait()
        while writer.stats().offered < 2000:
            pass
        writer.close()
        for t in threads:
            t.join()
        account = writer.stats()
        assert account.offered == account.accounted == 8 * 1500
        assert (account.pending, rows_in(directory)) == (0, account.written)


@pytest.mark.parametrize("end", ["exit", "killed", "full"])
def test_a_process_that_ends_with_a_long_queue_tells_the_truth(
    tmp_path: Path, counts: Callable[[int, int], int], end: str
) -> None:
    offered = counts(30_000, 200_000)
    code = textwrap.dedent("""
        import os, resource, signal, sys
        from datetime import UTC, datetime, timedelta
        from trade_telemetry.capture.hook import TelemetryHook
        from trade_telemetry.capture.writer import TelemetryWriter
        directory, offered, end = sys.argv[1], int(sys.argv[2]), sys.argv[3]
        if end == "full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        writer = TelemetryWriter(directory, max_pending=10**9, poll_seconds=3600)
        hook = TelemetryHook(writer, {"swing": 0.3})
        for k in range(offered):
            at = datetime(2024, 1, 2, 14, 30, tzinfo=UTC) + timedelta(seconds=k)
            hook.position_closed(symbol="TCS", strategy="swing", direction="LONG", entry_time=at, exit_time=at,
                entry_price=100.0, exit_price=101.0, features={"k": k})
        if end == "killed":
            before = writer._background.sink.intake.add_many
            def dies(items):
                if writer._background.sink.taken > offered // 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                before(items)
            writer._background.sink.intake.add_many = dies
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(offered), end],
        capture_output=True,
        text=True,
        timeout=120,
    )
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("run_*.json"))
    told, rows = record["counters"], rows_in(tmp_path)
    if end == "killed":
        assert (done.returncode, record["end_reason"]) == (-signal.SIGKILL, None)
        assert told["written"] <= rows <= offered
        assert rows >= offered // 2 - 250
        return
    assert (done.returncode, record["end_reason"]) == (0, "exit")
    assert told["offered"] == offered == told["written"] + sum(told["failed"].values())
    assert rows == told["written"]
    assert (end == "full") == (told["failed"] != {})
