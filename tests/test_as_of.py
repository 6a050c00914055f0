"""Looking back with `--as-of T` is looking at the files that there were at T: the same bytes, from every verb that judges or shows."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from trade_telemetry.aggregate_file import canonical_bytes, ledger_document, row_of
from trade_telemetry.capture.ledger import read_ledger
from trade_telemetry.capture.notes import NOTES, write_note
from trade_telemetry.cli.main import main
from trade_telemetry.clock import STOPPED
from trade_telemetry.config import Settings
from trade_telemetry.dashboard.query import Query
from trade_telemetry.dashboard.state import StateSource
from trade_telemetry.report.render import report_notebook
from trade_telemetry.store.as_of import StoreAsOf, store_for
from trade_telemetry.store.store import TraceStore
from trade_telemetry.testing import START, simulate_run, write_run
from trade_telemetry.timezones import day_start_us, local_day, microseconds_of
from trade_telemetry.trace import PredictionTrace

Facts = dict[str, Any]
LIVE = START + timedelta(weeks=40)
NOW = "2026-11-28T16:00Z"  # When all of it is looked at
KOLKATA = "Asia/Kolkata"


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STOPPED, NOW)


# Worlds


def written(folder: Path, traces: list[PredictionTrace], begun: datetime, seen: datetime | None, **options: Any) -> Path:  # fmt: skip
    """Write a run and let its record say that it was begun at a moment, and alive until another."""
    before = set(folder.glob("run_*.json")) if folder.exists() else set()
    write_run(folder, traces, **options)
    (record,) = set(folder.glob("run_*.json")) - before
    facts = json.loads(record.read_text()) | {"started_at": begun.isoformat()}
    if seen is not None:
        facts |= {"heartbeat_at": seen.isoformat(), "ended_at": None, "end_reason": None}
    record.write_text(json.dumps(facts, indent=1))
    return folder


def live_trades(days: int = 45, **planted: Any) -> list[PredictionTrace]:
    plan: Facts = {"mode": "live", "start": LIVE, "seed": 7, "strategies": ("intraday", "swing")} | planted
    return simulate_run(days, 5, 0.6, **plan)


def past_trades(**planted: Any) -> list[PredictionTrace]:
    plan: Facts = {"strategies": ("intraday", "swing"), "seed": 1} | planted
    return simulate_run(120, 5, 0.6, **plan)


def pair(folder: Path) -> None:
    """Two live strategies, one of which loses its skill, beside their backtest; the writer died and was started again."""
    gone: Facts = {"loss_of_skill_on_day": 15, "precision_after": 0.3}
    both = live_trades(strategies=("intraday",), **gone) + live_trades(strategies=("swing",), seed=8)
    both.sort(key=lambda t: t.exit_timestamp or t.timestamp)
    middle = LIVE + timedelta(days=30)
    parts = ([t for t in both if (t.timestamp < middle) == early] for early in (True, False))
    for begun, seen, part in zip((LIVE, middle), (middle - timedelta(days=3), None), parts, strict=True):
        written(folder / "live", part, begun, seen, mode="live")
    written(folder / "backtest_20250601_080000", past_trades(), LIVE - timedelta(weeks=8), None)
    for days, strategy in ((4, "swing"), (18, ""), (40, "intraday")):
        write_note(folder, f"after {days} days", LIVE + timedelta(days=days), strategy)


def sampled(folder: Path) -> None:
    """A fifth of the rows and sums of all closes, counted in days of Kolkata."""
    zone: Facts = {"timezone": Settings(timezone=KOLKATA).timezone and _zone(), "sample_rate": 0.2}
    written(folder / "live", live_trades(), LIVE, None, mode="live", **zone)
    written(folder / "backtest_20250601_080000", past_trades(), LIVE - timedelta(weeks=8), None)


def _zone() -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(KOLKATA)


def several(folder: Path) -> None:
    """Backtests of two times, a live run that began late, paper, packed files, rows told twice, corrected and broken."""
    rows = live_trades()
    written(folder / "desk" / "one", rows[::2], LIVE, None, mode="live", format="jsonl", compression=True)
    late = [t for t in rows[1::2] if t.timestamp > LIVE + timedelta(days=25)]
    written(folder / "desk" / "two", late, LIVE + timedelta(days=24), None, mode="live")
    again = [rows[4], rows[40], replace(rows[60], fees_pct=0.25), replace(rows[-5], exit_reason="corrected")]
    written(folder / "desk" / "one", again, LIVE + timedelta(days=44), None, mode="live")
    written(folder / "paper", live_trades(20, mode="paper", seed=9), LIVE, None, mode="paper")
    written(folder / "backtest_20250601_080000", past_trades(), LIVE - timedelta(weeks=8), None)
    written(folder / "tuned", past_trades(seed=3), LIVE + timedelta(days=20), None, mode="backtest")
    other = past_trades(seed=4, strategies=("intraday", "pairs"))
    written(folder / "backtest_20260401_080000", other, LIVE + timedelta(days=30), None)
    broken = next((folder / "desk" / "two").glob("*.csv"))
    broken.write_text(broken.read_text() + "this,is,no,trade\n")
    (folder / "alerts.yaml").write_text("minimum_calls: 20\n")


def replayed(folder: Path) -> None:
    """A replay of days long ago, made today, beside a backtest made today: nothing had been made by then."""
    made = datetime(2026, 11, 20, tzinfo=UTC)
    written(folder / "replay_20261120_100000", live_trades(mode="replay"), made, None, mode="replay")
    written(folder / "backtest_20261119_080000", past_trades(), made - timedelta(days=1), None)


WORLDS: dict[str, Callable[[Path], None]] = {f.__name__: f for f in (pair, sampled, several, replayed)}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, make in WORLDS.items():
        found[name] = tmp_path_factory.mktemp(name) / "telemetry"
        make(found[name])
    return found


# The files of then, by a knife that knows nothing of the package's own


def opened(path: Path, mode: str) -> Any:
    return gzip.open(path, mode + "t") if path.suffix == ".gz" else path.open(mode)


def exit_of(line: str, header: list[str]) -> tuple[datetime, str] | None:
    """When the trade of a line was closed, and its strategy; None where it says neither."""
    try:
        cells = (
            json.loads(line) if not header else dict(zip(header, line.rstrip("\n").split(","), strict=True))
        )
        return datetime.fromisoformat(cells["exit_timestamp"]), cells["strategy"]
    except (ValueError, KeyError):
        return None


def cut_rows(path: Path, keep: Callable[[datetime, str], bool]) -> None:
    """Leave the lines of trades that were closed; a file of which none is left goes."""
    with opened(path, "r") as handle:
        lines = handle.readlines()
    header = [] if ".jsonl" in path.name else lines[0].rstrip("\n").split(",")
    head, body = lines[: bool(header)], lines[bool(header) :]
    known = [exit_of(line, header) for line in body]
    kept = [line for line, trade in zip(body, known, strict=True) if trade is None or keep(*trade)]
    if kept or not body:
        with opened(path, "w") as handle:
            handle.writelines(head + kept)
    else:
        path.unlink()


def cut_ledger(path: Path, first_open: int) -> None:
    rows = [row for row in read_ledger(path) if row.key.day < first_open]
    if not rows:
        path.unlink()
        return
    spelled = {row.key: row_of(row.sums) for row in rows}
    month = path.stem.rpartition("_")[2]
    path.write_bytes(canonical_bytes(ledger_document(spelled, rows[0].mode, rows[0].timezone, month)))


def cut_records(run: Path, when: datetime) -> tuple[bool, datetime]:
    """Leave what writers had said; had the run begun, and when?"""
    records = {path: json.loads(path.read_text()) for path in run.glob("run_*.json")}
    starts = {path: datetime.fromisoformat(facts["started_at"]) for path, facts in records.items()}
    begun = [path for path, start in starts.items() if start <= when]
    for path, facts in records.items():
        if begun and path not in begun:
            path.unlink()
        elif datetime.fromisoformat(facts["heartbeat_at"]) > when:
            for name in ("heartbeat_at", "ended_at", "end_reason", "counters"):
                facts.pop(name)
            path.write_text(json.dumps(facts))
    return bool(begun), min(starts.values())


def cut_files(folder: Path, when: datetime) -> None:
    """Leave what there was: rows by exit, sampled runs by whole days, backtests and replays that had been made."""
    if (notes := folder / NOTES).exists():
        lines = notes.read_text().splitlines(keepends=True)
        notes.write_text(
            "".join(line for line in lines if datetime.fromisoformat(json.loads(line)["at"]) <= when)
        )
    made: dict[Path, datetime] = {}
    strategies: dict[tuple[str, str], list[Path]] = {}
    for run in {path.parent for path in folder.rglob("run_*.json")}:
        ledgers, bound = list(run.glob("ledger_*.json")), when
        if ledgers:
            first_open = local_day(microseconds_of(when) + 1, KOLKATA)
            begins = day_start_us(first_open, KOLKATA) - 1
            bound = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=begins)
            for path in ledgers:
                cut_ledger(path, first_open)
        modes = {json.loads(path.read_text())["mode"] for path in run.glob("run_*.json")}
        begun, made[run] = cut_records(run, when)
        names: set[str] = set()
        for path in [*run.glob("traces_*")]:
            cut_rows(
                path, lambda closed, name, bound=bound, names=names: closed <= bound and not names.add(name)
            )  # type: ignore[misc]
        if not begun and not [*run.glob("traces_*"), *run.glob("ledger_*")]:
            shutil.rmtree(run)
        for mode in modes & {"backtest", "replay"}:
            for name in names:
                strategies.setdefault((mode, name), []).append(run)
    for (_, strategy), runs in strategies.items():
        if any(made[run] <= when for run in runs):
            for run in (run for run in runs if made[run] > when):
                for path in run.glob("traces_*"):
                    cut_rows(path, lambda _, name, gone=strategy: name != gone)  # type: ignore[misc]
    for run in made:
        if run.exists() and made[run] > when and not [*run.glob("traces_*"), *run.glob("ledger_*")]:
            shutil.rmtree(run)


@pytest.fixture
def at_both(tmp_path: Path, worlds: dict[str, Path]) -> Callable[[str, datetime], Iterator[Path]]:
    """The same place twice: with all files, then with those of then."""

    def places(world: str, when: datetime) -> Iterator[Path]:
        here, aside = tmp_path / "telemetry", tmp_path / "whole"
        for place in (here, aside):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(worlds[world], here)
        yield here
        here.rename(aside)
        shutil.copytree(worlds[world], here)
        cut_files(here, when)
        yield here

    return places


def ends(world: Path) -> list[datetime]:
    store = TraceStore(world)
    store.refresh()
    return [datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us) for us in sorted(store.columns.exit_us.tolist())]  # fmt: skip


def moments(world: Path, seed: int, count: int) -> list[datetime]:
    """Moments of the live days: exits to the microsecond, their neighbors, midnights, anything between."""
    rng, live = random.Random(seed), [end for end in ends(world) if end > LIVE]
    kinds: list[Callable[[datetime], datetime]] = [
        lambda end: end,
        lambda end: end - timedelta(microseconds=1),
        lambda end: end.replace(hour=0, minute=0, second=0, microsecond=0),
        lambda end: end.replace(hour=23, minute=59, second=59, microsecond=999_999),
        lambda end: end + timedelta(seconds=rng.randrange(86_400)),
    ]
    return [kinds[(seed + k) % len(kinds)](rng.choice(live)) for k in range(count)]


# Questions


def said(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([words[0], "--telemetry-dir", str(folder), *words[1:]])
    told = capsys.readouterr()
    return code, told.out, told.err


EVERY = (
    ("check",),
    ("check", "--json"),
    ("metrics", "--json"),
    ("export",),
    ("metrics",),
    ("compare", "--live-vs-backtest"),
    ("judge", "--json"),
)


@pytest.mark.parametrize("world", WORLDS)
def test_every_answer_is_that_of_the_files_of_then(
    world: str,
    worlds: dict[str, Path],
    at_both: Callable[[str, datetime], Iterator[Path]],
    capsys: pytest.CaptureFixture[str],
    counts: Callable[[int, int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TELEMETRY_TIMEZONE", KOLKATA)
    questions = EVERY[: counts(4, 7)]
    for when in moments(worlds[world], sum(map(ord, world)), counts(2 if world == "pair" else 1, 25)):
        back = ("--as-of", when.isoformat())
        told = [[said(capsys, place, *words, *back) for words in questions] for place in at_both(world, when)]
        for words, whole, cut in zip(questions, *told, strict=True):
            assert whole == cut, (words, when.isoformat())
        assert all(
            out
            for (verb, *_), (_, out, _) in zip(questions, told[0], strict=True)
            if verb in ("metrics", "export")
        )


@pytest.mark.parametrize("world", WORLDS)
def test_what_is_said_as_of_then_is_what_was_said_then(
    world: str,
    worlds: dict[str, Path],
    at_both: Callable[[str, datetime], Iterator[Path]],
    capsys: pytest.CaptureFixture[str],
    counts: Callable[[int, int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the flag, on the files of then, by a clock that stands at then: only the moment is not named."""
    for when in moments(worlds[world], 5 + sum(map(ord, world)), counts(1, 25)):
        told = []
        for place, more in zip(at_both(world, when), (["--as-of", when.isoformat()], []), strict=True):
            with monkeypatch.context() as then:
                then.setenv(STOPPED, NOW if more else (when + timedelta(microseconds=1)).isoformat())
                words = (("check", "--json"), ("export",))
                told.append([json.loads(said(capsys, place, *own, *more)[1]) for own in words])
        for one, other in zip(*told, strict=True):
            assert one.pop("as_of") is not None and other.pop("as_of", None) is None
            assert (one.pop("generated_at", ""), other.pop("generated_at", "")) != (NOW, NOW)
            assert one == other, when.isoformat()


def test_the_page_looks_back_and_forth(worlds: dict[str, Path]) -> None:
    """What a viewer picks is what the settings would say, and the present comes back as it was."""
    folder = worlds["pair"]
    source = StateSource(Settings(telemetry_storage_path=folder))
    now = source.read()
    assert now["as_of"] is None
    for day in ("2025-11-20", "2025-10-30T15:00"):
        picked = source.read(Query(as_of=day))
        told = StateSource(Settings(telemetry_storage_path=folder, as_of=day)).read()  # type: ignore[arg-type]
        assert picked == told and picked["as_of"] is not None
        assert picked["newest_trace_at"] is not None and now["newest_trace_at"] is not None
        assert picked["newest_trace_at"] < now["newest_trace_at"]
    assert source.read() == now


# The report, in-process: every cell of its notebook


def report_cells(folder: Path, cells: int) -> list[str]:
    """What the first cells of the report show, as HTML."""
    shown, names = [], Facts()
    for cell in nbformat.read(report_notebook(), as_version=4).cells[:cells]:  # type: ignore[no-untyped-call]
        if cell.cell_type == "code":
            *lines, last = cell.source.rstrip().split("\n")
            if "parameters" in cell.get("id", "") or last.startswith((" ", "from", "title")) or "=" in last.split("(")[0]:  # fmt: skip
                exec(cell.source, names)
                names |= {"telemetry_dir": str(folder)} if "telemetry_dir = None" in cell.source else {}
            else:
                exec("\n".join(lines), names)
                shown.append(eval(last, names)._repr_html_())
    return shown


def test_the_report_is_that_of_the_files_of_then(
    worlds: dict[str, Path],
    at_both: Callable[[str, datetime], Iterator[Path]],
    counts: Callable[[int, int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (when,) = moments(worlds["pair"], 3, 1)
    monkeypatch.setenv("TELEMETRY_AS_OF", when.isoformat())
    whole, cut = (report_cells(place, counts(9, 99)) for place in at_both("pair", when))
    assert whole == cut
    assert len(whole) >= 3 and "not the present" in whole[0]


@pytest.mark.soak
@pytest.mark.parametrize("world", WORLDS)
def test_the_report_file_is_that_of_the_files_of_then(
    world: str, worlds: dict[str, Path], at_both: Callable[[str, datetime], Iterator[Path]], tmp_path: Path
) -> None:
    (when,) = moments(worlds[world], 3, 1)
    pages = []
    for place in at_both(world, when):
        out = tmp_path / "report.html"
        words = ["report", "--telemetry-dir", str(place), "--as-of", when.isoformat(), "--out", str(out)]
        assert main(words) == 0
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]
    assert b"not the present" in pages[0]


# A shell


def test_a_shell_asks_the_same(
    worlds: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, when = worlds["pair"], "2025-11-20T12:00Z"
    words = ["check", "--telemetry-dir", str(folder), "--json", "--as-of", when]
    run = "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"
    shell = subprocess.run([sys.executable, "-c", run, *words], capture_output=True, text=True, check=False)
    asked = said(capsys, folder, "check", "--json", "--as-of", when)
    monkeypatch.setenv("TELEMETRY_AS_OF", when)
    assert (shell.returncode, shell.stdout, shell.stderr) == asked == said(capsys, folder, "check", "--json")
    assert json.loads(shell.stdout)["as_of"] == "2025-11-20T12:00:00+00:00"


def test_a_moment_before_the_first_trade_is_said_in_one_line(
    worlds: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("metrics", "check", "judge"):
        code, out, err = said(capsys, worlds["pair"], verb, "--as-of", "2024-12-31")
        assert code == 1
        assert (out + err).count("No trade had been closed by then") == 1
        assert "the first trade was closed at 2025-01-06" in err
    state = json.loads(said(capsys, worlds["pair"], "export", "--as-of", "2024-12-31")[1])
    assert (state["message"], state["runs"], state["rows"]["loaded"]) == ("No trade had been closed by then.", [], 0)  # fmt: skip


def test_a_moment_that_has_not_come_is_now(worlds: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    ahead, now = (said(capsys, worlds["pair"], "check", *more) for more in (("--as-of", "2999-01-01"), ()))
    assert ahead == now


@pytest.mark.parametrize(
    "moment", ["soon", "2025-02-30", "2025-06-30T25:00", "9999-12-31", "\x00", "x" * 9_000]
)
def test_what_is_no_moment_is_refused_in_one_line(
    moment: str, worlds: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, worlds["pair"], "check", "--as-of", moment)
    assert (code, out) == (2, "")
    assert "must be a date or a time such as 2025-06-30" in err and err.count("\n") == 1 and len(err) < 300


@pytest.mark.parametrize("words", [("--on-alert", "true"), ("--remember", "told.json")])
def test_nobody_is_told_of_the_past(
    words: tuple[str, str], worlds: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = [str(tmp_path / word) if word.endswith(".json") else word for word in words]
    code, _, err = said(capsys, worlds["pair"], "check", "--as-of", "2025-11-20", *memory)
    assert code == 2 and f"{words[0]} is for the present" in err
    assert list(tmp_path.iterdir()) == []


def test_what_writes_cannot_look_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for verb in ("backtest", "demo", "engine"):
        assert main([verb, "--as-of", "2025-11-20", "--telemetry-dir", str(tmp_path / "new")]) == 2
        assert "unrecognized arguments: --as-of" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_new_trades_of_then_come_in_while_somebody_looks_back(tmp_path: Path) -> None:
    """A page that looks back goes on reading: what is told late of then is shown, what is of now is not."""
    rows = live_trades(10)
    write_run(tmp_path / "live", rows[:40], mode="live")
    store, when = TraceStore(tmp_path), rows[60].exit_timestamp
    store.refresh()
    known = store_for(store, Settings(as_of=when))
    assert isinstance(known, StoreAsOf) and len(known.columns) == 40
    assert known.refresh() is False
    write_run(tmp_path / "live", rows[40:], mode="live")
    assert known.refresh() is True
    assert len(known.columns) == sum((t.exit_timestamp or t.timestamp) <= (when or LIVE) for t in rows)
