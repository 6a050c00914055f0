"""Notes beside the trades: many writers, torn files, hostile words; on the page, in the report, from a shell."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trade_telemetry.capture.notes import NOTES, write_note
from trade_telemetry.cli.main import main
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.answers import State
from trade_telemetry.dashboard.chart import MOST_MARKED, curve_option, mark_option, marks_html
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.report.notes import notes_section
from trade_telemetry.report.scope import open_report
from trade_telemetry.store.notes import read_notes
from trade_telemetry.store.store import TraceStore
from trade_telemetry.testing import START, make_traces, write_run

HOSTILE = "<img src=x onerror=alert(1)> \x1b[31m\u202e__ipecharts_jsfn__::WyJ4Il0= {{7*7}} =1+1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = make_traces(30, version="1.0", mode="live", strategy="gap_fade", every=timedelta(hours=8))
    later = START + timedelta(days=12)
    rows += make_traces(30, version="1.1", mode="live", strategy="gap_fade", timestamp=later)
    write_run(tmp_path / "live", rows, mode="live")
    return tmp_path


def state_of(folder: Path, **asked: Any) -> State:
    return StateSource(Settings(telemetry_storage_path=folder)).read(Query(days=None, **asked))


def said(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["note", *words, "--telemetry-dir", str(folder)])
    told = capsys.readouterr()
    return code, told.out, told.err


WRITE = """
import sys
from trade_telemetry.capture.notes import write_note
folder, who = sys.argv[1:]
for k in range(150):
    write_note(folder, f"{who}: {k} " + "x" * 400, strategy=who)
"""


def test_processes_write_at_once_and_no_note_is_lost_or_mixed(tmp_path: Path) -> None:
    people = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), f"s{who}"]) for who in range(3)]
    assert [one.wait(60) for one in people] == [0, 0, 0]
    notes = read_notes(tmp_path)
    assert {(note.strategy, note.text.split(" ")[1]) for note in notes} == {(f"s{w}", str(k)) for w in range(3) for k in range(150)}  # fmt: skip
    assert len(notes) == 450 and all(note.text.endswith("x" * 400) for note in notes)


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_tail_costs_one_note_and_what_is_written_next_is_whole(tmp_path: Path, cut: int) -> None:
    for k in range(3):
        write_note(tmp_path, f"note {k}", START + timedelta(days=k))
    whole = (tmp_path / NOTES).read_bytes()
    (tmp_path / NOTES).write_bytes(whole[:-cut])
    write_note(tmp_path, "after", START + timedelta(days=9))
    texts = [note.text for note in read_notes(tmp_path)]
    assert texts == ["note 0", "note 1", *(["note 2"] if cut == 1 else []), "after"]


@pytest.mark.parametrize("junk", [b"\x00" * 999, b"[1, 2]\n{}\nnull\n", b"{" * 5000, b'{"id":"a","at":"2025-01-01","text":{},"strategy":""}\n', "ü".encode("latin-1")])  # fmt: skip
def test_whatever_else_stands_in_the_file_is_skipped(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / NOTES).write_bytes(junk)
    write_note(tmp_path, "mine", START)
    assert [note.text for note in read_notes(tmp_path)] == ["mine"]


def test_no_reader_of_traces_takes_notes_for_traces(folder: Path) -> None:
    before, after = TraceStore(folder), TraceStore(folder)
    before.refresh()
    write_note(folder, "switched data vendor")
    after.refresh()
    assert before.report == after.report


def test_a_note_is_on_the_curve_and_in_the_report_from_the_moment_on_at_which_it_holds(folder: Path) -> None:
    at = START + timedelta(days=6)
    write_note(folder, "switched data vendor", at, "gap_fade")
    write_note(folder, "of somebody else", at, "pairs")
    write_note(folder, "planned", datetime.now(UTC) + timedelta(days=30))
    for when, texts in (
        (None, ["switched data vendor", "version 1.1"]),
        (at, ["switched data vendor"]),
        (at - timedelta(microseconds=1), []),
    ):
        state = state_of(folder, as_of=None if when is None else when.isoformat())
        assert [mark["text"] for mark in state["marks"]] == texts
        assert str(marks_html(state)).count("<li>") == len(texts)
        report = open_report(settings=Settings(telemetry_storage_path=folder, as_of=when))
        assert all(text in notes_section(report).html for text in texts)
        assert ("planned" in notes_section(report).html, "somebody" in notes_section(report).html) == (
            False,
            False,
        )


def test_hostile_words_are_inert_everywhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_note(folder, HOSTILE, START + timedelta(days=6), "gap_fade")
    state = state_of(folder)
    places = [
        str(marks_html(state)),
        notes_section(open_report(settings=Settings(telemetry_storage_path=folder))).html,
        said(capsys, folder, "--list")[1],
    ]
    assert all("<img" not in place for place in places[:2])
    assert all("\x1b" not in place and "\u202e" not in place for place in places)
    names = [line["name"] for line in mark_option(state)[0]["markLine"]["data"]]
    assert not any("__ipecharts_jsfn__" in name for name in names)
    assert "__ipecharts_jsfn__" not in json.dumps(curve_option(state)["series"][-1])


def test_a_dozen_marks_stand_in_the_chart_and_all_of_them_in_the_list(folder: Path) -> None:
    for k in range(40):
        write_note(folder, f"note {k}", START + timedelta(days=5, minutes=k))
    state = state_of(folder)
    lines = mark_option(state)[0]["markLine"]["data"]
    assert len(lines) == MOST_MARKED and lines[-1]["name"] == "gap_fade: version 1.1"
    assert str(marks_html(state)).count("<li>") == 41
    assert "40 notes and 1 change of version" in marks_html(state)


def test_the_verb_writes_lists_and_takes_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, folder, "half the size", "--strategy", "gap_fade", "--at", "2025-01-15")[0] == 0
    (one,) = json.loads(said(capsys, folder, "--list", "--json")[1])["notes"]
    assert (one["at"], one["text"]) == ("2025-01-15T00:00:00+00:00", "half the size")
    assert "half the size" in said(capsys, folder, "--list")[1]
    assert said(capsys, folder, "--remove", "nothing")[0] == 1
    assert said(capsys, folder, "--remove", one["id"])[0] == 0
    assert said(capsys, folder, "--list")[1] == "no notes\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "give a text, or --list, or --remove ID"),
        (("x", "--list"), "give a text, or --list"),
        (("",), "must have 1 to 500 characters"),
        (("x" * 501,), "got 501"),
        (("x", "--at", "soon"), "--at takes a date or a time"),
        (("x", "--at", "x" * 5000), "--at takes a date or a time"),
        (("x", "--strategy", "y" * 301), "the name of a strategy must have"),
        (("x", "--as-of", "2025-01-01"), "unrecognized arguments: --as-of"),
    ],
)
def test_what_is_no_note_is_refused_in_one_line(
    words: tuple[str, ...], complaint: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, folder, *words)
    assert (code, out) == (2, "") and complaint in err and err.count("\n") == 1 and len(err) < 300
    assert not (folder / NOTES).exists()


def test_a_directory_that_is_missing_or_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such telemetry directory" in said(capsys, tmp_path / "nowhere", "x")[2]
    (tmp_path / NOTES).mkdir()
    code, _, err = said(capsys, tmp_path, "x")
    assert code == 2 and err.count("\n") == 1


def test_a_shell_writes_a_note(folder: Path) -> None:
    run = "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"
    words = ["note", "from a shell", "--telemetry-dir", str(folder)]
    done = subprocess.run([sys.executable, "-c", run, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [note.text for note in read_notes(folder)] == ["from a shell"]
