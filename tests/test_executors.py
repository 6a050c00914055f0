"""The same answer from every executor: whatever is split, killed, slow or foreign."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from trade_telemetry.capture.line_format import csv_lines
from trade_telemetry.scale.dask_pool import DaskPool
from trade_telemetry.scale.executors import ProcessPool, local_pool
from trade_telemetry.scale.fold_files import FilePart, FilesFolded, file_parts, fold_part, merge_folded
from trade_telemetry.scale.map_reduce import PartError, Pool, map_reduce
from trade_telemetry.scale.state import state_digest
from trade_telemetry.store.files import FoundFile, find_files
from trade_telemetry.testing import make_traces
from trade_telemetry.trace import COLUMNS, PredictionTrace, to_row

FILES = 9


def write(path: Path, traces: list[PredictionTrace]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(csv_lines([list(COLUMNS), *map(to_row, traces)]))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A live run and a backtest of two strategies, in nine files; two of them hold the same trade."
    folder = tmp_path_factory.mktemp("desk")
    for seed, run in enumerate(("live", "backtest_20250101_000000")):
        mode = run.partition("_")[0]
        trades = [
            t
            for k, name in enumerate(("intraday", "swing"))
            for t in make_traces(240, seed=2 * seed + k, strategy=name, mode=mode)
        ]
        for k in range(4):
            write(folder / run / f"traces_{k}.csv", trades[120 * k : 120 * (k + 1)])
    write(folder / "live" / "traces_4.csv", trades_again(folder / "live", 3))
    return folder


def trades_again(run: Path, count: int) -> list[PredictionTrace]:
    "Trades that an earlier file has, too."
    return make_traces(240, seed=0, strategy="intraday", mode="live")[:count]


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskPool]:
    with DaskPool(workers=2, memory="1GiB") as pool:
        yield pool


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPool]:
    with ProcessPool(2) as pool:
        yield pool


def parts_of(folder: Path) -> list[FilePart]:
    by_run: dict[str, list[FoundFile]] = {}
    for place in find_files([folder])[0]:
        by_run.setdefault(place.run, []).append(place)
    return file_parts(by_run)


@dataclass(frozen=True)
class Deadly:
    "A part in whose fold the worker is killed, so many times."

    part: FilePart
    deaths: Path  # A file with a byte for each death
    most: int

    def __str__(self) -> str:
        return str(self.part)


def fold_or_die(part: FilePart | Deadly) -> FilesFolded:
    if isinstance(part, Deadly):
        with part.deaths.open("ab") as file:
            file.write(b"x")
        if part.deaths.stat().st_size <= part.most:
            os.kill(os.getpid(), signal.SIGKILL)
        part = part.part
    return fold_part(part)


def digest(folded: FilesFolded) -> tuple[str, frozenset[str]]:
    return state_digest(folded.state), folded.together


def test_the_digest_is_the_same_for_every_executor_order_and_split(
    desk: Path, cluster: DaskPool, processes: ProcessPool
) -> None:
    parts = parts_of(desk)
    assert len(parts) == FILES
    known, found = digest(merge_folded(*map(fold_part, parts))), set()
    assert known[1] == {"live"}
    shuffled = random.Random(1).sample(parts, len(parts))
    for pool in (local_pool(), processes, cluster):
        for some, batch in ((parts, None), (shuffled, 1), (parts[::-1], 4)):
            found.add(digest(map_reduce(some, fold_part, merge_folded, pool, batch=batch)))
    assert found == {known}


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_killed_worker_takes_nothing_with_it(
    kind: str, desk: Path, cluster: DaskPool, processes: ProcessPool, tmp_path: Path
) -> None:
    pool: Pool = processes if kind == "processes" else cluster
    parts: list[FilePart | Deadly] = [*parts_of(desk)]
    known = digest(map_reduce(parts, fold_part, merge_folded, local_pool()))
    parts[4] = Deadly(parts[4], tmp_path / "deaths", 1)  # type: ignore[arg-type]
    assert digest(map_reduce(parts, fold_or_die, merge_folded, pool, batch=2)) == known
    assert (tmp_path / "deaths").stat().st_size == 2  # it was killed, and done again


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_part_that_always_kills_its_worker_is_named(
    kind: str,
    desk: Path,
    cluster: DaskPool,
    processes: ProcessPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool: Pool = processes if kind == "processes" else cluster
    monkeypatch.setattr(pool, "retries", 1)
    parts: list[FilePart | Deadly] = [*parts_of(desk)[:4]]
    parts[2] = Deadly(parts[2], tmp_path / "deaths", 99)  # type: ignore[arg-type]
    with pytest.raises(PartError, match=r"traces_2\.csv was tried 2 times, and each time the worker died"):
        map_reduce(parts, fold_or_die, merge_folded, pool, batch=2)
    assert (tmp_path / "deaths").stat().st_size == 3  # once beside others, twice by itself
    assert digest(map_reduce(parts[:2], fold_part, merge_folded, pool)) == digest(
        merge_folded(*map(fold_part, parts[:2]))
    )  # it goes on working
