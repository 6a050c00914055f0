"""The audit report as a file: whole, inert, self-contained, sensible whatever lies in the directory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from bs4 import BeautifulSoup
from report_data import both_strategies, said_by, shown_here, some_traces, write_run
from shell import RUN, asked, asked_in_a_process

from trade_telemetry import Settings
from trade_telemetry.cli.judge import REPORTED
from trade_telemetry.cli.main import main
from trade_telemetry.report.comparison import load_both
from trade_telemetry.report.front_page import front_page, runs_table
from trade_telemetry.report.performance import performance_table
from trade_telemetry.report.render import parameter_names, report_notebook, to_html
from trade_telemetry.report.scope import open_report

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECTIONS = [
    "Executive summary", "What else happened", "Live against backtest", "Why live differed", "Strategy performance",
    "Confusion matrices", "Calibration of the confidence", "Where does it earn, when, which trades",
    "Feature attribution", "Alerts", "Strategy Comparison", "What the figures rest on",
]  # fmt: skip


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith(("TELEMETRY_", "DASHBOARD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A report on both strategies, made by the command from a copy of the package as a wheel installs it."""
    work = tmp_path_factory.mktemp("report")
    both_strategies(work / "data", live_skill=0.40, live_days=120)
    package = work / "site"
    shutil.copytree(
        ROOT / "trade_telemetry", package / "trade_telemetry", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "nbs" / "accuracy_report.ipynb", package / "trade_telemetry")
    done = asked_in_a_process(
        "report", "--telemetry-dir", "data", "--out", "deep/report.html", "--title", "Fund <A> & B", cwd=work, package=package
    )  # fmt: skip
    return work / "deep" / "report.html", done


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


Opened = tuple[Any, list[str], list[str]]


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[[Path], Opened]]:
    """Open a file in a real browser: the page, the addresses it asked for, and what it complained about."""
    pages = []

    def open_page(path: Path) -> Opened:
        page, asked, said = browser.new_page(viewport={"width": 1280, "height": 900}), [], []
        pages.append(page)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
        page.goto(path.as_uri(), wait_until="load")
        return page, asked, said

    yield open_page
    for page in pages:
        page.close()


def test_the_command_of_an_installed_package_writes_all_sections_in_their_order(
    written: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    path, done = written
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "deep/report.html: 800 trades judged\n"
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    assert [h.get_text().removesuffix("¶") for h in page.find_all("h2")] == SECTIONS
    assert [a.get_text() for a in page.select("nav a")] == SECTIONS
    assert page.title is not None and page.title.get_text() == "Fund <A> & B"
    assert all(page.find(id=str(a["href"])[1:]) is not None for a in page.select("nav a"))
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html"]  # no temporary file stays


def test_the_page_holds_no_code_no_script_and_no_address(
    written: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    text = written[0].read_text(encoding="utf-8")
    bare = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:", text)
    assert (
        re.findall(r"<script|<link|<iframe|<object|https?:|//[a-z]+\.|@import|@font-face|url\(", bare) == []
    )
    for code in ("sections.", "import ", "telemetry_dir", "In [", "papermill", "notebook-only", "Traceback"):
        assert code not in bare
    assert len(text) < 3_000_000


def test_every_figure_says_how_many_trades_it_is_made_of(
    written: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    page = BeautifulSoup(written[0].read_text(encoding="utf-8"), "html.parser")
    captions = [c.get_text() for c in page.find_all("figcaption")]
    assert len(captions) >= 14
    assert [c for c in captions if not re.search(r"\d trade|trades: ", c)] == []
    assert [i["alt"] for i in page.find_all("img")] == captions
    assert all(str(i["src"]).startswith("data:image/png;base64,") for i in page.find_all("img"))


def test_a_browser_shows_it_without_asking_for_anything(
    written: tuple[Path, subprocess.CompletedProcess[str]], opened: Callable[[Path], Opened]
) -> None:
    page, asked, said = opened(written[0])
    assert [url for url in asked if not url.startswith("data:")] == [written[0].as_uri()]
    assert said == []
    shown = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 300)")
    assert len(shown) >= 14 and all(shown)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    worse = page.locator(".tt-strategy .tt-badge").first.inner_text()
    assert worse == "▼ worse than its backtest"


HOSTILE = ["<script>alert(1)</script>", "$\\frac{ __|a|__ [x](javascript:alert(1))", "x" * 300 + "\u202e\x07"]
EVIL = '"><img src=x onerror=alert(1)>'


def test_names_from_files_are_shown_and_nothing_else(
    tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    traces = []
    for k, name in enumerate(HOSTILE):
        for trace in some_traces("intraday", "live", 6, 0.6, seed=k):
            features = {EVIL: 1.0 * k + trace.predicted_confidence, "$x$ | y": trace.realized_return_pct}
            traces.append(
                replace(trace, strategy=name, symbol=f"{EVIL}|{k}", exit_reason=EVIL, features=features)
            )
    write_run(tmp_path / "data", "live<b>", traces, mode="live")
    notebook = shown_here(
        {"telemetry_dir": str(tmp_path / "data"), "title": EVIL, "first": HOSTILE[0], "second": HOSTILE[1]}
    )
    out = tmp_path / "report.html"
    out.write_text(to_html(notebook, EVIL), encoding="utf-8")
    page, asked, said = opened(out)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [out.as_uri()]
    foreign = "document.querySelectorAll('script, [onerror], b b, img:not([src^=\"data:\"]), a[href^=javascript]').length"
    assert page.evaluate(foreign) == 0
    text = page.inner_text("main")
    assert all(name in text for name in (*HOSTILE[:2], EVIL, "live<b>", "$x$ | y"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def empty(root: Path) -> None:
    root.mkdir()


def one_strategy(root: Path) -> None:
    write_run(root, "backtest_20250801_180000", some_traces("intraday", "backtest", 30, 0.6))


def live_only(root: Path) -> None:
    write_run(root, "live", some_traces("intraday", "live", 30, 0.6) + some_traces("swing", "live", 30, 0.6))


def replayed(root: Path) -> None:
    one_strategy(root)
    again = [replace(t, mode="replay") for t in some_traces("intraday", "live", 20, 0.6, weeks=8)]
    write_run(root, "replay_20250901_100000", again, mode="replay")


def sampled(root: Path) -> None:
    both_strategies(root, sample_rate=0.2)


def sampled_without_ledger(root: Path) -> None:
    sampled(root)
    for path in root.rglob("ledger_*.json"):
        path.unlink()


def only_the_ledger(root: Path) -> None:
    both_strategies(root, live_days=20, sample_rate=0.0)


def one_trade_only(root: Path) -> None:
    write_run(root, "live", some_traces("intraday", "live", 1, 0.6)[:1])


def damaged(root: Path) -> None:
    root.mkdir()
    header = "timestamp,symbol,strategy,predicted_direction,actual_direction,predicted_confidence,entry_price,exit_price,holding_period_minutes,realized_return_pct"
    (root / "traces_intraday_0.csv").write_text(f"{header}\nnot,a,row\n")


@pytest.mark.parametrize(
    ("make", "sentences", "absent"),
    [
        (empty, ["Nothing to judge: the telemetry directory holds no traces yet."], ["[picture"]),
        (damaged, ["Nothing to judge: none of 1 row could be used, first: traces_intraday_0.csv:2"], ["[picture"]),
        (one_strategy, ["so the report is historical", "Not comparable: no trades of swing.", "Nothing is live here"], ["▼", "▲"]),
        (live_only, ["there is no backtest beside them", "Not comparable: no backtest trades."], ["  Backtest: "]),
        (replayed, ["Replay · intraday", "not from live trading", "Alerts judge live trading only"], ["Live ·", " live trades", "trades of live"]),
        (sampled, ["counted by the ledger", "— (sampled)", "day by day where only the ledger knows"], []),
        (sampled_without_ledger, ["no ledger knows the rest", "— (sampled): no curve of intraday and swing"], []),
        (only_the_ledger, ["counted by the ledger", "intraday: precision 3"], []),
        (one_trade_only, ["Judged: 1 trade of live trading", "with too few days for an interval"], []),
    ],
)  # fmt: skip
def test_whatever_lies_in_the_directory_gives_a_sensible_report(
    tmp_path: Path, make: Callable[[Path], None], sentences: list[str], absent: list[str]
) -> None:
    make(tmp_path / "data")
    notebook = shown_here({"telemetry_dir": str(tmp_path / "data")})
    said = said_by(notebook)
    assert [s for s in sentences if s not in said] == []
    assert [s for s in absent if s in said] == []
    assert [word for word in ("nan", "None", "inf ") if re.search(rf"\b{word}\b(?! of)", said)] == []
    assert len(BeautifulSoup(to_html(notebook), "html.parser").find_all("h2")) == len(SECTIONS)


def test_sums_of_a_sample_come_from_the_ledger(tmp_path: Path) -> None:
    both_strategies(tmp_path / "whole")
    sampled(tmp_path / "part")
    whole, part = (
        repr(performance_table(open_report(tmp_path / name, settings=Settings())))
        for name in ("whole", "part")
    )
    for line in (
        "trades", "precision", "cumulative return", "Sharpe ratio", "max drawdown, daily",
    ):  # fmt: skip
        assert lines_of(whole, line) == lines_of(part, line) != []


def lines_of(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"{start}  ")]


def test_days_of_a_report_are_those_of_the_settings_zone(tmp_path: Path) -> None:
    """Positions that closed at 20:00 UTC on 6 and 7 January closed on the 7th and the 8th in Mumbai."""
    closed = [datetime(2025, 1, day, 20, tzinfo=UTC) for day in (6, 7)]
    traces = [
        replace(t, exit_timestamp=at, mode="live")
        for t, at in zip(some_traces("intraday", "live", 1, 0.6), closed, strict=False)
    ]
    write_run(tmp_path / "data", "live", traces)
    said = {}
    for zone in ("UTC", "Asia/Kolkata"):
        report = open_report(tmp_path / "data", settings=Settings(timezone=zone))
        parts = (front_page(report), runs_table(report), load_both(report))
        said[zone] = "\n".join(map(repr, parts))
    assert said["UTC"].count("2025-01-06 to 2025-01-07") == 3
    assert said["Asia/Kolkata"].count("2025-01-07 to 2025-01-08") == 3
    assert "2025-01-06" not in said["Asia/Kolkata"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--telemetry-dir", "missing"], "no such telemetry directory: missing"),
        (["--telemetry-dir", ".", "--out", "report.pdf"], "a report is written as .html or .ipynb, got 'report.pdf'"),
        (["--telemetry-dir", ".", "--color", "red"], "unrecognized arguments: --color"),
        (["--telemetry-dir", ".", "--config", "none.yaml"], "settings file 'none.yaml' does not exist"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_and_exit_code_2(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["report", *words])
    except SystemExit as end:  # argparse ends by itself
        code = int(str(end.code))
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)
    assert complaint in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    one_strategy(tmp_path / "data")
    done = asked("report", "--telemetry-dir", "data", "--run", "june", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trade-telemetry report: no run 'june'; there are: backtest_20250801_180000\n"
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_an_empty_directory_is_reported_as_such_and_exit_code_1(tmp_path: Path) -> None:
    empty(tmp_path / "data")
    done = asked("report", "--telemetry-dir", "data", "--out", "report.ipynb", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "report.ipynb\n")
    assert done.stderr == "nothing to judge in data; the report says so\n"
    notebook = nbformat.read(tmp_path / "report.ipynb", as_version=4)
    assert "no traces yet" in said_by(notebook)
    assert not (tmp_path / ".ipython").exists()


def test_ctrl_c_ends_the_kernel_and_leaves_no_file(tmp_path: Path) -> None:
    one_strategy(tmp_path / "data")
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "report", "--telemetry-dir", "data"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    kernels: list[psutil.Process] = []
    while not kernels:
        kernels = psutil.Process(process.pid).children()
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended by itself with {process.wait(0.05)}")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)
    assert (process.returncode, *said) == (130, "", "")
    assert psutil.wait_procs(kernels, timeout=30)[1] == []
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_the_first_code_cell_holds_the_parameters_of_the_command_and_nothing_else() -> None:
    notebook = nbformat.read(report_notebook(), as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.metadata["tags"] == ["parameters"]
    assert parameter_names(notebook) == ["telemetry_dir", *REPORTED]
    assert all(re.match(r"\w+ = \S+( report\")?  # \S", line) for line in first.source.splitlines())


def test_the_cells_are_short_calls_and_show_nothing_in_the_repository() -> None:
    notebook = nbformat.read(report_notebook(), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs] == []
    assert [cell.id for cell in code[1:] if len(cell.source.splitlines()) > 6 or "def " in cell.source] == []
