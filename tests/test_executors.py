"""The same answer from every executor: whatever is split, killed, slow or foreign."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from trade_telemetry.analyzer import measured_each
from trade_telemetry.capture.line_format import csv_lines
from trade_telemetry.cli.main import main
from trade_telemetry.scale import map_reduce as engine
from trade_telemetry.scale.dask_pool import DaskPool
from trade_telemetry.scale.executors import InlineExecutor, ProcessPool, local_pool
from trade_telemetry.scale.fold_files import FilePart, FilesFolded, file_parts, fold_part, merge_folded
from trade_telemetry.scale.map_reduce import PartError, Pool, Tree, VersionError, map_reduce
from trade_telemetry.scale.state import merge_states, state_digest, state_of
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.store.files import FoundFile, find_files
from trade_telemetry.testing import make_traces, simulate_columns
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
    with DaskPool(workers=1, memory="1GiB") as pool:
        yield pool


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPool]:
    with ProcessPool(1) as pool:
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


def test_no_order_and_no_split_of_rows_changes_the_digest() -> None:
    columns = simulate_columns(days=30, strategies=("a", "b", "c"))
    known, draw = state_digest(state_of(columns)), random.Random(3)
    for _ in range(20):
        count = draw.randint(1, 9)
        owner = [draw.randrange(count) for _ in range(len(columns))]
        rows = [[k for k, own in enumerate(owner) if own == part] for part in range(count)]
        states = [state_of(take(columns, own)) for own in rows]
        tree, order = Tree(count, merge_states), draw.sample(range(count), count)
        for place in order:
            tree.add(place, states[place])
        assert state_digest(tree.result()) == known
        draw.shuffle(states)
        assert state_digest(merge_states(*states)) == known


def take(columns: TraceColumns, rows: list[int]) -> TraceColumns:
    return columns.take(np.array(rows, dtype=np.int64))


def another_version() -> None:
    engine.package_version = lambda: "0.0.1"


def this_version() -> None:
    from trade_telemetry.diagnostics import package_version

    engine.package_version = package_version


def test_a_worker_of_another_version_is_refused_at_the_start_and_by_every_batch(cluster: DaskPool) -> None:
    address = cluster.client.scheduler.address
    cluster.client.run(another_version)
    try:
        with pytest.raises(
            VersionError, match=r"the worker at tcp://.* runs trade_telemetry 0\.0\.1 .*install the same"
        ):
            DaskPool(address)
        with pytest.raises(
            VersionError, match=r"a worker runs trade_telemetry 0\.0\.1"
        ):  # one that came later
            map_reduce(["a"], len, max, cluster)
    finally:
        cluster.client.run(this_version)
    with DaskPool(address) as pool:
        assert (map_reduce(["a", "bc"], len, max, pool), pool.retries) == (2, 0)


def test_a_scheduler_that_is_not_there_or_has_no_workers_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("trade_telemetry.scale.dask_pool.PATIENCE", 0.5)
    for address, told in (
        ("tcp://127.0.0.1:9", "no scheduler answers at tcp://127.0.0.1:9"),
        ("tcp://10.1.2.3:8786", "neither on this machine nor encrypted"),
        ("tls://127.0.0.1:9", "tls:// needs certificates"),
        ("tcp://me:sesame@127.0.0.1:9", "takes no user, password or token"),
    ):
        given = ["--executor", "dask", "--scheduler", address, "--telemetry-dir", str(tmp_path)]
        assert main(["metrics", *given]) == 2
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1 and "sesame" not in said
    assert main(["check", "--scheduler", "tls://desk:1", "--telemetry-dir", str(tmp_path)]) == 2
    assert "--scheduler is for --executor dask" in capsys.readouterr().err


def certificate(folder: Path) -> dict[str, str]:
    "A certificate of one's own, as the configuration of Dask names it."
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, *plain))
    there = {"ca-file": "cert.pem"}
    there |= {
        f"{who}.{what}": f"{what}.pem"
        for who in ("client", "scheduler", "worker")
        for what in ("cert", "key")
    }
    return {f"distributed.comm.tls.{name}": str(folder / file) for name, file in there.items()}


def test_a_cluster_behind_tls_is_used_and_strangers_are_refused(desk: Path, tmp_path: Path) -> None:
    import dask
    import distributed

    own, strange = certificate(tmp_path / "own"), certificate(tmp_path / "strange")
    known = digest(map_reduce(parts_of(desk), fold_part, merge_folded, local_pool()))
    with dask.config.set(own):
        behind = distributed.Security(require_encryption=True)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tls", host="127.0.0.1",
                                 dashboard_address=None, security=behind, silence_logs=logging.CRITICAL) as cluster,
        dask.config.set(own),
    ):  # fmt: skip
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with DaskPool(address) as pool:
            assert digest(map_reduce(parts_of(desk), fold_part, merge_folded, pool)) == known
        with (
            dask.config.set(strange),
            pytest.raises(ValueError, match=f"^no scheduler answers at {address}$"),
        ):
            DaskPool(address)


class Recorder(InlineExecutor):
    "Keeps the bytes of everything that would travel."

    def __init__(self) -> None:
        self.sent = list[bytes]()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent.append(cloudpickle.dumps((fn, args, kwargs)))
        return super().submit(fn, *args, **kwargs)


def test_no_secret_enters_a_graph_or_a_log(
    desk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "TELEMETRY_NOTIFY_URLS", "DASK_SECRET"):
        monkeypatch.setenv(name, "ntfy://open-sesame")
    caplog.set_level(logging.DEBUG)
    recorder = Recorder()
    folded = map_reduce(parts_of(desk), fold_part, merge_folded, recorder, batch=2)
    figures = measured_each({"a": simulate_columns(days=5), "b": simulate_columns(days=6)}, executor=recorder)
    assert folded.runs and figures and len(recorder.sent) >= 5
    assert not any(b"open-sesame" in data for data in recorder.sent)
    assert "open-sesame" not in caplog.text


VERBS = (["judge", "--json"], ["metrics", "--by", "symbol", "--json"], ["export"])


def test_verbs_give_the_same_bytes_wherever_the_work_is_done(
    desk: Path, cluster: DaskPool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRADE_TELEMETRY_NOW", "2025-12-01T00:00Z")
    ways = {
        "local": VERBS,
        "processes": VERBS[:1],
        f"dask --scheduler {cluster.client.scheduler.address}": VERBS,
    }
    found = dict[str, dict[str, str]]()
    for way, verbs in {"": VERBS, **ways}.items():
        for verb in verbs:
            shutil.rmtree(desk / ".states", ignore_errors=True)
            given = ["--executor", *way.split(), "--workers", "1"] if way else []
            main([*verb, *given, "--telemetry-dir", str(desk)])
            found.setdefault(verb[0], {})[way] = capsys.readouterr().out
    for told in found.values():
        assert len(told[""]) > 1000 and set(told.values()) == {told[""]}


@pytest.mark.soak
def test_the_report_has_the_same_bytes_wherever_the_work_is_done(
    desk: Path, cluster: DaskPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADE_TELEMETRY_NOW", "2025-12-01T00:00Z")
    found, address = set(), cluster.client.scheduler.address
    for way in ([], ["local"], ["processes", "--workers", "1"], ["dask", "--scheduler", address]):
        shutil.rmtree(desk / ".states", ignore_errors=True)
        given = ["--executor", *way] if way else []
        main(["report", "--telemetry-dir", str(desk), "--out", str(tmp_path / "report.html"), *given])
        found.add((tmp_path / "report.html").read_bytes())
    assert len(found) == 1 and len(found.pop()) > 100_000
