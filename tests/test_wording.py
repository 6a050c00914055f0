"""The one dialect: every figure that is answered has its word, and no rounding tells a falsehood."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trade_telemetry import alert_sentences as al
from trade_telemetry import glossary as gl
from trade_telemetry import sentences as se
from trade_telemetry import wording as wo
from trade_telemetry.dashboard.state_parts import rows_read
from trade_telemetry.judgement.alert_rules import KEYS, RULES, AlertReport
from trade_telemetry.judgement.comparison import compare, compare_groups, split_by
from trade_telemetry.judgement.features import Estimate, FeatureEffect
from trade_telemetry.judgement.live_vs_backtest import live_vs_backtest
from trade_telemetry.metrics.breakdown import Group
from trade_telemetry.metrics.intervals import Difference
from trade_telemetry.metrics.record import AccuracyMetrics, measure
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.runs import LoadReport
from trade_telemetry.store.store import TraceStore
from trade_telemetry.store.view import View, coverage_of
from trade_telemetry.trace import PredictionTrace

NAMES = ("intraday", "mean Reversion")
RECORDS = (AccuracyMetrics, Group, Estimate, FeatureEffect, Difference, AlertReport, LoadReport)
KEYED_BY_NAMES = {"strategies", "exit_reasons", "criterion_values", "trades", "by_strategy"}


def trades(mode: str, shift: float) -> TraceColumns:
    """Two strategies, one trade a day each, exits by two reasons."""
    start, found = datetime(2025, 3, 3, 15, tzinfo=UTC), []
    for day in range(40):
        for k, name in enumerate(NAMES):
            move = (-1.0) ** (day * (k + 1) // 2) * 0.6 + shift
            found.append(
                PredictionTrace(
                    start + timedelta(days=day), "EURUSD", name, "LONG", "LONG" if move > 0.5 else "NOOP", 0.6,
                    100.0, 100.0 + move, 30.0, move, {"gap": float(day)}, {"exit_reason": "stop"},
                )
            )  # fmt: skip
    return TraceColumns.from_traces(found)


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What the judgement answers today."""
    live, past = trades("live", 0.0), trades("backtest", 0.1)
    return {
        "comparison": compare(live, *NAMES),
        "groups": compare_groups(split_by(live)),
        "live_vs_backtest": live_vs_backtest(View("live", live, past, [], [], "live")),
    }


def codes_of(answer: Any) -> Iterator[str]:
    """Every key of an answer that is a word of ours, not the name of a strategy or of an exit reason."""
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            if not any(key == f"{name}_trades" for name in NAMES):
                yield key
            inner = value.values() if key in KEYED_BY_NAMES and isinstance(value, Mapping) else [value]
            for part in inner:
                yield from codes_of(part)
    elif isinstance(answer, Sequence) and not isinstance(answer, str):
        for part in answer:
            yield from codes_of(part)


def without_a_term(codes: Iterator[str] | Sequence[str]) -> list[str]:
    missing = []
    for code in dict.fromkeys(codes):
        try:
            gl.term(code)
        except ValueError:
            missing.append(code)
    return missing


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_of_a_record_has_its_term(record: type) -> None:
    assert is_dataclass(record)
    assert without_a_term([f.name for f in fields(record)]) == []


def test_every_key_of_an_alert_has_its_term() -> None:
    assert len(KEYS) == 12
    assert without_a_term(KEYS) == []


def test_every_key_of_an_answer_has_its_term(answers: dict[str, Any]) -> None:
    for name, answer in answers.items():
        codes = list(codes_of(answer))
        assert len(codes) > 30, name
        assert without_a_term(codes) == [], name


def test_every_figure_of_the_page_has_its_term(tmp_path: Path) -> None:
    store = TraceStore(tmp_path)
    assert without_a_term(list(rows_read(store, 0))) == ["loaded", "shown"]  # counts of the page itself
    assert without_a_term(["rows", "closes", "lost"]) == []
    assert coverage_of([]) is None


def test_a_field_without_a_term_is_found() -> None:
    @dataclass
    class Tomorrow:
        win_rate: float
        ulcer_index: float

    assert without_a_term([f.name for f in fields(Tomorrow)]) == ["ulcer_index"]
    assert without_a_term(codes_of({"pairs": [{"winner": "x", "newest_idea": 1.0}]})) == ["newest_idea"]


def test_every_figure_of_a_record_is_written() -> None:
    m = measure(trades("live", 0.0), "mean Reversion", zero_division=math.nan)
    for f in fields(AccuracyMetrics):
        if gl.term(f.name).unit != "parts" and not f.name.endswith("_interval"):
            value = getattr(m, f.name)
            texts = (
                [gl.figure(m, f.name, key) for key in value]
                if isinstance(value, dict)
                else [gl.figure(m, f.name)]
            )
            assert all(texts) and not re.search(r"\d{10}|nan|inf|None|-0\.0", " ".join(texts)), (
                f.name,
                texts,
            )
    assert gl.figure(m, "headline_precision") == (
        f"{100 * m.headline_precision:.1f} % ({100 * m.headline_precision_interval[0]:.1f} to "
        f"{100 * m.headline_precision_interval[1]:.1f})"
    )
    assert gl.figure(m, "strategy") == "mean Reversion"


def test_the_codes_of_the_rules_are_those_of_the_alerts() -> None:
    assert set(get_args(al.RuleName)) == set(RULES) == set(al.WATCHED)


def test_the_words_need_neither_arrays_nor_a_page() -> None:
    script = (
        "import sys, json, trade_telemetry.alert_sentences as a, trade_telemetry.sentences as s;"
        "s.verdict_sentence(s.ComparisonVerdict('no trades', 'a', 'b', whom=('a',)));"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (
        set(json.loads(done.stdout)) & {"numpy", "pandas", "scipy", "markupsafe", "jinja2", "pydantic"}
        == set()
    )


def read(text: str) -> float:
    """The number that a reader takes from a text."""
    return float(re.sub(r"[^\d.e+-]", "", text.replace("−", "-").replace(" ", "")))


def side(value: float, line: float) -> int:
    return 0 if abs(value - line) <= 1e-9 * abs(line) else 1 if value > line else -1


values = st.floats(-1e9, 1e9, allow_nan=False)


@given(values, st.integers(0, 4), st.booleans())
def test_a_number_is_rounded_once_and_has_no_minus_zero(value: float, digits: int, signed: bool) -> None:
    text = wo.number(value, digits, signed=signed)
    assert abs(read(text) - value) <= 0.5 * 10**-digits * (1 + 1e-6) + 1e-6
    shown = read(text)
    assert text.startswith("−") == (shown < 0)
    assert text.startswith("+") == (signed and shown > 0)


@given(st.floats(-1e4, 1e4), st.sampled_from([0.0, 0.05, 0.55, 5.0, 55.0, -9.1]), st.integers(0, 3))
def test_rounding_crosses_no_line(value: float, line: float, digits: int) -> None:
    assert side(read(wo.number(value, digits, apart_from=[line])), line) == side(value, line)


@given(
    st.floats(1e-13, 1e-3),
    st.sampled_from([0.0, 0.05, 0.55, 55.0]),
    st.sampled_from([-1, 1]),
    st.integers(0, 3),
)
def test_rounding_crosses_no_line_from_very_near(gap: float, line: float, way: int, digits: int) -> None:
    value = line + way * gap
    assert side(read(wo.number(value, digits, apart_from=[line])), line) == side(value, line)


@given(st.floats(0, 1), st.integers(0, 2))
def test_only_all_is_a_hundred_percent_and_only_nothing_is_none(fraction: float, digits: int) -> None:
    text = wo.share(fraction, digits)
    if text[0] in "<>":
        bound = read(text[1:])
        assert 100 * fraction < bound if text[0] == "<" else 100 * fraction > bound
    else:
        assert (read(text) == 100) == (fraction >= 1 - 1e-9)
        assert (read(text) == 0) == (fraction <= 1e-9)


@given(st.floats(0, 1) | st.floats(0.0099, 0.0101) | st.floats(0.0499, 0.0501) | st.floats(0, 0.002))
def test_a_p_value_never_reads_as_zero_nor_across_a_level(p: float) -> None:
    text = wo.p_value(p)
    if text[0] in "<>":
        assert p < 0.001 if text[0] == "<" else p > 0.999
        return
    assert read(text) > 0
    for level in (0.01, 0.05):
        assert side(read(text), level) == side(p, level)


@given(st.floats(-50, 50), st.floats(0, 20), st.integers(0, 3))
def test_an_interval_says_truly_whether_zero_is_inside(low: float, width: float, digits: int) -> None:
    text = wo.interval(low, low + width, digits, signed=True)
    first, last = map(read, text.split(" to "))
    assert (first <= 0 <= last) == (low <= 0 <= low + width)


@given(st.floats(0, 1e7))
def test_a_duration_reads_back(minutes: float) -> None:
    text = wo.duration(minutes)
    if text == "< 1 min":
        assert 0 < minutes < 0.5
        return
    pairs = re.findall(r"([\d,]+) (d|h|min)", text)
    assert " ".join(f"{n} {unit}" for n, unit in pairs) == text and len(pairs) <= 2
    total = sum(read(n) * {"d": 1440, "h": 60, "min": 1}[unit] for n, unit in pairs)
    assert abs(total - minutes) <= (30 if "d" in text else 0.5) + 1e-6
    assert all(read(n) < {"h": 24, "min": 60}.get(unit, math.inf) for n, unit in pairs)


@given(st.floats(1e-15, 1e6))
def test_a_price_keeps_its_value_whatever_its_size(price: float) -> None:
    assert abs(read(wo.price(price)) / price - 1) <= 5e-4


anything = st.text(st.characters() | st.sampled_from("<>&\"'\u202e\x1b\x00\n%"), max_size=40)


@given(anything | st.builds("{}{}".format, st.sampled_from(wo.INSTRUCTIONS), anything))
def test_text_from_outside_stays_text(text: str) -> None:
    plain = wo.plain_text(text)
    assert wo.plain_text(plain) == plain
    assert not plain.startswith(wo.INSTRUCTIONS)
    assert {unicodedata.category(c) for c in plain} & set(wo.HIDDEN) == set()
    html = wo.html_text(text)
    assert not re.search(r"[<>\"']|&(?!(amp|lt|gt|#34|#39);)", html)
    assert unescape(html).replace("\xa0", " ") == plain.replace("\xa0", " ")
    assert len(wo.plain_text(text, 10)) <= 10


@given(st.integers(0, 10**6), st.sampled_from(["day", "strategy", "loss", "rejected row", "batch", "key"]))
def test_things_are_counted_in_english(n: int, word: str) -> None:
    plurals = {"strategy": "strategies", "loss": "losses", "batch": "batches"}
    assert wo.plural(n, word) == f"{n:,} {word if n == 1 else plurals.get(word, word + 's')}"


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=6), st.integers(1, 6) | st.none()
)
def test_a_list_names_the_first_ones_and_counts_the_rest(names: list[str], most: int | None) -> None:
    shown = names if most is None else names[:most]
    parts = re.split(r", | and ", wo.listed(names, most))
    assert parts[: len(shown)] == shown
    assert parts[len(shown) :] == ([f"{len(names) - len(shown)} more"] if len(shown) < len(names) else [])


names = st.text(min_size=1, max_size=20)
finite = st.floats(-5, 5, allow_nan=False)


@given(names, names, finite, finite, st.floats(0, 1), st.sampled_from(get_args(se.VerdictCode)))
def test_a_verdict_does_not_depend_on_the_order_of_the_sides(
    first: str, second: str, low: float, high: float, p: float, code: se.VerdictCode
) -> None:
    low, high = sorted((low, high))
    assume(low + high != 0)
    v = se.ComparisonVerdict(
        code, first, second, (low + high) / 2, low, high, p, 0.95, 30, (first,), 3, 20, 6, p
    )
    w = replace(v, first=second, second=first, difference=-v.difference, low=-high, high=-low)
    assert se.verdict_sentence(v) == se.verdict_sentence(w)
    assert v.leader == w.leader and v.winner == w.winner


@given(names)
def test_a_strategy_is_spelled_as_its_owner_spells_it(name: str) -> None:
    shown = wo.plain_text(name)
    v = se.ComparisonVerdict("better", name, "swing", 1.0, 0.5, 1.5, 0.01, common_days=30)
    assert str(se.verdict_sentence(v)).startswith(f"{shown} is better than swing. ")
    a = al.AlertFacts(
        "drawdown", "critical", al.DrawdownEvidence(-14.2, -9.1, 0.01), al.FalseAlarm("drawdown", per_year=0.01),
        al.DetectionDelay("unknown"), "2025-11-12T09:58:31+00:00", name,
    )  # fmt: skip
    assert al.alert_sentence(a).short == f"{shown}: drawdown beyond its range, since 2025-11-12 09:58 UTC."
    assert se.calibration_sentence(se.CalibrationFinding(0), name).short.startswith(f"{shown} states")


OLD = re.compile(
    r"p = 0\.000|\d% interval|about 1 days|\b1 days|\b1 trades|deepest fall|under water|independent calls|"
    r"set aside|[Pp]romised|came true|\[[−+\d.]+, |mean trade|-\d"
)


def every_sentence() -> Iterator[str]:
    """All codes with numbers that used to go wrong."""
    v = se.ComparisonVerdict("better", "a", "b", 1e-5, 1e-6, 1.0, 1e-9, 0.95, 1, ("a",), 1, 20, 1, 1e-9)
    yield from (str(se.verdict_sentence(replace(v, code=code))) for code in get_args(se.VerdictCode))
    n = se.DaysNeeded("reachable", "precision", 5.0, 0.4, 0.4, (("a", 1),), "replay")
    yield from (str(se.needed_sentence(replace(n, code=code))) for code in get_args(se.NeededCode))
    shift = se.Shift("avg_return", -1e-6, -1.0, -1e-9, 1e-12)
    x = se.LiveVerdict("worse", "replay", (shift,), ("figure",), "figure", 1, 1, needed=n)
    yield from (str(se.live_sentence(replace(x, status=status))) for status in get_args(wo.Status))
    m = se.LiveNote("new symbols", "replay", ("EURUSD",), 1, 1)
    yield from (str(se.note_sentence(replace(m, code=code))) for code in get_args(se.NoteCode))
    yield from (
        al.false_alarm_text(al.FalseAlarm(c, 1e-6, 1.0, 0.05, 0.5, 1)) for c in get_args(al.FalseAlarmCode)
    )
    yield from (al.delay_text(al.DetectionDelay(c, 1.2, 0.1, 1.0)) for c in get_args(al.DelayCode))


def test_no_sentence_speaks_as_they_used_to() -> None:
    said = list(every_sentence())
    assert len(said) > 30
    assert [text for text in said if OLD.search(text) or "live" in text] == []
    assert OLD.search("p = 0.000") and OLD.search("a lasting loss is found after about 1 days")
