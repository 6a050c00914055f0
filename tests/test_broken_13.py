"What was found broken in messages, kept answers, notes and titles by people who tried to break them."

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trade_telemetry.cli.main import main
from trade_telemetry.health_sentences import unjudged_text
from trade_telemetry.judgement.kept_answers import ANSWERS, KeptAnswers
from trade_telemetry.judgement.messages import Seen
from trade_telemetry.judgement.notify import names_told
from trade_telemetry.judgement.outbox import Outbox, Service, services_of
from trade_telemetry.store.as_of import StoreAsOf
from trade_telemetry.store.store import TraceStore
from trade_telemetry.testing import make_traces, write_run

NOW = datetime(2025, 1, 2, tzinfo=UTC)
CHANGE = {
    "kind": "new",
    "subject": "s",
    "strategy": "a",
    "level": 3,
    "title": "t",
    "sentence": "z",
    "rate": "",
}


def waiting(**facts: object) -> str:
    "A memory of messages in which one change waits."
    told = {"health": {}, "on": {}}
    one = {"change": CHANGE | {"at": ""} | facts, "to": ["json #1"]}
    return json.dumps({"version": 1, "told": told, "waiting": [one], "failed": {}, "lost": 0})


@pytest.mark.parametrize(
    "content", ["[" * 200_000, waiting().replace('"lost": 0', '"lost": Infinity'), waiting(at="soon"), waiting(title="\ud800")]
)  # fmt: skip
def test_a_foreign_memory_of_messages_never_fails_the_check(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.json").write_text(content)
    heard = list[str]()

    def send(service: Service, title: str, text: str) -> str:
        heard.append(title)
        return ""

    told = Outbox(tmp_path / "m.json", services_of(["json://127.0.0.1:1"]), send=send).tell(Seen(), NOW)
    assert heard or "begun anew" in told.said[0]
    assert Outbox(tmp_path / "m.json", (), send=send).tell(Seen(), NOW).said == ()  # mended


def test_a_deep_memory_of_a_command_is_no_memory(tmp_path: Path) -> None:
    (tmp_path / "told.json").write_text("[" * 200_000)
    assert names_told(tmp_path / "told.json") == set()


def test_answers_under_foreign_names_do_not_spoil_the_file(tmp_path: Path) -> None:
    (tmp_path / ANSWERS).write_text('{"a \\"quoted\\" name": 1, "half \\ud83d": 2}')
    one = KeptAnswers(tmp_path)
    one.look()
    one.keep({"mine": 3})
    one.save()
    other = KeptAnswers(tmp_path)
    other.look()
    assert other["mine"] == 3


@pytest.mark.parametrize(
    ("zone", "shown"), [("Asia/Kolkata", "9999-12-31 23:59+00:00"), ("UTC", "9999-12-31 23:59")]
)
def test_a_note_of_the_last_day_of_the_calendar_can_be_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, zone: str, shown: str
) -> None:
    monkeypatch.setenv("TELEMETRY_TIMEZONE", "UTC")
    assert main(["note", "far", "--at", "9999-12-31T23:59", "--telemetry-dir", str(tmp_path)]) == 0
    monkeypatch.setenv("TELEMETRY_TIMEZONE", zone)
    assert main(["note", "--list", "--telemetry-dir", str(tmp_path)]) == 0
    assert shown in capsys.readouterr().out


def test_looking_back_on_a_simulated_desk_a_writer_that_was_silent_is_silent(tmp_path: Path) -> None:
    for name, last in (("silent", "2025-04-03"), ("on", "2025-12-31")):
        write_run(tmp_path / "replay" / name, make_traces(3, mode="replay", strategy=name), mode="replay")
        (record,) = (tmp_path / "replay" / name).glob("run_*.json")
        clock = {"simulated": True, "heartbeat_at": f"{last}T00:00:00+00:00", "ended_at": None}
        began = {"started_at": "2025-01-06T00:00:00+00:00", "heartbeat_seconds": 86_400.0}
        record.write_text(json.dumps(json.loads(record.read_text()) | clock | began))
    store = TraceStore(tmp_path)
    store.refresh()
    states = {run.name: run.state for run in StoreAsOf(store, datetime(2025, 9, 14, tzinfo=UTC)).runs()}
    assert states == {"replay/silent": "ended uncleanly", "replay/on": "unknown"}


def test_names_that_begin_alike_are_told_apart_in_a_sentence() -> None:
    names = [
        f"{'momentum_of_the_first_hour_in_large_caps':<45}".replace(" ", "_") + end for end in ("_v1", "_v2")
    ]
    assert len({unjudged_text(name, 5) for name in names}) == 2
