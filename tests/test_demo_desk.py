"""The simulated desk of `trade-telemetry demo`: what breaks is found while it is played, and nothing of it is taken for real."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest

from trade_telemetry.cli.demo import DeskWatch, play_desk
from trade_telemetry.cli.main import main
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.answers import state_schema
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import dashboard_state
from trade_telemetry.judgement.alerts import alert_report
from trade_telemetry.store.store import TraceStore
from trade_telemetry.store.view import select_view
from trade_telemetry.testing import make_traces, write_run
from trade_telemetry.trading.simulated_desk import DeskPlan, DeskPlayer, SimulatedDesk

check_against = import_module("jsonschema").validate  # it brings no types
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def desk() -> SimulatedDesk:
    return SimulatedDesk(DeskPlan(strategies=4, seed=1))


@pytest.fixture(scope="module")
def played(desk: SimulatedDesk, tmp_path_factory: pytest.TempPathFactory) -> tuple[DeskWatch, str]:
    """The desk as far as May, and what was printed."""
    folder = tmp_path_factory.mktemp("desk") / "analytics_simulated"
    player, watch, out = (
        DeskPlayer(desk, folder),
        DeskWatch(desk, Settings(telemetry_storage_path=folder)),
        StringIO(),
    )
    with redirect_stdout(out):
        player.write_backtest()
        play_desk(player, watch, threading.Event(), every=19, most=95)
    player.close()
    return watch, out.getvalue()


def test_both_breaks_the_slippage_and_the_silence_are_found_while_it_is_played(
    played: tuple[DeskWatch, str],
) -> None:
    watch, text = played
    for fate in watch.desk.fates:
        found = watch.found[fate.strategy, fate.kind == "silence"]
        assert found.fate == fate
        assert 1 <= found.after <= 40
    best = {f.strategy: f.best for f in watch.found.values()}
    assert 5 < best["gap_fade"] < 15
    assert 5 < best["breakout"] < 15
    happened = text.index("at 2025-03-12 the skill of gap_fade is taken away")
    told = text.index("gap_fade: found after ")
    assert happened < told
    assert "the best possible, which knows the loss, would need about" in text
    assert "false-alarm probability 5 % per year" in text


def test_every_record_says_that_it_is_simulated_and_none_is_live(played: tuple[DeskWatch, str]) -> None:
    watch, _ = played
    folder = watch.settings.telemetry_storage_path
    records = [json.loads(path.read_text()) for path in folder.rglob("run_*.json")]
    assert len(records) == 5
    assert all(record["simulated"] is True and record["mode"] in ("replay", "backtest") for record in records)
    assert not (folder / "live").exists()
    watch.store.refresh()
    assert {run.mode for run in watch.store.runs()} == {"replay", "backtest"}
    assert set(watch.store.columns.modes) <= {"replay", "backtest"}


def test_page_and_shell_say_that_it_is_simulated(
    played: tuple[DeskWatch, str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = played[0].settings
    state = dashboard_state(TraceStore(settings.telemetry_storage_path), settings, Query(hurry=True))
    check_against(state, state_schema())
    assert (state["simulated"], state["mode"]) == (True, "simulated")
    assert "Simulated desk" in state["title"]
    assert state["health"]["gap_fade"]["state"] == "degraded"
    assert any(a["rule"] == "writer_silent" and "Simulated desk" in a["title"] for a in state["alerts"])
    assert main(["check", "--telemetry-dir", str(settings.telemetry_storage_path)]) == 1
    out = capsys.readouterr().out
    assert "simulated desk: none of these trades is real" in out
    assert main(["metrics", "--telemetry-dir", str(settings.telemetry_storage_path)]) == 0
    assert capsys.readouterr().out.startswith("simulated desk")


def test_what_is_real_is_never_mixed_with_it(played: tuple[DeskWatch, str], tmp_path: Path) -> None:
    desk = played[0].settings.telemetry_storage_path
    shutil.copytree(desk, tmp_path / "desk")
    write_run(tmp_path / "live", make_traces(30, mode="live", strategy="gap_fade"), "live")
    store = TraceStore(tmp_path)
    store.refresh()
    view = select_view(store.columns, store.runs())
    assert ([run.name for run in view.figure_runs], view.mode, view.simulated) == (["live"], "live", False)
    assert view.reference is None  # its only backtest is a simulated one
    settings = Settings(telemetry_storage_path=tmp_path)
    report = alert_report(view, settings, runs=store.runs())  # the desk has a silent writer
    assert not any(alert.rule == "writer_silent" for alert in report.current)
    assert not dashboard_state(store, settings, Query(hurry=True))["simulated"]


def test_no_writer_is_called_silent_while_a_day_is_being_played(
    desk: SimulatedDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers give their signs of life one after the other: a look in between must not take the later ones for dead."""
    player, states = DeskPlayer(desk, tmp_path), set[str]()
    player.write_backtest()
    store = TraceStore(tmp_path)
    for hook in player._hooks.values():
        poll = hook.writer.poll

        def poll_and_look(poll: object = poll) -> None:
            poll()  # type: ignore[operator]
            store.refresh()
            states.update(run.state for run in store.runs() if run.mode == "replay")

        monkeypatch.setattr(hook.writer, "poll", poll_and_look)
    for _ in range(8):  # a weekend among them
        player.play()
    assert states == {"running"}
    player.close()


HOSTILE = {
    "nobody@5": "no strategy 'nobody' on this desk; there are gap_fade, breakout",
    "gap_fade": "a break is NAME@DAY, such as gap_fade@",
    "gap_fade@0": "or the number of a live day, 1 to 260, got '0'",
    "gap_fade@261": "or the number of a live day, 1 to 260, got '261'",
    "gap_fade@2024-12-31": "must be 2025-01-02 to 2025-12-31",
    "gap_fade@2026-01-01": "must be 2025-01-02 to 2025-12-31",
    "gap_fade@yesterday": "got 'yesterday'",
    "gap_fade@" + "9" * 5000: "must be 2025-01-02 to 2025-12-31",
    "@5": "a break is NAME@DAY",
    "x\x1b[31m\n@5": "no strategy 'x\\x1b[31m\\n' on this desk",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_break_that_cannot_be_is_one_clear_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", "--no-dashboard", "--telemetry-dir", str(tmp_path / "t"), "--data-dir", str(DATA)]
    assert main([*words, "--break", text]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert HOSTILE[text] in line
    assert line.isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strategies", "0"], "strategies must be 1 to 50, got 0"),
        (["--strategies", "51"], "strategies must be 1 to 50, got 51"),
        (["--speed", "0"], "--speed must be above 0 days a minute"),
        (["--speed", "nan"], "--speed must be above 0 days a minute"),
    ],
)
def test_other_wrong_use_is_one_clear_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--telemetry-dir", str(tmp_path / "t"), "--data-dir", str(DATA), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_port_that_is_taken_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["demo", "--telemetry-dir", str(tmp_path / "t"), "--data-dir", str(DATA), "--port", port]
        assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"port {port}" in line
    assert list(tmp_path.iterdir()) == []
