"""`watch` as a process: it prints changes, goes on where a directory is away, reads only what is new, and ends on a signal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import pytest

from trade_telemetry.cli.watch import Watcher, look_once
from trade_telemetry.config import Settings
from trade_telemetry.testing import START, make_trace, simulate_run, write_run

COMMAND = [sys.executable, "-c", "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"]
LATER = START + timedelta(weeks=60)
PATIENCE = 60.0


class Process:
    """A watch, whose lines are waited for."""

    def __init__(self, *words: str | Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TELEMETRY_", "OTEL_"))}
        self.process = subprocess.Popen(
            [*COMMAND, "watch", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=kept | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
        self.lines: dict[str, list[str]] = {"out": [], "err": []}
        self.changed = threading.Condition()
        for name, stream in (("out", self.process.stdout), ("err", self.process.stderr)):
            assert stream is not None
            threading.Thread(target=self._follow, args=(name, stream), daemon=True).start()

    def _follow(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self.changed:
                    self.lines[name].append(line.rstrip("\n"))
                    self.changed.notify_all()

    def wait_for(self, name: str, text: str) -> str:
        """The first line with such a text."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [line for line in self.lines[name] if text in line]
            return bool(found)

        with self.changed:
            assert self.changed.wait_for(there, PATIENCE), (text, self.lines)
        return found[0]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture
def started() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for one in processes:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def write_desk(folder: Path, days: int = 95) -> None:
    """A strategy whose skill was taken away on its 60th live day."""
    write_run(folder / "backtest_20250106_000000", simulate_run(250, 6, 0.6, seed=1))
    gone: dict[str, Any] = {
        "loss_of_skill_on_day": 60,
        "precision_after": 0.36,
        "start": LATER,
        "mode": "live",
    }
    live = simulate_run(95, 6, 0.6, seed=2, **gone)
    end = LATER + timedelta(days=days // 5 * 7 + days % 5)
    write_run(folder / "live", [t for t in live if (t.exit_timestamp or t.timestamp) < end], mode="live")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_what_is_on_then_what_changes_and_a_signal_ends_it_in_order(
    tmp_path: Path, started: list[Process], number: int
) -> None:
    desk = tmp_path / "desk"
    if number == signal.SIGTERM:
        write_desk(desk)
    one = Process("--telemetry-dir", desk, "--every", "1", "--json", "--metrics-port", "0")
    started.append(one)
    line = one.wait_for("err", "watching")
    assert " every 1 seconds; numbers at http://127.0.0.1:" in line
    if number == signal.SIGTERM:
        change = json.loads(one.wait_for("out", "lost its edge"))
        assert (change["kind"], change["strategy"], change["level"]) == ("new", "intraday", 3)
        page = urlopen(line.partition("numbers at ")[2]).read().decode()
        assert re.search(r'health_state\{state="degraded",strategy="intraday"\} 1\.0', page)
    else:  # the directory comes later; before it does, that is said once
        one.wait_for("err", "cannot look")
        desk.mkdir()
        one.wait_for("err", "looking again")
        time.sleep(0)
        assert len([text for text in one.lines["err"] if "cannot look" in text]) == 1
    assert one.end(number) == 0
    assert not any("Traceback" in text for text in one.lines["err"])


def test_a_look_costs_what_was_written_since_the_last_one(tmp_path: Path) -> None:
    write_desk(tmp_path, days=40)
    watcher, now = Watcher(Settings(telemetry_storage_path=tmp_path)), datetime(2026, 6, 1, tzinfo=UTC)
    read: list[int] = []
    watcher.store.progress = lambda done, total: read.append(done)
    look_once(watcher, now)
    everything = max(read)
    read.clear()
    look_once(watcher, now)
    assert max(read, default=0) == 0
    when = LATER + timedelta(weeks=9)
    write_run(tmp_path / "live", [make_trace(timestamp=when, mode="live", strategy="intraday")], mode="live")
    look_once(watcher, now)
    assert 0 < max(read) < everything / 50


def test_a_folder_that_cannot_be_read_and_rules_that_are_wrong_are_said_once_each_and_gone_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_desk(tmp_path / "desk")
    watcher, now, problem = (
        Watcher(Settings(telemetry_storage_path=tmp_path / "desk")),
        datetime(2026, 6, 1, tzinfo=UTC),
        "",
    )
    problem, code = look_once(watcher, now, problem)
    assert (problem, code) == ("", 1)
    first = capsys.readouterr()
    assert "lost its edge" in first.out and first.err == ""
    (tmp_path / "desk").rename(tmp_path / "away")
    for _ in range(3):
        problem, code = look_once(watcher, now, problem)
        assert code == 2
    (tmp_path / "away").rename(tmp_path / "desk")
    problem, code = look_once(watcher, now, problem)
    assert (problem, code) == ("", 1)
    (tmp_path / "desk" / "alerts.yaml").write_text("budget: many\n")
    problem, _ = look_once(watcher, now, problem)
    (tmp_path / "desk" / "alerts.yaml").unlink()
    problem, _ = look_once(watcher, now, problem)
    said = capsys.readouterr()
    assert said.out == ""  # a folder that was away did not recover, and what is on is not said again
    assert [line.partition("UTC  ")[2].split(":")[0] for line in said.err.splitlines()] == [
        "cannot look", "looking again", "cannot look", "looking again",
    ]  # fmt: skip
