"""Health as a trader reads it: a loss that was planted, a desk that stays well, a sample beside the whole, and words everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from sklearn.metrics import precision_score

from trade_telemetry.cli.main import main
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.answers import state_schema
from trade_telemetry.dashboard.cards import cards_html
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.health_sentences import HEALTH, Health, HealthState, StreamCode, health_sentence
from trade_telemetry.judgement import bar
from trade_telemetry.judgement import health as asked
from trade_telemetry.judgement.alert_rules import AlertRules, Case, case_of, judged_of
from trade_telemetry.judgement.health import health_of_case
from trade_telemetry.judgement.kept_answers import ANSWERS, answers_of
from trade_telemetry.judgement.streams import Watchable, streams_of
from trade_telemetry.metrics.aggregates import fold
from trade_telemetry.report.front_page import executive_summary
from trade_telemetry.report.scope import open_report
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.testing import START, make_ledger, simulate_columns, simulate_run, write_run

SEEDS = range(12)
LOST_ON, LAST = 60, 95  # the loss is 35 live days old on the last evening
LATER = START + timedelta(weeks=30)
COSTS = {"slippage_pct": 0.02, "fees_pct": 0.01}
Plan = dict[str, Any]
QUIET = "drawdown, calibration_drift, quiet_market, precision_below_threshold, writer_silent"


def case(live: TraceColumns, past: TraceColumns) -> Case:
    return case_of(live, past, "UTC", AlertRules(), now=datetime(2026, 6, 1, tzinfo=UTC))


@cache
def backtest(days: int = 250) -> TraceColumns:
    return simulate_columns(days, 10, 0.6, seed=7, **COSTS)


def live(seed: int, days: int = LAST, **planted: Any) -> TraceColumns:
    plan: Plan = {"mode": "live", "start": LATER, **COSTS, **planted}
    return simulate_columns(
        days, plan.pop("trades_a_day", 10), plan.pop("precision", 0.6), seed=100 + seed, **plan
    )


def health(figure: TraceColumns, past: TraceColumns | None = None, find: bool = False) -> Health:
    (found,) = health_of_case(case(figure, backtest() if past is None else past), find=find).values()
    return found


def loss(seed: int, **planted: Any) -> TraceColumns:
    return live(seed, loss_of_skill_on_day=LOST_ON, precision_after=0.42, **planted)


def trading_day(number: int) -> str:
    return str((LATER + timedelta(days=number // 5 * 7 + number % 5)).date())


def test_a_desk_that_loses_18_points_is_degraded_within_35_days() -> None:
    found = [health(loss(seed)) for seed in SEEDS]
    assert sum(h.state == "degraded" for h in found) >= 10
    told = [h for h in found if h.state == "degraded" and h.since]
    covered = sum(h.since[0] <= trading_day(LOST_ON) <= h.since[2] for h in told if h.since)
    assert covered >= 0.7 * len(told)
    assert all(h.right_now < h.right_promised - 0.08 and h.chance < 0.1 for h in told)


def test_a_desk_that_stays_as_it_was_is_not_degraded() -> None:
    states = [health(live(20 + seed)).state for seed in range(20)]
    assert states.count("degraded") <= 2
    assert states.count("healthy") >= 14


@pytest.mark.parametrize("a_day", [2, 50])
def test_another_rate_of_trades_is_no_loss(a_day: float) -> None:
    states = [health(live(50 + seed, trades_a_day=a_day)).state for seed in SEEDS]
    assert states.count("degraded") <= 1


def test_dearer_fills_are_told_apart_from_lost_skill() -> None:
    dear = live(3, slippage_pct=0.05)
    found = health(dear)
    assert (found.state, found.carrier) == ("degraded", "cost")
    assert found.now == pytest.approx(-0.06, abs=0.005) and found.promised == pytest.approx(-0.03, abs=0.002)
    assert "pays higher costs" in health_sentence(found).short
    assert "right calls" in health_sentence(found).figures


def sampled(columns: TraceColumns, one_in: int, ledger: bool) -> TraceColumns:
    rows = columns.take(np.arange(0, len(columns), one_in))
    rows = replace(rows, sample_rate=np.full(len(rows), 1 / one_in), extras=None)
    return replace(rows, ledger=make_ledger(columns.to_traces(), columns.runs[0])) if ledger else rows


def streams(figure: TraceColumns) -> Watchable:
    one = case(figure, backtest())
    (found,) = streams_of(judged_of(fold(figure)), one.past, one.whole).values()
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sampled_run_with_its_ledger_says_exactly_what_the_whole_run_says(seed: int) -> None:
    whole = loss(seed)
    part = sampled(whole, 10, ledger=True)
    for a, b in zip(streams(part).streams, streams(whole).streams, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.variance, b.variance)
        for x, y in zip(a[1:5], b[1:5], strict=True):
            np.testing.assert_array_equal(x, y)
    assert health(part) == health(whole)


def test_a_sample_without_a_ledger_is_watched_by_its_rows() -> None:
    found = health(sampled(loss(0, trades_a_day=100), 10, ledger=False))
    assert found.state == "degraded"
    assert found.trades == pytest.approx(LAST * 10, rel=0.01)


def test_a_day_that_is_open_changes_nothing() -> None:
    figure = loss(4)
    last = datetime.fromtimestamp(int(figure.exit_us.max()) / 1e6, UTC)
    before = figure.take(figure.exit_us < last.replace(hour=0, minute=0, second=0).timestamp() * 1e6)
    views = [case_of(f, backtest(), "UTC", AlertRules(), now=last) for f in (figure, before)]
    found = [next(iter(health_of_case(view).values())) for view in views]
    assert found[0] == found[1]


def test_days_are_those_of_the_zone() -> None:
    figure = live(5, days=12)
    tokyo = case_of(figure, backtest(), "Asia/Tokyo", AlertRules(), now=datetime(2026, 6, 1, tzinfo=UTC))
    (watched,) = streams_of(tokyo.live, tokyo.past, tokyo.whole).values()
    local = (figure.exit_us + 9 * 3600 * 10**6) // (86400 * 10**6)
    assert watched.days.tolist() == np.unique(local).tolist()
    moved = [int(((local == day) & (figure.actual != 2)).sum()) for day in watched.days]
    assert watched.streams[0].counts.tolist() == moved


def test_without_a_backtest_nobody_is_called_healthy() -> None:
    none = backtest().take(slice(0))
    found = [health(live(seed), none) for seed in range(4)]
    assert {h.state for h in found} <= {"unchanged", "watch", "too_early"} and not any(
        h.referenced for h in found
    )
    early = health(live(0, days=8), none)
    assert early.state == "too_early" and early.days_more >= 12


def test_every_state_of_every_stream_is_one_sentence_of_at_most_25_words() -> None:
    since = ("2024-12-28", "2024-12-31", "2025-01-03")
    for state in get_args(HealthState):
        for code in get_args(StreamCode):
            for known in (True, False):
                one = Health(
                    "Intraday", state, code, "2025-09-01", 60, 600, 10.0, since=since, loss=(0.05, 0.118, 0.18), now=-0.712,
                    promised=-0.66, right_now=0.402, right_promised=0.52, chance=0.21, episode=since[:2], days_more=114.0,
                    excluded_days=124.0, referenced=known, stand_in_days=20, find_days=((0.05, float("inf")), (0.1, 30.0)),
                )  # fmt: skip
                said = health_sentence(one)
                assert len(said.short.split()) <= 25 and said.short.endswith(".") and "nan" not in str(said)
    assert set(HEALTH) == set(get_args(HealthState))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strategy that lost 18 points, one that did not, and their backtest."""
    folder = tmp_path_factory.mktemp("desk")
    names: Sequence[str] = ("intraday", "swing")
    write_run(folder / "backtest_20250106_000000", simulate_run(120, 10, 0.6, strategies=names, seed=7))
    rows = []
    for seed, (name, planted) in enumerate(
        zip(names, ({"loss_of_skill_on_day": 40, "precision_after": 0.38}, {}), strict=True)
    ):
        own = live(seed, 75, strategies=(name,), slippage_pct=0.0, fees_pct=0.0, **planted).to_traces()
        rows += [replace(trace, features={}, metadata={}) for trace in own]
    write_run(folder / "live", sorted(rows, key=lambda t: t.exit_timestamp or t.timestamp), mode="live")
    return folder


def test_check_leads_with_one_line_for_each_strategy_and_ends_with_1(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--telemetry-dir", str(desk)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("▼ intraday lost its edge around ") and lines[1].startswith(
        "▲ swing is healthy"
    )
    assert main(["check", "--format", "json", "--telemetry-dir", str(desk)]) == 1
    facts = json.loads(capsys.readouterr().out)["health"]
    assert lines[:2] == [f"▼ {facts['intraday']['sentence']}", f"▲ {facts['swing']['sentence']}"]
    assert [loss for loss, _ in facts["swing"]["find_days"]] == [0.05, 0.1, 0.2]
    assert lines[2].startswith("2 strategies, 5 % a year each: 0.10 false alarms a year expected over all")
    assert main(["judge", "--format", "json", "--telemetry-dir", str(desk)]) == 1
    assert json.loads(capsys.readouterr().out)["check"]["health"] == facts


COUNTING = """
import sys
from trade_telemetry.judgement import bar, health
drawn = []
def counted(module, name):
    real = getattr(module, name)
    setattr(module, name, lambda *a, **k: drawn.append(name) or real(*a, **k))
counted(bar, "draw_bar"), counted(bar, "expected_days"), counted(bar, "limit_days")
from trade_telemetry.cli.main import main
main(["check", "--verbose", "--telemetry-dir", sys.argv[1]])
print("drawn:", len(drawn))
"""


def test_a_second_process_draws_nothing_until_the_reference_changes(desk: Path, tmp_path: Path) -> None:
    own = tmp_path / "desk"
    shutil.copytree(desk, own, ignore=shutil.ignore_patterns(bar.FOLDER))

    def ask() -> tuple[str, int]:
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, str(own)], capture_output=True, text=True, check=True
        )
        said, _, count = done.stdout.rpartition("drawn:")
        return said, int(count)

    first, again = ask(), ask()
    assert first[1] >= 7 and again == (first[0], 0)
    torn = next(path for path in (own / bar.FOLDER).iterdir() if '"limit"' in path.read_text())
    torn.write_text("{}")  # it is drawn again, the others are not
    (own / bar.FOLDER / ANSWERS).unlink()  # what was said without it
    said, few = ask()
    assert said == first[0] and 0 < few < first[1]
    past = own / "backtest_20250106_000000"
    shutil.rmtree(past)
    write_run(past, simulate_run(120, 10, 0.6, strategies=("intraday", "swing"), seed=8))
    assert ask()[1] == first[1]


def test_a_new_version_begins_anew_and_the_old_one_is_kept(desk: Path, tmp_path: Path) -> None:
    """The run is a sample with its ledger, so that days of a change must not be cut."""
    own = tmp_path / "desk"
    shutil.copytree(desk / "backtest_20250106_000000", own / "backtest_20250106_000000")
    lost = live(0, 75, strategies=("intraday",), loss_of_skill_on_day=40, precision_after=0.38)
    again = live(1, 13, strategies=("intraday",), start=LATER + timedelta(weeks=14, days=4))  # its last day
    rows = [
        replace(t, version=version, features={}, metadata={})
        for version, part in (("1", lost), ("2", again))
        for t in part.to_traces()
    ]
    write_run(own / "live", rows, mode="live", sample_rate=0.2)
    report = StateSource(Settings(telemetry_storage_path=own)).read(Query(hurry=False))
    found = report["health"]["intraday"]
    before = found["earlier"]
    assert (found["version"], [e["version"] for e in before]) == ("2", ["1"])
    assert found["state"] in ("too_early", "healthy") and found["live_days"] == 13
    assert before[0]["state"] == "degraded" and before[0]["last"] == found["version_since"]
    assert found["trades"] == sum(t.version == "2" for t in rows)
    assert "version 1 was degraded since" in found["figures"]


def test_a_degraded_strategy_alone_ends_check_with_1(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"disabled: [{QUIET}]\n")
    words = ["check", "--telemetry-dir", str(desk), "--rules", str(rules), "--strategy"]
    assert [main([*words, name]) for name in ("intraday", "swing")] == [1, 0]
    rules.write_text(f"disabled: [{QUIET}, lost_skill]\n")
    capsys.readouterr()
    assert main([*words, "intraday"]) == 0
    assert capsys.readouterr().out.startswith("no active alerts")


def forget(folder: Path | None = None) -> None:
    "Begin as a process that knows nothing; of `folder` what is on disk goes, too."
    for memory in (bar._drawn, bar._found, asked._readings):
        memory.clear()
    answers_of.cache_clear()
    if folder is not None:
        shutil.rmtree(folder / bar.FOLDER, ignore_errors=True)


def test_the_first_paint_of_the_page_draws_no_bar_and_the_next_answer_is_complete(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(desk)
    drawn: list[bool] = []
    real = bar.draw_bar
    monkeypatch.setattr(bar, "draw_bar", lambda *a, **k: drawn.append(True) or real(*a, **k))
    source = StateSource(Settings(telemetry_storage_path=desk))
    first = source.read(Query(hurry=True))
    assert not drawn and not first["complete"]
    assert list(first["health"]) == ["intraday", "swing"] and first["health"]["swing"]["find_days"] == []
    second = source.read(Query(hurry=False))
    assert drawn and second["complete"] and second["health"]["intraday"]["drawn"]
    assert len(second["health"]["swing"]["find_days"]) == 3
    count = len(drawn)
    again = source.read(Query(hurry=True))
    assert again["complete"] and again["health"] == second["health"] and len(drawn) == count


def test_one_symbol_of_six_is_named_while_its_strategy_is_not_degraded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"S{k}" for k in range(6)]
    sides: dict[str, list[Any]] = {"backtest_20250106_000000": [], "live": []}
    for k, name in enumerate(names):
        sides["backtest_20250106_000000"] += simulate_run(250, 6, 0.6, symbols=(name,), seed=60 + k)
        lost: Plan = {"loss_of_skill_on_day": 60, "precision_after": 0.35} if k == 0 else {}
        sides["live"] += live(k, 100, trades_a_day=6, symbols=(name,), **lost).to_traces()
    for run, rows in sides.items():
        bare = [replace(t, features={}, metadata={}) for t in rows]
        write_run(tmp_path / run, sorted(bare, key=lambda t: t.exit_timestamp or t.timestamp))
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"disabled: [{QUIET}]\n")
    assert main(["check", "--telemetry-dir", str(tmp_path), "--rules", str(rules)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert not lines[0].startswith("▼")
    assert lines[1].startswith("▼ S0 of intraday has an alarm of its own")
    state = StateSource(Settings(telemetry_storage_path=tmp_path)).read(Query(hurry=False))
    told = state["health"]["intraday"]["symbols"]
    assert [(s["symbol"], s["on"]) for s in told][:2] == [("S0", True), (told[1]["symbol"], False)]
    assert all(s["budget"] == pytest.approx(0.2 * 0.05 / 6) for s in told)


def test_the_page_shows_the_sentence_in_red_and_its_state_obeys_the_schema(desk: Path) -> None:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped, unused-ignore]

    state = StateSource(Settings(telemetry_storage_path=desk)).read(Query(hurry=False))
    Draft202012Validator(state_schema()).validate(json.loads(json.dumps(state, allow_nan=False)))
    html = cards_html(state)
    assert html.count('data-health="degraded"') == html.count('data-health="healthy"') == 1
    red = html.split('data-health="degraded"')[1].split("</div>")[0]
    assert '<b class="tt-loss">' in red and "lost its edge around" in red


def test_the_report_says_it_on_its_first_page(desk: Path) -> None:
    report = open_report(desk, settings=Settings(telemetry_storage_path=desk))
    lines = repr(executive_summary(report)).splitlines()
    told = [line for line in lines if "lost its edge" in line or "is healthy" in line]
    assert sum("0.10 false alarms a year" in line for line in lines) == 1
    assert len(told) == 2 and told[0].startswith("- intraday lost its edge")
    figures = [
        line for line in lines if line.startswith(("- intraday: ", "- swing: ")) and "false-alarm" in line
    ]
    assert len(figures) == 2 and all("false-alarm probability 5 % per year" in line for line in figures)


def test_what_is_said_of_right_calls_is_the_precision_that_everybody_else_shows() -> None:
    """Cards and alerts count all calls; the monitor judges those where the market moved. One figure is told."""
    past = simulate_columns(120, 10, 0.52, seed=5)
    figure = simulate_columns(
        60, 10, 0.52, seed=7, mode="live", start=START + timedelta(weeks=40), loss_of_skill_on_day=20, precision_after=0.34
    )  # fmt: skip
    asked_now = case_of(figure, past, "UTC", AlertRules(), now=datetime(2027, 1, 1, tzinfo=UTC))
    (health,) = health_of_case(asked_now).values()
    assert health.state == "degraded" and health.carrier == "right" and health.since and health.loss
    began = datetime.fromisoformat(health.since[1]).replace(tzinfo=UTC).timestamp() * 1e6
    since = figure.take(figure.exit_us >= began)
    assert (
        health.now
        == health.right_now
        == pytest.approx(precision_score(since.actual, since.predicted, average="micro"))
    )
    assert health.promised == pytest.approx(precision_score(past.actual, past.predicted, average="micro"))
    assert health.loss[0] < health.promised - health.now < health.loss[2]
    of_symbols = {s.symbol: s for s in health.symbols}
    for name in past.symbols:
        own = past.take(past.symbol == past.symbols.index(name))
        assert of_symbols[name].right_promised == pytest.approx(
            precision_score(own.actual, own.predicted, average="micro")
        )
