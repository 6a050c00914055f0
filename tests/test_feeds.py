"""Files that another process writes as it likes: every cut, every rotation, and the bars are those of the whole file."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trade_telemetry.trading.bars import Bar, Bars
from trade_telemetry.trading.feeds import FollowFeed, Tail
from trade_telemetry.trading.simulation import simulate_bars


class Script(threading.Event):
    "A stop event whose waits make the next thing happen; after the last one it is set."

    def __init__(self, happenings: list[Callable[[], object]]) -> None:
        super().__init__()
        self.happenings = happenings

    def wait(self, timeout: float | None = None) -> bool:
        if self.happenings:
            self.happenings.pop(0)()
        else:
            self.set()
        return self.is_set()


def lines_of(bars: Bars) -> list[str]:
    lines = ["timestamp,open,high,low,close,volume\n"]
    for bar in bars.rows():
        stamp = datetime.fromtimestamp(bar.time // 1_000_000, UTC).isoformat()
        lines.append(f"{stamp},{bar.open!r},{bar.high!r},{bar.low!r},{bar.close!r},{bar.volume!r}\n")
    return lines


MARKET = simulate_bars("ABC", days=3, minutes=10)
LINES = lines_of(MARKET)


def write(path: Path, text: str, how: str) -> None:
    if how == "replaced":
        path.with_suffix(".new").write_text(text)
        os.replace(path.with_suffix(".new"), path)
    elif how == "renamed":
        if path.exists():
            path.rename(path.with_suffix(".old"))
        path.write_text(text)
    else:
        path.write_text(text)  # emptied, and written again


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 900), st.sampled_from(["append"] * 4 + ["replaced", "renamed", "emptied"])),
        max_size=40,
    ),
    seed=st.integers(0, 10**6),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_however_a_file_is_cut_up_and_rotated_the_bars_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]], seed: int, line_end: str
) -> None:
    rng, path = random.Random(seed), tmp_path_factory.mktemp("feed") / "ABC.csv"
    text = "".join(LINES).replace("\n", line_end)
    place = 0

    def append(upto: int) -> None:
        with path.open("a", newline="") as out:
            out.write(text[place:upto])

    def happen(size: int, how: str) -> None:
        nonlocal place
        upto = min(place + size, len(text))
        if how == "append" or place < len(LINES[0]) + 1:
            append(upto)
        else:  # begun anew at any line that was read completely, up to the new place
            complete = text.rfind("\n", 0, place) + 1
            starts = [i + 1 for i in range(len(LINES[0]) - 1, complete) if text[i] == "\n"]
            begin = rng.choice(starts) if starts else len(LINES[0])
            header = LINES[0].replace("\n", line_end)
            with path.with_suffix(".text").open("w", newline="") as out:
                out.write(header + text[begin:upto])
            write(path, path.with_suffix(".text").read_bytes().decode(), how)
        place = upto

    script = Script([lambda s=s: happen(*s) for s in [*steps, (len(text), "append")]])  # type: ignore[misc]
    feed = FollowFeed(path.parent, ["ABC"], bar_minutes=10)
    got = [bar for _, bar in feed.stream(script) if bar is not None]
    assert got == list(MARKET.rows())
    f = feed.files["ABC"]
    assert f.rows == f.kept + f.outside_session + sum(f.rejected.values())


def test_no_descriptor_stays_open_over_a_thousand_rotations(tmp_path: Path) -> None:
    path = tmp_path / "ABC.csv"
    tail = Tail(lambda: path if path.exists() else None)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    seen = []
    for k in range(1000):
        write(path, f"{k}\n", ["replaced", "renamed", "emptied"][k % 3])
        for _ in range(3):
            seen += tail.read()[1]
    tail.close()
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert seen == [str(k) for k in range(1000)]
    assert after == before


def test_history_is_what_was_there_before_the_first_wait(tmp_path: Path) -> None:
    path = tmp_path / "ABC.csv"
    path.write_text("".join(LINES[:50]))

    def grow() -> None:
        with path.open("a") as out:
            out.write("".join(LINES[50:]))

    feed = FollowFeed(tmp_path, ["ABC"], bar_minutes=10)
    ages: list[tuple[bool, Bar | None]] = [(feed.history, bar) for _, bar in feed.stream(Script([grow]))]
    assert [old for old, _ in ages] == [True] * 49 + [False] * (len(MARKET) - 49)


def test_a_stop_is_heeded_between_two_looks_however_much_there_is_to_read(tmp_path: Path) -> None:
    (tmp_path / "ABC.csv").write_text("".join(LINES))
    stop = threading.Event()
    feed = FollowFeed(tmp_path, ["ABC", "LATER"], poll_seconds=3600)
    for _ in feed.stream(stop):
        stop.set()
    stopped = threading.Event()
    stopped.set()
    assert list(feed.stream(stopped)) == []


def test_a_followed_session_knows_the_half_days_of_its_exchange(tmp_path: Path) -> None:
    made = simulate_bars("ABC", days=1, start="2024-11-29", minutes=10, session="XNYS")  # until 13:00
    (tmp_path / "ABC.csv").write_text("".join(lines_of(made)))
    got = {}
    for session in ("NYSE", "XNYS"):
        feed = FollowFeed(tmp_path, ["ABC"], {"ABC": session}, bar_minutes=10)
        got[session] = [bar for _, bar in feed.stream(Script([])) if bar is not None]
    assert got["XNYS"] == list(made.rows())
    assert [bar.last for bar in got["XNYS"]] == [False] * 20 + [True]
    assert not any(bar.last for bar in got["NYSE"])  # nobody announced that the day ends early
