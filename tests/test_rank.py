"""The leaderboard of a sweep: what luck shows, counted trials, and the two worlds where the truth is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trade_telemetry.cli.main import main
from trade_telemetry.judgement.deflated_sharpe import deflated_sharpe_ratio, expected_max_sharpe
from trade_telemetry.judgement.overfitting import overfitting
from trade_telemetry.judgement.rank import Ranking, rank
from trade_telemetry.judgement.trials import Trial, TrialName, Trials, trials_of
from trade_telemetry.scale.folded_store import FoldedStore
from trade_telemetry.store.store import TraceStore
from trade_telemetry.testing import simulate_run, write_run

Counts = Callable[[int, int], int]


def world(rng: np.random.Generator, trials: int, days: int, edge: float = 0.0) -> Trials:
    day = np.arange(20_000, 20_000 + 2 * days)
    day = day[(day + 3) % 7 < 5][:days]
    daily = rng.normal(0, 1, (days, trials))
    daily[:, 0] += edge
    return Trials(
        tuple(Trial(TrialName("sweep", f"v{k}", ""), day, daily[:, k], days) for k in range(trials))
    )


def test_the_best_of_many_without_skill_is_rarely_called_better_than_luck(counts: Counts) -> None:
    """The deflated ratio of the best: above 0.95 in about one world of twenty, while the naive one nearly always is."""
    rng, n = np.random.default_rng(11), counts(60, 1000)
    told = [rank(world(rng, 50, 252)) for _ in range(n)]
    best = np.array([one.rows[0].deflated_sharpe_ratio for one in told])
    naive = np.array([one.rows[0].probabilistic_sharpe_ratio for one in told])
    assert (best > 0.95).mean() < 0.15 and (naive > 0.95).mean() > 0.8
    shown = np.mean([one.rows[0].sharpe_ratio for one in told])
    expected = np.mean([one.luck_sharpe for one in told])
    assert abs(shown - expected) < 0.25  # a Sharpe ratio a year has a standard error of 1 here


def test_overfitting_is_one_half_without_skill_and_small_with_it(counts: Counts) -> None:
    rng, n = np.random.default_rng(12), counts(60, 500)
    null = [overfitting(rng.normal(0, 1, (120, 20)), 8).probability for _ in range(n)]
    assert abs(np.mean(null) - 0.5) < 4 * np.std(null) / n**0.5
    real = []
    for _ in range(10):
        daily = rng.normal(0, 1, (252, 20))
        daily[:, 3] += 0.4
        real.append(overfitting(daily, 8).probability)
    assert max(real) < 0.05


@pytest.mark.parametrize("trials", [5, 50, 500])
def test_the_expected_maximum_is_that_of_drawn_sharpe_ratios(trials: int) -> None:
    """Not of normal draws, but of the Sharpe ratios of a year of returns."""
    rng = np.random.default_rng(13)
    tops = [
        (d.mean(axis=0) / d.std(axis=0, ddof=1)).max() * 252**0.5
        for d in (rng.normal(0, 1, (252, trials)) for _ in range(60))
    ]
    error = float(np.std(tops)) / len(tops) ** 0.5
    assert abs(np.mean(tops) - expected_max_sharpe(trials, 1.0)) < 4 * error + 0.1


def test_more_trials_never_help(counts: Counts) -> None:
    daily = np.random.default_rng(14).normal(0.05, 1, 500)
    ratios = [deflated_sharpe_ratio(daily, n, 0.7) for n in (1, 1.5, 2, 10, 100, 10_000)]
    assert ratios == sorted(ratios, reverse=True)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for k in range(4):
        traces = simulate_run(days=60, trades_a_day=3, strategies=("a", "b"), seed=k, mode="backtest")
        write_run(folder / f"backtest_2024010{k + 1}_000000", traces)
    write_run(folder / "live", simulate_run(days=20, mode="live"))
    return folder


def ranked(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["rank", "--json", "--telemetry-dir", str(folder), *words]) == 0
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


def test_trials_are_counted_from_the_store_and_a_deleted_run_cannot_be(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ranked(sweep, capsys)
    assert (told["trials"], told["runs"], told["trials_said"]) == (8, 4, None)  # live is no trial
    copy = tmp_path / "copy"
    shutil.copytree(sweep, copy)
    shutil.rmtree(copy / "backtest_20240102_000000")
    fewer = ranked(copy, capsys)
    assert fewer["trials"] == 6
    assert "Runs that were deleted" in str(fewer["notes"]) and "cannot be counted" in str(fewer["notes"])
    said = ranked(copy, capsys, "--trials", "800")
    assert said["trials_said"] == 800 and float(str(said["luck_sharpe"])) > float(str(fewer["luck_sharpe"]))
    assert main(["rank", "--trials", "2", "--telemetry-dir", str(copy)]) == 2
    assert "--trials must be at least the 6" in capsys.readouterr().err


def test_a_store_of_states_ranks_as_a_store_of_rows_and_reads_no_row(sweep: Path) -> None:
    plain, folded = TraceStore(sweep, final=True), FoldedStore(sweep, final=True, keep=False)
    answers = list[Ranking]()
    for store in (plain, folded):
        store.refresh()
        answers.append(rank(trials_of(store.columns, store.runs())))
    assert repr(answers[0]) == repr(answers[1])
    assert folded._at_hand == {}


def test_the_answer_is_the_same_for_every_executor(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ranked(sweep, capsys)
    other = ranked(sweep, capsys, "--executor", "processes", "--workers", "1")
    assert one == other
    shutil.rmtree(sweep / ".states")


def test_there_is_nothing_to_rank_without_a_backtest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "live", simulate_run(days=5, mode="live"))
    assert main(["rank", "--telemetry-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "nothing to rank: no backtest has a trade\n"
