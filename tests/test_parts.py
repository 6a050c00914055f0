"""Parts of the trades and all questions at once, from the command line, for whole and for sampled runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import asked
from test_cli import traces

from trade_telemetry import PredictionTrace, TelemetryWriter
from trade_telemetry.cli.main import main
from trade_telemetry.store.store import TraceStore


def write(folder: Path, rows: list[PredictionTrace], **options: Any) -> None:
    with TelemetryWriter(folder, mode=rows[0].mode, **options) as writer:
        for row in rows:
            writer.write_trace(row)


def make_folder(folder: Path, rate: float, skill: float = 0.64) -> Path:
    """Two strategies live, their backtests complete; live rows are kept at this rate."""
    for k, name in enumerate(("intraday", "swing")):
        write(folder / "backtest_20250106_000000", traces("backtest", 120, 0.62, k, strategy=name))
        write(folder / "live", traces("live", 40, skill, 10 + k, weeks=30, strategy=name), sample_rate=rate)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("whole"), 1.0)


@pytest.fixture(scope="module", params=[0.1, 0.0])
def tenth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("tenth"), request.param)


def answered(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, Any]:
    code = main([*map(str, words)])
    return code, json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize(
    "by",
    ["strategy", "symbol", "exit_reason", "weekday", "exit_weekday", "hour", "holding", "month", "direction"],
)
def test_every_cut_counts_every_trade_with_intervals(
    whole: Path, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = answered(capsys, "metrics", "--by", by, "--json", "--telemetry-dir", whole)
    groups = [one for part in answer[f"by {by}"].values() for one in part]
    assert (code, sum(one["trades"] for one in groups)) == (0, 480)
    assert all(len(one[f"{rate}_interval"]) == 2 for one in groups for rate in ("precision", "win_rate"))
    assert main(["metrics", "--by", by, "--telemetry-dir", str(whole)]) == 0
    assert f", by {by}" in capsys.readouterr().out


def close(ours: Any, theirs: Any) -> bool:
    return bool(ours == pytest.approx(theirs, rel=1e-9, abs=1e-9))


def test_a_sampled_live_run_prints_the_rates_daily_figures_and_groups_of_the_whole_run(
    whole: Path, tenth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (answered(capsys, "metrics", "--json", "--telemetry-dir", d)[1] for d in (tenth, whole))
    for name in (
        "headline_precision",
        "headline_recall",
        "headline_f1",
        "win_rate",
        "avg_return",
        "sharpe_ratio",
    ):
        assert close(ours[name], theirs[name]), name
    for name in ("cumulative_return_pct", "max_drawdown_daily", "sortino_ratio", "total_trades"):
        assert close(ours[name], theirs[name]), name
    assert ours["max_drawdown"] is None
    by = [
        answered(capsys, "metrics", "--by", "month", "--json", "--telemetry-dir", d)[1]
        for d in (tenth, whole)
    ]
    for here, there in zip(*(one["by month"]["swing"] for one in by), strict=True):
        assert (here["name"], here["trades"], here["sampled"]) == (there["name"], there["trades"], False)
        assert close(here["total_return_pct"], there["total_return_pct"])
    assert main(["metrics", "--telemetry-dir", str(tenth)]) == 0
    out = capsys.readouterr().out
    assert "— (sampled)" in out
    assert "from the ledger" in out
    assert main(["metrics", "--by", "hour", "--telemetry-dir", str(tenth)]) == 0
    capsys.readouterr()


def test_a_sampled_live_run_gets_the_verdicts_of_the_whole_run(
    whole: Path, tenth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (answered(capsys, "compare", "--json", "--telemetry-dir", d)[1] for d in (tenth, whole))
    assert (ours["verdict"], ours["intraday_trades"]) == (theirs["verdict"], theirs["intraday_trades"])
    for name in ("precision_delta", "sharpe_delta", "win_rate_delta", "avg_return_delta", "criterion_delta"):
        assert close(ours[name], theirs[name]), name
    words = ("compare", "--live-vs-backtest", "--json", "--telemetry-dir")
    (code, ours), (same, theirs) = (answered(capsys, *words, d) for d in (tenth, whole))
    assert code == same
    for name, one in theirs["strategies"].items():
        here = ours["strategies"][name]
        assert (here["status"], here["live_trades"]) == (one["status"], one["live_trades"])
        for figure in ("precision", "expectancy", "daily_return"):
            assert close(here["measures"][figure]["live"], one["measures"][figure]["live"])


def test_a_sample_without_a_ledger_shows_no_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, name in enumerate(("intraday", "swing")):
        rows = traces("live", 40, 0.6, k, strategy=name)
        write(tmp_path / "live", rows, sample_rate=0.3, ledger=False)
    for words in (["metrics"], ["compare"], ["metrics", "--by", "symbol"]):
        assert main([*words, "--telemetry-dir", str(tmp_path)]) == 0
        assert "— (sampled)" in capsys.readouterr().out


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    found: list[Any] = []
    plain = TraceStore.refresh

    def counted(store: TraceStore) -> bool:
        found.append(store.paths)
        return plain(store)

    monkeypatch.setattr(TraceStore, "refresh", counted)
    yield found


@pytest.mark.parametrize(
    "words", [["judge"], ["judge", "--json"], ["metrics", "--run", "live"], ["compare", "--run", "live"],
              ["compare", "--by", "run"], ["metrics", "--strategy", "nobody"]],
)  # fmt: skip
def test_the_files_are_read_once_whatever_is_asked(
    words: list[str], whole: Path, readings: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*words, "--telemetry-dir", str(whole)])
    capsys.readouterr()
    assert len(readings) == 1


def test_judge_says_what_the_single_verbs_say(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, all_of_it = answered(capsys, "judge", "--json", "--telemetry-dir", whole)
    for name, words in (
        ("metrics", ["metrics"]),
        ("comparison", ["compare", "--by", "strategy"]),
        ("live_vs_backtest", ["compare", "--live-vs-backtest"]),
        ("check", ["check"]),
    ):
        alone, answer = answered(capsys, *words, "--json", "--telemetry-dir", whole)
        assert answer == all_of_it[name] | {"missing": all_of_it["missing"]}, name
        assert alone <= code


def test_judge_ends_with_one_where_a_planted_loss_is(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 0.1, skill=0.38)
    done = asked("judge", "--telemetry-dir", folder, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "intraday: Worse than the backtest" in done.stdout
    assert "CRITICAL" in done.stdout
