"""Inputs of the shapes that traders have: the right figure, or one line that names the contradiction."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FIELD = Path(__file__).resolve().parents[2] / "shared" / "field"
pytestmark = pytest.mark.skipif(not FIELD.is_dir(), reason=f"the inputs of the field are not here: {FIELD}")
COMMAND = (sys.executable, "-c", "import sys; from trade_telemetry.cli.main import main; sys.exit(main())")


def call(*words: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def imported(folder: Path, file: str, chart: str | None = None, *more: object) -> subprocess.CompletedProcess[str]:
    how = () if chart is None else ("--map", FIELD / chart)
    words = ("import", FIELD / file, *how, "--threshold-pct", "0.3", "--telemetry-dir", folder, *more)
    return call(*words, *(() if "--strategy" in more or chart is None else ("--strategy", "mine")))


def figures(folder: Path, *more: object) -> dict[str, Any]:
    done = call("metrics", "--telemetry-dir", folder, "--json", *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def answer(name: str) -> dict[str, float]:
    return json.loads((FIELD / "answers.json").read_text())[name]  # type: ignore[no-any-return]


def same(found: dict[str, Any], right: dict[str, float]) -> None:
    """A figure of ours is that of pandas, or it is left out."""
    assert found["total_trades"] == right["trades"]
    assert found["hit_ratio"] * right["trades"] == pytest.approx(right["right"])
    assert found["win_rate"] * right["trades"] == pytest.approx(right["winners"])
    assert found["cumulative_return_pct"] == pytest.approx(right["cumulative"], abs=1e-4)
    assert found["max_drawdown"] == pytest.approx(right["drawdown"], abs=1e-4)


def metrics_of(folder: Path) -> dict[str, Any]:
    found = figures(folder)
    return next(iter(found["strategies"].values())) if "strategies" in found else found
