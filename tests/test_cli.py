"""The command line: what it prints, where, and how it ends; each verb at least once in a process as a shell starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from shell import COMMAND, asked, asked_in_a_process

from trade_telemetry import PredictionTrace
from trade_telemetry.testing import make_trace, write_run
from trade_telemetry.trace import Direction

START = datetime(2025, 1, 6, 15, tzinfo=UTC)


def traces(
    mode: str, days: int, skill: float, seed: int, weeks: int = 0, strategy: str = "intraday"
) -> list[PredictionTrace]:
    """Six closed trades a day, right with a given chance."""
    rng, out = np.random.default_rng(seed), []
    for k in range(6 * days):
        day = k // 6
        when = START + timedelta(weeks=weeks, days=day // 5 * 7 + day % 5, minutes=20 * (k % 6))
        predicted: Direction = "LONG" if rng.random() < 0.5 else "SHORT"
        right = bool(rng.random() < skill)
        earned = 1.0 if right else -1.0
        out.append(
            make_trace(
                timestamp=when, symbol="EURUSD", strategy=strategy, predicted_direction=predicted, predicted_confidence=0.62,
                exit_price=101.0 if right == (predicted == "LONG") else 99.0, holding_period_minutes=15,
                realized_return_pct=earned + float(rng.normal(0, 0.1)), label_threshold_pct=0.3, mode=mode,
            )
        )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy")
    write_run(folder / "backtest_20250106_000000", traces("backtest", 120, 0.62, 1))
    write_run(folder / "live", traces("live", 40, 0.64, 2, weeks=30))
    return folder


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("degraded")
    write_run(folder / "backtest_20250106_000000", traces("backtest", 120, 0.62, 1))
    write_run(folder / "live", traces("live", 40, 0.40, 3, weeks=30))
    return folder


# --- compare ---


def test_live_against_backtest_ends_with_one_where_a_planted_loss_is_and_with_zero_where_none_is(
    healthy: Path, degraded: Path
) -> None:
    good = asked("compare", "--live-vs-backtest", "--telemetry-dir", healthy, cwd=healthy)
    bad = asked_in_a_process("compare", "--live-vs-backtest", "--telemetry-dir", degraded, cwd=degraded)
    assert (good.returncode, good.stderr) == (0, "")
    assert (bad.returncode, bad.stderr) == (1, "")
    assert "intraday: Worse than the backtest: precision" in bad.stdout
    assert re.search(r"Precision −\d", bad.stdout)
    assert "worse" not in good.stdout.lower()
    assert [("why: trade-telemetry reconcile" in done.stdout) for done in (good, bad)] == [False, True]
    for title in ("slippage", "holding time", "calibration gap", "daily return"):
        assert title in good.stdout


def test_live_against_backtest_speaks_strict_json(degraded: Path) -> None:
    done = asked(
        "compare", "--live-vs-backtest", "--format", "json", "--telemetry-dir", degraded, cwd=degraded
    )
    answer = json.loads(done.stdout, parse_constant=lambda word: pytest.fail(word))
    assert answer["degraded"] == ["intraday"]
    assert answer["strategies"]["intraday"]["measures"]["slippage"]["live"] is None


def test_every_pair_of_groups_is_compared(tmp_path: Path) -> None:
    rows = [
        replace(t, strategy=name, trace_id="")
        for k, name in enumerate(("one", "two", "three"))
        for t in traces("backtest", 40, 0.6, 10 + k)
    ]
    write_run(tmp_path / "backtest_20250106_000000", rows)
    done = asked("compare", "--by", "strategy", "--format", "json", "--telemetry-dir", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    pairs = json.loads(done.stdout)["pairs"]
    assert [(p["first"], p["second"]) for p in pairs] == [("one", "three"), ("one", "two"), ("three", "two")]
    table = asked("compare", "--labels", "one", "two", "--telemetry-dir", tmp_path, cwd=tmp_path)
    assert table.returncode == 0
    assert "Cliff's delta" in table.stdout
    wrong = asked("compare", "--labels", "one", "four", "--telemetry-dir", tmp_path, cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "trade-telemetry compare: no strategy 'four'; there are: one, three, two\n"


def test_a_missing_directory_is_one_line_and_two(tmp_path: Path) -> None:
    done = asked("compare", "--live-vs-backtest", "--telemetry-dir", tmp_path / "no", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no such telemetry directory" in done.stderr


def test_metrics_and_export_print_json_of_the_same_rows(healthy: Path) -> None:
    metrics = asked_in_a_process(
        "metrics", "--format", "json", cwd=healthy, TELEMETRY_STORAGE_PATH=str(healthy)
    )
    export = asked_in_a_process("export", cwd=healthy, TELEMETRY_STORAGE_PATH=str(healthy))
    assert (metrics.returncode, export.returncode) == (0, 0)
    assert json.loads(metrics.stdout)["total_trades"] == 240
    assert set(json.loads(export.stdout)["strategies"]) == {"intraday"}


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_the_terminal_and_lose_nothing(healthy: Path, width: int) -> None:
    words = ("metrics", "--by", "weekday", "--rolling", "60", "--telemetry-dir", str(healthy))
    plain = asked(*words, cwd=healthy).stdout
    assert max(map(len, plain.splitlines())) > 110
    ours, theirs = os.openpty()
    environment = dict(os.environ) | {"COLUMNS": str(width), "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([*COMMAND, *words], stdout=theirs, cwd=healthy, env=environment) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    lines = shown.decode().splitlines()
    tables = [line for line in lines if "  " in line or "─" in line]
    assert tables and max(map(len, tables)) <= max(width, 70)
    cells = {cell for line in plain.splitlines() for cell in re.split("  +", line.strip()) if "─" not in cell}
    assert cells <= {cell for line in lines for cell in re.split("  +", line.strip())}


# --- check ---


def test_check_ends_with_zero_one_and_two(healthy: Path, degraded: Path, tmp_path: Path) -> None:
    good = asked("check", "--telemetry-dir", healthy, cwd=healthy)
    assert (good.returncode, good.stderr) == (0, "")
    health, desk, calm = good.stdout.splitlines()
    assert desk.startswith("1 strategy, 5 % a year each: 0.05 false alarms a year")
    assert re.match("[▲○] intraday( is healthy: |: too early)", health)
    assert calm == "no active alerts; judged: 240 trades of intraday"
    bad = asked_in_a_process("check", "--telemetry-dir", degraded, cwd=degraded)
    assert (bad.returncode, bad.stderr) == (1, "")
    assert re.match(
        r"▼ intraday lost its edge around \d+ \w+ .*: \d+ % right since, \d+ % promised\.\n", bad.stdout
    )
    assert "CRITICAL intraday: skill lost, since 2025-" in bad.stdout
    assert "10-point loss" in bad.stdout
    missing = asked_in_a_process("check", "--telemetry-dir", tmp_path / "no", cwd=tmp_path)
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (2, "", 1)
    (tmp_path / "rules.yaml").write_text("budget: 0\n")
    wrong = asked("check", "--telemetry-dir", degraded, "--rules", tmp_path / "rules.yaml", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.endswith("rules.yaml: budget must be > 0.0, got 0\n")
    nothing = asked("check", "--telemetry-dir", tmp_path, cwd=tmp_path)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr.startswith("nothing is live in")


def test_on_alert_gets_json_on_its_input_and_its_output_stays_out_of_the_answer(
    degraded: Path, tmp_path: Path
) -> None:
    words = ("check", "--format", "json", "--telemetry-dir", degraded, "--remember", tmp_path / "told")
    hook = f"cat > {tmp_path / 'heard.json'}; echo hook was here"
    first = asked_in_a_process(*words, "--on-alert", hook, cwd=tmp_path)
    answer, heard = json.loads(first.stdout), json.loads((tmp_path / "heard.json").read_text())
    assert first.returncode == 1
    assert first.stderr == "hook was here\n"
    assert heard["alerts"] == answer["alerts"]
    assert {a["rule"] for a in answer["alerts"]} >= {"lost_skill", "precision_below_threshold"}
    again = asked_in_a_process(
        *words, "--on-alert", hook, cwd=tmp_path
    )  # nothing new: nobody is called twice
    assert (again.returncode, again.stderr) == (1, "")


def test_rules_in_the_directory_hold_for_check(degraded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(degraded, folder)
    (folder / "alerts.yaml").write_text(
        "disabled: [lost_skill, drawdown, calibration_drift, precision_below_threshold]\n"
    )
    assert asked("check", "--telemetry-dir", folder, cwd=tmp_path).returncode == 0


def test_a_killed_writer_is_told_apart_from_a_quiet_one(healthy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(healthy, folder)
    (ledger,) = (folder / "live").glob("run_*.json")
    record = json.loads(ledger.read_text())
    now = datetime.now(UTC)
    quiet = record | {"ended_at": None, "end_reason": None, "heartbeat_at": now.isoformat()}
    ledger.write_text(json.dumps(quiet))
    assert asked("check", "--telemetry-dir", folder, cwd=tmp_path).returncode == 0
    dead = quiet | {"heartbeat_at": (now - timedelta(hours=2)).isoformat(), "heartbeat_seconds": 60}
    ledger.write_text(json.dumps(dead))
    done = asked("check", "--telemetry-dir", folder, cwd=tmp_path)
    assert done.returncode == 1
    assert "CRITICAL Recording of live went silent" in done.stdout


# --- import ---


def test_a_log_of_another_engine_is_imported_and_judged(tmp_path: Path) -> None:
    log, chart = tmp_path / "log.csv", tmp_path / "map.yaml"
    lines = [
        f"BTC,{side},2025-01-{day:02}T10:00:00Z,2025-01-{day:02}T11:00:00Z,100,{price}"
        for day in range(2, 30)
        for side, price in (("LONG", 101), ("SHORT", 99))
    ]
    log.write_text("\n".join(["pair,side,opened,closed,bought,sold", *lines, "BTC,UP,,,x,y"]) + "\n")
    chart.write_text(
        "fields: {symbol: pair, direction: side, entry_time: opened, exit_time: closed, "
        "entry_price: bought, exit_price: sold}\n"
    )
    words = ("import", log, "--map", chart, "--strategy", "mine", "--telemetry-dir", tmp_path / "here")
    done = asked_in_a_process(*words, "--threshold-pct", "0.3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("56 of 57 rows of log.csv became backtest traces")
    judged = asked("metrics", "--format", "json", "--telemetry-dir", tmp_path / "here", cwd=tmp_path)
    assert json.loads(judged.stdout)["headline_precision"] == 1.0
    wrong = asked("import", log, "--strategy", "mine", "--telemetry-dir", tmp_path / "there", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n"), (tmp_path / "there").exists()) == (2, 1, False)
