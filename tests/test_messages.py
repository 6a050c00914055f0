"""Messages on their way out of the machine: a real receiver on 127.0.0.1, real processes, services that fail, hang and die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from trade_telemetry.cli.main import main
from trade_telemetry.health_sentences import Health, HealthState
from trade_telemetry.judgement.alert_rules import AlertRules, case_of
from trade_telemetry.judgement.evidence_path import path_days
from trade_telemetry.judgement.health import desk_of, health_of_case
from trade_telemetry.judgement.messages import Memory, Seen, changes
from trade_telemetry.judgement.outbox import Manner, Outbox, services_of
from trade_telemetry.judgement.streams import streams_of
from trade_telemetry.testing import START, simulate_columns, simulate_run, write_run
from trade_telemetry.timezones import date_of_day

COMMAND = [sys.executable, "-W", "error::ResourceWarning", "-c"]
RUN = "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"
LATER = START + timedelta(weeks=60)
NAME = "gap <!channel> @everyone\n**fade**"  # hostile, and the folder is told apart by it
Inbox = list[dict[str, Any]]
Check = Callable[..., tuple[int, str, str]]


class Receiver(ThreadingHTTPServer):
    """What is behind a chat: it keeps what it is sent, and answers as it was told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.inbox: Inbox = []
        self.answer, self.came, self.go = 200, threading.Event(), threading.Event()
        self.go.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path: str = "hook") -> str:
        return f"json://desk:s3cret@127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.came.set()
        self.server.go.wait(60)
        if self.server.answer == 200:
            self.server.inbox.append(body)
        with suppress(OSError):  # whoever asked may be gone
            self.send_response(self.server.answer)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strategy whose skill was taken away 35 days ago."""
    folder = tmp_path_factory.mktemp("broken")
    write_run(folder / "backtest_20250106_000000", simulate_run(250, 6, 0.6, seed=1, strategies=(NAME,)))
    gone: dict[str, Any] = {
        "loss_of_skill_on_day": 60,
        "precision_after": 0.36,
        "start": LATER,
        "mode": "live",
    }
    write_run(folder / "live", simulate_run(95, 6, 0.6, seed=2, strategies=(NAME,), **gone))
    return folder


def environment(**more: str) -> dict[str, str]:
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("TELEMETRY_", "OTEL_")) and "proxy" not in k.lower()
    }
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1])} | more


def start(*words: str | Path, code: str = RUN, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, code, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more),
    )  # fmt: skip


@pytest.fixture
def check(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Exit code, answer and remarks of a check of the broken strategy."""
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)

    def call(*words: str, **more: str) -> tuple[int, str, str]:
        with monkeypatch.context() as context:
            for name, value in more.items():
                context.setenv(name, value)
            code = main(
                ["check", "--telemetry-dir", str(broken), "--notify-state", str(tmp_path / "state"), *words]
            )
        return code, *capsys.readouterr()

    return call


def test_a_receiver_hears_of_a_break_once_and_the_answer_is_as_without_it(
    check: Check, receiver: Receiver
) -> None:
    alone = check("--json")
    told = check("--json", "--notify", receiver.url(), "--page-url", "http://desk:8866/")
    assert (alone[0], told) == (1, alone) and alone[2] == ""
    (message,) = receiver.inbox
    facts = json.loads(alone[1])
    (state,) = {one["state"] for one in facts["health"].values()}
    assert state == "degraded" and "lost its edge" in message["message"]
    assert "False-alarm probability 5 % per year" in message["message"]
    assert "http://desk:8866/#strategy=gap%20%3C%21channel%3E%20%40everyone" in message["message"]
    text = message["title"] + message["message"].replace("http://desk", "")
    assert (
        not set(text.partition("http")[0]) & set("<>@") and "\n**fade" not in text
    )  # no mention, no own line
    for _ in range(2):  # the same next time, in another process, and where the address stands in a setting
        assert check(TELEMETRY_NOTIFY_URLS=receiver.url())[2] == ""
    assert len(receiver.inbox) == 1


def test_nobody_sees_an_address_whatever_goes_wrong(check: Check, tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = 500
    urls = tmp_path / "urls"
    urls.write_text(
        f"# ours\n{receiver.url('t0ken')}\ns3cret t0ken\nnothing://s3cret\njson://s3cret@127.0.0.1:1/t0ken\n"
    )
    state = tmp_path / "state"
    for more in ({}, {"TRADE_TELEMETRY_TRACEBACK": "1"}):
        code, out, err = check("--json", TELEMETRY_NOTIFY_URLS_FILE=str(urls), **more)
        assert code == 1 and json.loads(out)["health"]
        failed = [f"Message to {name} failed" for name in ("json #1", "address #2", "nothing #3", "json #4")]
        assert [line.split(":")[0] for line in err.splitlines()] == ["address #2 and nothing #3", *failed]
        for text in (out, err, state.read_text()):
            assert "s3cret" not in text and "t0ken" not in text
    assert "tried 2 times" in err
    assert state.stat().st_mode & 0o077 == 0
    receiver.answer = 200  # what was not heard was not lost
    check("--notify", receiver.url("t0ken"))
    assert len(receiver.inbox) == 1


@pytest.mark.parametrize("verb", ["check", "watch"])
def test_a_mistyped_address_is_refused_before_anything_is_read(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for address in ("tgrm://1:s3cret/2", "tgram://s3cret", "s3cret"):
        code = main([verb, "--telemetry-dir", str(tmp_path / "nowhere"), "--notify", address])
        out, err = capsys.readouterr()
        name = f"{address.split('://')[0]} #1" if "://" in address else "address #1"
        said = f"{name}: no address that apprise understands, so nobody could be told; is it mistyped?"
        assert (code, out, err) == (2, "", f"trade-telemetry {verb}: {said}\n")


def test_two_checks_at_once_send_one_message(broken: Path, tmp_path: Path, receiver: Receiver) -> None:
    words = (
        "check",
        "--telemetry-dir",
        broken,
        "--notify-state",
        tmp_path / "state",
        "--notify",
        receiver.url(),
    )
    both = [start(*words) for _ in range(2)]
    assert [p.communicate(timeout=120)[1] for p in both] == ["", ""]
    assert len(receiver.inbox) == 1


def test_a_check_that_is_killed_while_it_sends_is_followed_by_one_that_sends(
    check: Check, broken: Path, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.go.clear()
    process = start(
        "check", "--telemetry-dir", broken, "--notify-state", tmp_path / "state", "--notify", receiver.url()
    )
    assert receiver.came.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    receiver.answer = 500  # what the dead one sent was not taken
    receiver.go.set()
    receiver.answer = 200
    check("--notify", receiver.url())
    assert 1 <= len(receiver.inbox) <= 2  # at least once


def test_a_service_that_never_answers_holds_nobody_up_and_is_left_alone(
    tmp_path: Path, receiver: Receiver
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"json://127.0.0.1:{silent.getsockname()[1]}/t0ken?rto=30&cto=30"
        box = Outbox(tmp_path / "state", services_of([hanging, receiver.url()]), Manner(), seconds=3.0)
        gone = Health(
            "swing",
            "degraded",
            "right",
            "2025-11-14",
            60,
            600,
            10.0,
            ("2025-11-03",) * 3,
            (0.1,) * 3,
            0.4,
            0.6,
        )
        seen, now = (
            Seen({"swing": gone}, strategies=frozenset({"swing"})),
            datetime(2025, 11, 14, 12, tzinfo=UTC),
        )
        begin = time.monotonic()
        first, second = box.tell(seen, now), box.tell(seen, now + timedelta(minutes=5))
        assert time.monotonic() - begin < 60
        assert (first.sent, second.sent, len(receiver.inbox)) == (("json #2",), (), 1)
        assert "json #1 failed: no answer within 3 seconds" in first.said[0]
        assert "json #1 failed: it still hangs" in second.said[0]


def test_without_apprise_the_check_is_done_and_one_line_says_what_to_install(
    broken: Path, tmp_path: Path
) -> None:
    code = "import sys; sys.modules['apprise'] = None; " + RUN.removeprefix("import sys; ")
    words = ("--telemetry-dir", broken, "--notify-state", tmp_path / "state", "--notify", "json://s3cret")
    process = start("check", *words, code=code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        1,
        "messages need apprise: pip install 'trade_telemetry[notify]' brings it\n",
    )
    assert "lost its edge" in out and not (tmp_path / "state").exists()
    process = start("watch", *words, code=code)  # a service that could tell nobody is not begun
    assert (process.communicate(timeout=60)[1], process.returncode) == (f"trade-telemetry watch: {err}", 2)


def test_of_a_past_moment_nobody_is_told(check: Check, receiver: Receiver) -> None:
    code, _, err = check("--as-of", "2026-06-01", "--notify", receiver.url())
    assert code == 2 and "--notify is for the present" in err
    check("--as-of", "2026-06-01", TELEMETRY_NOTIFY_URLS=receiver.url())
    assert receiver.inbox == []


def test_what_is_found_at_night_comes_in_the_morning_and_says_when_it_was_found(
    check: Check, receiver: Receiver
) -> None:
    night = {"TELEMETRY_NOTIFY_QUIET_HOURS": "22:00-07:00", "TELEMETRY_TIMEZONE": "Asia/Kolkata"}
    words = ("--notify", receiver.url())
    check(*words, **night, TRADE_TELEMETRY_NOW="2027-01-04T17:00Z")  # half past ten there
    assert receiver.inbox == []
    check(*words, **night, TRADE_TELEMETRY_NOW="2027-01-05T01:29Z")
    assert receiver.inbox == []
    check(*words, **night, TRADE_TELEMETRY_NOW="2027-01-05T01:30Z")  # seven o'clock
    (message,) = receiver.inbox
    assert "(found 2027-01-04 22:30 " in message["message"]


STATES: tuple[HealthState, ...] = ("healthy", "watch", "degraded")
YEAR = 252


def messages_of_a_year(past_seed: int, live_seed: int) -> dict[str, int]:
    """Messages about one healthy strategy, from a check on each evening of a year."""
    past = simulate_columns(250, 6, 0.6, seed=past_seed)
    live = simulate_columns(YEAR, 6, 0.6, seed=live_seed, mode="live", start=LATER)
    case = case_of(live, past, "UTC", AlertRules(), now=datetime(2028, 1, 1, tzinfo=UTC))
    days = path_days(case, "intraday", streams_of(case.live, case.past, case.whole)["intraday"])
    told, found = Memory(), {"watch": 0, "degraded": 0}
    for day, level in zip(days.day.tolist(), days.level.tolist(), strict=True):
        one = Health(
            "intraday", STATES[level], "right", str(date_of_day(day)), 60, 360, 6.0, excluded_days=20.0
        )
        new, told = changes(told, Seen({"intraday": one}, strategies=frozenset({"intraday"})))
        for change in new:
            if change.kind in ("new", "worse"):
                found[change.title.split()[1]] += 1
    return found


def test_messages_of_healthy_years_are_as_many_as_stated(counts: Callable[[int, int], int]) -> None:
    """Over all years; some have several messages, so the interval is that of their spread, at least that of independent ones."""
    years = [
        messages_of_a_year(k, 10_000 + k) for k in range(counts(6, 240))
    ]  # each with a backtest of its own
    desk = [Health(str(k), "healthy", "right", "2025-11-14", 60, 360, 6.0) for k in range(len(years))]
    stated, n = desk_of({h.strategy: h for h in desk}), len(years)
    assert stated is not None
    for state, expected in (
        ("degraded", stated.expected_false_alarms),
        ("watch", stated.expected_false_watch),
    ):
        sent = np.array([year[state] for year in years])
        spread = max(float(sent.std(ddof=1)) * n**0.5, expected**0.5)
        assert abs(int(sent.sum()) - expected) <= 1.96 * spread, (state, expected, years)
        assert (sent > 0).sum() <= stats.binom.ppf(0.975, n, expected / n), (state, expected, years)


def test_evenings_played_one_after_the_other_tell_what_the_path_tells() -> None:
    """Every fifth evening around a break, from the rows that were there by then: the same messages on the same evenings."""
    past = simulate_columns(250, 6, 0.6, seed=1)
    gone: dict[str, Any] = {"loss_of_skill_on_day": 40, "precision_after": 0.36}
    live = simulate_columns(75, 6, 0.6, seed=3, mode="live", start=LATER, **gone)
    now = datetime(2028, 1, 1, tzinfo=UTC)
    whole = case_of(live, past, "UTC", AlertRules(), now=now)
    days = path_days(whole, "intraday", streams_of(whole.live, whole.past, whole.whole)["intraday"])
    evenings, heard, expected, told, also = range(35, 75, 5), [], [], Memory(), Memory()
    for k in evenings:
        end = (int(days.day[k]) + 1) * 86_400_000_000
        health = health_of_case(case_of(live.take(live.exit_us < end), past, "UTC", AlertRules(), now=now))
        new, told = changes(told, Seen(health, strategies=frozenset(health)))
        heard += [(k, c.kind, c.title) for c in new]
        one = Health(
            "intraday", STATES[int(days.level[k])], "right", str(date_of_day(int(days.day[k]))), 1, 1, 1.0
        )
        new, also = changes(also, Seen({"intraday": one}, strategies=frozenset({"intraday"})))
        expected += [(k, c.kind, c.title) for c in new]
    assert heard == expected and [title for *_, title in heard][-1] == "intraday degraded"
