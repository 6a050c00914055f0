"""Telemetry for the tests of the report: two strategies, live and backtest, with features, costs and exit reasons."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat import NotebookNode

from trade_telemetry import PredictionTrace, testing
from trade_telemetry.report.render import report_notebook, with_parameters
from trade_telemetry.trace import Direction, label_direction, position_return_pct

START = datetime(2025, 1, 6, 14, 35, tzinfo=UTC)  # a Monday, five minutes after the open in New York
THRESHOLDS = {"intraday": 0.3, "swing": 0.5}


def one_trade(
    rng: np.random.Generator, strategy: str, mode: str, entry: datetime, skill: float
) -> PredictionTrace:
    """A trade whose call is right with a chance that its features and its confidence tell."""
    swing = strategy == "swing"
    momentum = float(rng.normal())
    chance = float(np.clip(skill + 0.08 * momentum, 0.05, 0.95))
    predicted: Direction = "LONG" if rng.random() < 0.55 else "SHORT"
    size = abs(float(rng.normal(0.0, 1.6 if swing else 0.6)))
    move = size if (rng.random() < chance) == (predicted == "LONG") else -size
    minutes = int(rng.integers(1440, 4 * 1440)) if swing else int(rng.integers(5, 240))
    fees, slippage = 0.02, abs(float(rng.normal(0.01, 0.005)))
    earned = position_return_pct(predicted, move, fees_pct=fees)
    threshold = THRESHOLDS.get(strategy, 0.3)
    return PredictionTrace(
        entry, str(rng.choice(["RELIANCE", "TCS", "INFY"])), strategy, predicted, label_direction(move, threshold),
        round(float(np.clip(chance * (0.78 if swing else 0.63) + 0.03, 0.0, 1.0)), 3), 100.0, 100.0 * (1 + move / 100), minutes, earned,
        features={"momentum": momentum, "noise": float(rng.normal())},
        exit_timestamp=entry + timedelta(minutes=minutes), label_threshold_pct=threshold, mode=mode,
        exit_reason="take_profit" if earned > 0.4 else "stop_loss" if earned < -0.4 else "time",
        fees_pct=fees, slippage_pct=slippage,
    )  # fmt: skip


def some_traces(
    strategy: str, mode: str, days: int, skill: float, seed: int = 1, weeks: int = 0
) -> list[PredictionTrace]:
    """Six intraday trades a day, or one swing trade on two of three days, Monday to Friday."""
    rng, out = np.random.default_rng(seed), []
    for k in range(days):
        day = START + timedelta(weeks=weeks, days=k // 5 * 7 + k % 5)
        per_day = (1 if k % 3 else 0) if strategy == "swing" else 6
        out += [
            one_trade(rng, strategy, mode, day + timedelta(minutes=25 * j + int(rng.integers(0, 20))), skill)
            for j in range(per_day)
        ]
    return out


def write_run(
    root: Path, name: str, traces: list[PredictionTrace], sample_rate: float = 1.0, mode: str | None = None
) -> None:
    """Write one run as the capture does, ledger included."""
    testing.write_run(root / name, traces, mode, sample_rate=sample_rate)


def both_strategies(
    root: Path, live_skill: float = 0.60, live_days: int = 60, sample_rate: float = 1.0
) -> None:
    """A backtest of a year, and live trading after it."""
    past = some_traces("intraday", "backtest", 240, 0.62, 1) + some_traces("swing", "backtest", 240, 0.58, 2)
    now = some_traces("intraday", "live", live_days, live_skill, 5, weeks=48)
    now += some_traces("swing", "live", live_days, 0.58, 4, weeks=48)
    write_run(root, "backtest_20251206_180000", past)
    write_run(root, "live", now, sample_rate)


def shown_here(parameters: dict[str, Any]) -> NotebookNode:
    """Run the cells of the report's notebook in this process, which has loaded everything already."""
    source = nbformat.read(report_notebook(), as_version=4)
    notebook = with_parameters(source, parameters)
    scope: dict[str, Any] = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell.id, "exec"), scope)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), cell.id, "eval"), scope)
            data = {"text/html": value._repr_html_(), "text/plain": repr(value)}
            cell.outputs = [nbformat.v4.new_output("execute_result", data)]
    return notebook


def said_by(notebook: NotebookNode) -> str:
    """The plain text of all outputs."""
    return "\n".join(o["data"]["text/plain"] for c in notebook.cells for o in c.get("outputs", []))
