"""What people do to an import and a run: the right figure, or a line that says what is wrong or missing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from trade_telemetry.capture.hook import open_hook
from trade_telemetry.cli.main import main
from trade_telemetry.importers import import_trades as importing

MAP = (
    "fields: {symbol: symbol, direction: side, entry_time: opened, exit_time: closed, "
    "entry_price: bought, exit_price: sold, realized_return_pct: net}\n"
)
HEADER = "symbol,side,opened,closed,bought,sold,net\n"
START = datetime(2025, 3, 3, 10, tzinfo=UTC)
EVERY = ("--strategy", "mine", "--threshold-pct", "0.3")


def row(k: int, net: float | None = None, side: str = "BUY") -> str:
    opened, closed = START + timedelta(hours=k), START + timedelta(hours=k, minutes=30)
    bought, sold = 100 + k % 7, 101 + k % 5
    earned = 100 * (sold / bought - 1) * (1 if side == "BUY" else -1)
    return f"X,{side},{opened:%Y-%m-%dT%H:%MZ},{closed:%Y-%m-%dT%H:%MZ},{bought},{sold},{earned if net is None else net:.4f}\n"


def log_of(folder: Path, rows: Iterable[str], name: str = "log.csv", chart: str = MAP) -> tuple[object, ...]:
    """Words of an import of these rows."""
    (folder / name).write_text(HEADER + "".join(rows), encoding="utf-8")
    (folder / "map.yaml").write_text(chart)
    return "import", folder / name, "--map", folder / "map.yaml", "--telemetry-dir", folder / "t", *EVERY


def call(*words: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(map(str, words)))
    return code, out.getvalue(), err.getvalue()


def figures(folder: Path) -> dict[str, Any]:
    code, out, err = call("metrics", "--telemetry-dir", folder / "t", "--json")
    assert code == 0, err
    return json.loads(out)  # type: ignore[no-any-return]


def shown(folder: Path) -> str:
    return " ".join(call("metrics", "--telemetry-dir", folder / "t")[1].split())


@pytest.mark.parametrize(
    "net",
    [lambda k: 1.3 * k, lambda k: 0.0, lambda k: [700.0, -30.0, 15.0][k % 3]],
    ids=["running total", "zeros", "anything"],
)
def test_a_column_of_returns_that_follows_no_fill_is_refused(net: Any, tmp_path: Path) -> None:
    words = log_of(tmp_path, [row(k, net(k)) for k in range(40)])
    code, _, err = call(*words)
    assert code == 2
    assert "realized_return_pct does not follow from side and fills" in err
    assert not (tmp_path / "t").exists()
    assert call(*words, "--trust")[0] == 0


def test_returns_after_high_costs_are_taken(tmp_path: Path) -> None:
    gross = [100 * ((101 + k % 5) / (100 + k % 7) - 1) for k in range(40)]
    code, _, err = call(*log_of(tmp_path, [row(k, g - 1.0) for k, g in enumerate(gross)]))
    assert code == 0, err
    assert figures(tmp_path)["cumulative_return_pct"] == pytest.approx(sum(gross) - 40, abs=0.01)


def test_a_log_of_what_a_sampling_hook_has_counted_is_not_counted_again(tmp_path: Path) -> None:
    for rate in (1.0, 0.1):
        folder = tmp_path / str(rate)
        folder.mkdir()
        with open_hook(folder / "t" / "live", {"mine": 0.3}, sample_rate=rate) as hook:
            for k in range(100):
                opened = START + timedelta(hours=k)
                hook.position_closed(
                    symbol="X", strategy="mine", direction="LONG", entry_time=opened, entry_price=100 + k % 7,
                    exit_time=opened + timedelta(minutes=30), exit_price=101 + k % 5,
                )  # fmt: skip
        code, _, err = call(*log_of(folder, [row(k) for k in range(100)]), "--mode", "live")
        assert (code, "would count them twice" in err) == ((0, False) if rate == 1.0 else (2, True)), err
        assert figures(folder)["total_trades"] == 100


def test_an_interrupted_import_is_said_wherever_its_run_is_shown(tmp_path: Path) -> None:
    words = log_of(tmp_path, [row(k) for k in range(60)])
    with patch.object(importing, "BATCH", 20), patch.object(importing, "HEAD", 10):
        taken = importing.Tally.take

        def stopped(self: importing.Tally, rows: Any) -> None:
            if self.rows >= 40:
                raise KeyboardInterrupt
            taken(self, rows)

        with patch.object(importing.Tally, "take", stopped):
            code, _, err = call(*words)
    (run,) = (tmp_path / "t").iterdir()
    assert code == 130
    assert (
        f"stopped after 40 rows, {run} has only those: the same import with --append {run.name} goes on"
        in err
    )
    lack = f"Missing from {run.name}: all that came after the import of log.csv stopped (KeyboardInterrupt)."
    assert lack in shown(tmp_path)
    assert figures(tmp_path)["total_trades"] == 40
    assert call(*words, "--append", run.name)[0] == 0
    assert lack not in shown(tmp_path)
    assert figures(tmp_path)["total_trades"] == 60


def test_a_killed_import_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    words = log_of(tmp_path, [row(k) for k in range(5)])
    assert call(*words)[0] == 0
    (record,) = (tmp_path / "t").rglob("run_*.json")
    told = json.loads(record.read_text()) | {"ended_at": None, "end_reason": None}
    told |= {"heartbeat_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    record.write_text(json.dumps(told))
    assert "all that came after the import of log.csv was killed" in shown(tmp_path)


def test_an_import_says_what_a_full_disk_refused(tmp_path: Path) -> None:
    words = log_of(tmp_path, [row(k) for k in range(5)])
    full = OSError(28, "No space left on device")
    with patch("trade_telemetry.capture.segment.Segment.append", side_effect=full):
        code, out, _ = call(*words)
    assert code == 1
    assert "5 could not be written (write ENOSPC): import the file again when they can be" in out


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--strategy", ""), "the name of the strategy is empty"),
        (("--pair", "fifo"), "leave --map out"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_refused(more: tuple[str, ...], line: str, tmp_path: Path) -> None:
    words = log_of(tmp_path, [row(0)])
    words = words if more[0] != "--strategy" else words[: -len(EVERY)] + EVERY[2:]
    code, _, err = call(*words, *more)
    assert code == 2
    assert line in err


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    log_of(tmp_path, [])
    for how in ((), ("--map", tmp_path / "map.yaml")):
        code, _, err = call("import", tmp_path, *how, *EVERY, "--telemetry-dir", tmp_path / "t")
        assert (code, f"not a file: {tmp_path}" in err) == (2, True)


def test_the_finished_command_has_the_clock_that_servers_of_the_source_mostly_have(tmp_path: Path) -> None:
    history = Path(__file__).parent / "data" / "exports" / "mt5_history.html"
    code, _, err = call("import", history, "--telemetry-dir", tmp_path)
    assert (code, "--timezone America/New_York+7h" in err) == (2, True)


def test_returns_of_closed_positions_of_nautilus_are_net_though_they_name_no_commissions(
    tmp_path: Path,
) -> None:
    kept = Path(__file__).parent / "data" / "frameworks" / "nautilus_trader"
    code, _, err = call(
        "import", kept / "events.json", "--threshold-pct", "0.3", "--telemetry-dir", tmp_path / "t"
    )
    assert code == 0, err
    right = json.loads((kept / "made.json").read_text())["expected"]["positions.csv"]
    found = figures(tmp_path)
    assert found["total_trades"] == right["trades"]
    assert found["cumulative_return_pct"] == pytest.approx(right["return_sum_pct"], abs=0.01)


@pytest.mark.parametrize(
    ("opened", "form"), [("03/04/2025 10:30", "%m/%d/%Y %H:%M"), ("03/14/25 10:30", "%m/%d/%y %H:%M")]
)
def test_the_format_that_is_proposed_reads_the_times(opened: str, form: str, tmp_path: Path) -> None:
    words = log_of(tmp_path, [f"X,BUY,{opened},{opened},100,101,1\n"])
    code, _, err = call(*words)
    assert (code, f"say time_format, such as '{form}'" in err) == (2, True), err
    assert call(*words, "--time-format", form)[0] == 0


DAYS = ("13.03.2025", "02.04.2025", "05.04.2025")


@pytest.mark.parametrize(
    ("where", "trades"),
    [("opened > '2025-04-01'", 2), ("opened < '2025-04-03'", 2), ("opened == '2025-04-02'", 1)],
)
def test_days_are_compared_as_days_however_the_file_writes_them(
    where: str, trades: int, tmp_path: Path
) -> None:
    rows = [f"X,BUY,{day},{day} 11:00,100,101,1\n" for day in DAYS]
    code, out, err = call(*log_of(tmp_path, rows, chart=f'{MAP}where: "{where}"\n'))
    assert (code, out[:7]) == (0, f"{trades} of 3 "[:7]), out + err


def test_a_day_that_cannot_be_read_is_not_compared_as_a_text(tmp_path: Path) -> None:
    rows = [f"X,BUY,{day} 10:00,{day} 11:00,100,101,1\n" for day in DAYS]
    code, _, err = call(*log_of(tmp_path, rows, chart=f"{MAP}where: \"opened >= '02.04.2025'\"\n"))
    assert (code, "cannot compare '13.03.2025 10:00' with '02.04.2025' as days" in err) == (2, True), err
