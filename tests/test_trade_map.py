"""The language of maps: it computes what Python, pandas and numpy compute, and a wrong map is one line that names the key."""

from __future__ import annotations

import io
import operator
import time
import timeit
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_telemetry.importers.cells import Reading, column_times, number_reader, read_zone, truth
from trade_telemetry.importers.expressions import FUNCTIONS, expression
from trade_telemetry.importers.trade_map import FIELDS, FREQTRADE, RULES, ImportMapError, TradeMap, make_map

EARLY, LATE = datetime(1995, 1, 1), datetime(2030, 1, 1)  # noqa: DTZ001  of a wall clock
NUMBERS = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


def value_of(text: str, row: dict[str, Any], what: str = "expression", reading: Reading | None = None) -> Any:
    return expression(text, row, what, reading or Reading())(row)


@st.composite
def formulas(draw: st.DrawFn, depth: int = 4) -> str:
    """A formula that both languages can read."""
    kind = draw(st.integers(0, 6 if depth else 1))
    inner = formulas(depth=depth - 1)
    match kind:
        case 0:
            return draw(st.sampled_from(["a", "b", "c"]))
        case 1:
            return str(draw(st.integers(0, 9)))
        case 2:
            return f"({draw(inner)} {draw(st.sampled_from('+-*/'))} {draw(inner)})"
        case 3:
            return f"{draw(st.sampled_from(['-', '+', 'abs']))}({draw(inner)})"
        case 4:
            return f"{draw(st.sampled_from(['min', 'max']))}({draw(inner)}, {draw(inner)})"
        case 5:
            signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
            test = f"{draw(inner)} {draw(signs)} {draw(inner)} {draw(signs)} {draw(inner)}"
            joint = draw(st.sampled_from(["and", "or"]))
            return f"({draw(inner)} if {test} {joint} not {draw(inner)} < {draw(inner)} else {draw(inner)})"
        case _:
            return f"({draw(inner)} if {draw(inner)} in ({draw(inner)}, {draw(inner)}) else {draw(inner)})"


@settings(max_examples=400, deadline=None)
@given(formulas(), NUMBERS, NUMBERS, NUMBERS)
def test_a_formula_gives_what_python_gives(text: str, a: float, b: float, c: float) -> None:
    row = {"a": a, "b": b, "c": c}
    try:
        expected = eval(text, {"abs": abs, "min": min, "max": max}, row)
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            value_of(text, row)
        return
    if not np.isfinite(expected):
        return
    assert value_of(text, row) == expected
    assert float(value_of(text, {name: repr(cell) for name, cell in row.items()})) == expected


@given(st.lists(st.sampled_from(["yes", "no", "", "True", "0", 1, False, None]), min_size=2, max_size=2))
def test_questions_are_joined_as_in_logic(cells: list[Any]) -> None:
    row = dict(zip("ab", cells, strict=True))
    a, b = map(truth, cells)
    for what in ("where", "is_short"):
        assert truth(value_of("a or b", row, what)) is (a or b)
        assert value_of("a and b", row, what) is (a and b)
        assert value_of("not a or not b", row) is (not a or not b)
        assert value_of("'x' if a or b else 'y'", row) == ("x" if a or b else "y")


TYPES = ["buy", "buy stop", "sell", "sell stop", "balance"]


@pytest.mark.parametrize("kind", TYPES)
def test_the_words_of_a_broker_become_sides_and_rows(kind: str) -> None:
    """Alternatives written with `or`, and with `in`, are the same question."""
    row = {"type": kind}
    long = "'LONG' if type == 'buy' or type == 'buy stop' else 'SHORT'"
    assert value_of(long, row) == ("LONG" if "buy" in kind else "SHORT")
    assert value_of(long, row) == value_of("'LONG' if type in ('buy', 'buy stop') else 'SHORT'", row)
    wanted = " or ".join(f"type == '{word}'" for word in TYPES[:4])
    assert value_of(wanted, row, "where") is (kind != "balance")


@settings(max_examples=100, deadline=None)
@given(st.datetimes(EARLY, LATE), st.integers(-400, 400), st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]))  # fmt: skip
def test_times_are_compared_as_times_however_they_are_written(when: datetime, days: int, zone: str) -> None:
    when = when.replace(microsecond=0)
    other = when + timedelta(days=days)
    signs = {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
        "==": operator.eq,
        "!=": operator.ne,
    }
    for form in ("%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", None):
        reading = Reading(read_zone(zone), form)
        a, b = (t.strftime(form) if form else t.isoformat() for t in (when, other))
        for sign, apply in signs.items():
            assert value_of(f"a {sign} b", {"a": a, "b": b}, reading=reading) is apply(when, other)
            day = other.date().isoformat()
            midnight = datetime.combine(other.date(), datetime.min.time())
            assert value_of(f"a {sign} '{day}'", {"a": a}, reading=reading) is apply(when, midnight)


@given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), NUMBERS, st.floats(0.01, 1e4)), max_size=8))
def test_lists_inside_of_rows_are_what_numpy_and_pandas_make_of_them(
    orders: list[tuple[str, float, float]],
) -> None:
    row = {"orders": [{"side": s, "price": p, "filled": f} for s, p, f in orders], "fallback": 7.0}
    table = pd.DataFrame(row["orders"], columns=["side", "price", "filled"])
    buys = table.query("side == 'buy'")
    got = value_of("wmean(orders[side == 'buy'].price, orders[side == 'buy'].filled) or fallback", row)
    expected = np.average(buys.price, weights=buys.filled) if len(buys) else 7.0
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert value_of("orders[side != 'buy' and filled > 5].price", row) == list(
        table.query("side != 'buy' and filled > 5").price
    )
    for name, apply in {"sum": sum, "min": min, "max": max, "mean": np.mean}.items():
        assert value_of(f"{name}(orders[].price)", row) == (
            pytest.approx(apply(table.price)) if orders else None
        )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.decimals(-(10**9), 10**9, places=2, allow_nan=False), min_size=1, max_size=5))
def test_people_s_numbers_are_read_as_pandas_reads_them(values: list[Any]) -> None:
    english = [f"{v:,.2f}" for v in values]
    german = [text.translate(str.maketrans(",.", ".,")) for text in english]
    for texts, decimal, thousands in ((english, ".", ","), (german, ",", ".")):
        theirs = pd.read_csv(
            io.StringIO("x\n" + "\n".join(texts)), sep=";", decimal=decimal, thousands=thousands
        ).x
        read = number_reader(decimal)
        assert [read(text) for text in texts] == list(theirs.astype(float))
        marked = [f"({text.removeprefix('-')} €)" if text.startswith("-") else f"$ {text}" for text in texts]
        assert [read(text) for text in marked] == list(theirs.astype(float))


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=20) | st.text("0123456789.,-+()%$€ '", max_size=12), st.sampled_from([None, ".", ","])
)
def test_any_text_is_a_finite_number_or_an_error_of_one_line(text: str, decimal: str | None) -> None:
    with suppress(ValueError):
        assert np.isfinite(number_reader(decimal)(text))
    with suppress(ValueError):
        assert Reading(time_format="%d.%m.%Y").moment(text).tzinfo is UTC
    with suppress(ValueError):
        assert Reading(read_zone("America/New_York+7h")).moment(text).tzinfo is UTC
    with suppress(ValueError):
        column_times([text, text])
    with suppress(ImportMapError):
        read_zone(text)


WORDS = st.sampled_from([
    "a", "b", "nothing", "'x'", "1", "2.5", "(", ")", "[", "]", "[]", ".", ",", "+", "-", "*", "/", "**", "==", "<", "in", "not", "and", "or", "if", "else",
    "is", "lambda", ":", "for", "{", "}", "column", "optional", "...", "'", *FUNCTIONS, "a.b", "a[0]", "a[b == 1].c", "\\", "\n", "@", ":=", "None", "true",
])  # fmt: skip
ROW = {"a": [{"b": 1, "c": "2"}, {"b": "x"}, None], "b": "1", "c d": ""}


@settings(max_examples=1000, deadline=None)
@given(st.lists(WORDS, max_size=12), st.booleans())
def test_no_words_of_the_language_in_any_order_give_a_traceback(words: list[str], spaced: bool) -> None:
    text = (" " if spaced else "").join(words)
    for what in ("symbol", "where", "quantity"):
        try:
            cell = expression(text, ROW, what)
        except ImportMapError as error:
            assert str(error).startswith(f"{what}: ")
            continue
        with suppress(ValueError, ArithmeticError):
            cell(ROW)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=6) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([*RULES, "fields", "preset", "unheard-of"]), JUNK)
def test_a_wrong_entry_of_a_map_is_named(name: str, value: Any) -> None:
    try:
        made = make_map({"preset": "freqtrade", name: value})
    except ImportMapError as error:
        assert name in str(error) or name == "fields" or (name == "preset" and value is None)
        assert "\n" not in str(error)
        return
    assert isinstance(made, TradeMap)
    assert made.reading.timezone is not None
    assert made.options == made.options


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(FIELDS)), JUNK)
def test_a_wrong_field_of_a_map_is_named(name: str, value: Any) -> None:
    try:
        made = make_map({"fields": FREQTRADE.fields | {name: value}})
        for field, text in made.fields.items():
            if not isinstance(text, dict):
                expression(text, [], field)
    except ImportMapError as error:
        assert name in str(error) or "no column" in str(error)


def test_every_rule_has_a_key_and_every_key_a_rule() -> None:
    assert set(RULES) | {"fields"} == set(TradeMap.__dataclass_fields__)
    assert make_map(yaml.safe_load("preset: freqtrade\ntime_format: ['%d.%m.%Y', yyyymmdd]")).time_format == (
        "%d.%m.%Y",
        "yyyymmdd",
    )


def test_a_plain_column_costs_next_to_nothing_and_a_formula_little_more_than_its_numbers() -> None:
    row = {"a": "100.5", "b": "101.25", "type": "sell stop", "opened": "2025-03-03 10:00:00"}
    reading = Reading()

    def cost(call: Any, cell: Any) -> float:
        return min(timeit.repeat(lambda: call(cell), number=20_000, repeat=5, timer=time.process_time))

    number = cost(float, "100.5")
    assert cost(expression("a", row), row) < 3 * number
    assert cost(reading.number, "100.5") < 6 * number
    assert cost(reading.moment, "2025-03-03 10:00:00") < 20 * number
    assert cost(expression("100 * (b / a - 1)", row), row) < 25 * number
    assert cost(expression("type == 'buy' or type == 'buy stop'", row), row) < 12 * number
