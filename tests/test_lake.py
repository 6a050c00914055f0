"""A lake holds what the files say, whatever is killed, whoever races, wherever it lies."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from trade_telemetry.analyzer import AccuracyAnalyzer
from trade_telemetry.capture.line_format import LineForm, csv_lines, line_of
from trade_telemetry.capture.notes import write_note
from trade_telemetry.cli.main import main
from trade_telemetry.config import Settings
from trade_telemetry.metrics.aggregates import fold_rows
from trade_telemetry.report.front_page import front_page
from trade_telemetry.report.scope import open_report
from trade_telemetry.scale import compact as compacting
from trade_telemetry.scale import repack as repacking
from trade_telemetry.scale.compact import compact
from trade_telemetry.scale.retention import retain
from trade_telemetry.scale.verify import verify
from trade_telemetry.store.columns import ARRAYS, WORDS, TraceColumns
from trade_telemetry.store.lake import Lake
from trade_telemetry.store.lake_files import Folder, LakeError, Remote, lake_place
from trade_telemetry.store.manifest import begin_lake, commit, read_contents
from trade_telemetry.store.notes import read_notes
from trade_telemetry.store.store import TraceStore, load_columns
from trade_telemetry.testing import START, make_trace, make_traces, write_run
from trade_telemetry.trace import COLUMNS, PredictionTrace

EXAMPLES = 200 if os.environ.get("TRADE_TELEMETRY_SOAK", "") not in {"", "0"} else 6
LATER = 4e9  # Seconds: whoever wrote is dead, whatever lies about is old
Facts = dict[str, Any]


def facts_of(columns: TraceColumns) -> Facts:
    """Every fact of every row, words spelled out, and what is no column."""
    found: Facts = {}
    for name in ARRAYS:
        values = getattr(columns, name)
        if name in WORDS and name != "source":
            found[name] = [getattr(columns, WORDS[name])[code] for code in values.tolist()]
        elif name != "source":
            found[name] = [repr(value) for value in values.tolist()]
    found["file"] = [
        Path(columns.sources[code].rpartition("#")[2]).name.removesuffix(".gz")
        for code in columns.source.tolist()
    ]
    found["rest"] = [
        (t.features, t.metadata, t.decision_time, t.mae_pct, t.profit, t.currency, t.leverage)
        for t in columns.to_traces()
    ]
    return found


def as_set(columns: TraceColumns) -> list[str]:
    facts = facts_of(columns)
    return sorted(repr(row) for row in zip(*facts.values(), strict=True))


def told(store: TraceStore) -> list[Any]:
    return [
        (run.name, run.mode, run.rows, run.closes, run.state, run.writers, run.first_us, run.last_us)
        for run in store.runs()
    ]


def opened(paths: Any) -> TraceStore:
    store = TraceStore(paths, final=True, now=lambda: LATER)
    store.refresh()
    return store


def fill(folder: Path, n: int = 40, seed: int = 0) -> None:
    """Three runs: two strategies each, one of them compressed, one JSON lines."""
    kinds: list[Facts] = [{}, {"compression": True}, {"format": "jsonl"}]
    for k, (run, mode) in enumerate(
        (("live", "live"), ("paper", "paper"), ("backtest_20250106_143500", "backtest"))
    ):
        traces = make_traces(n, seed=seed + k, mode=mode) + make_traces(
            n, seed=seed + k + 50, mode=mode, strategy="swing", every=timedelta(hours=30)
        )
        for j, trace in enumerate(traces):
            trace.features, trace.profit = {"k": j, "text": 'ä,"\n'}, j / 7
        write_run(folder / run, traces, mode=mode, max_file_size_mb=0.01, **kinds[k])


# Crashes


def forked(work: Callable[[], Any]) -> int:
    """Do something in a process of its own; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  nothing of the test runner may go on here
            os._exit(3)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def killed_at(step: int, work: Callable[[], Any]) -> None:
    """Do something, and be killed before so many steps that touch the disk."""
    left = step

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*given, **named)

        return wrapped

    for name in ("link", "replace", "fsync"):
        setattr(os, name, counted(getattr(os, name)))
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
    work()


def test_killed_at_every_step_it_leaves_no_row_twice_and_none_out(
    tmp_path: Path, counts: Callable[[int, int], int]
) -> None:
    folder = tmp_path / "analytics"
    fill(folder, n=9)
    every, some = facts_of(load_columns(folder)[0]), as_set(load_columns(folder)[0])
    chosen = sorted(random.Random(7).sample(range(160), counts(16, 160)))
    outcomes = []
    for step in chosen:
        lake = tmp_path / f"lake{step}"
        work = partial(compact, folder, lake, now=LATER, batch_rows=20)
        ended = forked(partial(killed_at, step, work))
        outcomes.append(ended)
        assert ended in (0, signal.SIGKILL), ended
        if (lake / "_lake.json").exists():
            rows = load_columns(lake)[0]
            places = list(zip(rows.source.tolist(), rows.line.tolist(), strict=True))
            assert len(set(places)) == len(places)  # no row twice
            assert len(rows) == sum(one.rows for one in Lake(lake).contents.ranges.values())
            both = load_columns([folder, lake])
            assert as_set(both[0]) == some
            assert both[1].duplicates == 0
        compact(folder, lake, now=LATER, batch_rows=20)
        assert facts_of(load_columns(lake)[0]) == every
        proof = verify(folder, lake, now=LATER)
        assert proof.good and proof.orphans == 0, proof  # what the dead left is swept
    assert signal.SIGKILL in outcomes and 0 in outcomes


def test_killed_while_small_parts_are_packed_it_leaves_no_row_twice_and_none_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Callable[[int, int], int]
) -> None:
    folder, made = tmp_path / "analytics", tmp_path / "made"
    fill(folder, n=50)
    compact(folder, made, now=LATER, batch_rows=12)
    every, before = facts_of(load_columns(folder)[0]), len(Lake(made).contents.parts)
    monkeypatch.setattr(repacking, "MANY", 2)
    outcomes = []
    for step in range(0, 60, 60 // counts(5, 60)):
        lake = tmp_path / f"lake{step}"
        shutil.copytree(made, lake)
        outcomes.append(forked(partial(killed_at, step, partial(compact, folder, lake, now=LATER))))
        assert facts_of(load_columns(lake)[0]) == every
        compact(folder, lake, now=LATER)
        assert facts_of(load_columns(lake)[0]) == every
        contents = Lake(lake).contents
        assert len({(part.kind, part.bucket, part.month) for part in contents.parts.values()}) == len(contents.parts) < before  # fmt: skip
        proof = verify(folder, lake, now=LATER)
        assert proof.good, proof
    assert signal.SIGKILL in outcomes and 0 in outcomes


# Races


def compact_first(monkeypatch: pytest.MonkeyPatch, first: Callable[[], Any]) -> list[Any]:
    """Somebody else compacts just before our first commit."""
    results: list[Any] = []
    real = commit

    def late(*given: Any) -> Any:
        if not results:
            results.append("running")
            first()
        results.append(real(*given))
        return results[-1]

    monkeypatch.setattr(compacting, "commit", late)
    return results


def test_who_comes_second_for_the_same_segments_takes_none_of_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lake = tmp_path / "analytics", tmp_path / "lake"
    fill(folder)
    results = compact_first(monkeypatch, lambda: compact(folder, lake))
    report = compact(folder, lake)
    assert None in results  # one manifest was lost
    assert report.rows == 0
    assert facts_of(load_columns(lake)[0]) == facts_of(load_columns(folder)[0])
    assert verify(folder, lake).good


def test_who_comes_second_with_other_segments_commits_them_with_the_next_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, lake = tmp_path / "one", tmp_path / "two", tmp_path / "lake"
    write_run(one / "live", make_traces(30, seed=1, mode="live"), mode="live")
    write_run(two / "paper", make_traces(30, seed=2, mode="paper"), mode="paper")
    results = compact_first(monkeypatch, lambda: compact(two, lake))
    report = compact(one, lake)
    assert None in results and report.rows == 30
    assert as_set(load_columns(lake)[0]) == as_set(load_columns([one, two])[0])
    assert [manifest.sequence for manifest in Lake(lake).contents.manifests] == [1, 2]


def test_two_machines_that_call_their_run_alike_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    for k, host in enumerate(("desk-1", "desk-2", "desk-2")):
        folder = tmp_path / f"analytics{k}"
        write_run(folder / "live", make_traces(30, seed=k, mode="live", strategy=f"s{k}"), mode="live")
        for record in (folder / "live").glob("run_*.json"):
            record.write_text(json.dumps(json.loads(record.read_text()) | {"host": host}))
        report = compact(folder, lake)
        assert report.renamed == ({} if k == 0 else report.renamed) and len(report.renamed) == (k > 0)
        both = opened([folder, lake])
        assert len(both.columns) == 30 * (k + 1)
        assert compact(folder, lake).commits == 0  # known again
    runs = {run.name: run.strategies for run in opened(lake).runs()}
    assert [sorted(runs.values())] == [[("s0",), ("s1",), ("s2",)]]
    assert {"live", "live@desk-2"} < runs.keys()
    moved = tmp_path / "moved"
    (tmp_path / "analytics1").rename(moved)  # another origin, the same records
    assert compact(moved, lake).rows == 0


# Bad input

FREQTRADE = """pair,open_date,close_date,open_rate,close_rate,amount,profit_ratio,profit_abs,fee_open,fee_close,is_open,stake_amount
BTC/USDT,2021-05-01 10:00:00+00:00,2021-05-01 11:00:00+00:00,100,101,2,0.008,1.6,0.001,0.001,False,200
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compact", "analytics", "gopher://desk/lake"], "unknown scheme gopher://"),
        (["compact", "analytics", "s3://key:secret@desk/lake"], "must not contain credentials"),
        (["compact", "analytics", "analytics/lake"], "must not lie inside the telemetry directory"),
        (["compact", "lake", "other"], "is a lake already"),
        (["compact", "nowhere", "other"], "no such telemetry directory"),
        (["compact", "analytics", "half"], "is half a lake"),
        (["compact", "analytics", "newer"], "newer version of trade_telemetry (form 9"),
        (["metrics", "--telemetry-dir", "newer"], "newer version of trade_telemetry (form 9"),
        (["metrics", "--telemetry-dir", "torn"], "cannot be read"),
        (["metrics", "--telemetry-dir", "s3://desk/lake"], "--lake takes it"),
        (["metrics", "--lake", "nowhere"], "no such lake or telemetry directory"),
        (["metrics", "--lake", "half"], "is half a lake"),
        (["verify", "analytics", "nowhere"], "no lake is there"),
        (
            ["import", "trades.csv", "--telemetry-dir", "lake", "--strategy", "x", "--threshold-pct", "0.3"],
            "is a lake; traces are written",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run("analytics/live", make_traces(20, mode="live"), mode="live")
    Path("trades.csv").write_text(FREQTRADE)
    compact("analytics", "lake")
    for name in ("half", "newer", "torn"):
        begin_lake(Folder(name))
    Path("half/manifests").mkdir()
    Path("half/manifests/00000001.json").write_text("{}")
    Path("half/_lake.json").unlink()
    Path("newer/_lake.json").write_text('{"form": 9, "buckets": 8}')
    Path("torn/manifests").mkdir()
    Path("torn/manifests/00000001.json").write_bytes(Path("lake/manifests/00000001.json").read_bytes()[:200])
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error and "secret" not in error


# What is read is what was written


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), min_size=1, max_size=8)
NUMBER = st.none() | st.floats(-50, 50, allow_nan=False)
JSON = st.dictionaries(
    TEXT,
    st.none() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    max_size=3,
)


@st.composite
def traces(draw: Any) -> PredictionTrace:
    closed = draw(st.none() | st.integers(0, 100_000))
    start = START + timedelta(seconds=draw(st.integers(0, 9_000_000)))
    made = make_trace(
        timestamp=start,
        exit_timestamp=start + timedelta(seconds=closed or 60),
        strategy=draw(st.sampled_from(["swing", 'ärger, "x"', "東京"])),
        symbol=draw(TEXT.filter(str.strip)),
        features=draw(JSON),
        metadata=draw(JSON),
        predicted_confidence=draw(st.none() | st.floats(0, 1)),
        entry_tag=draw(TEXT | st.just("")),
        quantity=draw(NUMBER),
        fees_pct=draw(NUMBER),
        profit=draw(NUMBER),
        mode=draw(st.sampled_from(["live", "backtest"])),
        position_id=draw(st.sampled_from(["", "00000000000000aa", "order 7"])),
        sample_rate=draw(st.sampled_from([1.0, 1.0, 0.5])),
    )
    made.trace_id = f"{draw(st.integers(0, 30)):016x}" if draw(st.booleans()) else ""
    return made


SEGMENT = st.tuples(
    st.sampled_from(["live", "live/deep", "backtest_20250106_143500", "ünï"]),
    st.lists(traces(), max_size=8),
    st.sampled_from(["csv", "jsonl", "csv.gz"]),
    st.booleans(),
)


def write_segments(root: Path, segments: list[Any], first: int) -> None:
    for number, (run, rows, kind, torn) in enumerate(segments, start=first):
        path = root / run / f"traces_x_{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            line_of(
                trace,
                trace.trace_id or f"{number:08x}{k:08x}",
                trace.position_id,
                LineForm(kind.removesuffix(".gz"), trace.sample_rate, trace.mode),
            )
            for k, trace in enumerate(rows)
        ]
        text = (
            (b"" if kind == "jsonl" else csv_lines([list(COLUMNS)]))
            + b"".join(lines)
            + b"no trade\n" * torn
            + b"".join(lines)[:50] * torn
        )
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)


def sums_of(columns: TraceColumns) -> bytes:
    return fold_rows(columns).to_bytes() if len(columns) else b""


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(first=st.lists(SEGMENT, min_size=1, max_size=4), second=st.lists(SEGMENT, max_size=2))
def test_read_from_a_lake_rows_and_sums_are_those_of_the_files(
    tmp_path_factory: pytest.TempPathFactory, first: list[Any], second: list[Any]
) -> None:
    root = tmp_path_factory.mktemp("property")
    folder, lake = root / "analytics", root / "lake"
    write_segments(folder, first, 0)
    compact(folder, lake, now=LATER)
    write_segments(folder, second, len(first))
    here, there = (
        load_columns(folder),
        load_columns([folder, lake]),
    )  # a part from the lake, the rest from files
    assert as_set(here[0]) == as_set(there[0])
    assert (here[1].kept, here[1].corrections, here[1].files) == (
        there[1].kept,
        there[1].corrections,
        there[1].files,
    )
    assert sums_of(here[0]) == sums_of(there[0])
    compact(folder, lake, now=LATER)
    alone, report = load_columns(lake)
    assert facts_of(alone) == facts_of(here[0])
    left = (
        "the last line is unfinished",
        "the header lacks",
    )  # to whoever may finish it; in a file that holds no traces
    reasons = [
        sorted(
            (row.line, row.reason.partition(" by ")[0]) for row in own.bad if not row.reason.startswith(left)
        )
        for own in (report, here[1])
    ]
    assert reasons[0] == reasons[1]
    assert sums_of(alone) == sums_of(here[0])
    assert verify(folder, lake, now=LATER).problems == ()


# S3, by a server on this machine that speaks like it


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "secretive",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"desk-{abs(hash(request.node.name)) % 10**8}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}/lake"


def test_a_lake_on_s3_is_made_read_judged_and_proved(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "analytics"
    fill(folder)
    assert main(["compact", str(folder), bucket]) == 0
    assert facts_of(load_columns(bucket)[0]) == facts_of(load_columns(folder)[0])
    assert main(["verify", str(folder), bucket, "--prune"]) == 0
    assert len(load_columns(folder)[0]) == 0
    capsys.readouterr()
    assert main(["metrics", "--telemetry-dir", str(tmp_path / "nowhere"), "--lake", bucket, "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged
    stored = b"".join(
        lake_place(bucket)
        .read_all([kept.name for kept in lake_place(bucket).names() if kept.name.endswith(".json")])
        .values()
    )
    assert b"secretive" not in stored


def test_of_two_writers_on_s3_one_gets_the_manifest(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "analytics"
    fill(folder, n=10)
    place = lake_place(bucket)
    assert isinstance(place, Remote)
    assert [place.create("x", b"1"), place.create("x", b"2"), place.read("x")] == [True, False, b"1"]
    place.remove("x")
    results = compact_first(monkeypatch, lambda: compact(folder, bucket))
    assert compact(folder, bucket).rows == 0 and None in results
    assert facts_of(load_columns(bucket)[0]) == facts_of(load_columns(folder)[0])


def test_a_commit_on_s3_that_never_happened_leaves_orphans_only(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "analytics"
    fill(folder, n=10)

    class Killed(BaseException):
        pass

    def killed(*given: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(compacting, "commit", killed)
        with pytest.raises(Killed):
            compact(folder, bucket)
    assert len(load_columns(bucket)[0]) == 0 and len(read_contents(lake_place(bucket)).hashes) == 0
    compact(folder, bucket)
    assert facts_of(load_columns(bucket)[0]) == facts_of(load_columns(folder)[0])
    assert verify(folder, bucket).orphans > 0
    assert compact(folder, bucket, now=LATER).swept > 0
    assert verify(folder, bucket).orphans == 0


def killed_at_request(request: int, work: Callable[[], Any]) -> None:
    """Do something, and be killed before so many requests that change the store, or right after one."""
    left = request

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any) -> Any:
            nonlocal left
            if (left := left - 1) == -1:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = call(*given)
            if left == 0 and request % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return wrapped

    for name in ("write", "create", "remove"):
        setattr(Remote, name, counted(getattr(Remote, name)))
    work()


def test_killed_at_requests_to_s3_it_leaves_no_row_twice_and_none_out(
    bucket: str, tmp_path: Path, counts: Callable[[int, int], int]
) -> None:
    folder = tmp_path / "analytics"
    fill(folder, n=6)
    every, some = facts_of(load_columns(folder)[0]), as_set(load_columns(folder)[0])
    outcomes = []
    for request in sorted(random.Random(5).sample(range(24), counts(3, 24))):
        lake = f"{bucket}{request}"
        outcomes.append(
            forked(partial(killed_at_request, request, partial(compact, folder, lake, now=LATER)))
        )
        assert outcomes[-1] in (0, signal.SIGKILL), outcomes
        if any(kept.name == "_lake.json" for kept in lake_place(lake).names()):
            rows = load_columns(lake)[0]
            assert len(rows) == sum(one.rows for one in Lake(lake).contents.ranges.values())
            assert as_set(load_columns([folder, lake])[0]) == some
        compact(folder, lake, now=LATER)
        assert facts_of(load_columns(lake)[0]) == every
        proof = verify(folder, lake, now=LATER)
        assert proof.good and proof.orphans == 0, proof
    assert signal.SIGKILL in outcomes, outcomes


def test_without_credentials_one_line_says_so(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_EC2_METADATA_DISABLED", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "true" if name.endswith("DISABLED") else str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        LakeError,
        match=r"no credentials for s3://desk-x/lake: they come from the environment \(AWS_ACCESS_KEY_ID",
    ):
        Lake("s3://desk-x/lake")


# Retention


def test_what_sums_can_say_stays_when_rows_are_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, lake = tmp_path / "analytics", tmp_path / "lake"
    write_run(folder / "live", make_traces(900, mode="live"), mode="live")
    write_run(
        folder / "paper", make_traces(900, mode="paper", strategy="swing"), mode="paper", sample_rate=0.2
    )
    now = str(datetime(2025, 2, 10, tzinfo=UTC).timestamp())
    assert main(["compact", str(folder), str(lake)]) == 0
    figures = []
    for _ in range(2):
        capsys.readouterr()
        assert main(["metrics", "--telemetry-dir", str(lake), "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
        retain(lake, 0, float(now), UTC)
    assert len(load_columns(lake)[0]) < 900
    before, after = figures
    rows_only = {
        "exposure",
        "longest_losing_streak",
        "longest_winning_streak",
        "max_drawdown",
        "positions",
        "source",
        "sampled",
    }
    assert {
        name for name in before if before[name] != after[name]
    } == rows_only  # every other figure is the same
    assert (after["source"], after["max_drawdown"], after["longest_losing_streak"]) == ("ledger", None, None)


def test_page_check_report_and_notes_read_a_lake_and_say_its_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, lake = tmp_path / "analytics", tmp_path / "lake"
    fill(folder, n=60)
    write_note(folder, "switched data vendor", START)
    assert main(["compact", str(folder), str(lake)]) == 0
    head = Lake(lake).contents.head
    answers = []
    for where in (
        ["--telemetry-dir", str(folder)],
        ["--telemetry-dir", str(lake)],
        ["--telemetry-dir", str(folder), "--lake", str(lake)],
    ):
        found = []
        for verb in ("check", "export", "compare", "metrics"):
            capsys.readouterr()
            main([verb, *where, *(["--json"] if verb != "export" else [])])
            found.append(json.loads(capsys.readouterr().out))
        assert found[0].pop("lakes", {}) == ({str(lake): head} if str(lake) in where else {})
        for name in ("generated_at", "checked_at", "now", "age_seconds"):
            found[1].pop(name, None)
        capsys.readouterr()
        assert main(["reconcile", *where, "--strategy", "swing", "--json"]) in (0, 1)
        said = capsys.readouterr().out  # of a row of a lake the lake is named in place of the directory
        found.append(json.loads(said.replace(f"{lake}#", "").replace(f"{folder}/", "")))
        answers.append(found)
    assert answers[0][2:] == answers[1][2:] == answers[2][2:]
    assert answers[0][0]["judged"] == answers[1][0]["judged"] == answers[2][0]["judged"]
    assert answers[0][1]["strategies"] == answers[1][1]["strategies"] == answers[2][1]["strategies"]
    report = open_report(settings=Settings.load(telemetry_storage_path=lake))
    assert head in front_page(report).text
    assert (
        [note.text for note in read_notes(lake)]
        == [note.text for note in read_notes([lake, folder])]
        == ["switched data vendor"]
    )
    analyzer = AccuracyAnalyzer()
    assert len(analyzer.load_traces(lake)) == len(analyzer.load_traces(folder)) == 360


def test_other_programs_read_the_parts_without_this_package(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    folder, lake = tmp_path / "analytics", tmp_path / "lake"
    fill(folder)
    compact(folder, lake)
    rows = load_columns(folder)[0]
    asked = "select kind, strategy, count(*), sum(realized_return_pct), min(exit_timestamp at time zone 'UTC') from read_parquet('{}/kind=*/**/*.parquet', hive_partitioning=true) group by all order by all"
    found = duckdb.sql(asked.format(lake)).fetchall()
    frame = rows.to_pandas()
    expected = (
        frame.groupby(["mode", "strategy"], observed=True)["realized_return_pct"]
        .agg(["size", "sum"])
        .sort_index()
    )
    assert [row[:3] for row in found] == [(*map(str, key), int(n)) for key, n in expected["size"].items()]
    np.testing.assert_allclose([row[3] for row in found], expected["sum"], rtol=1e-12)
    assert min(row[4] for row in found).replace(tzinfo=UTC) == frame["exit_timestamp"].min()
